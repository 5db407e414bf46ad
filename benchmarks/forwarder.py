"""The floor: what the same way costs with no queue on it.

Three processes over loopback, producer -> broker -> worker -> broker -> producer, length-prefixed
frames that hold taskq's own messages (Submit, Deliver, Ack, Outcomes), one dict entry a job in the
broker and in the producer. No journal, no confirm, no queue, no limits, nothing checked but the types.
Every other program runs it in the same rounds and states its figures as ratios to it.
"""

import asyncio
import os
import subprocess
import sys
import time
from types import TracebackType
from typing import Final, Self

from benchmarks.harness.fleet import ROOT, FleetError
from benchmarks.harness.hops import Producer
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Report
from benchmarks.harness.spread import percentile

PER_FRAME: Final = (1, 10, 100)
JOBS: Final = {1: 100_000, 10: 200_000, 100: 400_000}
JOBS_QUICK: Final = 5_000
# Enough to keep three processes busy, few enough that frames stay in the caches.
JOBS_IN_FLIGHT: Final = 4_000
FRAMES_IN_FLIGHT_MAX: Final = 256
ROUND_TRIPS: Final = 3_000
ROUND_TRIPS_QUICK: Final = 300


class Round:
    """So many jobs sent through: how fast, and what it cost each process."""

    def __init__(self, jobs: int, seconds: float, meter: CpuMeter) -> None:
        self.jobs_per_s = jobs / seconds
        self.cpu_us = meter.per_job_us(jobs)


class Forwarder:
    """The three processes; this one is the producer. Use as a context manager, and `start` it."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._producer: Producer
        self._number = 0

    async def start(self) -> Self:
        """Raises FleetError when one of the processes does not start."""
        broker = self._spawn("broker")
        producers, workers = (await self._line(broker)).split()
        self._spawn("worker", workers)
        # The broker says a word when its worker is there: nothing may arrive before.
        await self._line(broker)
        loop = asyncio.get_running_loop()
        _, self._producer = await loop.create_connection(Producer, "127.0.0.1", int(producers))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    async def round(self, jobs: int, per_frame: int) -> Round:
        """Send so many jobs through, as many at once as keep it busy."""
        frames = max(jobs // per_frame, 1)
        window = min(max(JOBS_IN_FLIGHT // per_frame, 1), FRAMES_IN_FLIGHT_MAX)
        broker, worker = self._processes
        meter = CpuMeter.start({"producer": [os.getpid()], "broker": [broker.pid], "worker": [worker.pid]})
        began = time.perf_counter()
        await self._send(frames, per_frame, window)
        return Round(frames * per_frame, time.perf_counter() - began, meter)

    async def round_trips(self, count: int) -> list[float]:
        """Seconds that each of so many jobs took, one after the other."""
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self._send(1, 1, 1)
            taken.append(time.perf_counter() - began)
        return taken

    async def _send(self, frames: int, per_frame: int, window: int) -> None:
        first, self._number = self._number, self._number + frames * per_frame
        await self._producer.send(first, frames, per_frame, window)

    def _spawn(self, role: str, *words: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.hops", role, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if role == "broker" else subprocess.DEVNULL,
            cwd=ROOT,
        )
        self._processes.append(process)
        return process

    async def _line(self, process: "subprocess.Popen[bytes]") -> str:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise FleetError("the forwarder's broker or worker did not start")
        return line.decode()


async def measure(options: Options) -> Report:
    report = Report("forwarder", options.runs)
    rounds: dict[int, list[Round]] = {per_frame: [] for per_frame in PER_FRAME}
    p50s, p99s = [], []
    with Forwarder() as forwarder:
        await forwarder.start()
        await forwarder.round(JOBS_QUICK, 10)
        for number in range(options.runs):
            say(f"round {number + 1} of {options.runs}")
            for per_frame in PER_FRAME:
                jobs = JOBS_QUICK if options.quick else JOBS[per_frame]
                rounds[per_frame].append(await forwarder.round(jobs, per_frame))
            trips = await forwarder.round_trips(ROUND_TRIPS_QUICK if options.quick else ROUND_TRIPS)
            p50s.append(percentile(trips, 50) * 1e6)
            p99s.append(percentile(trips, 99) * 1e6)
    for per_frame, measured in rounds.items():
        what = f"{per_frame} job{'s' if per_frame > 1 else ''} a frame"
        report.add(what, "-", "jobs/s", [one.jobs_per_s for one in measured])
        for name in ("producer", "broker", "worker"):
            report.add(f"  {name} CPU", "-", "us/job", [one.cpu_us[name] for one in measured])
    report.add("round trip, one at a time, p50", "-", "us", p50s)
    report.add("round trip, one at a time, p99", "-", "us", p99s)
    return report


def main() -> None:
    run(measure, __doc__)


if __name__ == "__main__":
    main()
