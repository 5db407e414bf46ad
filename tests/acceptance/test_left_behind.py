"""Checkpoints, outboxes and those who wait, when workers and brokers are killed."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable

from taskq import TaskQ
from taskq.testing.fleet import Fleet
from tests.acceptance import tasks
from tests.acceptance.conftest import APP
from tests.acceptance.waiting import until

Runs = Callable[[], list[list[str]]]


async def test_a_checkpoint_survives_worker_and_broker(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(1, APP, "-w", "1")
    job = await tasks.climb.submit(runs_file, 6)
    await until(lambda: len(runs()) == 6)
    await fleet.kill_broker()
    os.kill(int(runs()[0][1]), signal.SIGKILL)
    await fleet.start_broker()
    assert await job.result(timeout=30) == list(range(1, 11))
    assert [run[0] for run in runs()] == [f"step-{n}" for n in range(1, 11)]
    assert (await job.info()).crashes == 1


async def test_what_comes_of_a_success_is_there_once_whatever_dies(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(2, APP, "-w", "1", "-c", "10")
    ends = {"a": "", "b": "fail", "c": "die"}
    jobs = [await tasks.order.submit(runs_file, word, end) for word, end in ends.items()]
    await asyncio.wait_for(app.gather(*jobs), 30)
    deliveries = {f"{word}-{n}" for word in ends for n in range(3)}
    await until(lambda: deliveries <= {run[0] for run in runs()})
    while await app.jobs.count(state="ready") or await app.jobs.count(state="running"):
        await asyncio.sleep(0.01)
    counts = Counter(run[0] for run in runs())
    assert {word: counts[word] for word in deliveries} == dict.fromkeys(deliveries, 1)
    assert counts["ordered-b"] == 2 and counts["ordered-c"] == 2


async def test_also_while_the_broker_is_killed_again_and_again(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(2, APP, "-w", "1", "-c", "10")
    words = [f"word{n}" for n in range(200)]

    async def run_all() -> None:
        for at in range(0, len(words), 20):
            calls = [tasks.order.call(runs_file, word) for word in words[at : at + 20]]
            await app.gather(*await app.submit_many(calls))

    running = asyncio.create_task(run_all())
    for _ in range(3):
        seen = len(runs())
        await until(lambda seen=seen: len(runs()) > seen + 20 or running.done())
        await fleet.kill_broker()
        await fleet.start_broker()
    await asyncio.wait_for(running, 60)
    deliveries = {f"{word}-{n}" for word in words for n in range(3)}
    await until(lambda: deliveries <= {run[0] for run in runs()}, seconds=60)
    # At least once: a delivery of the killed broker's last batch may have been given again. But there is
    # no job too many.
    done = [job.id async for job in app.jobs.list(task=tasks.deliver.name)]
    assert len(done) == len(deliveries)


async def test_a_thousand_waiters_hear_of_a_result_after_a_broker_restart(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(1, APP)
    job = await tasks.run_for.submit(2.0, runs_file, "one")
    await until(runs)
    waiting = [asyncio.create_task(job.result()) for _ in range(1_000)]
    await fleet.kill_broker()
    await fleet.start_broker()
    pids = await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert dict.fromkeys(pids) == {int(runs()[0][1]): None}


async def test_map_goes_on_through_a_broker_kill(fleet: Fleet, app: TaskQ) -> None:
    fleet.start_workers(1, APP, "-w", "1", "-c", "100")
    got: list[int] = []
    killed = False
    async with asyncio.timeout(60):
        async for each in tasks.in_thread.map(range(5_000), concurrency=100):
            got.append(each)
            if each == 2_000 and not killed:
                killed = True
                await fleet.kill_broker()
                await fleet.start_broker()
    assert got == [2 * n for n in range(5_000)]


async def test_a_process_of_its_own_leaves_as_much_behind(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(1, APP, "-w", "1")
    job = await tasks.order_apart.submit(runs_file, "apart")
    assert await job.result(timeout=60) == [1, 2, 0, 3]
    await until(lambda: len(runs()) == 3)
    assert (await app.status()).counts["submitted_total"] == 4
    assert Counter(run[0] for run in runs()) == {f"apart-{n}": 1 for n in range(3)}
