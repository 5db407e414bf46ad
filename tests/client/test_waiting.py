"""Waiting may be given up at any step: nothing is left of it, and no answer reaches the wrong one."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from taskq import TaskQ, current
from taskq.client.job import Job
from taskq.errors import JobCancelled, JobFailed
from taskq.protocol.messages import Confirm, Outcome, Outcomes, Submit, Unwatch, Watch
from tests.client.tiny_broker import tiny_broker

q = TaskQ("taskq://127.0.0.1:1")


@q.task
async def double(n: int) -> int:
    return 2 * n


@q.task
async def fail() -> None:
    raise ValueError("no")


@q.task(queue="nobody's")
async def never() -> None: ...


async def submit_and_wait() -> int:
    return await (await double.submit(21)).result(timeout=20)


async def submit_many_and_gather() -> int:
    return sum(await q.gather(*await q.submit_many([double.call(n) for n in range(5)])))


async def as_completed() -> int:
    jobs = await q.submit_many([double.call(n) for n in range(5)])
    return sum([await job async for job in q.as_completed(jobs, timeout=20)])


async def map_them() -> int:
    return sum([n async for n in double.map(range(5), concurrency=2)])


async def in_a_group() -> int:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(submit_and_wait()) for _ in range(3)]
    return sum(task.result() for task in waiting)


async def ask() -> int:
    job = await double.submit(4)
    await job.info()
    await job.cancel()
    await q.status()
    await q.cancel_all([job])
    return 1


STORIES: list[Callable[[], Coroutine[Any, Any, int]]] = [
    submit_and_wait,
    submit_many_and_gather,
    as_completed,
    map_them,
    in_a_group,
    ask,
]


@pytest.mark.parametrize("story", STORIES)
async def test_it_can_be_cancelled_at_each_step(story: Callable[[], Coroutine[Any, Any, int]]) -> None:
    async with q.embedded(), asyncio.timeout(110):
        whole = await story()
        cancelled = steps = 0
        while cancelled == steps:
            # One step more than before, until it comes to its end.
            telling = asyncio.create_task(story())
            for _ in range(steps + 1):
                await asyncio.sleep(0)
            telling.cancel()
            await asyncio.wait([telling])
            cancelled += telling.cancelled()
            steps += 1
            if steps % 3 == 0:  # and what is asked afterwards gets its own answer
                assert await submit_and_wait() == 42
        assert steps > 5
        assert telling.result() == whole or story is ask
        assert await submit_and_wait() == 42
        await nothing_is_left()


async def nothing_is_left() -> None:
    session = q._producer().session
    assert not session._watchers and not session._requests
    status = await q.status()
    assert status.counts["watched"] == 0
    assert not q._producer()._waits


@pytest.mark.parametrize("wait", ["result", "gather", "as_completed"])
async def test_a_timeout_leaves_the_job_alone(wait: str) -> None:
    async with q.embedded(queues=["default"]), asyncio.timeout(60):
        job = await never.submit()
        waits: dict[str, Callable[[], Awaitable[Any]]] = {
            "result": job.result,
            "gather": lambda: q.gather(job, job),
            "as_completed": lambda: anext(q.as_completed([job])),
        }
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await waits[wait]()
        if wait == "as_completed":
            with pytest.raises(TimeoutError):
                await anext(q.as_completed([job], timeout=0.01))
        assert (await job.info()).state == "ready"
        await nothing_is_left()


async def test_as_completed_gives_what_has_ended_before_its_time_is_up() -> None:
    async with q.embedded(queues=["default"]), asyncio.timeout(60):
        jobs: list[Job[Any]] = [await never.submit(), await double.submit(1), await double.submit(2)]
        await q.gather(*jobs[1:])
        got: list[int] = []
        with pytest.raises(TimeoutError):
            async for job in q.as_completed(jobs, timeout=0.2):
                got += [await job]
        assert sorted(got) == [2, 4]
        await nothing_is_left()


async def test_a_group_ends_its_other_waits_when_one_fails_and_the_rest_can_be_cancelled() -> None:
    async with q.embedded(queues=["default"]), asyncio.timeout(60):
        jobs: list[Job[Any]] = [await never.submit() for _ in range(3)]
        jobs.append(await fail.submit())
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(job.result())
        assert caught.group_contains(JobFailed)
        await nothing_is_left()
        assert await q.cancel_all(jobs, reason="one has failed") == 3
        with pytest.raises(JobCancelled, match="one has failed"):
            await jobs[0]


async def test_cancel_all_leaves_the_others_alone() -> None:
    async with q.embedded(queues=["default"]), asyncio.timeout(60):
        ended = await double.submit(1)
        assert await ended.result() == 2
        known_to_have_ended = await double.submit(1)
        await q.job(known_to_have_ended.id)
        waiting = await q.submit_many([never.call() for _ in range(4_500)])
        unknown: Job[Any] = q.job("00" * 16)
        theirs = await never.submit()
        jobs: list[Job[Any]] = [ended, known_to_have_ended, unknown, *waiting, waiting[0]]
        assert await q.cancel_all(jobs) == 4_500
        assert await q.cancel_all(jobs) == 4_500, "they will not complete, then as now"
        assert await q.cancel_all([]) == 0
        assert (await theirs.info()).state == "ready"


async def test_a_thousand_waiters_are_one_watch() -> None:
    async with tiny_broker() as broker:
        many = TaskQ(broker.address)
        await many.connect()
        job = many.job("0a" * 16)
        waiting = [asyncio.create_task(job.result()) for _ in range(1_000)]
        waiting += [asyncio.create_task(many.gather(job)) for _ in range(10)]
        await broker.hear(Watch)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.wait(waiting[::2])
        broker.say(Outcomes([Outcome(job._id, "succeeded", b"\x05")]))
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert list(answers[1:1_000:2]) == [5] * 500
        assert broker.said(Watch) == [Watch([job._id])]
        assert broker.said(Unwatch) == []
        assert not many._producer().session._watchers
        await many.close()


async def test_when_the_last_of_them_gives_up_the_broker_is_told() -> None:
    async with tiny_broker() as broker:
        many = TaskQ(broker.address)
        await many.connect()
        job = many.job("0a" * 16)
        waiting = [asyncio.create_task(job.result()) for _ in range(100)]
        await broker.hear(Watch)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert await broker.hear(Unwatch) == [Unwatch([job._id])]
        assert not many._producer().session._watchers
        await many.close()


async def test_waiting_goes_on_over_a_lost_connection() -> None:
    async with tiny_broker() as broker:
        many = TaskQ(broker.address)
        await many.connect()
        jobs = [many.job(f"{n:032x}") for n in range(3)]
        waiting = asyncio.create_task(many.gather(*jobs))
        await broker.hear(Watch)
        broker.say(Outcomes([Outcome(jobs[0]._id, "succeeded", b"\x01")]))
        broker.drop()
        (_, again) = await broker.hear(Watch, 2)
        assert jobs[1]._id in again.ids and jobs[2]._id in again.ids
        broker.say(Outcomes([Outcome(job._id, "succeeded", b"\x02") for job in jobs]))
        assert (await waiting)[1:] == [2, 2]
        await many.close()


async def test_a_wait_that_was_given_up_is_not_answered_to_the_next_one() -> None:
    """The answer to the first question comes when the second is asked."""
    async with tiny_broker() as broker:
        many = TaskQ(broker.address)

        @many.task
        async def add(n: int) -> int:
            return n

        first = asyncio.create_task(add.submit(1))
        (submit,) = await broker.hear(Submit)
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(add.submit(2))
        (_, later) = await broker.hear(Submit, 2)
        broker.say(Confirm(submit.first, 1))
        await asyncio.sleep(0)
        assert not second.done()
        broker.say(Confirm(later.first, 1))
        assert (await second)._id == later.jobs[0].id
        await many.close()


async def test_a_job_may_wait_for_its_own_jobs_outside_the_outbox() -> None:
    app = TaskQ("taskq://127.0.0.1:1")

    @app.task
    async def child(n: int) -> int:
        return n

    @app.task
    async def parent() -> int:
        job = await child.submit(7)
        with current().outbox():
            await child.submit(8)
            return await job

    async with app.embedded(), asyncio.timeout(60):
        assert await (await parent.submit()).result() == 7
