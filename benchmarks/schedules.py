"""How late the jobs of 10,000 schedules start: from the time in their cron text until the task runs.

Spread over a minute, a sixtieth of them at each second; and, because that may be asked for as well, all of
them in the same second.
"""

import asyncio
import os
import time
from collections import Counter
from typing import Final

from benchmarks.harness import evidence
from benchmarks.harness.fleet import Broker, Fleet, FleetError
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile
from benchmarks.tasks import EVIDENCE, declare
from taskq import TaskQ

PERIOD_S: Final = 60
PERIOD_QUICK_S: Final = 6
SLOTS: Final = 200
# So many are made at once; each waits for its commit, which they share.
TOGETHER: Final = 500
# What comes later than this counts as lost.
PATIENCE_S: Final = 3.0
# Between the making of the last schedule and the first tick that counts.
MARGIN_S: Final = 2

LATE_MS: Final = Bound(due=20.0, goal=10.0, at_most=True)
NONE: Final = Bound(due=0, goal=0, at_most=True)


class Clock:
    """Schedules over one broker, and what its worker has noted of their jobs."""

    def __init__(self, fleet: Fleet, app: TaskQ, count: int) -> None:
        self.theirs = fleet.folder / "theirs.txt"
        self.theirs.touch()
        self._app = app
        self._call = declare(app).stamp.call(b"")
        self._count = count

    async def make(self, texts: list[str]) -> None:
        """As many schedules as there are to be, with these cron texts in turn."""
        create = self._app.schedules.create
        for first in range(0, self._count, TOGETHER):
            part = range(first, min(first + TOGETHER, self._count))
            await asyncio.gather(
                *(create(f"s{number}", self._call, cron=texts[number % len(texts)]) for number in part)
            )

    async def hear(self, from_s: int, until_s: int) -> tuple[list[float], int]:
        """Of the ticks between these times: ms that each was late, and how many were not made once."""
        await asyncio.sleep(until_s + PATIENCE_S - time.time())
        wall_ns = time.time_ns() - time.monotonic_ns()
        late_ms: list[float] = []
        ticks: Counter[str] = Counter()
        for id, runs in evidence.read([self.theirs]).runs.items():
            tick_ms = int(id[:12], 16)
            if from_s * 1_000 <= tick_ms < until_s * 1_000:
                late_ms.append((runs[0].began_ns + wall_ns) / 1e6 - tick_ms)
                ticks[id] = len(runs)
        os.truncate(self.theirs, 0)
        wrong = abs(self._count - len(ticks)) + sum(runs - 1 for runs in ticks.values())
        if not late_ms:
            raise FleetError("no schedule has made a job")
        return late_ms, wrong


async def measure(options: Options) -> Report:
    report = Report("schedules", options.runs)
    period_s = PERIOD_QUICK_S if options.quick else PERIOD_S
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        async with TaskQ(broker.url) as app:
            clock = Clock(fleet, app, options.count)
            env = {EVIDENCE: str(clock.theirs)}
            fleet.start_worker(broker.url, slots=SLOTS, env=env)
            await (await declare(app).noop.submit()).result()
            began = time.perf_counter()
            await clock.make([f"{second}/{period_s} * * * * *" for second in range(period_s)])
            made_per_s = options.count / (time.perf_counter() - began)
            await _spread(report, clock, broker, options.runs, period_s)
            await _together(report, clock, options.runs)
    report.add("schedules made, each with a commit that it shares", "fsync", "/s", [made_per_s])
    report.notes.append(
        f"{options.count:,} schedules, one worker process. Late: from the tick until the task has begun, "
        "after the commit of its job. Spread: each once in "
        f"{period_s} s, {options.count / period_s:.0f} at each second."
    )
    return report


async def _spread(report: Report, clock: Clock, broker: Broker, runs: int, period_s: int) -> None:
    late: list[list[float]] = []
    wrong, percents = [], []
    for number in range(runs):
        say(f"round {number + 1} of {runs}: spread over {period_s} s")
        from_s = int(time.time()) + MARGIN_S
        await asyncio.sleep(from_s - 0.5 - time.time())
        meter = CpuMeter.start(broker.groups())
        await asyncio.sleep(from_s - 0.5 + period_s - time.time())
        percents.append(meter.read()["broker"] / period_s * 100)
        late_ms, odd = await clock.hear(from_s, from_s + period_s)
        late.append(late_ms)
        wrong.append(float(odd))
    _add(report, "spread over a minute: late", late, LATE_MS)
    report.add("  not made, or made twice", "fsync", "", wrong, bound=NONE)
    report.add("  the broker's CPU", "fsync", "% of a core", percents)


async def _together(report: Report, clock: Clock, runs: int) -> None:
    late: list[list[float]] = []
    wrong = []
    for number in range(runs):
        say(f"round {number + 1} of {runs}: all in one second")
        began = time.perf_counter()
        await clock.make(["0 0 1 1 *"])
        # As long as that took, and some more: they are to be changed again before they are due.
        at_s = int(time.time() + 2 * (time.perf_counter() - began)) + MARGIN_S
        await clock.make([f"{at_s % 60} {at_s // 60 % 60} * * * *"])
        late_ms, odd = await clock.hear(at_s, at_s + 1)
        late.append(late_ms)
        wrong.append(float(odd))
    _add(report, "all in one second: late", late)
    report.add("  not made, or made twice", "fsync", "", wrong, bound=NONE)


def _add(report: Report, what: str, rounds: list[list[float]], bound: Bound | None = None) -> None:
    report.add(f"{what}, p50", "fsync", "ms", [percentile(late, 50) for late in rounds])
    report.add(f"{what}, p99", "fsync", "ms", [percentile(late, 99) for late in rounds], bound=bound)
    report.add(f"{what}, at most", "fsync", "ms", [max(late) for late in rounds])


def main() -> None:
    run(measure, __doc__, runs=2, count=Count("--schedules", full=10_000, quick=300))


if __name__ == "__main__":
    main()
