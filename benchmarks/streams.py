"""A stream of 100,000 items of 100 bytes from one task to one consumer, against a raw asyncio stream.

Both carry the same frames, one item of 100 bytes in each. The raw one is a process that writes them, each
with its length in front, to an asyncio stream whose reader takes them one by one: no broker, nothing packed,
nothing numbered, and one hop where taskq has two.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from typing import Final

from benchmarks.harness.fleet import ROOT, Fleet
from benchmarks.harness.proc import CpuMeter
from benchmarks.harness.program import Count, Options, run, run_on_loop, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import ratios
from benchmarks.tasks import declare_items
from taskq import Missed, Restarted, TaskQ

ITEM_BYTES: Final = 100
HEADER: Final = 4
SLOTS: Final = 10
OF_RAW: Final = Bound(due=0.3, goal=0.6)
# Frames that the raw writer joins before it asks whether there is room: as many as a chunk of ours has.
PER_WRITE: Final = 128


async def measure(options: Options) -> Report:
    report = Report("streams", options.runs)
    ours: list[float] = []
    raw: list[float] = []
    cpu: dict[str, list[float]] = {"broker": [], "worker": []}
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        worker = fleet.start_worker(broker.url, slots=SLOTS)
        groups = {"broker": [broker.pid], "worker": worker.groups()["worker"]}
        async with TaskQ(broker.url) as app:
            await _stream(app, 1_000)
            groups["worker"] = worker.groups()["worker"]
            for number in range(options.runs):
                say(f"round {number + 1} of {options.runs}")
                raw.append(await _raw(options.count))
                meter = CpuMeter.start(groups)
                ours.append(await _stream(app, options.count))
                for name, us in meter.per_job_us(options.count).items():
                    cpu[name].append(us)
                broker.check()
                worker.check()
    report.add("raw asyncio stream", "-", "items/s", raw)
    report.add("job.stream()", "-", "items/s", ours)
    report.add("  against the raw stream", "-", "x", ratios(ours, raw), bound=OF_RAW)
    for name, values in cpu.items():
        report.add(f"  {name} CPU", "-", "us/item", values)
    report.notes.append(
        f"{options.count:,} items of {ITEM_BYTES} bytes, one async-generator task, one consumer that counts "
        "them one by one. From the first item at the consumer to the last."
    )
    return report


async def _stream(app: TaskQ, count: int) -> float:
    """Items a second."""
    job = await declare_items(app).submit(count, ITEM_BYTES)
    began, seen = 0.0, 0
    async for item in job.stream():
        if isinstance(item, Missed | Restarted):
            raise RuntimeError(f"the stream is not whole: {item}")
        began = began or time.perf_counter()
        seen += 1
    seconds = time.perf_counter() - began
    if seen != count:
        raise RuntimeError(f"{seen} items of {count}")
    return count / seconds


async def _raw(count: int) -> float:
    """The same of a bare stream."""
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = 0.0
        for _ in range(count):
            size = int.from_bytes(await reader.readexactly(HEADER), "big")
            await reader.readexactly(size)
            began = began or time.perf_counter()
        done.set_result(count / (time.perf_counter() - began))
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.streams", "write", str(port), str(count)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        return await asyncio.wait_for(done, 120)
    finally:
        process.kill()
        process.wait()
        server.close()
        with contextlib.suppress(OSError):
            await server.wait_closed()


async def _write(port: int, count: int) -> None:
    """The process at the other end."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    frame = ITEM_BYTES.to_bytes(HEADER, "big") + b"x" * ITEM_BYTES
    for number in range(count):
        writer.write(frame)
        if number % PER_WRITE == 0:
            await writer.drain()
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def main() -> None:
    if sys.argv[1:2] == ["write"]:
        run_on_loop(_write(int(sys.argv[2]), int(sys.argv[3])))
        return
    run(measure, __doc__, count=Count("--items", full=100_000, quick=5_000))


if __name__ == "__main__":
    main()
