"""What a running job may say and know of itself, with a real broker and worker."""

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from taskq import RetryPolicy, TaskQ, current
from taskq.client.app import TaskQ as App
from taskq.errors import JobFailed, JobTimedOut, NotFound, Refused, Retry

QUICK = RetryPolicy.exponential(max_attempts=3, base=0.001)


def an_app() -> App:
    return TaskQ("taskq://127.0.0.1:1")


# -- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_the_next_attempt_goes_on_where_the_last_one_was(kind: str) -> None:
    q = an_app()

    def step() -> list[int]:
        pages: list[int] = current().checkpointed([])
        pages.append(len(pages) + 1)
        current().checkpoint(pages)
        if current().attempt < 3:
            raise ValueError("again")
        return pages

    @q.task(retry=QUICK)
    async def on_the_loop() -> list[int]:
        return step()

    @q.task(retry=QUICK)
    def in_a_thread() -> list[int]:
        return step()

    async with q.embedded():
        job = await (on_the_loop if kind == "async" else in_a_thread).submit()
        assert await job.result(timeout=20) == [1, 2, 3]


async def test_to_await_it_is_to_know_that_it_is_recorded() -> None:
    q = an_app()

    @q.task
    async def on_the_loop() -> int:
        for page in range(50):
            current().checkpoint(page)
        await current().checkpoint(50)
        return int((await q.status()).counts["checkpoints_total"])

    @q.task
    def in_a_thread() -> int:
        for page in range(50):
            current().checkpoint(page)
        current().checkpoint(50).wait("20s")
        return q.sync.status().counts["checkpoints_total"]

    async with q.embedded():
        assert 1 <= await (await on_the_loop.submit()).result(timeout=20) <= 3
        assert await (await in_a_thread.submit()).result(timeout=20) > 1
        await asyncio.to_thread(q.sync.close)


async def test_the_first_word_of_a_task_may_be_a_checkpoint() -> None:
    q = an_app()

    @q.task(retry=QUICK)
    async def on_the_loop() -> list[str]:
        current().checkpoint([*current().checkpointed([]), "x"])
        if current().attempt == 1:
            raise ValueError("again")
        return list(current().checkpointed())

    @q.task
    def in_a_thread() -> str:
        current().checkpoint("first").wait(20)
        return str(current().checkpointed())

    @q.task
    async def awaiting() -> str:
        await current().checkpoint("first")
        return str(current().checkpointed())

    async with q.embedded():
        assert await (await on_the_loop.submit()).result(timeout=20) == ["x", "x"]
        assert await (await in_a_thread.submit()).result(timeout=20) == "first"
        assert await (await awaiting.submit()).result(timeout=20) == "first"


async def test_a_snooze_and_a_retry_keep_it_and_a_retried_dead_job_too() -> None:
    q = an_app()

    @q.task(retry=2)
    async def work() -> int:
        so_far: int = current().checkpointed(0)
        current().checkpoint(so_far + 1)
        if so_far == 0:
            raise Retry(after=0)
        if so_far == 1:
            raise ValueError("and dead")
        return so_far

    async with q.embedded():
        job = await work.submit()
        with pytest.raises(JobFailed):
            await job.result(timeout=20)
        assert await (await job.retry()).result(timeout=20) == 2


async def test_an_attempt_that_is_over_can_record_nothing() -> None:
    q = an_app()
    told: list[str] = []
    ended, go_on = threading.Event(), threading.Event()

    @q.task(timeout=0.05)
    def work() -> None:
        context = current()
        assert ended.wait(20)
        try:
            context.checkpoint("late").wait(20)
        except Refused as error:
            told.append(error.code)
        go_on.set()

    async with q.embedded():
        with pytest.raises(JobTimedOut):
            await (await work.submit()).result(timeout=20)
        ended.set()
        assert await asyncio.to_thread(go_on.wait, 20)
        assert told == ["stale"]


# -- the outbox -------------------------------------------------------------------------------------


class Shop:
    """A task whose jobs come of its success."""

    def __init__(self) -> None:
        self.q = q = an_app()
        self.sent: list[str] = []
        self.ids: list[str] = []

        @q.task
        async def send(to: str) -> str:
            self.sent.append(to)
            return to.upper()

        @q.task(retry=QUICK)
        async def order(names: list[str], fail_until: int = 1, queue: str = "default") -> int:
            async with current().outbox():
                jobs = [await send.options(queue=queue).submit(name) for name in names]
            self.ids = [job.id for job in jobs]
            if current().attempt < fail_until:
                raise ValueError("not yet")
            return current().attempt

        @q.task(retry=QUICK)
        def order_in_a_thread(names: list[str], fail_until: int = 1) -> int:
            with current().outbox():
                jobs = [send.submit_sync(names[0])]
                jobs += q.sync.submit_many([send.call(name) for name in names[1:]])
            self.ids = [job.id for job in jobs]
            if current().attempt < fail_until:
                raise ValueError("not yet")
            return current().attempt

        self.send, self.order, self.order_in_a_thread = send, order, order_in_a_thread

    async def results(self) -> list[str]:
        return await self.q.gather(*(self.q.job(id) for id in self.ids))


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_only_the_attempt_that_succeeds_submits(kind: str) -> None:
    shop = Shop()
    async with shop.q.embedded():
        task = shop.order if kind == "async" else shop.order_in_a_thread
        job = await task.submit(["ann", "bob"], fail_until=3)
        assert await job.result(timeout=20) == 3
        assert await asyncio.wait_for(shop.results(), 20) == ["ANN", "BOB"]
        assert sorted(shop.sent) == ["ann", "bob"]
        info = await shop.q.job(shop.ids[0]).info()
        assert (await shop.q.status()).counts["submitted_total"] == 3
        assert info.state == "succeeded"


