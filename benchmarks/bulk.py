"""A million waiting jobs cancelled by one filter, and whom that holds up: pings from another connection.

Beside it: a count and a page of them, the cancel of a running job, and `why` of a waiting one.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.harness.filling import submit_all
from benchmarks.harness.fleet import Fleet, wait_until
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile
from benchmarks.tasks import Tasks, declare, declare_nobody
from taskq import TaskQ
from taskq.client.address import addresses_of
from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Message, Ping, Pong, Welcome

LONGEST_TURN: Final = Bound(due=20.0, goal=10.0, at_most=True)
RECEIPT: Final = Bound(due=20.0, goal=5.0, at_most=True)
WHY: Final = Bound(due=1.0, goal=0.5, at_most=True)
CANCELS: Final = 300
CANCELS_QUICK: Final = 30
QUESTIONS: Final = 2_000
# How long the pings are answered by a broker that does nothing else: what is the machine's own doing.
QUIET_SECONDS: Final = 3.0
BETWEEN_PINGS: Final = 0.0005
READ_BYTES: Final = 65_536

T = TypeVar("T")


class Pinger:
    """One connection that asks again as soon as it was answered; each answer's time, in ms."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken_ms: list[float] = []
        self._reader = reader
        self._writer = writer
        self._peer = PeerSide(session=os.urandom(16), role="viewer", name="pinger", token=None)

    async def welcome(self) -> None:
        while not any(isinstance(message, Welcome) for message in await self._hear()):
            pass

    async def ping_for_ever(self) -> None:
        while True:
            began = time.perf_counter()
            self._writer.write(encode(Ping(1)))
            while not any(isinstance(message, Pong) for message in await self._hear()):
                pass
            self.taken_ms.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(BETWEEN_PINGS)

    async def _hear(self) -> list[Message]:
        heard = list(self._peer.receive(await self._reader.read(READ_BYTES)))
        if replies := self._peer.take_replies():
            self._writer.write(replies)
        return heard


@asynccontextmanager
async def pinging(url: str) -> AsyncIterator[Pinger]:
    """Pings go on for as long as the block runs."""
    (address,) = addresses_of(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    pinger = Pinger(reader, writer)
    await pinger.welcome()
    task = asyncio.create_task(pinger.ping_for_ever())
    try:
        yield pinger
    finally:
        task.cancel()
        await asyncio.wait([task])
        writer.close()


async def measure(options: Options) -> Report:
    report = Report("bulk", options.runs)
    measured: dict[str, list[float]] = {}
    jobs = f"{options.count:,} waiting jobs"
    for number in range(options.runs):
        say(f"round {number + 1} of {options.runs}: {jobs}")
        with Fleet() as fleet:
            broker = await fleet.start_broker()
            async with TaskQ(broker.url) as app:
                for what, value in {
                    **await _among_many(app, broker.url, options.count),
                    **await _running(fleet, app, broker.url, CANCELS_QUICK if options.quick else CANCELS),
                }.items():
                    measured.setdefault(what, []).append(value)
    report.add("nothing to do: longest ping", "-", "ms", measured["quiet"])
    for verb in ("count", "first page", "next page", "cancel"):
        report.add(f"{verb} of {jobs}", "fsync", "ms", measured[verb])
        report.add("  longest ping meanwhile", "fsync", "ms", measured[f"{verb}: ping"], bound=LONGEST_TURN)
        report.add("  p99 of the pings", "fsync", "ms", measured[f"{verb}: p99"])
    report.add(f"`why` of one of {jobs}, p99", "fsync", "ms", measured["why"], bound=WHY)
    report.add(
        "cancel of a running job: call to receipt, p99", "fsync", "ms", measured["receipt"], bound=RECEIPT
    )
    report.add("  until its worker has a free slot again, p99", "fsync", "ms", measured["freed"])
    report.notes.append(
        "A ping is answered in the turn that hears it: the longest one bounds how long the loop was blocked. "
        "`why` is the whole round trip of Inspect."
    )
    return report


async def _among_many(app: TaskQ, url: str, count: int) -> dict[str, float]:
    nobody = declare_nobody(app)
    last = await submit_all(app, nobody, count)
    found: dict[str, float] = {}
    async with pinging(url) as pinger:
        await asyncio.sleep(QUIET_SECONDS)
        found["quiet"] = max(pinger.taken_ms)
        questions = []
        for _ in range(QUESTIONS):
            began = time.perf_counter()
            await last[0].info()
            questions.append((time.perf_counter() - began) * 1e3)
        found["why"] = percentile(questions, 99)
        assert await _timed(found, "count", pinger, app.jobs.count(task="benchmarks.*")) == count
        pages = app.jobs.list("state:ready")
        await _timed(found, "first page", pinger, anext(pages))
        await _timed(found, "next page", pinger, _skip(pages, 1_000))
        await pages.aclose()
        result = await _timed(found, "cancel", pinger, app.jobs.cancel(task="benchmarks.nobody"))
        assert result.done == count, result
    return found


async def _skip(pages: AsyncIterator[object], count: int) -> None:
    for _ in range(count):
        await anext(pages, None)


async def _timed(found: dict[str, float], what: str, pinger: Pinger, doing: Awaitable[T]) -> T:
    """Notes how long it took, and the longest of the pings that were answered meanwhile."""
    pinger.taken_ms.clear()
    began = time.perf_counter()
    result = await doing
    found[what] = (time.perf_counter() - began) * 1e3
    await asyncio.sleep(0.1)  # so that a ping that waited is answered
    found[f"{what}: ping"] = max(pinger.taken_ms)
    found[f"{what}: p99"] = percentile(pinger.taken_ms, 99)
    return result


async def _running(fleet: Fleet, app: TaskQ, url: str, count: int) -> dict[str, float]:
    """Jobs that run are cancelled, one after the other."""
    tasks: Tasks = declare(app)
    evidence = fleet.folder / "evidence"
    fleet.start_worker(url, slots=1, env={"BENCHMARKS_EVIDENCE": str(evidence)})
    await tasks.noop.submit()
    receipts, freed = [], []
    for number in range(count):
        job = await tasks.occupy.submit(60.0)
        await wait_until(lambda number=number: _lines(evidence) > number, "a job runs")
        began = time.perf_counter()
        assert await job.cancel()
        receipts.append((time.perf_counter() - began) * 1e3)
        await (await tasks.noop.submit()).result()
        freed.append((time.perf_counter() - began) * 1e3)
    return {"receipt": percentile(receipts, 99), "freed": percentile(freed, 99)}


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as lines:
            return sum(line.startswith(b"start") for line in lines)
    except FileNotFoundError:
        return 0


def main() -> None:
    run(measure, __doc__, runs=3, count=Count("--jobs", full=1_000_000, quick=10_000))


if __name__ == "__main__":
    main()
