"""Throughput with a million jobs waiting against a thousand, and the memory that each of them takes.

Two brokers with a worker each, one with few and one with many jobs waiting, take turns under the same load.
Three ways to wait: for a worker that has the task, in front in the same line, and for a time.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

from benchmarks.forwarder import Forwarder
from benchmarks.harness.filling import PAYLOAD_BYTES, PER_CALL, argument_for, submit_all, together
from benchmarks.harness.fleet import Broker, Fleet
from benchmarks.harness.proc import CpuMeter, rss_bytes
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import ratios
from benchmarks.tasks import Tasks, declare, declare_nobody
from benchmarks.throughput import FORWARDED_PER_FRAME, JOBS_FORWARDED, QUICK_PART, SLOTS, submit_many_and_wait
from taskq import Job, ResultGone, Task, TaskQ

FEW: Final = 1_000
JOBS: Final = 100_000
LATER: Final = "1h"

FLAT: Final = Bound(due=0.9, goal=1.0)
BYTES_PER_JOB: Final = Bound(due=600, goal=450, at_most=True)


@dataclass
class Side:
    """A broker with so many jobs waiting."""

    waiting: int
    broker: Broker
    app: TaskQ
    tasks: Tasks
    last_of_calls: "deque[Job[None]]" = field(default_factory=deque)
    bytes_per_job: float = 0.0
    filled_per_s: float = 0.0
    rates: list[float] = field(default_factory=list)
    broker_cpu_us: list[float] = field(default_factory=list)


def in_the_same_line(side: Side) -> Task[[bytes], None]:
    """No outcomes are kept: with a long line more jobs run, and their outcomes would be paid for as well."""
    return side.tasks.swallow.options(keep_result=0)


async def load_beside(side: Side, jobs: int) -> None:
    """The load of `throughput`, in the same queue as what waits."""
    await submit_many_and_wait(side.app, side.tasks.noop, jobs)


async def load_behind(side: Side, jobs: int) -> None:
    """For each 500 jobs that have run, 500 more at the end of the line.

    Only the last of each call is waited for; it is answered after a walk through the whole line. A worker
    with a long line does not wait for the producer: it runs more jobs meanwhile than are put in.
    """
    task = in_the_same_line(side)
    data = argument_for(task)
    calls = iter(range(0, jobs, PER_CALL))

    async def caller() -> None:
        for _ in calls:
            # One that is gone has ended, which is all that is asked.
            with suppress(ResultGone):
                await side.last_of_calls.popleft().result()
            side.last_of_calls.append(
                (await side.app.submit_many([task.call(data) for _ in range(PER_CALL)]))[-1]
            )

    # As many callers as there are calls waiting in the short line: both sides get the same load.
    await together(caller, (FEW + SLOTS) // PER_CALL)


@dataclass(frozen=True)
class Kind:
    """A way to wait: which task, how many more than wait are in the worker's slots, and under what load."""

    what: str
    task_of: Callable[[Side], Task[[bytes], None]]
    load: Callable[[Side, int], Awaitable[None]]
    more: int = 0


KINDS: Final = (
    Kind("for a worker that has the task", lambda side: declare_nobody(side.app), load_beside),
    Kind("in front, in the same line", in_the_same_line, load_behind, more=SLOTS),
    Kind("for a time", lambda side: side.tasks.swallow.options(delay=LATER), load_beside),
)


async def measure(options: Options) -> Report:
    report = Report("backlog", options.runs)
    part = QUICK_PART if options.quick else 1
    with Forwarder() as forwarder:
        await forwarder.start()
        for kind in KINDS:
            say(f"{options.count:,} jobs that wait {kind.what}")
            with Fleet() as fleet:
                async with AsyncExitStack() as stack:
                    sides = [await _filled(fleet, stack, kind, count) for count in (FEW, options.count)]
                    floors = await _rounds(fleet, options.runs, kind, sides, forwarder, part)
            _add(report, kind, sides, floors)
    report.notes.append(
        f"Payloads of {PAYLOAD_BYTES} bytes. Memory: what the broker's process grew by, divided by the jobs. "
        "Jobs through the broker: half of those that came in and those that ended, together."
    )
    return report


async def _filled(fleet: Fleet, stack: AsyncExitStack, kind: Kind, waiting: int) -> Side:
    broker = await fleet.start_broker(f"broker-{waiting}")
    app = await stack.enter_async_context(TaskQ(broker.url))
    side = Side(waiting, broker, app, declare(app))
    jobs = waiting + kind.more
    before = rss_bytes(broker.pid)
    began = time.perf_counter()
    side.last_of_calls = await submit_all(app, kind.task_of(side), jobs)
    side.filled_per_s = jobs / (time.perf_counter() - began)
    side.bytes_per_job = (rss_bytes(broker.pid) - before) / jobs
    return side


async def _rounds(
    fleet: Fleet, runs: int, kind: Kind, sides: list[Side], forwarder: Forwarder, part: int
) -> list[float]:
    jobs = max(JOBS // part, 2 * SLOTS)
    floors = []
    workers = {}
    for side in sides:
        worker = workers[side.waiting] = fleet.start_worker(
            side.broker.url, f"worker-{side.waiting}", slots=SLOTS
        )
        await kind.load(side, jobs)
        # Between the rounds it stands still, or it would soon have run all that waits.
        worker.stand_still()
    for number in range(runs):
        say(f"round {number + 1} of {runs}")
        floors.append((await forwarder.round(JOBS_FORWARDED // part, FORWARDED_PER_FRAME)).jobs_per_s)
        # Who comes first comes first only every other time.
        for side in sides if number % 2 == 0 else reversed(sides):
            halves = await _halves(side.app)
            meter = CpuMeter.start({"broker": [side.broker.pid]})
            began = time.perf_counter()
            workers[side.waiting].go_on()
            await kind.load(side, jobs)
            seconds = time.perf_counter() - began
            workers[side.waiting].stand_still()
            through = (await _halves(side.app) - halves) // 2
            side.rates.append(through / seconds)
            side.broker_cpu_us.append(meter.per_job_us(through)["broker"])
            side.broker.check()
    return floors


async def _halves(app: TaskQ) -> int:
    """A job's way through the broker has two halves: in, and out."""
    counts = (await app.status()).counts
    return counts["submitted_total"] + counts["succeeded_total"]


def _add(report: Report, kind: Kind, sides: list[Side], floors: list[float]) -> None:
    few, many = sides
    for side in sides:
        what = f"{side.waiting:,} wait {kind.what}"
        report.add(what, "fsync", "jobs/s", side.rates, ratio=ratios(side.rates, floors))
        report.add("  broker CPU", "fsync", "us/job", side.broker_cpu_us)
    report.add("  many against few", "fsync", "x", ratios(many.rates, few.rates), bound=FLAT)
    report.add("  memory of each waiting job", "fsync", "B", [many.bytes_per_job], bound=BYTES_PER_JOB)
    report.add("  submitting those that wait", "fsync", "jobs/s", [many.filled_per_s])


def main() -> None:
    run(measure, __doc__, count=Count("--jobs", full=1_000_000, quick=10_000))


if __name__ == "__main__":
    main()
