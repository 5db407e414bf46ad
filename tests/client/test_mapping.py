"""`map`: in order, bounded, and over when it is over; with a real broker and worker in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest

from taskq import Middleware, Outgoing, TaskQ, current, limits
from taskq.client.mapping import Window
from taskq.errors import ConfirmTimeout, ConnectionLost, EncodeError, JobCancelled, JobFailed, QueueFull
from tests.client.tiny_broker import tiny_broker


class Works:
    """Tasks that say how many of them run, and wait until they may end."""

    def __init__(self) -> None:
        self.q = q = TaskQ("taskq://127.0.0.1:1")
        self.running = 0
        self.peak = 0
        self.ended: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.news = asyncio.Condition()

        @q.task
        async def double(n: int) -> int:
            return 2 * n

        @q.task
        async def wait(n: int) -> int:
            """Ends when its gate opens; without one, soon, and not in order."""
            self.running += 1
            self.peak = max(self.peak, self.running)
            await self._tell()
            try:
                if n in self.gates:
                    await self.gates[n].wait()
                for _ in range(n * 7 % 5):
                    await asyncio.sleep(0)
                self.ended.append(n)
                return n
            finally:
                self.running -= 1
                await self._tell()

        @q.task
        async def fussy(n: int) -> int:
            if n % 10 == 5:
                raise ValueError(f"not {n}")
            return n

        self.double, self.wait, self.fussy = double, wait, fussy

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def until_nothing_runs(self) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: not self.running)

    async def left(self) -> tuple[int, int]:
        """Jobs without outcome, and jobs watched, once the broker has heard all that was said."""
        counts = (await self.q.status()).counts
        return counts["jobs"], counts["watched"]


async def some(n: int, taken: list[int] | None = None) -> AsyncIterator[int]:
    for each in range(n):
        await asyncio.sleep(0)
        if taken is not None:
            taken.append(each)
        yield each


def counted(n: int, taken: list[int]) -> Iterator[int]:
    for each in range(n):
        taken.append(each)
        yield each


@pytest.mark.parametrize("n", [0, 1, 7, 3_000])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_results_come_in_the_order_of_the_items(n: int, kind: str) -> None:
    works = Works()
    async with works.q.embedded(), asyncio.timeout(60):
        items = range(n) if kind == "plain" else some(n)
        assert [each async for each in works.double.map(items)] == [2 * each for each in range(n)]
        assert await works.left() == (0, 0)


@pytest.mark.parametrize("concurrency", [1, 2, 10])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_no_more_run_at_once_than_asked_for(concurrency: int, kind: str) -> None:
    works = Works()
    async with works.q.embedded(), asyncio.timeout(60):
        items = range(60) if kind == "plain" else some(60)
        got = [each async for each in works.wait.map(items, concurrency=concurrency)]
        assert got == list(range(60))
        assert works.peak <= concurrency


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_items_are_taken_no_faster_than_results(kind: str) -> None:
    works, taken = Works(), list[int]()
    async with works.q.embedded(), asyncio.timeout(60):
        items = counted(10_000, taken) if kind == "plain" else some(10_000, taken)
        results = works.double.map(items, concurrency=50)
        for n in range(200):
            assert await anext(results) == 2 * n
            # One more: an async iterable is asked for the next one while it waits for room.
            assert len(taken) <= n + 1 + limits.MAP_KEPT * 50 + 1
        await results.aclose()
        assert await works.left() == (0, 0)


async def test_one_that_is_slow_does_not_make_the_others_wait() -> None:
    works = Works()
    works.gates[0] = asyncio.Event()
    async with works.q.embedded(), asyncio.timeout(60):
        results = works.wait.map(range(100), concurrency=10)
        first = asyncio.create_task(anext(results))
        async with works.news:
            # Nine beside it go on, until as many results are kept as may be.
            await works.news.wait_for(lambda: len(works.ended) == limits.MAP_KEPT * 10 - 1)
        works.gates[0].set()
        assert await first == 0
        assert [each async for each in results] == list(range(1, 100))


async def test_a_failure_is_raised_at_its_place_and_ends_it() -> None:
    works = Works()
    async with works.q.embedded(), asyncio.timeout(60):
        got: list[int] = []
        with pytest.raises(JobFailed, match="not 5"):
            async for each in works.fussy.map(range(10_000), concurrency=20):
                got += [each]
        assert got == [0, 1, 2, 3, 4]
        assert await works.left() == (0, 0)
        assert (await works.q.status()).counts["submitted_total"] <= 45


async def test_or_stands_there() -> None:
    works = Works()
    async with works.q.embedded(), asyncio.timeout(60):
        mixed = [each async for each in works.fussy.map(range(100), return_exceptions=True)]
        assert [n for n, each in enumerate(mixed) if isinstance(each, JobFailed)] == list(range(5, 100, 10))
        assert [each for each in mixed if isinstance(each, int)] == [n for n in range(100) if n % 10 != 5]


async def test_what_cannot_be_sent_or_called_has_its_place_too() -> None:
    works = Works()

    @works.q.task
    async def none() -> None: ...

    async with works.q.embedded(), asyncio.timeout(60):
        items: list[object] = [1, object(), 3]
        mixed = [each async for each in works.double.map(items, return_exceptions=True)]  # type: ignore[misc]
        assert mixed[0] == 2 and isinstance(mixed[1], EncodeError) and mixed[2] == 6
        with pytest.raises(TypeError, match="none"):
            await anext(none.map([1]))  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_an_iterable_that_raises_does_so_at_its_place(kind: str) -> None:
    works = Works()

    def plain() -> Iterator[int]:
        yield from range(3)
        raise OSError("the file ends here")

    async def not_plain() -> AsyncIterator[int]:
        for each in plain():
            yield each

    async with works.q.embedded(), asyncio.timeout(60):
        got: list[int] = []
        with pytest.raises(OSError, match="ends here"):
            async for each in works.double.map(plain() if kind == "plain" else not_plain()):
                got += [each]
        assert got == [0, 2, 4]


async def test_a_refused_submission_is_raised_at_its_place() -> None:
    works = Works()
    async with works.q.embedded(queues=["default"]), asyncio.timeout(60):
        await works.q.queues.configure("small", max_jobs=3)
        small = works.double.options(queue="small")
        results = small.map(range(5), return_exceptions=True)
        waiting = asyncio.create_task(anext(results))
        while (await works.q.jobs.count(queue="small")) < 3:
            await asyncio.sleep(0)
        assert await works.q.jobs.cancel(queue="small")
        assert isinstance(await waiting, JobCancelled)
        kinds = [type(each) async for each in results]
        assert kinds == [JobCancelled, JobCancelled, QueueFull, QueueFull]


# -- its end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["break", "timeout", "cancel", "error"])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_when_it_ends_early_what_is_on_its_way_is_cancelled(how: str, kind: str) -> None:
    works = Works()
    works.gates = {n: asyncio.Event() for n in range(5, 1_000)}

    async def use() -> None:
        items = range(1_000) if kind == "plain" else some(1_000)
        async with contextlib.aclosing(works.wait.map(items, concurrency=20)) as results:
            async for each in results:
                if each == 4 and how == "break":
                    break
                if each == 4 and how == "error":
                    raise KeyError(each)

    async with works.q.embedded(), asyncio.timeout(60):
        if how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await use()
        elif how == "cancel":
            using = asyncio.create_task(use())
            async with works.news:
                await works.news.wait_for(lambda: works.running == 20 and len(works.ended) == 5)
            using.cancel()
            with pytest.raises(asyncio.CancelledError):
                await using
        else:
            with contextlib.suppress(KeyError):
                await use()
        await works.until_nothing_runs()
        assert await works.left() == (0, 0)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "taskq map"]


async def test_jobs_that_others_wait_for_are_left_alone() -> None:
    """One that was there already is not the map's to cancel."""
    works = Works()
    async with works.q.embedded(queues=["default"]), asyncio.timeout(60):
        alone = works.double.options(queue="nobody's", unique="active")
        theirs = await alone.submit(2)
        results = alone.map([1, 2, 3])
        waiting = asyncio.create_task(anext(results))
        while (await works.q.jobs.count(queue="nobody's")) < 3:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await results.aclose()
        assert (await works.q.jobs.states(queue="nobody's"))["ready"] == 1
        assert (await theirs.info()).state == "ready"


