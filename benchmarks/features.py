"""What deciding costs: the bulk throughput with each feature in use, against that without; and what a
broker does that holds a million jobs of which none may start.

The load is that of `throughput`: one producer, one worker process, `submit_many`, all results awaited.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Final

from benchmarks.harness.filling import CALLS_IN_FLIGHT, PER_CALL, submit_all, together
from benchmarks.harness.fleet import Broker, Fleet, Worker
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import ratios
from benchmarks.tasks import Tasks, declare
from benchmarks.throughput import QUICK_PART, SLOTS
from taskq import Task, TaskQ

JOBS: Final = 100_000
KEYS: Final = 1_000
PRIORITIES: Final = 10
IDLE_SECONDS: Final = 10.0

KEYED: Final = Bound(due=0.85, goal=1.0)
PACED: Final = Bound(due=0.80, goal=1.0)
IDLE: Final = Bound(due=0.5, goal=0.1, at_most=True)


@dataclass(frozen=True)
class Kind:
    """A way to use the queue: which variants of a task take turns, and against which other way it stands."""

    what: str
    variants: Callable[[Tasks], Sequence[Task[[], None]]]
    against: str = ""
    bound: Bound | None = None


@dataclass
class Measured:
    rates: list[float] = field(default_factory=list)
    broker_cpu_us: list[float] = field(default_factory=list)


def with_keys(task: Task[[], None]) -> list[Task[[], None]]:
    return [task.options(key=f"tenant-{number}") for number in range(KEYS)]


def with_priorities(task: Task[[], None]) -> list[Task[[], None]]:
    return [task.options(priority=number) for number in range(PRIORITIES)]


def with_both(task: Task[[], None]) -> list[Task[[], None]]:
    return [task.options(key=f"tenant-{number}", priority=number % PRIORITIES) for number in range(KEYS)]


PLAIN: Final = "none of it"
ONLY_KEYS: Final = f"{KEYS:,} keys"
KINDS: Final = (
    Kind(PLAIN, lambda tasks: [tasks.noop]),
    Kind(f"{PRIORITIES} priorities", lambda tasks: with_priorities(tasks.noop), PLAIN),
    Kind(ONLY_KEYS, lambda tasks: with_keys(tasks.noop), PLAIN),
    Kind(f"{KEYS:,} keys and {PRIORITIES} priorities", lambda tasks: with_both(tasks.noop), PLAIN, KEYED),
    Kind(
        f"{KEYS:,} keys, each with a limit of {SLOTS} at once",
        lambda tasks: with_keys(tasks.limited),
        ONLY_KEYS,
        KEYED,
    ),
    Kind(f"{KEYS:,} keys, each with a rate", lambda tasks: with_keys(tasks.paced), ONLY_KEYS, PACED),
)


async def measure(options: Options) -> Report:
    report = Report("features", options.runs)
    part = QUICK_PART if options.quick else 1
    measured = {kind.what: Measured() for kind in KINDS}
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        worker = fleet.start_worker(broker.url, slots=SLOTS)
        async with TaskQ(broker.url) as app:
            tasks = declare(app)
            await _set_limits(app, tasks)
            await _load(app, [tasks.noop], JOBS // part)
            for number in range(options.runs):
                say(f"round {number + 1} of {options.runs}")
                # Who comes first comes first only every other time.
                for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                    await _round(app, kind.variants(tasks), JOBS // part, broker, measured[kind.what])
                broker.check()
                worker.check()
    _add(report, measured)
    await _parked(report, options)
    report.notes.append(
        f"One producer, one worker process with {SLOTS:,} slots, a task that does nothing, fsync, SQLite. "
        f"Each of the {PER_CALL} jobs of a call has another key or priority. The rates are never reached."
    )
    return report


async def _set_limits(app: TaskQ, tasks: Tasks) -> None:
    await app.queues.limit(task=tasks.limited.name, per="key", concurrency=SLOTS)
    await app.queues.limit(task=tasks.paced.name, per="key", rate="100000/s")


async def _load(app: TaskQ, variants: Sequence[Task[[], None]], jobs: int) -> None:
    batches = iter(range(0, jobs, PER_CALL))
    turns = cycle(variants)

    async def caller() -> None:
        for _ in batches:
            sent = await app.submit_many([task.call() for task in islice(turns, PER_CALL)])
            await app.gather(*sent)

    await together(caller, CALLS_IN_FLIGHT)


async def _round(
    app: TaskQ, variants: Sequence[Task[[], None]], jobs: int, broker: Broker, into: Measured
) -> None:
    jobs = max(jobs // PER_CALL, 1) * PER_CALL
    meter = CpuMeter.start({"broker": [broker.pid]})
    began = time.perf_counter()
    await _load(app, variants, jobs)
    into.rates.append(jobs / (time.perf_counter() - began))
    into.broker_cpu_us.append(meter.per_job_us(jobs)["broker"])


def _add(report: Report, measured: dict[str, Measured]) -> None:
    for kind in KINDS:
        mine = measured[kind.what]
        report.add(kind.what, "fsync", "jobs/s", mine.rates)
        report.add("  broker CPU", "fsync", "us/job", mine.broker_cpu_us)
        if kind.against:
            against = ratios(mine.rates, measured[kind.against].rates)
            report.add(f"  against {kind.against}", "fsync", "x", against, bound=kind.bound)


async def _parked(report: Report, options: Options) -> None:
    """Jobs that may not start stand in no line: what does it cost to have them?"""
    say(f"{options.count:,} jobs behind limits")
    shares = []
    async with AsyncExitStack() as stack:
        fleet = stack.enter_context(Fleet())
        broker = await fleet.start_broker()
        worker: Worker = fleet.start_worker(broker.url, slots=SLOTS)
        app = await stack.enter_async_context(TaskQ(broker.url))
        task = declare(app).swallow
        await app.queues.limit(task=task.name, concurrency=0)
        await submit_all(app, task, options.count)
        for _ in range(options.runs):
            meter = CpuMeter.start({"broker": [broker.pid]})
            seconds = 1.0 if options.quick else IDLE_SECONDS
            await asyncio.sleep(seconds)
            shares.append(meter.read()["broker"] / seconds * 100)
        worker.check()
    what = f"{options.count:,} jobs behind a limit of 0: broker CPU"
    report.add(what, "fsync", "% of a core", shares, bound=IDLE)


def main() -> None:
    run(measure, __doc__, count=Count("--jobs", full=1_000_000, quick=10_000))


if __name__ == "__main__":
    main()
