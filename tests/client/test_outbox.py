"""`current().outbox()` without a worker: what is collected, what is left out, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from taskq import Middleware, Outgoing, TaskQ
from taskq.client.context import Context, context_var
from taskq.client.session import NewJob
from taskq.errors import TooLarge
from taskq.limits import OUTBOX_BYTES_MAX, OUTBOX_JOBS_MAX
from taskq.protocol.ext import PARENT, UNIQUE

q = TaskQ("taskq://127.0.0.1:1")


@q.task
async def send(to: str, body: bytes = b"") -> None: ...


class Attempt:
    """A context, and what its worker is told to submit."""

    def __init__(self) -> None:
        self.jobs: list[NewJob] = []
        self.context = Context("0a" * 16, "t", urls=q.urls, on_outbox=self.jobs.extend)

    @property
    def ids(self) -> list[str]:
        return [job[0].hex() for job in self.jobs]


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    attempt = Attempt()
    token = context_var.set(attempt.context)
    yield attempt
    context_var.reset(token)


async def test_jobs_are_collected_until_the_block_ends(attempt: Attempt) -> None:
    async with attempt.context.outbox() as outbox:
        first = await send.submit("ann")
        rest = await q.submit_many([send.call("bob"), send.options(priority=5).call("cid")], durability="os")
        assert len(outbox) == 3
        assert attempt.jobs == []
    assert attempt.ids == [job.id for job in (first, *rest)]
    assert [job[1].durability for job in attempt.jobs] == [0, 1, 1]
    assert attempt.jobs[2][1].priority == 5


def test_blocking_code_has_them_too_and_does_not_block(attempt: Attempt) -> None:
    with attempt.context.outbox():
        job = send.submit_sync("ann")
    assert attempt.ids == [job.id]


async def test_they_carry_all_that_jobs_do(attempt: Attempt) -> None:
    mine = "01a20415f60d75118f2813482c14fc11"
    with attempt.context.outbox():
        await send.options(id=mine, unique="active", key="k", delay=5).submit("ann")
        await send.options(unique="queued").submit("ann")
    (id, terms, _, ext, _), (_, _, _, by_arguments, _) = attempt.jobs
    assert (id.hex(), terms.delay_ms) == (mine, 5_000)
    assert ext is not None and {UNIQUE, "key", PARENT} == ext.keys()
    assert by_arguments is not None and UNIQUE in by_arguments
    assert ext[PARENT].hex() == attempt.context.job_id


async def test_a_block_that_an_exception_leaves_submits_nothing(attempt: Attempt) -> None:
    with pytest.raises(ValueError, match="never mind"), attempt.context.outbox():
        await send.submit("ann")
        raise ValueError("never mind")
    with attempt.context.outbox():
        await send.submit("bob")
    assert len(attempt.jobs) == len(attempt.context.enclosed.ids) == 1
    assert attempt.context.enclosed.bytes < 200


async def test_blocks_inside_blocks_belong_to_them(attempt: Attempt) -> None:
    with pytest.raises(ValueError, match="outer"), attempt.context.outbox():
        with attempt.context.outbox():
            await send.submit("ann")
        raise ValueError("outer")
    assert attempt.jobs == []
    with attempt.context.outbox():
        with attempt.context.outbox():
            await send.submit("ann")
        with pytest.raises(ValueError, match="inner"), attempt.context.outbox():
            await send.submit("bob")
            raise ValueError("inner")
        await send.submit("cid")
    assert len(attempt.jobs) == 2


async def test_tasks_begun_in_the_block_are_in_it(attempt: Attempt) -> None:
    with attempt.context.outbox():
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(send.submit(name))
        late = asyncio.Event()
        straggler = asyncio.create_task(submit_when(late))
        await asyncio.sleep(0)
    assert len(attempt.jobs) == 3
    late.set()
    with pytest.raises(RuntimeError, match="has ended"):
        await straggler


async def submit_when(event: asyncio.Event) -> None:
    await event.wait()
    await send.submit("late")


async def test_several_threads_may_fill_it_and_its_bound_holds(attempt: Attempt) -> None:
    def fill() -> None:
        for n in range(OUTBOX_JOBS_MAX + 1):
            send.submit_sync(str(n))

    with attempt.context.outbox() as outbox:
        results = await asyncio.gather(*(asyncio.to_thread(fill) for _ in range(3)), return_exceptions=True)
        assert len(outbox) == OUTBOX_JOBS_MAX
    assert all(isinstance(result, TooLarge) for result in results)
    assert len(dict.fromkeys(attempt.ids)) == OUTBOX_JOBS_MAX


async def test_its_bytes_are_bounded_too(attempt: Attempt) -> None:
    big = bytes(OUTBOX_BYTES_MAX // 2 - 200)
    with attempt.context.outbox():
        await send.submit("ann", big)
        await send.submit("bob", big)
        with pytest.raises(TooLarge, match="one job that submits the rest"):
            await send.submit("cid", bytes(1_000))
    assert len(attempt.jobs) == 2


async def test_a_job_in_it_cannot_be_awaited_here(attempt: Attempt) -> None:
    with attempt.context.outbox():
        job = await send.submit("ann")
        with pytest.raises(RuntimeError, match="would wait for itself"):
            await job
    for waiting in (job.result(timeout=5), q.gather(job), anext(q.as_completed([job]))):
        with pytest.raises(RuntimeError, match="would wait for itself"):
            await waiting
    await q.close()


async def test_map_cannot_be_used_in_it(attempt: Attempt) -> None:
    with attempt.context.outbox(), pytest.raises(RuntimeError, match="use it outside the block"):
        await anext(send.map(["ann"]))


async def test_what_a_worker_cannot_submit_for_others_is_refused(attempt: Attempt) -> None:
    other = TaskQ("taskq://127.0.0.1:2")

    @other.task
    async def elsewhere() -> None: ...

    with attempt.context.outbox() as outbox:
        with pytest.raises(ValueError, match="a task of another broker"):
            await elsewhere.submit()
        with pytest.raises(ValueError, match="leave bind=True out"):
            await send.options(bind=True).submit("ann")
        assert len(outbox) == 0


async def test_a_block_is_used_once(attempt: Attempt) -> None:
    outbox = attempt.context.outbox()
    with outbox:
        pass
    with pytest.raises(RuntimeError, match="makes another"):
        outbox.__enter__()


class Noting(Middleware):
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
        for job in jobs:
            self.seen.append(job.job_id)
            job.ext["x-by"] = b"me"
            if job.queue == "forbidden":
                raise PermissionError(job.queue)
        await call_next()


async def test_middleware_stands_around_them_too() -> None:
    noting = Noting()
    app = TaskQ("taskq://127.0.0.1:1", middleware=[noting])

    @app.task
    async def work(n: int) -> None: ...

    attempt = Attempt()
    token = context_var.set(attempt.context)
    try:
        with attempt.context.outbox():
            one = await work.submit(1)
            two = await app.submit_many([work.call(2), work.call(3)])
            with pytest.raises(PermissionError):
                await work.options(queue="forbidden").submit(4)
            three = await asyncio.to_thread(work.submit_sync, 5)
    finally:
        context_var.reset(token)
    assert attempt.ids == [job.id for job in (one, *two, three)]
    assert all((job[3] or {})["x-by"] == b"me" for job in attempt.jobs)
    assert len(noting.seen) == 5
