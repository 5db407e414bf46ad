"""What a broker and a worker cost that have nothing to do: CPU, as a part of one core."""

import asyncio
from typing import Final

from benchmarks.harness.fleet import Fleet
from benchmarks.harness.proc import CpuMeter, rss_bytes
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.tasks import declare
from taskq import TaskQ

SECONDS: Final = 10.0
SECONDS_QUICK: Final = 2.0
SLOTS: Final = 100
NONE_TO_SPEAK_OF: Final = Bound(due=0.2, goal=0.1, at_most=True)


async def measure(options: Options) -> Report:
    report = Report("idle", options.runs)
    seconds = SECONDS_QUICK if options.quick else SECONDS
    percents: dict[str, list[float]] = {}
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        worker = fleet.start_worker(broker.url, slots=SLOTS)
        async with TaskQ(broker.url) as app:
            # Once there was something to do: all that is loaded on first use is loaded.
            await (await declare(app).noop.submit()).result()
        await asyncio.sleep(1)
        groups = {**broker.groups(), **worker.groups()}
        for number in range(options.runs):
            say(f"round {number + 1} of {options.runs}: {seconds:g} s")
            meter = CpuMeter.start(groups)
            await asyncio.sleep(seconds)
            for name, used in meter.read().items():
                percents.setdefault(name, []).append(used / seconds * 100)
        memory = {name: sum(map(rss_bytes, pids)) / 2**20 for name, pids in groups.items()}
    both = [(("broker", "journal"), "the broker"), (("worker", "supervisor", "undertaker"), "a worker")]
    for names, what in both:
        sums = [sum(parts) for parts in zip(*(percents[name] for name in names), strict=True)]
        report.add(f"{what}, idle", "-", "% of a core", sums, bound=NONE_TO_SPEAK_OF)
        for name in names:
            report.add(f"  {name}", "-", "% of a core", percents[name])
            report.add(f"  {name}, resident memory", "-", "MiB", [memory[name]])
    report.notes.append(
        f"Over {seconds:g} s a round. A worker is one child process with its supervisor and undertaker."
    )
    return report


def main() -> None:
    run(measure, __doc__, runs=3)


if __name__ == "__main__":
    main()
