"""SIGKILL of workers, brokers and supervisors: nothing is lost, nothing runs twice for no reason."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from taskq import TaskQ
from taskq.testing.fleet import Fleet
from tests.acceptance import tasks
from tests.acceptance.conftest import APP
from tests.acceptance.waiting import until

Runs = Callable[[], list[list[str]]]


async def test_a_killed_workers_jobs_run_elsewhere(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(1, APP, "-w", "2", "-c", "4")
    jobs = await app.submit_many([tasks.run_for.call(1.0, runs_file, f"job{n}") for n in range(4)])
    await until(lambda: len(runs()) == 4)
    victim = int(runs()[0][1])
    on_victim = [run[0] for run in runs() if int(run[1]) == victim]
    os.kill(victim, signal.SIGKILL)
    pids = await asyncio.wait_for(app.gather(*jobs), 20)
    assert victim not in pids
    counts = Counter(run[0] for run in runs())
    assert {word: counts[word] for word in counts} == {
        f"job{n}": 2 if f"job{n}" in on_victim else 1 for n in range(4)
    }
    crashes = [(await job.info()).crashes for job in jobs]
    assert sum(crashes) == len(on_victim)


async def test_running_jobs_go_on_through_a_broker_kill(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    fleet.start_workers(1, APP, "-w", "2", "-c", "10")
    jobs = await app.submit_many([tasks.run_for.call(1.0, runs_file, f"job{n}") for n in range(20)])
    await until(lambda: len(runs()) == 20)
    await fleet.kill_broker()
    await fleet.start_broker()
    await asyncio.wait_for(app.gather(*jobs), 30)
    assert Counter(run[0] for run in runs()) == {f"job{n}": 1 for n in range(20)}


async def test_nothing_confirmed_is_lost_when_the_broker_is_killed_under_load(
    fleet: Fleet, app: TaskQ
) -> None:
    fleet.start_workers(1, APP, "-w", "1", "-c", "100")
    results: list[int] = []

    async def produce(base: int) -> None:
        for start in range(base, base + 2_000, 100):
            jobs = await app.submit_many([tasks.add.call(n, 0) for n in range(start, start + 100)])
            results.extend(await app.gather(*jobs))

    producing = asyncio.gather(*(produce(base) for base in (0, 10_000, 20_000)))
    for _ in range(3):
        seen = len(results)
        await until(lambda seen=seen: len(results) > seen or producing.done())
        await fleet.kill_broker()
        await fleet.start_broker()
    await asyncio.wait_for(producing, 60)
    expected = [n for base in (0, 10_000, 20_000) for n in range(base, base + 2_000)]
    assert sorted(results) == expected


async def test_a_blocked_loop_keeps_its_jobs(fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str) -> None:
    """Longer than any silence that the broker bears; a second worker has room all the time."""
    fleet.start_workers(2, APP, "-c", "4")
    job = await tasks.block_for.submit(13.0, runs_file, "blocked")
    assert await job.result(timeout=40) == 1
    assert len(runs()) == 1


async def test_no_orphans_when_the_supervisor_is_killed(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    [supervisor] = fleet.start_workers(1, APP, "-w", "2")
    jobs = await app.submit_many([tasks.run_for.call(30.0, runs_file, "x") for _ in range(2)])
    await until(lambda: len(runs()) >= 2)
    children = {int(run[1]) for run in runs()}
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: not any(is_running(pid) for pid in children))
    # Their jobs are taken up by the next worker.
    fleet.start_workers(1, APP)
    await until(lambda: len(runs()) >= 4)
    for job in jobs:
        await job.cancel()


async def test_sigterm_finishes_what_runs_and_hands_back_the_rest(
    fleet: Fleet, app: TaskQ, runs: Runs, runs_file: str
) -> None:
    [supervisor] = fleet.start_workers(1, APP, "-w", "1", "-c", "1", "--grace", "20s")
    first = await tasks.run_for.submit(0.5, runs_file, "first")
    await until(runs)
    second = await tasks.run_for.submit(0.0, runs_file, "second")
    os.kill(supervisor, signal.SIGTERM)
    assert await first.result(timeout=20)
    assert fleet.workers[0].wait(20) == 0
    assert (await second.info()).state == "ready"
    fleet.workers.clear()
    fleet.start_workers(1, APP)
    assert await second.result(timeout=20)
    assert Counter(run[0] for run in runs()) == {"first": 1, "second": 1}


async def test_sigterm_of_the_broker_loses_nothing(fleet: Fleet, app: TaskQ) -> None:
    job = await tasks.add.submit(1, 2)
    assert fleet.broker is not None
    fleet.broker.terminate()
    assert fleet.broker.wait(20) == 0
    assert fleet.broker.stdout is not None
    fleet.broker.stdout.close()
    await fleet.start_broker()
    fleet.start_workers(1, APP)
    assert await job.result(timeout=20) == 3


@pytest.mark.parametrize("victim", ["journal", "broker"])
async def test_journal_and_broker_die_together(fleet: Fleet, app: TaskQ, victim: str) -> None:
    """The broker exits when its journal's process dies; the journal's process ends with its broker."""
    assert fleet.broker is not None
    [journal] = children_of(fleet.broker.pid)
    os.kill(journal if victim == "journal" else fleet.broker.pid, signal.SIGKILL)
    code = await asyncio.to_thread(fleet.broker.wait, 20)
    assert code == (70 if victim == "journal" else -signal.SIGKILL)
    await until(lambda: not is_running(journal))
    assert fleet.broker.stdout is not None
    fleet.broker.stdout.close()
    await fleet.start_broker()
    fleet.start_workers(1, APP)
    assert await (await tasks.add.submit(1, 2)).result(timeout=20) == 3


def is_running(pid: int) -> bool:
    """Alive, and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
