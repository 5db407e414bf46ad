"""SIGKILL a broker with a million jobs waiting, and start it again: how long until it serves them.

From the start of the process, Python's own start included. The worker is there before that and tries to
connect again and again, as the workers of a broker that died do.
"""

import time
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.harness import evidence
from benchmarks.harness.filling import PAYLOAD_BYTES, submit_all
from benchmarks.harness.fleet import Fleet, wait_until
from benchmarks.harness.proc import rss_bytes
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.tasks import EVIDENCE, declare
from taskq import TaskQ

# Few, so that nearly all still wait when it is done again.
SLOTS: Final = 10
FIRST_DELIVERY_S: Final = Bound(due=10.0, goal=4.0, at_most=True)


async def measure(options: Options) -> Report:
    report = Report("recovery", options.runs)
    serving, delivered, memory = [], [], []
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        async with TaskQ(broker.url) as app:
            say(f"submitting {options.count:,} jobs")
            await submit_all(app, declare(app).stamp, options.count)
        journal_bytes = sum(file.stat().st_size for file in fleet.folder.glob("broker.db*"))
        for number in range(options.runs):
            say(f"round {number + 1} of {options.runs}")
            broker.kill()
            notes = fleet.folder / f"theirs-{number}.txt"
            notes.touch()
            worker = fleet.start_worker(broker.url, slots=SLOTS, env={EVIDENCE: str(notes)})
            began_ns = time.monotonic_ns()
            broker = await fleet.start_broker(url=broker.url)
            serving.append(broker.start_seconds)
            await wait_until(partial(_holds_lines, notes), "a job runs")
            delivered.append((_first_ns(notes) - began_ns) / 1e9)
            memory.append(rss_bytes(broker.pid) / 2**20)
            worker.end()
    count = f"{options.count:,} jobs"
    report.add(
        f"restart with {count} waiting -> the first one runs", "fsync", "s", delivered, bound=FIRST_DELIVERY_S
    )
    report.add("  until it listens", "fsync", "s", serving)
    report.add("  its memory then", "fsync", "MiB", memory)
    report.add("  the journal's files, before the first kill", "fsync", "MiB", [journal_bytes / 2**20])
    report.notes.append(f"Payloads of {PAYLOAD_BYTES} bytes; from the start of the process.")
    return report


def _holds_lines(notes: Path) -> bool:
    return notes.stat().st_size > 0


def _first_ns(notes: Path) -> int:
    runs = evidence.read([notes]).runs
    return min(stretches[0].began_ns for stretches in runs.values())


def main() -> None:
    run(measure, __doc__, runs=3, count=Count("--jobs", full=1_000_000, quick=10_000))


if __name__ == "__main__":
    main()
