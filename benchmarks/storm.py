"""A hundred thousand running jobs fail at once and are tried again: how late does the broker's loop become?

One worker holds all of them and fails them in one turn of its own. Meanwhile another connection pings every
two milliseconds, whether the last ping was answered or not, and how long each took is what others notice.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Final, cast

from benchmarks.harness.failing import Failing
from benchmarks.harness.filling import submit_all
from benchmarks.harness.fleet import Fleet
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile
from benchmarks.tasks import declare
from taskq import RetryPolicy, Task, TaskQ
from taskq.client.address import parse_address
from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Ping, Pong

PING_EVERY_S: Final = 0.002
CALM_S: Final = 1.0
RETRY: Final = RetryPolicy.exponential(max_attempts=3, base=1.0)
AT_ONCE: Final = RetryPolicy.exponential(max_attempts=3, base=1.0, jitter="none")
LATE: Final = Bound(due=50, goal=20, at_most=True)


class Pinger(asyncio.Protocol):
    """Pings on a schedule of its own: a broker that is late is late for each that falls into that time."""

    def __init__(self) -> None:
        self._side = PeerSide(session=os.urandom(16), role="producer", name="pinger", token=None)
        self._transport: asyncio.Transport
        self._sent: dict[int, float] = {}
        self._count = 0
        self.taken_ms: list[float] = []
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        for message in self._side.receive(data):
            if isinstance(message, Pong):
                self.taken_ms.append((now - self._sent.pop(message.token)) * 1000)
        self._transport.write(self._side.take_replies())
        if self._side.welcome is not None and not self.welcome.done():
            self.welcome.set_result(None)

    async def ping(self) -> None:
        """For ever, without waiting for answers."""
        due = time.perf_counter()
        while True:
            self._count += 1
            # From when it was due: that we are late ourselves is the machine's load, and part of it.
            self._sent[self._count] = due
            self._transport.write(encode(Ping(self._count)))
            due += PING_EVERY_S
            await asyncio.sleep(max(due - time.perf_counter(), 0))

    async def all_answered(self) -> None:
        while self._sent:
            await asyncio.sleep(PING_EVERY_S)

    def close(self) -> None:
        self._transport.abort()


@contextlib.asynccontextmanager
async def pinging(url: str) -> AsyncIterator[list[float]]:
    """Fills the list with the milliseconds that each ping takes, until the block is left."""
    address = parse_address(url)
    loop = asyncio.get_running_loop()
    _, pinger = await loop.create_connection(Pinger, address.host, address.port)
    await pinger.welcome
    pings = loop.create_task(pinger.ping())
    try:
        yield pinger.taken_ms
    finally:
        pings.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pings
        async with asyncio.timeout(10):
            await pinger.all_answered()
        pinger.close()


async def measure(options: Options) -> Report:
    report = Report("storm", options.runs)
    for what, retry in (("waits with jitter", RETRY), ("all due at one moment", AT_ONCE)):
        calm: list[list[float]] = []
        storm: list[list[float]] = []
        seconds: list[float] = []
        cpu_us: list[float] = []
        for number in range(options.runs):
            say(f"{options.count:,} jobs fail, {what}: round {number + 1} of {options.runs}")
            await _round(options.count, retry, calm, storm, seconds, cpu_us)
        report.add(
            f"{options.count:,} jobs fail at once, {what}: ping p99", "fsync", "ms", _p(storm, 99), bound=LATE
        )
        report.add("  ping p50", "fsync", "ms", _p(storm, 50))
        report.add("  longest ping", "fsync", "ms", _p(storm, 100))
        report.add("  ping p99 before it", "fsync", "ms", _p(calm, 99))
        report.add("  until all have succeeded in their second attempt", "fsync", "s", seconds)
        report.add("  broker CPU", "fsync", "us/job", cpu_us)
    report.notes.append(
        "One worker holds all jobs and fails them in one turn, with a traceback of 700 characters each; they "
        f"wait for up to 1 s (or exactly 1 s) and succeed. Pings every {PING_EVERY_S * 1000:g} ms from "
        "another connection, each counted from when it was due."
    )
    return report


async def _round(
    jobs: int,
    retry: RetryPolicy,
    calm: list[list[float]],
    storm: list[list[float]],
    seconds: list[float],
    cpu_us: list[float],
) -> None:
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        async with TaskQ(broker.url) as app:
            task: Task[[bytes], None] = declare(app).swallow.options(retry=retry)
            await submit_all(app, task, jobs)
            with Failing(broker.url, task.name, "default", jobs) as failing:
                await failing.holds_all()
                async with pinging(broker.url) as taken:
                    await asyncio.sleep(CALM_S)
                    calm.append(list(taken))
                    taken.clear()
                    meter = CpuMeter.start({"broker": [broker.pid]})
                    began = time.perf_counter()
                    await failing.fail_all()
                    seconds.append(time.perf_counter() - began)
                    cpu_us.append(meter.per_job_us(jobs)["broker"])
                storm.append(list(taken))
        broker.check()


def _p(rounds: list[list[float]], percent: float) -> list[float]:
    return [percentile(taken, percent) for taken in rounds]


def main() -> None:
    run(measure, __doc__, runs=3, count=Count("--jobs", full=100_000, quick=2_000))


if __name__ == "__main__":
    main()
