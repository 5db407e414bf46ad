"""Jobs a second, end to end, and the CPU that each costs each process. One producer, one worker process.

`submit_many` with all results awaited, the same without waiting for results, and one by one, 64 at a time.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from benchmarks.forwarder import Forwarder
from benchmarks.harness.filling import CALLS_IN_FLIGHT, PER_CALL, together
from benchmarks.harness.fleet import Broker, Fleet, Worker
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import ratios
from benchmarks.tasks import declare
from taskq import Task, TaskQ

# Never empty while a producer keeps its calls under way.
SLOTS: Final = 2_000
CONCURRENT: Final = 64
FORWARDED_PER_FRAME: Final = 100

JOBS: Final = 200_000
JOBS_ONE_BY_ONE: Final = 40_000
JOBS_FORWARDED: Final = 400_000
QUICK_PART: Final = 40

BATCH_RATIO: Final = Bound(due=0.30, goal=0.50, on_ratio=True)
ONE_BY_ONE_RATIO: Final = Bound(due=0.08, goal=0.12, on_ratio=True)
BROKER_CPU_US: Final = Bound(due=7.0, goal=4.0, at_most=True)


@dataclass(frozen=True)
class Kind:
    """One way to submit: how it is done, and what its figures must reach."""

    what: str
    durability: Literal["fsync", "os", "memory"]
    drive: "Drive"
    jobs: int
    on_ratio: Bound | None = None
    on_broker_cpu: Bound | None = None


Drive = Callable[[TaskQ, Task[[], None], int], Awaitable[None]]


@dataclass
class Measured:
    """All rounds of one kind."""

    rates: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)


async def submit_many_and_wait(app: TaskQ, task: Task[[], None], jobs: int) -> None:
    """Several calls of `submit_many` at once, each followed by its results."""
    batches = iter(range(0, jobs, PER_CALL))

    async def caller() -> None:
        for _ in batches:
            sent = await app.submit_many([task.call() for _ in range(PER_CALL)])
            await app.gather(*sent)

    await together(caller, CALLS_IN_FLIGHT)


async def submit_many_and_forget(app: TaskQ, task: Task[[], None], jobs: int) -> None:
    """Until all have run: the broker counts them, and is asked again and again towards the end."""
    before = (await app.status()).counts["succeeded_total"]
    batches = iter(range(0, jobs, PER_CALL))

    async def caller() -> None:
        for _ in batches:
            await app.submit_many([task.call() for _ in range(PER_CALL)])

    await together(caller, CALLS_IN_FLIGHT)
    while (await app.status()).counts["succeeded_total"] < before + jobs:
        await asyncio.sleep(0.005)


async def submit_one_by_one(app: TaskQ, task: Task[[], None], jobs: int) -> None:
    """So many callers, each with one job at a time."""
    turns = iter(range(jobs))

    async def caller() -> None:
        for _ in turns:
            job = await task.submit()
            await job.result()

    await together(caller, CONCURRENT)


KINDS: Final = (
    Kind("submit_many, results awaited", "fsync", submit_many_and_wait, JOBS, BATCH_RATIO, BROKER_CPU_US),
    Kind("64 x await submit() + result()", "fsync", submit_one_by_one, JOBS_ONE_BY_ONE, ONE_BY_ONE_RATIO),
    Kind("submit_many, fire and forget", "fsync", submit_many_and_forget, JOBS),
    Kind("submit_many, results awaited", "os", submit_many_and_wait, JOBS),
    Kind("64 x await submit() + result()", "os", submit_one_by_one, JOBS_ONE_BY_ONE),
    Kind("submit_many, results awaited", "memory", submit_many_and_wait, JOBS),
    Kind("64 x await submit() + result()", "memory", submit_one_by_one, JOBS_ONE_BY_ONE),
)


async def measure(options: Options) -> Report:
    report = Report("throughput", options.runs)
    part = QUICK_PART if options.quick else 1
    measured = {kind: Measured() for kind in KINDS}
    floors: list[float] = []
    with Fleet() as fleet, Forwarder() as forwarder:
        await forwarder.start()
        broker = await fleet.start_broker()
        worker = fleet.start_worker(broker.url, slots=SLOTS)
        async with TaskQ(broker.url) as app:
            noop = declare(app).noop
            await submit_many_and_wait(app, noop, JOBS // part // 4)
            for number in range(options.runs):
                say(f"round {number + 1} of {options.runs}")
                for kind in KINDS:
                    floor = (await forwarder.round(JOBS_FORWARDED // part, FORWARDED_PER_FRAME)).jobs_per_s
                    floors.append(floor)
                    measured[kind].floors.append(floor)
                    task = noop.options(durability=kind.durability)
                    await _round(kind, app, task, kind.jobs // part, (broker, worker), measured[kind])
                broker.check()
                worker.check()
    report.add(f"the bare forwarder, {FORWARDED_PER_FRAME} jobs a frame", "-", "jobs/s", floors)
    for kind, of_kind in measured.items():
        _add(report, kind, of_kind)
    report.notes += [
        f"One producer, one worker process with {SLOTS:,} slots, a task that does nothing, SQLite.",
        f"submit_many: {PER_CALL} jobs a call, {CALLS_IN_FLIGHT} calls at once.",
    ]
    return report


async def _round(
    kind: Kind, app: TaskQ, task: Task[[], None], jobs: int, processes: tuple[Broker, Worker], into: Measured
) -> None:
    jobs = max(jobs // PER_CALL, 1) * PER_CALL
    broker, worker = processes
    meter = CpuMeter.start({"producer": [os.getpid()], **broker.groups(), **worker.groups()})
    began = time.perf_counter()
    await kind.drive(app, task, jobs)
    into.rates.append(jobs / (time.perf_counter() - began))
    for name, microseconds in meter.per_job_us(jobs).items():
        into.cpu_us.setdefault(name, []).append(microseconds)


def _add(report: Report, kind: Kind, measured: Measured) -> None:
    report.add(
        kind.what,
        kind.durability,
        "jobs/s",
        measured.rates,
        ratio=ratios(measured.rates, measured.floors),
        bound=kind.on_ratio,
    )
    for name in ("producer", "broker", "journal", "worker"):
        bound = kind.on_broker_cpu if name == "broker" else None
        report.add(f"  {name} CPU", kind.durability, "us/job", measured.cpu_us[name], bound=bound)


def main() -> None:
    run(measure, __doc__)


if __name__ == "__main__":
    main()
