"""The bare forwarder's ends: the producer, and as processes `hops broker` and `hops worker PORT`.

They speak taskq's own typed messages, so that what lies between them and taskq is the queue. A process
ends when one of its connections does, so that none outlives the benchmark.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final, cast

from msgspec import Struct, msgpack

from benchmarks.harness.fleet import FleetError
from benchmarks.harness.program import run_on_loop
from taskq.client.ids import IdMaker
from taskq.protocol.messages import Ack, Deliver, Delivery, JobSpec, Outcome, Outcomes, Submit, Success, Terms

HEADER: Final = 4
# As the arguments of a task without arguments are packed.
PAYLOAD: Final = b"\x92\x90\x80"
TERMS: Final = [Terms("benchmarks.noop")]
SLOT: Final = 7

encode = msgpack.Encoder().encode
decode_submit = msgpack.Decoder(Submit).decode
decode_deliver = msgpack.Decoder(Deliver).decode
decode_ack = msgpack.Decoder(Ack).decode
decode_outcomes = msgpack.Decoder(Outcomes).decode


def framed(message: Struct) -> bytes:
    body = encode(message)
    return len(body).to_bytes(HEADER, "big") + body


class Framed(asyncio.Protocol):
    """Cuts bytes into frames; what they lead to goes out in one write per read."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        bodies = []
        start, size = 0, len(buffer)
        while size - start >= HEADER:
            end = start + HEADER + int.from_bytes(buffer[start : start + HEADER], "big")
            if end > size:
                break
            bodies.append(bytes(buffer[start + HEADER : end]))
            start = end
        if bodies:
            del buffer[:start]
            self.on_frames(bodies)

    def on_frames(self, bodies: list[bytes]) -> None:
        raise NotImplementedError


class Producer(Framed):
    """Keeps so many frames under way until all have come back."""

    def __init__(self) -> None:
        super().__init__()
        self._new_id = IdMaker().new_id
        self._waiting: dict[bytes, JobSpec] = {}
        self._next = self._end = self._per_frame = self._under_way = 0
        self._done: asyncio.Future[None] | None = None

    async def send(self, first: int, frames: int, per_frame: int, window: int) -> None:
        """Raises FleetError when the broker is gone."""
        self._next, self._end, self._per_frame = first, first + frames * per_frame, per_frame
        self._done = asyncio.get_running_loop().create_future()
        self._send(window)
        await self._done

    def on_frames(self, bodies: list[bytes]) -> None:
        waiting = self._waiting
        for body in bodies:
            for outcome in decode_outcomes(body).items:
                del waiting[outcome.id]
        self._under_way -= len(bodies)
        self._send(len(bodies))
        if not self._under_way and self._done is not None:
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._done is not None and not self._done.done():
            self._done.set_exception(FleetError("the forwarder's broker is gone"))

    def _send(self, count: int) -> None:
        step = self._per_frame
        firsts = range(self._next, min(self._next + count * step, self._end), step)
        frames = [framed(Submit(first, TERMS, self._jobs(step))) for first in firsts]
        self._next += len(frames) * step
        self._under_way += len(frames)
        if frames:
            self.transport.write(b"".join(frames))

    def _jobs(self, count: int) -> list[JobSpec]:
        new_id = self._new_id
        jobs = [JobSpec(new_id(SLOT), 0, PAYLOAD) for _ in range(count)]
        self._waiting.update((job.id, job) for job in jobs)
        return jobs


class Side(Framed):
    """One side of the broker: what arrives is turned over and goes out at the other side."""

    other: "Side"

    def __init__(self, turn: Callable[[bytes], Struct]) -> None:
        super().__init__()
        self._turn = turn
        self.here: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.here.set_result(None)

    def on_frames(self, bodies: list[bytes]) -> None:
        self.other.transport.write(b"".join([framed(self._turn(body)) for body in bodies]))


class Worker(Framed):
    """Answers each job with an empty result."""

    def on_frames(self, bodies: list[bytes]) -> None:
        self.transport.write(b"".join([framed(done(body)) for body in bodies]))


def done(body: bytes) -> Ack:
    return Ack(1, [Success(job.id, job.lease, b"\xc0") for job in decode_deliver(body).jobs])


async def broker() -> None:
    """Says the ports for the producer and for the worker, and a word when the worker is there."""
    held: dict[bytes, tuple[JobSpec, Side]] = {}

    def deliver(body: bytes) -> Deliver:
        submit = decode_submit(body)
        deliveries = []
        for job in submit.jobs:
            held[job.id] = job, producer
            deliveries.append(Delivery(job.id, 1, 1, job.terms, job.payload))
        return Deliver(submit.terms, deliveries)

    def report(body: bytes) -> Outcomes:
        outcomes = []
        for success in decode_ack(body).items:
            _, side = held.pop(success.id)
            assert side is producer
            outcomes.append(Outcome(success.id, "succeeded", success.result))
        return Outcomes(outcomes)

    producer, worker = Side(deliver), Side(report)
    producer.other, worker.other = worker, producer
    loop = asyncio.get_running_loop()
    ports = [await _listen(loop, side) for side in (producer, worker)]
    print(*ports, flush=True)
    await worker.here
    print("ready", flush=True)
    await asyncio.wait([producer.gone, worker.gone], return_when=asyncio.FIRST_COMPLETED)


async def _listen(loop: asyncio.AbstractEventLoop, side: Side) -> int:
    server = await loop.create_server(lambda: side, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def worker(port: int) -> None:
    _, end = await asyncio.get_running_loop().create_connection(Worker, "127.0.0.1", port)
    await end.gone


if __name__ == "__main__":
    run_on_loop(broker() if sys.argv[1] == "broker" else worker(int(sys.argv[2])))
