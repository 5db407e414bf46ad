"""`q.jobs` and `q.dead` against the real broker and a worker inside this process."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskq import BulkResult, Job, JobFailed, NotFound, Refused
from taskq.client.app import TaskQ
from taskq.client.task import AsyncTask
from taskq.limits import PAGE_MAX


class World:
    """An app with two tasks, and whether the one that fails has been mended."""

    def __init__(self, q: TaskQ) -> None:
        self.q = q
        self.is_mended = False

        @q.task(name="add")
        async def add(a: int, b: int) -> int:
            return a + b

        @q.task(name="fail")
        async def fail(what: str, *, loud: bool = False) -> str:
            if self.is_mended:
                return "mended"
            raise LookupError(f"no {what}")

        self.add: AsyncTask[[int, int], int] = add
        self.fail: AsyncTask[Any, str] = fail

    async def waiting(self, queue: str, count: int) -> list[str]:
        """Jobs that no worker takes."""
        task = self.add.options(queue=queue)
        return [job.id for job in await self.q.submit_many([task.call(1, 2) for _ in range(count)])]

    async def dead(self, what: str, **kwargs: Any) -> Job[str]:
        job = await self.fail.submit(what, **kwargs)
        with pytest.raises(JobFailed):
            await job.result(timeout=10)
        return job


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(TaskQ())
    async with world.q.embedded(queues=["default"]):
        yield world


async def test_list_goes_through_all_pages_in_order(world: World) -> None:
    ids = await world.waiting("mail", 2 * PAGE_MAX + 10)
    assert [job.id async for job in world.q.jobs.list("queue:mail")] == ids
    assert [job.id async for job in world.q.jobs.list(queue="mail", limit=PAGE_MAX + 1)] == ids[
        : PAGE_MAX + 1
    ]
    assert [job async for job in world.q.jobs.list(limit=0)] == []
    with pytest.raises(ValueError, match="limit is 0 or more"):
        [job async for job in world.q.jobs.list(limit=-1)]


async def test_text_and_keywords_can_be_mixed(world: World) -> None:
    await world.waiting("mail", 3)
    assert await world.q.jobs.count("queue:mail", state="ready") == 3
    assert await world.q.jobs.count("queue:mail state:dead") == 0
    assert await world.q.jobs.states(task="a*") == {"ready": 3}
    with pytest.raises(ValueError, match="did you mean 'queue'"):
        await world.q.jobs.count("queu:mail")


async def test_cancel_by_filter(world: World) -> None:
    (id, *_) = await world.waiting("mail", 5)
    assert await world.q.jobs.cancel("queue:mail", dry_run=True) == BulkResult(5, 0, {})
    assert await world.q.jobs.cancel("queue:mail", reason="no stamps") == BulkResult(5, 5, {})
    assert (await world.q.job(id).info()).reason == "no stamps"
    assert await world.q.job(id).why() == "it was cancelled: no stamps"
    assert await world.q.jobs.delete("queue:mail") == BulkResult(5, 5, {})
    with pytest.raises(NotFound):
        await world.q.job(id).info()


async def test_a_filter_that_means_nothing_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="no job is older") as refused:
        await world.q.jobs.count(older="2h", younger="1h")
    assert refused.value.code == "invalid"
    with pytest.raises(Refused, match="task:\\*"):
        await world.q.jobs.cancel()


async def test_a_dead_job_can_be_waited_for_again(world: World) -> None:
    job = await world.dead("route")
    assert await job.why() == "it is dead: LookupError: no route"
    world.is_mended = True
    assert await job.retry() is job
    assert await job.result(timeout=10) == "mended"
    with pytest.raises(Refused, match="is succeeded; only dead jobs can be retried") as refused:
        await job.retry()
    assert refused.value.code == "not_dead"


async def test_who_retries_nobody_hears_so(world: World) -> None:
    with pytest.raises(NotFound, match="there is no job"):
        await world.q.job("0" * 32).retry()


async def test_dead_jobs_by_group(world: World) -> None:
    jobs = [await world.dead("route"), await world.dead("bridge", loud=True)]
    (group,) = await world.q.dead.groups()
    assert (group.task, group.error_type, group.count) == ("fail", "LookupError", 2)
    assert group.oldest is not None
    assert group.newest is not None
    assert group.oldest <= group.newest
    assert group.sample in {job.id for job in jobs}
    assert await world.q.jobs.groups("task:other") == []
    assert [job.error async for job in world.q.dead.list("error:bridge")] == ["LookupError: no bridge"]
    assert [(line["args"], line["kwargs"]) async for line in world.q.dead.export()] == [
        (["route"], {}),
        (["bridge"], {"loud": True}),
    ]
    world.is_mended = True
    assert await world.q.dead.retry(group.query) == BulkResult(2, 2, {})
    assert [await job.result(timeout=10) for job in map(world.q.job, [job.id for job in jobs])] == [
        "mended",
        "mended",
    ]


async def test_what_was_discarded_is_gone(world: World) -> None:
    job = await world.dead("route")
    with pytest.raises(ValueError, match="leave the state out"):
        await world.q.dead.count("state:ready")
    assert await world.q.dead.count() == 1
    assert await world.q.dead.discard(id=[job.id, "0" * 32]) == BulkResult(1, 1, {"unknown": 1})
    assert await world.q.dead.count() == 0
    with pytest.raises(NotFound):
        await world.q.job(job.id).result(timeout=10)
