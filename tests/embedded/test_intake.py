"""Uniqueness, edits, bounded queues, trees and bound jobs as users see them: a real broker and worker."""

import asyncio

import pytest

from taskq import QueueFull, Refused, TaskQ, current
from taskq.client.app import TaskQ as App
from taskq.errors import ConfirmTimeout, JobCancelled, NotFound, SubmitErrors
from taskq.testing.fleet import Fleet


def an_app() -> App:
    return TaskQ("taskq://127.0.0.1:1")


async def test_the_second_submit_returns_the_first_ones_job() -> None:
    q = an_app()

    @q.task(queue="nobody's")
    async def sync(user: int, names: set[str]) -> None: ...

    async with q.embedded(queues=["default"]):
        alone = sync.options(unique="active")
        first = await alone.submit(1, {"a", "b", "c"})
        assert (await alone.submit(1, {"c", "b", "a"})).id == first.id
        assert (await alone.submit(2, {"a"})).id != first.id
        keyed = alone.options(key="ann")
        jobs = await q.submit_many([keyed.call(n, set()) for n in range(5)])
        assert len({job.id for job in jobs}) == 1
        assert jobs[0].id != first.id
        assert (await jobs[0].info()).key == "ann"
        assert (await keyed.options(key="bob").submit(1, set())).id != jobs[0].id


async def test_what_waits_is_replaced_by_what_is_submitted() -> None:
    q = an_app()
    saved: list[str] = []

    @q.task
    async def save(text: str) -> str:
        saved.append(text)
        return text

    async with q.embedded():
        draft = save.options(key="draft", unique="queued", replace=True, delay="1h")
        jobs = [await draft.submit(text) for text in ("one", "two", "three")]
        await jobs[2].reschedule(delay=0)
        assert await jobs[0].result(timeout=20) == "three"
        assert saved == ["three"]


async def test_a_job_that_waits_is_changed() -> None:
    q = an_app()

    @q.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with q.embedded():
        job = await add.options(delay="1h").submit(1, 2)
        await job.edit(add.call(20, 22), priority=3, expires="2h")
        await job.reschedule(delay=0)
        assert await job.result(timeout=20) == 42
        with pytest.raises(Refused, match="has ended") as refused:
            await job.reschedule(delay=5)
        assert refused.value.code == "finished"
        with pytest.raises(NotFound):
            await q.job("00" * 16).reschedule(delay=5)
        with pytest.raises(TypeError, match="delay= or at="):
            await job.reschedule()
        with pytest.raises(TypeError, match="without a change"):
            await job.edit()


async def test_a_full_queue_refuses_with_its_figures() -> None:
    q = an_app()

    @q.task(queue="mail")
    async def send(n: int) -> None: ...

    async with q.embedded(queues=["default"]):
        bound = await q.queues.configure("mail", max_jobs=2)
        assert (bound.max_jobs, bound.max_bytes, bound.jobs) == (2, None, 0)
        await q.submit_many([send.call(1), send.call(2)])
        with pytest.raises(QueueFull, match="queue 'mail' is full: 2 of at most 2 jobs wait"):
            await send.submit(3)
        with pytest.raises(SubmitErrors) as errors:
            await q.submit_many([send.call(3), send.call(4)])
        assert all(isinstance(error, QueueFull) for error in errors.value.exceptions)
        await q.queues.configure("mail")
        await send.submit(3)


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        ({"max_jobs": 0}, "max_jobs is from 1 to"),
        ({"max_jobs": -5}, "max_jobs is from 1 to"),
        ({"max_bytes": 2**60}, "max_bytes is from 1 to"),
        ({"when_full": "panic"}, "when_full is 'reject', 'wait' or 'drop_oldest', not 'panic'"),
    ],
    ids=str,
)
async def test_bounds_that_mean_nothing_are_refused(bound: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        await an_app().queues.configure("mail", **bound)  # type: ignore[arg-type]  # the point


async def test_submit_slows_down_and_never_hangs() -> None:
    q = an_app()
    gate = asyncio.Event()

    @q.task(queue="slow")
    async def work(n: int) -> int:
        await gate.wait()
        return n

    @q.task
    async def other() -> int:
        return 7

    async with q.embedded(concurrency=1):
        await q.queues.configure("slow", max_jobs=1, when_full="wait")
        await work.submit(0)
        await work.submit(1)
        with pytest.raises(ConfirmTimeout):
            await work.options(confirm_timeout=0.2).submit(2)
        waiting = asyncio.ensure_future(q.submit_many([work.call(n) for n in range(3, 50)]))
        await other.submit()  # the connection goes on
        assert not waiting.done()
        gate.set()
        assert await q.gather(*await waiting) == list(range(3, 50))


async def test_the_oldest_is_dropped() -> None:
    q = an_app()

    @q.task(queue="latest")
    async def show(n: int) -> None: ...

    async with q.embedded(queues=["default"]):
        await q.queues.configure("latest", max_jobs=1, when_full="drop_oldest")
        first = await show.submit(1)
        await show.submit(2)
        with pytest.raises(JobCancelled, match="dropped for a newer job"):
            await first.result(timeout=20)


async def test_a_tree_is_cancelled_in_one_call() -> None:
    q = an_app()
    begun: asyncio.Queue[str] = asyncio.Queue()

    @q.task
    async def leaf() -> None:
        begun.put_nowait(current().job_id)
        await asyncio.Event().wait()

    @q.task
    async def branch() -> None:
        job = await leaf.submit()
        begun.put_nowait(job.id)

    @q.task
    async def root() -> None:
        await branch.submit()
        await asyncio.Event().wait()

    async with q.embedded():
        top = await root.submit()
        (leaf_id,) = {await begun.get(), await begun.get()}
        below = q.job(leaf_id)
        assert (await below.info()).parent not in ("", top.id), "what is between them has ended"
        assert await top.cancel(tree=True, reason="enough")
        with pytest.raises(JobCancelled, match="a job above it was cancelled: enough"):
            await below.result(timeout=20)


async def test_bound_jobs_end_with_their_client() -> None:
    q = an_app()
    begun = asyncio.Event()
    ended = asyncio.Event()

    @q.task
    async def render() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with q.embedded():
        client = TaskQ(q.urls)
        there = client.task(name=render.name)(render.fn)
        async with client:
            job = await there.options(bind=True).submit()
            await begun.wait()
        await asyncio.wait_for(ended.wait(), 20)
        with pytest.raises(JobCancelled, match="the client that it is bound to has gone"):
            await q.job(job.id).result(timeout=20)


async def test_meta_and_key_reach_the_task() -> None:
    q = an_app()

    @q.task
    async def tell() -> tuple[str, dict[str, str]]:
        return current().key, current().meta

    async with q.embedded():
        job = await tell.options(key="ann", meta={"by": "cron", "why": "é"}).submit()
        assert await job.result(timeout=20) == ("ann", {"by": "cron", "why": "é"})
        plain = await tell.submit()
        assert await plain.result(timeout=20) == ("", {})


def test_the_blocking_verbs_do_the_same(taskq_broker: Fleet) -> None:
    q = TaskQ(taskq_broker.url)

    @q.task
    async def add(a: int, b: int) -> int:
        return a + b

    job = add.options(delay="1h", unique="active").submit_sync(1, 2)
    job.edit(add.call(2, 3), priority=1)
    job.reschedule(delay="2h")
    assert add.options(unique="active").submit_sync(1, 2).id == job.id
    assert job.cancel(tree=True)
    q.sync.close()
