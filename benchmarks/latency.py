"""From `await submit()` to the result in hand, one job at a time, with nothing else going on.

Beside it, measured in the same rounds: the bare forwarder's round trip, and one commit of the process that
writes the journal. What must be waited for by design is two commits and three ways through the broker.
"""

import time
from collections.abc import Sequence
from typing import Final, Literal

from benchmarks.forwarder import Forwarder
from benchmarks.harness.fleet import Fleet
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile, ratios
from benchmarks.tasks import declare
from taskq import Task, TaskQ
from taskq.journal.base import Journal, open_journal
from taskq.protocol.messages import FSYNC

JOBS: Final = 2_000
JOBS_QUICK: Final = 200
SLICE: Final = 50
# About what the records of one job take.
BLOB: Final = bytes(200)
SLOTS: Final = 100
DURABILITIES: Final[tuple[Literal["memory", "os", "fsync"], ...]] = ("memory", "os", "fsync")

MEMORY_RATIO: Final = Bound(due=5.0, goal=3.0, at_most=True, on_ratio=True)
COMMITS: Final = 2
ROUND_TRIPS_DUE: Final = 6
ROUND_TRIPS_GOAL: Final = 3


async def measure(options: Options) -> Report:
    report = Report("latency", options.runs)
    jobs = JOBS_QUICK if options.quick else JOBS
    trips: list[list[float]] = []
    commits: list[list[float]] = []
    taken: dict[str, list[list[float]]] = {durability: [] for durability in DURABILITIES}
    with Fleet() as fleet, Forwarder() as forwarder:
        await forwarder.start()
        broker = await fleet.start_broker()
        fleet.start_worker(broker.url, slots=SLOTS)
        journal = await open_journal(f"sqlite:{fleet.folder / 'commits.db'}")
        try:
            async with TaskQ(broker.url) as app:
                noop = declare(app).noop
                tasks = {durability: noop.options(durability=durability) for durability in DURABILITIES}
                await _one_by_one(noop, JOBS_QUICK)
                for number in range(options.runs):
                    say(f"round {number + 1} of {options.runs}")
                    for times in (trips, commits, *taken.values()):
                        times.append([])
                    # In slices, so that what slows the machine for a moment slows all alike.
                    for _ in range(0, jobs, SLICE):
                        trips[-1] += await forwarder.round_trips(SLICE)
                        for durability, task in tasks.items():
                            taken[durability][-1] += await _one_by_one(task, SLICE)
                        commits[-1] += await _commits(journal, SLICE)
        finally:
            await journal.close()
    _fill(report, trips, commits, taken)
    return report


async def _one_by_one(task: Task[[], None], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        job = await task.submit()
        await job.result()
        taken.append(time.perf_counter() - began)
    return taken


async def _commits(journal: Journal, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await journal.append(journal.last_seq + 1, BLOB, FSYNC)
        taken.append(time.perf_counter() - began)
    return taken


def _fill(
    report: Report,
    trips: list[list[float]],
    commits: list[list[float]],
    taken: dict[str, list[list[float]]],
) -> None:
    trip_us, commit_us = _micros(trips, 50), _micros(commits, 50)
    _add(report, "the bare forwarder's round trip", "-", trips)
    _add(report, "one commit of the journal's process", "fsync", commits)
    allowed = [
        [COMMITS * commit + count * trip for commit, trip in zip(commit_us, trip_us, strict=True)]
        for count in (ROUND_TRIPS_DUE, ROUND_TRIPS_GOAL)
    ]
    by_commit = Bound(due=percentile(allowed[0], 50), goal=percentile(allowed[1], 50), at_most=True)
    for durability in DURABILITIES:
        bound = {"memory": MEMORY_RATIO, "fsync": by_commit}.get(durability)
        _add(report, "submit -> result", durability, taken[durability], bound, trip_us)
    report.notes.append(
        f"Bounds: memory {ROUND_TRIPS_DUE - 1} (goal {ROUND_TRIPS_GOAL}) round trips of the forwarder; "
        f"fsync {COMMITS} commits + {ROUND_TRIPS_DUE} (goal {ROUND_TRIPS_GOAL}) round trips, of these rounds."
    )


def _add(
    report: Report,
    what: str,
    durability: Literal["fsync", "os", "memory", "-"],
    rounds: list[list[float]],
    bound: Bound | None = None,
    floors: Sequence[float] | None = None,
) -> None:
    p50 = _micros(rounds, 50)
    ratio = None if floors is None else ratios(p50, floors)
    report.add(f"{what}, p50", durability, "us", p50, ratio=ratio, bound=bound)
    report.add(f"{what}, p99", durability, "us", _micros(rounds, 99))


def _micros(rounds: list[list[float]], percent: float) -> list[float]:
    return [percentile(times, percent) * 1e6 for times in rounds]


def main() -> None:
    run(measure, __doc__)


if __name__ == "__main__":
    main()
