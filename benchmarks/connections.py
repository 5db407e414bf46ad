"""Many producers that are connected and say nothing: memory of each, and the speed of the one that works."""

import asyncio
import contextlib
import os
import time
from typing import Final, cast

from benchmarks.forwarder import Forwarder
from benchmarks.harness.fleet import Broker, Fleet
from benchmarks.harness.proc import rss_bytes
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Report
from benchmarks.harness.spread import ratios
from benchmarks.tasks import declare
from benchmarks.throughput import FORWARDED_PER_FRAME, JOBS_FORWARDED, QUICK_PART, SLOTS, submit_many_and_wait
from taskq import TaskQ, limits
from taskq.client.address import parse_address
from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Ping

JOBS: Final = 100_000
# Connecting at once: fewer than the system lets wait to be accepted, or they try again a second later.
AT_ONCE: Final = 50


class Idler(asyncio.Protocol):
    """A producer that says hello and then only that it is there, as often as it must."""

    def __init__(self) -> None:
        self._side = PeerSide(session=os.urandom(16), role="producer", name="idler", token=None)
        self._transport: asyncio.Transport
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._side.receive(data)
        self._transport.write(self._side.take_replies())
        if self._side.welcome is not None and not self.welcome.done():
            self.welcome.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True

    def beat(self) -> None:
        self._transport.write(encode(Ping()))

    def close(self) -> None:
        self._transport.abort()


class Crowd:
    """The idle connections, and the task that keeps them alive."""

    def __init__(self) -> None:
        self._idlers: list[Idler] = []
        self._beats: asyncio.Task[None] | None = None

    async def connect(self, url: str, count: int) -> float:
        """Returns the connections accepted and welcomed in a second."""
        address = parse_address(url)
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        for start in range(0, count, AT_ONCE):
            pairs = await asyncio.gather(
                *(
                    loop.create_connection(Idler, address.host, address.port)
                    for _ in range(start, min(start + AT_ONCE, count))
                )
            )
            self._idlers += [idler for _, idler in pairs]
            await asyncio.gather(*(idler.welcome for _, idler in pairs))
        rate = count / (time.perf_counter() - began)
        self._beats = loop.create_task(self._beat())
        return rate

    def check(self) -> None:
        closed = sum(idler.is_closed for idler in self._idlers)
        if closed:
            raise RuntimeError(f"{closed} of {len(self._idlers)} idle connections were closed by the broker")

    async def close(self) -> None:
        for idler in self._idlers:
            idler.close()
        if self._beats is not None:
            self._beats.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beats

    async def _beat(self) -> None:
        """Not all at once: their beats are spread over the time that they have."""
        while True:
            for idler in self._idlers:
                idler.beat()
                await asyncio.sleep(limits.BEAT_MS / 1000 / len(self._idlers))


async def measure(options: Options) -> Report:
    report = Report("connections", options.runs)
    part = QUICK_PART if options.quick else 1
    floors: list[float] = []
    rates: dict[str, list[float]] = {"alone": [], "crowded": []}
    crowd = Crowd()
    with Fleet() as fleet, Forwarder() as forwarder:
        await forwarder.start()
        brokers = {name: await fleet.start_broker(name) for name in rates}
        for name, broker in brokers.items():
            fleet.start_worker(broker.url, f"worker-{name}", slots=SLOTS)
        try:
            for broker in brokers.values():
                await _rate(broker, JOBS // part)
            before = rss_bytes(brokers["crowded"].pid)
            welcomed = await crowd.connect(brokers["crowded"].url, options.count)
            grown = rss_bytes(brokers["crowded"].pid) - before
            for number in range(options.runs):
                say(f"round {number + 1} of {options.runs}")
                floors.append((await forwarder.round(JOBS_FORWARDED // part, FORWARDED_PER_FRAME)).jobs_per_s)
                for name, broker in brokers.items():
                    rates[name].append(await _rate(broker, JOBS // part))
            crowd.check()
        finally:
            await crowd.close()
    count = f"{options.count:,} idle connections"
    report.add(f"the broker's memory, each of {count}", "-", "KiB", [grown / options.count / 1024])
    report.add("connections made and welcomed", "-", "/s", [welcomed])
    for name, what in (
        ("alone", "submit_many, results awaited, alone"),
        ("crowded", f"the same beside {count}"),
    ):
        report.add(what, "fsync", "jobs/s", rates[name], ratio=ratios(rates[name], floors))
    report.add("  crowded against alone", "fsync", "x", ratios(rates["crowded"], rates["alone"]))
    return report


async def _rate(broker: Broker, jobs: int) -> float:
    async with TaskQ(broker.url) as app:
        noop = declare(app).noop
        began = time.perf_counter()
        await submit_many_and_wait(app, noop, jobs)
        return jobs / (time.perf_counter() - began)


def main() -> None:
    run(measure, __doc__, count=Count("--connections", full=1_000, quick=100))


if __name__ == "__main__":
    main()
