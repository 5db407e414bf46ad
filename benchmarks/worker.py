"""What a worker process spends on a job that does nothing: on its event loop, and in a thread.

One producer, one worker process, `submit_many` with all results awaited: the batch path. Rounds of async
tasks and of plain functions take turns, so that each pair has seen the same machine.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Final

from benchmarks.harness.filling import CALLS_IN_FLIGHT, PER_CALL
from benchmarks.harness.fleet import Broker, Fleet, Worker
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import ratios
from benchmarks.tasks import declare
from benchmarks.throughput import QUICK_PART, SLOTS, submit_many_and_wait
from taskq import Task, TaskQ

JOBS: Final = 200_000
JOBS_IN_THREADS: Final = 100_000

ASYNC: Final = "no-op async task"
THREAD: Final = "no-op plain function, in threads"

WORKER_CPU_US: Final = Bound(due=8.0, goal=4.0, at_most=True)
THREAD_RATIO: Final = Bound(due=0.4, goal=0.6)


@dataclass
class Measured:
    """All rounds of one kind."""

    rates: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)


async def measure(options: Options) -> Report:
    report = Report("worker", options.runs)
    part = QUICK_PART if options.quick else 1
    measured = {ASYNC: Measured(), THREAD: Measured()}
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        worker = fleet.start_worker(broker.url, slots=SLOTS)
        async with TaskQ(broker.url) as app:
            tasks = declare(app)
            kinds = [(ASYNC, tasks.noop, JOBS), (THREAD, tasks.plain, JOBS_IN_THREADS)]
            for _, task, jobs in kinds:
                await submit_many_and_wait(app, task, jobs // part // 4)
            for number in range(options.runs):
                say(f"round {number + 1} of {options.runs}")
                # Who comes first comes first only every other time.
                for what, task, jobs in kinds if number % 2 == 0 else reversed(kinds):
                    await _round(app, task, jobs // part, (broker, worker), measured[what])
                broker.check()
                worker.check()
    _add(report, measured)
    report.notes.append(
        f"One producer, one worker process with {SLOTS:,} slots, fsync, SQLite; {PER_CALL} jobs a call, "
        f"{CALLS_IN_FLIGHT} calls at once."
    )
    return report


async def _round(
    app: TaskQ, task: Task[[], None], jobs: int, processes: tuple[Broker, Worker], into: Measured
) -> None:
    jobs = max(jobs // PER_CALL, 1) * PER_CALL
    broker, worker = processes
    meter = CpuMeter.start({"producer": [os.getpid()], **broker.groups(), **worker.groups()})
    began = time.perf_counter()
    await submit_many_and_wait(app, task, jobs)
    into.rates.append(jobs / (time.perf_counter() - began))
    for name, microseconds in meter.per_job_us(jobs).items():
        into.cpu_us.setdefault(name, []).append(microseconds)


def _add(report: Report, measured: dict[str, Measured]) -> None:
    for what, mine in measured.items():
        report.add(what, "fsync", "jobs/s", mine.rates)
        for name in ("producer", "broker", "worker"):
            bound = WORKER_CPU_US if (what, name) == (ASYNC, "worker") else None
            report.add(f"  {name} CPU", "fsync", "us/job", mine.cpu_us[name], bound=bound)
    against = ratios(measured[THREAD].rates, measured[ASYNC].rates)
    report.add("  against the async task", "fsync", "x", against, bound=THREAD_RATIO)


def main() -> None:
    run(measure, __doc__)


if __name__ == "__main__":
    main()