async def test_without_a_broker_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskq.client.mapping._CONFIRM_SECONDS", 0.05)
    works = Works()
    with pytest.raises(ConfirmTimeout) as caught:
        await anext(works.double.map([1]))
    assert "nobody listens there" in "".join(caught.value.__notes__)
    await works.q.close()


async def test_with_one_that_is_slow_to_answer_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskq.client.mapping._CONFIRM_SECONDS", 0.01)
    async with tiny_broker() as broker:
        works = Works()
        q = TaskQ(broker.address)
        window = Window(q, 5)
        window.add([works.double.call(1)])
        for _ in range(5):
            await window.wait()
        await window.close()
        await q.close()


async def test_a_client_that_is_closed_tells_it() -> None:
    works = Works()
    works.gates[0] = asyncio.Event()
    async with works.q.embedded(), asyncio.timeout(60):
        waiting = asyncio.create_task(anext(works.wait.map([0])))
        async with works.news:
            await works.news.wait_for(lambda: works.running == 1)
        await works.q.close()
        with pytest.raises(ConnectionLost):
            await waiting
        works.gates[0].set()


@pytest.mark.parametrize("concurrency", [0, -1, limits.UNCONFIRMED_JOBS_MAX + 1])
async def test_concurrency_has_bounds(concurrency: int) -> None:
    with pytest.raises(ValueError, match="1 to 100000 jobs"):
        await anext(Works().double.map([1], concurrency=concurrency))


