"""A slow and a fast worker, and a load of tiny and long jobs between them: how near to the ideal they end.

The slow one takes five times as long for the same job. Ideal is what each does alone, in the same round, as
if neither ever stood still. Beyond that is what one holds while the other has nothing to do.
"""

import asyncio
import time
from random import Random
from typing import Final

from benchmarks.harness.filling import PER_CALL
from benchmarks.harness.fleet import Fleet, FleetError, Worker
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.tasks import SLOWNESS, Tasks, declare
from taskq import TaskQ

SLOTS: Final = 4
TIMES_AS_SLOW: Final = 5
TINY_S: Final = 0.001
LONG_S: Final = 0.03
LONG_PART: Final = 0.04
JOBS: Final = 20_000
QUICK_PART: Final = 10
# Of the load that both share, this part tells what each does alone.
ALONE_PART: Final = 4
SEED: Final = 7
WAIT_S: Final = 30.0

NEAR_IDEAL: Final = Bound(due=1.05, goal=1.02, at_most=True)


async def measure(options: Options) -> Report:
    report = Report("mixed", options.runs)
    jobs = JOBS // (QUICK_PART if options.quick else 1)
    rates: dict[str, list[float]] = {"fast": [], "slow": []}
    together, ideal, recalled = list[float](), list[float](), list[float]()
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        async with TaskQ(broker.url) as app:
            tasks = declare(app)
            for number in range(options.runs):
                say(f"round {number + 1} of {options.runs}")
                load = _load(jobs)
                for name, found in rates.items():
                    worker = await _start(fleet, app, name, 1)
                    alone = load[: jobs // ALONE_PART]
                    found.append(len(alone) / await _finish(app, tasks, alone))
                    worker.end()
                before = (await app.status()).counts["recalled_total"]
                workers = [await _start(fleet, app, name, count) for count, name in enumerate(rates, 1)]
                together.append(await _finish(app, tasks, load))
                ideal.append(jobs / (rates["fast"][-1] + rates["slow"][-1]))
                recalled.append((await app.status()).counts["recalled_total"] - before)
                for worker in workers:
                    worker.check()
                    worker.end()
    for name, found in rates.items():
        report.add(f"the {name} worker alone", "fsync", "jobs/s", found)
    report.add("both: until the last job has ended", "fsync", "s", together)
    report.add("  ideal", "fsync", "s", ideal)
    parts = [took / least for took, least in zip(together, ideal, strict=True)]
    report.add("  against ideal", "fsync", "x", parts, bound=NEAR_IDEAL)
    report.add("  jobs asked back from one for the other", "fsync", "", recalled)
    report.notes.append(
        f"{jobs:,} jobs, {LONG_PART:.0%} of {LONG_S * 1000:g} ms among those of {TINY_S * 1000:g} ms, "
        f"on {SLOTS} slots each; the slow worker takes {TIMES_AS_SLOW} times as long."
    )
    return report


def _load(jobs: int) -> list[float]:
    """How long each job takes, in seconds: the same in every round."""
    rng = Random(SEED)
    return [LONG_S if rng.random() < LONG_PART else TINY_S for _ in range(jobs)]


async def _start(fleet: Fleet, app: TaskQ, name: str, count: int) -> Worker:
    """It, and that it is there: then there are so many."""
    slowness = str(TIMES_AS_SLOW if name == "slow" else 1)
    url = app.urls[0]
    worker = fleet.start_worker(url, name, slots=SLOTS, env={SLOWNESS: slowness})
    until = time.monotonic() + WAIT_S
    while len((await app.status()).workers) != count:
        if time.monotonic() > until:
            raise FleetError(f"{name} is not there within {WAIT_S:g} s\n{worker.log_tail()}")
        await asyncio.sleep(0.01)
    return worker


async def _finish(app: TaskQ, tasks: Tasks, load: list[float]) -> float:
    """Seconds until all of these jobs have ended."""
    began = time.perf_counter()
    sent = []
    for start in range(0, len(load), PER_CALL):
        sent += await app.submit_many(
            [tasks.linger.call(seconds) for seconds in load[start : start + PER_CALL]]
        )
    await app.gather(*sent)
    return time.perf_counter() - began


def main() -> None:
    run(measure, __doc__, runs=3)


if __name__ == "__main__":
    main()
