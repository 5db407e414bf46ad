"""A stream of 100,000 items of 100 bytes from one task to one consumer, against a raw asyncio stream.

The raw one is a process that writes frames, each with its length in front, to an asyncio stream: no broker,
nothing numbered, and one hop where taskq has two. Once with an item in each frame, as somebody would write
it who has no library; and once with as many items in a frame as taskq joins, packed and unpacked.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from typing import Final

import msgspec

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
# Items that the raw writer says before it asks whether there is room: as many as a chunk of ours has.
JOINED: Final = 128

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[bytes]).decode


async def measure(options: Options) -> Report:
    report = Report("streams", options.runs)
    ours: list[float] = []
    raw: list[float] = []
    joined: list[float] = []
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
                raw.append(await _raw(options.count, per_frame=1))
                joined.append(await _raw(options.count, per_frame=JOINED))
                meter = CpuMeter.start(groups)
                ours.append(await _stream(app, options.count))
                for name, us in meter.per_job_us(options.count).items():
                    cpu[name].append(us)
                broker.check()
                worker.check()
    report.add("raw asyncio stream, an item a frame", "-", "items/s", raw)
    report.add(f"raw asyncio stream, {JOINED} items a frame", "-", "items/s", joined)
    report.add("job.stream()", "-", "items/s", ours)
    report.add("  against an item a frame", "-", "x", ratios(ours, raw), bound=OF_RAW)
    report.add(f"  against {JOINED} items a frame", "-", "x", ratios(ours, joined))
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


async def _raw(count: int, *, per_frame: int) -> float:
    """The same of a bare stream."""
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began, seen = 0.0, 0
        while seen < count:
            size = int.from_bytes(await reader.readexactly(HEADER), "big")
            frame = await reader.readexactly(size)
            began = began or time.perf_counter()
            for _item in (frame,) if per_frame == 1 else _unpack(frame):
                seen += 1
        done.set_result(count / (time.perf_counter() - began))
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    words = ["write", str(port), str(count), str(per_frame)]
    command = [sys.executable, "-m", "benchmarks.streams", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        return await asyncio.wait_for(done, 120)
    finally:
        process.kill()
        process.wait()
        server.close()
        with contextlib.suppress(OSError):
            await server.wait_closed()


async def _write(port: int, count: int, per_frame: int) -> None:
    """The process at the other end."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    item = b"x" * ITEM_BYTES
    for first in range(0, count, per_frame):
        body = item if per_frame == 1 else _pack([item] * min(per_frame, count - first))
        writer.write(len(body).to_bytes(HEADER, "big") + body)
        if first % JOINED == 0:
            await writer.drain()
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def main() -> None:
    if sys.argv[1:2] == ["write"]:
        run_on_loop(_write(*map(int, sys.argv[2:])))
        return
    run(measure, __doc__, count=Count("--items", full=100_000, quick=5_000))


if __name__ == "__main__":
    main()