@pytest.mark.parametrize("concurrency", ["10", 1.5, True])
async def test_concurrency_is_a_number(concurrency: object) -> None:
    with pytest.raises(TypeError, match="a number of jobs"):
        await anext(Works().double.map([1], concurrency=concurrency))  # type: ignore[call-overload]


async def test_code_without_asyncio_has_it_too() -> None:
    works, taken = Works(), list[int]()
    works.gates = {n: asyncio.Event() for n in range(5, 1_000)}

    def blocking() -> None:
        sync = works.q.sync
        assert list(works.double.map_sync(range(3_000))) == [2 * n for n in range(3_000)]
        assert list(works.double.map_sync([])) == []
        with pytest.raises(JobFailed, match="not 5"):
            list(works.fussy.map_sync(range(100), concurrency=3))
        mixed = list(works.fussy.map_sync(range(8), return_exceptions=True))
        assert isinstance(mixed.pop(5), JobFailed) and mixed == [0, 1, 2, 3, 4, 6, 7]
        with contextlib.closing(works.wait.map_sync(counted(1_000, taken), concurrency=10)) as results:
            assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
            assert len(taken) <= 30
        sync.status()  # heard behind what was cancelled

    async with works.q.embedded(), asyncio.timeout(60):
        await asyncio.to_thread(blocking)
        await works.until_nothing_runs()
        assert await works.left() == (0, 0)
        await asyncio.to_thread(works.q.sync.close)


class Gate(Middleware):
    """Stands around submissions, lets some time pass, and refuses 5."""

    def __init__(self) -> None:
        self.seen = 0

    async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(0)
        self.seen += len(jobs)
        for job in jobs:
            job.ext["x-by"] = b"me"
        if self.seen == 6:
            raise PermissionError("not the sixth")
        await call_next()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_middleware_stands_around_its_submissions(kind: str) -> None:
    gate = Gate()
    q = TaskQ("taskq://127.0.0.1:1", middleware=[gate])

    @q.task
    async def by(n: int) -> str:
        return ((current().ext or {})["x-by"]).decode()

    async with q.embedded(), asyncio.timeout(60):
        items = range(20) if kind == "plain" else some(20)
        results = by.map(items, concurrency=1, return_exceptions=True)
        got = [each async for each in results]
        assert [type(each) for each in got] == [str] * 5 + [PermissionError] + [str] * 14
        assert gate.seen == 20
        waiting = asyncio.create_task(anext(by.map(range(20))))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "taskq map"]
