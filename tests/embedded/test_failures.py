"""What a task says of its own failure, and what then happens: through a real broker and a real worker."""

import asyncio
from typing import Any

import pytest

from taskq import (
    Discard,
    JobExpired,
    JobFailed,
    JobTimedOut,
    Retry,
    RetryPolicy,
    Snooze,
    TaskQ,
    Throttle,
    current,
)

QUICK = RetryPolicy.exponential(max_attempts=3, base=0.001)


async def test_a_wish_to_come_again_counts_and_its_reason_is_told() -> None:
    q = TaskQ()

    @q.task(retry=3)
    async def wishful() -> int:
        if current().attempt == 1:
            raise Retry(after=0.001, reason="the tide is out")
        return current().attempt

    async with q.embedded():
        job = await wishful.submit()
        assert await job.result(timeout=20) == 2
        (told,) = (await job.info()).history
    assert (told.attempt, told.ending, told.error) == (1, "failed", "taskq.errors.Retry: the tide is out")
    assert told.started_at and told.ended_at and told.started_at <= told.ended_at


async def test_a_wish_to_come_again_is_not_granted_for_ever() -> None:
    q = TaskQ()

    @q.task(retry=2)
    async def stubborn() -> None:
        raise Retry(after=0, reason="once more")

    async with q.embedded():
        job = await stubborn.submit()
        with pytest.raises(JobFailed, match="once more"):
            await job.result(timeout=20)
        assert [each.attempt for each in (await job.info()).history] == [1, 2]


@pytest.mark.parametrize("wish", [Snooze(0.001, "not yet"), Throttle("api", 0.001, "not yet")])
async def test_snoozes_and_throttles_do_not_count(wish: Exception) -> None:
    q = TaskQ()
    tries = []

    @q.task
    async def patient() -> int:
        tries.append(current().attempt)
        if len(tries) < 6:
            raise wish
        return current().attempt

    async with q.embedded():
        job = await patient.submit()
        assert await job.result(timeout=20) == 1
        info = await job.info()
    assert tries == [1] * 6
    assert (info.failures, info.attempts) == (0, 1)
    (told,) = info.history  # the last of many in a row
    assert (told.ending, told.error) == ("snoozed", f"taskq.errors.{type(wish).__name__}: not yet")


async def test_what_is_discarded_is_dead_whatever_is_left() -> None:
    q = TaskQ()

    @q.task(retry=5)
    async def hopeless() -> None:
        raise Discard("no such user")

    async with q.embedded():
        job = await hopeless.submit()
        with pytest.raises(JobFailed, match="no such user"):
            await job.result(timeout=20)
        info = await job.info()
    assert (info.state, info.attempts) == ("dead", 1)
    assert [each.ending for each in info.history] == ["discarded"]


async def test_a_timeout_can_be_final_where_failures_are_not() -> None:
    q = TaskQ()
    runs = []

    @q.task(timeout=0.05, retry=RetryPolicy.exponential(max_attempts=3, base=0.001, on_timeout=False))
    async def slow() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise OSError("first")
        await asyncio.sleep(60)

    async with q.embedded():
        job = await slow.submit()
        with pytest.raises(JobTimedOut):
            await job.result(timeout=20)
        assert [each.ending for each in (await job.info()).history] == ["failed", "timed_out"]
        (found,) = [each async for each in q.dead.list("type:TimeoutError")]
        assert found.id == job.id


async def test_who_waits_for_a_job_that_expires_is_told() -> None:
    q = TaskQ()

    @q.task(queue="nobody", expires=0.05)
    async def late() -> None: ...

    async with q.embedded(queues=["default"]):
        with pytest.raises(JobExpired):
            await (await late.submit()).result(timeout=20)


async def test_a_dead_job_is_mourned_with_its_arguments_and_its_error() -> None:
    q = TaskQ()
    calls: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    @q.task(queue="alerts")
    async def mourn(job_id: str, arguments: list[Any], error: str) -> None:
        calls.put_nowait(("mourn", job_id, arguments, error, current().queue))

    @q.task(name="note")
    async def note(job_id: str, arguments: list[Any], error: str) -> None:
        calls.put_nowait(("note", job_id, arguments, error, current().queue))

    @q.task(retry=QUICK, on_dead=mourn, on_failure="note")
    async def send(user: int, *, urgent: bool) -> None:
        raise LookupError(f"no user {user}")

    async with q.embedded():
        job = await send.submit(7, urgent=True)
        with pytest.raises(JobFailed):
            await job.result(timeout=20)
        heard = [await asyncio.wait_for(calls.get(), 20) for _ in range(4)]
    about = (job.id, [[7], {"urgent": True}], "LookupError: no user 7")
    assert sorted(heard) == [("mourn", *about, "alerts"), *[("note", *about, "default")] * 3]


async def test_a_callback_declared_elsewhere_waits_in_the_jobs_own_queue() -> None:
    q = TaskQ()

    @q.task(queue="mail", on_dead="elsewhere.mourn")
    async def send() -> None:
        raise ValueError

    assert send.terms.on_dead is not None
    assert (send.terms.on_dead.task, send.terms.on_dead.queue) == ("elsewhere.mourn", "mail")
    assert send.options(on_dead=send).terms.on_dead is not None
    for wrong in (5, object(), None):
        with pytest.raises(TypeError, match="on_dead is a task or the name of one"):
            send.options(on_dead=wrong)  # type: ignore[typeddict-item]  # wrong on purpose