async def test_an_attempt_that_fails_for_good_submits_nothing() -> None:
    shop = Shop()
    async with shop.q.embedded():
        with pytest.raises(JobFailed, match="not yet"):
            await (await shop.order.submit(["ann"], fail_until=99)).result(timeout=20)
        with pytest.raises(NotFound):
            await shop.q.job(shop.ids[0]).info()
        assert shop.sent == []


async def test_a_refused_job_fails_the_attempt_and_none_is_submitted() -> None:
    shop = Shop()
    async with shop.q.embedded(queues=["default"]):
        await shop.q.queues.configure("small", max_jobs=1)
        job = await shop.order.submit(["ann", "bob"], queue="small")
        with pytest.raises(JobFailed, match="queue 'small' is full") as caught:
            await job.result(timeout=20)
        assert caught.value.attempts == 3
        for id in shop.ids:
            with pytest.raises(NotFound):
                await shop.q.job(id).info()
        await shop.q.queues.configure("small", max_jobs=2)
        assert await (await job.retry()).result(timeout=20) == 1
        assert [(await shop.q.job(id).info()).state for id in shop.ids] == ["ready", "ready"]


async def test_a_job_that_is_alone_submits_its_successor() -> None:
    q = an_app()
    polled: asyncio.Queue[int] = asyncio.Queue()

    @q.task
    async def poll(n: int) -> None:
        polled.put_nowait(n)
        if n < 3:
            with current().outbox():
                await poll.options(unique="active", key="poll").submit(n + 1)

    async with q.embedded(), asyncio.timeout(20):
        await poll.options(unique="active", key="poll").submit(1)
        assert [await polled.get() for _ in range(3)] == [1, 2, 3]


async def test_a_block_left_by_an_error_that_is_caught_submits_nothing() -> None:
    shop = Shop()

    @shop.q.task
    async def careful() -> int:
        try:
            with current().outbox():
                await shop.send.submit("ann")
                raise OSError("oh")
        except OSError:
            pass
        with current().outbox():
            await shop.send.submit("bob")
        return 1

    async with shop.q.embedded():
        await (await careful.submit()).result(timeout=20)
        jobs = [job.task async for job in shop.q.jobs.list() if job.task.endswith("send")]
        assert len(jobs) == 1


# -- and what it may know -----------------------------------------------------------------------------


async def test_a_job_knows_who_and_where_it_is() -> None:
    q = an_app()

    @q.task(queue="mail", timeout=30, retry=5)
    async def who() -> list[object]:
        context = current()
        left = context.deadline
        assert left is not None and 0 < (left - datetime.now(UTC)).total_seconds() <= 30
        context.extend(60)
        assert context.deadline is not None and context.deadline > left
        await asyncio.sleep(0)
        assert current() is context
        return [context.job_id, context.task, context.queue, context.attempt, context.max_attempts]

    @q.task(timeout=30)
    async def longer() -> bool:
        context = current()
        context.extend(600)
        assert context.deadline is not None
        return (context.deadline - datetime.now(UTC)).total_seconds() > 500

    @q.task
    def without_end() -> bool:
        return current().deadline is None and not current().cancelled and current().max_attempts == 1

    async with q.embedded(queues=["mail", "default"]):
        job = await who.submit()
        assert await job.result(timeout=20) == [job.id, who.name, "mail", 1, 5]
        assert await (await without_end.submit()).result(timeout=20)
        assert await (await longer.submit()).result(timeout=20)


async def test_a_thread_sees_that_it_is_cancelled_and_why() -> None:
    q = an_app()
    begun, seen = threading.Event(), threading.Event()
    reasons: list[str] = []

    @q.task
    def work() -> None:
        begun.set()
        while not current().cancelled:
            seen.wait(0.001)
        reasons.append(current().reason)
        seen.set()

    async with q.embedded():
        job = await work.submit()
        assert await asyncio.to_thread(begun.wait, 20)
        assert await job.cancel(reason="enough")
        assert await asyncio.to_thread(seen.wait, 20)
        assert reasons == ["enough"]
