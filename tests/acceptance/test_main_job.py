"""Submit, run, wait, through a real broker and a real worker."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from taskq import (
    Conflict,
    EncodeError,
    JobCancelled,
    JobCrashed,
    JobExpired,
    JobFailed,
    JobTimedOut,
    NotFound,
    ResultGone,
    TaskQ,
    TooLarge,
)
from taskq.errors import SubmitErrors
from taskq.testing.fleet import Fleet
from tests.acceptance import tasks
from tests.acceptance.conftest import APP
from tests.acceptance.waiting import until

Runs = Callable[[], list[list[str]]]


async def test_results_of_async_and_plain_tasks(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    job = await tasks.add.submit(2, 3)
    assert await job.result(timeout=20) == 5
    assert await (await tasks.in_thread.submit(21)).result(timeout=20) == 42
    assert (await job.info()).state == "succeeded"
    assert await tasks.add(1, 1) == 2


async def test_many_at_once_come_back_in_order(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP, "-w", "2")
    jobs = await app.submit_many([tasks.add.call(n, n) for n in range(3_000)])
    assert await app.gather(*jobs) == [2 * n for n in range(3_000)]
    again = [app.job(job.id) for job in jobs[:10]]
    assert sorted([await job.result() async for job in app.as_completed(again)]) == list(range(0, 20, 2))


async def test_values_go_both_ways(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    value = {
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "span": timedelta(seconds=1),
        "t": (1, {2, 3}),
        "n": 2**80,
    }
    assert await (await tasks.echo.submit(value)).result(timeout=20) == value


async def test_failures_carry_what_was_raised(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    with pytest.raises(JobFailed, match="no luck") as caught:
        await (await tasks.fail.submit("no luck")).result(timeout=20)
    assert caught.value.remote_type == "ValueError"
    assert caught.value.attempts == 3
    assert "in fail" in caught.value.remote_traceback
    assert await (await tasks.fail_until.submit(3)).result(timeout=20) == 3


async def test_a_task_says_what_should_happen(fleet: Fleet, app: TaskQ, runs_file: str) -> None:
    fleet.start_workers(1, APP)
    assert await (await tasks.ask_for.submit("retry")).result(timeout=20) == 2
    assert await (await tasks.snooze_until.submit(runs_file)).result(timeout=20) == 1
    with pytest.raises(JobFailed, match="of no use"):
        await (await tasks.ask_for.submit("discard")).result(timeout=20)


async def test_an_attempt_that_runs_too_long(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    with pytest.raises(JobTimedOut):
        await (await tasks.too_long.submit()).result(timeout=20)


async def test_the_worker_outlives_sys_exit(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    with pytest.raises(JobFailed, match="SystemExit"):
        await (await tasks.leave.submit()).result(timeout=20)
    assert await (await tasks.add.submit(1, 1)).result(timeout=20) == 2


async def test_delay_holds_a_job_back(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    began = time.time()
    job = await tasks.add.options(delay=0.5).submit(1, 2)
    assert (await job.info()).state == "scheduled"
    assert await job.result(timeout=20) == 3
    assert time.time() - began >= 0.5
    later = datetime.now(UTC) + timedelta(seconds=0.3)
    assert await (await tasks.add.options(at=later).submit(1, 2)).result(timeout=20) == 3
    assert datetime.now(UTC) >= later


async def test_a_job_that_waits_too_long_expires(fleet: Fleet, app: TaskQ) -> None:
    job = await tasks.add.options(expires=0.05).submit(1, 2)
    with pytest.raises(JobExpired):
        await job.result(timeout=20)


async def test_cancel_a_waiting_and_a_running_job(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    waiting = await tasks.add.submit(1, 2)
    assert await waiting.cancel(reason="not needed")
    with pytest.raises(JobCancelled, match="not needed"):
        await waiting.result(timeout=20)
    fleet.start_workers(1, APP, "-c", "1")
    running = await tasks.cancellable.submit(runs_file)
    await until(runs)
    assert await running.cancel()
    await until(lambda: [run for run in runs() if run[0] == "cancelled"])
    # Its only slot is free again.
    done = await tasks.add.submit(1, 2)
    assert await done.result(timeout=20) == 3
    assert not await done.cancel()


async def test_giving_up_waiting_leaves_the_job_alone(fleet: Fleet, app: TaskQ) -> None:
    job = await tasks.add.submit(1, 2)
    with pytest.raises(TimeoutError):
        await job.result(timeout=0.01)
    fleet.start_workers(1, APP)
    assert await job.result(timeout=20) == 3


async def test_one_id_is_one_job(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    once = await tasks.add.submit(1, 2)
    twice = await tasks.add.options(id=once.id).submit(1, 2)
    assert twice.id == once.id
    assert await twice.result(timeout=20) == 3
    with pytest.raises(Conflict):
        await tasks.add.options(id=once.id).submit(5, 5)
    with pytest.raises(SubmitErrors) as caught:
        await app.submit_many([tasks.add.call(1, 1), tasks.add.options(id=once.id).call(9, 9)])
    assert len(caught.value.accepted) == 1


async def test_results_that_are_not_kept(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP)
    job = await tasks.add.options(keep_result=False).submit(1, 2)
    with pytest.raises((ResultGone, TimeoutError)):
        # Whoever comes too late is told so; until it has ended, a waiter would get it.
        await until_ended(app, job.id)
        await job.result(timeout=20)
    with pytest.raises(NotFound):
        await app.job("0" * 12 + "7000" + "8" + "0" * 15).result(timeout=20)


async def until_ended(app: TaskQ, job_id: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await app.job(job_id).info()
            except NotFound:
                return
            await asyncio.sleep(0.01)


async def test_a_job_that_nobody_knows_waits_and_says_why(fleet: Fleet, app: TaskQ) -> None:
    job = await tasks.elsewhere.submit()
    fleet.start_workers(1, APP, "-q", "default")
    assert await (await tasks.add.submit(1, 2)).result(timeout=20) == 3
    info = await job.info()
    assert info.state == "ready"
    assert "queue 'other'" in info.why
    fleet.start_workers(1, APP, "-q", "other")
    assert await job.result(timeout=20) == "other"


async def test_arguments_that_cannot_be_sent_fail_at_submit(fleet: Fleet, app: TaskQ) -> None:
    with pytest.raises(TypeError, match="add"):
        await tasks.add.submit(1)  # type: ignore[call-arg]
    with pytest.raises(EncodeError, match=r"argument 'value': .*Fleet"):
        await tasks.echo.submit(fleet)
    with pytest.raises(TooLarge, match="1048576"):
        await tasks.echo.submit("x" * 2_000_000)


async def test_a_task_that_kills_its_worker_ends_dead(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(1, APP, "-w", "2")
    job = await tasks.die.options(retry=1).submit(runs_file)
    info = await job.info()
    assert info.max_attempts == 1
    # Crashes are counted apart: one failure is allowed, five crashes are. Their backoff takes 15 s
    # in all, so only the first two are waited for here; the simulation counts to the end.
    await until(lambda: len(runs()) >= 2)
    info = await job.info()
    assert info.crashes >= 1
    assert (info.history[0].ending, info.history[0].status) == ("crashed", -9)
    assert "SIGKILL" in info.history[0].error
    assert await job.cancel()
    with pytest.raises((JobCancelled, JobCrashed)):
        await job.result(timeout=20)
