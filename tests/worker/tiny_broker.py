"""A broker of a hundred lines: real sockets and the real protocol, no memory. It records what it hears."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Self, TypeVar, cast

from taskq.protocol.connection import BrokerSide, ProtocolError
from taskq.protocol.frames import encode
from taskq.protocol.messages import (
    Ack,
    Acked,
    Announce,
    Deliver,
    Delivery,
    Exited,
    Failure,
    Hello,
    Message,
    Nack,
    Ping,
    Pong,
    Refusal,
    Resume,
    Resumed,
    Success,
    Terms,
    Vouch,
)
from taskq.server.listen import stop_listening

T = TypeVar("T")

# A test that waits longer has failed; none waits for it to pass.
PATIENCE = 30.0


class Peer(asyncio.Protocol):
    """One connection as the broker sees it. Reports are recorded at once, and answered so."""

    def __init__(self, broker: "TinyBroker") -> None:
        self._broker = broker
        self._side = BrokerSide(nonce=os.urandom(16), cluster=b"c" * 16, epoch=1)
        self.hello = Hello(1, b"?" * 16, "viewer")
        self.heard: list[Message] = []
        self.is_open = True
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by type
        self._broker.connections.append(self)
        self._transport.write(self._side.greeting())

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._side.receive(data)
        except ProtocolError as error:
            self._broker.errors.append(error)
            self._transport.close()
            return
        for message in messages:
            self._hear(message)
        self._transport.write(self._side.take_replies())
        self._broker.look()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.is_over = True
        self._broker.look()

    def say(self, *messages: Message) -> None:
        self._transport.write(encode(*messages))

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    def _hear(self, message: Message) -> None:
        if isinstance(message, Hello):
            if self._broker.refusal is not None:
                self.say(self._broker.refusal)
                self._transport.close()
                return
            self.hello = message
            self._broker.peers.append(self)
            self._transport.write(self._side.welcome(time.time_ns() // 1_000_000, 0))
            return
        self.heard.append(message)
        if isinstance(message, Ack | Nack):
            self.say(Acked(message.seq))
        elif isinstance(message, Resume) and message.last:
            self.say(Resumed([]))
        elif isinstance(message, Ping):
            self.say(Pong(message.token))


class TinyBroker:
    """`async with TinyBroker() as broker:` listens on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self.url = ""
        self.peers: list[Peer] = []
        self.connections: list[Peer] = []
        self.errors: list[ProtocolError] = []
        self._waits: list[tuple[Callable[[], object], asyncio.Future[None]]] = []
        self.refusal: Refusal | None = None
        self._lease = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: Peer(self), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"taskq://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_listening(self._server)
        for peer in self.connections:
            peer.close()
        await self.until(lambda: all(peer.is_over for peer in self.connections))
        assert self.errors == []

    def look(self) -> None:
        for condition, future in self._waits:
            if not future.done() and condition():
                future.set_result(None)

    async def until(self, condition: Callable[[], T]) -> T:
        """Until something that was heard, or a connection that ended, makes the condition true."""
        if not condition():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waits.append((condition, future))
            await asyncio.wait_for(future, PATIENCE)
        return condition()

    # -- what was heard -----------------------------------------------------------------------------

    def workers(self) -> list[Peer]:
        """Open connections of workers that have announced themselves, oldest first."""
        return [
            peer
            for peer in self.peers
            if peer.is_open
            and peer.hello.role == "worker"
            and any(isinstance(m, Announce) for m in peer.heard)
        ]

    async def a_worker(self, count: int = 1) -> Peer:
        """The newest worker, once there are `count` of them."""
        await self.until(lambda: len(self.workers()) >= count)
        return self.workers()[-1]

    def said(self, kind: type[T]) -> list[T]:
        return [message for peer in self.peers for message in peer.heard if isinstance(message, kind)]

    def reports(self) -> dict[int, Success | Failure]:
        reports: list[Ack | Nack] = [*self.said(Ack), *self.said(Nack)]
        return {item.lease: item for report in reports for item in report.items}

    def exits(self) -> dict[bytes, tuple[int, str]]:
        return {
            child.session: (child.status, child.text)
            for message in self.said(Exited)
            for child in message.children
        }

    def vouched(self) -> set[bytes]:
        """The sessions of the latest vouch."""
        vouches = self.said(Vouch)
        return set(vouches[-1].sessions) if vouches else set()

    # -- what it says -------------------------------------------------------------------------------

    def deliver(self, peer: Peer, task: str, payload: bytes, *, timeout_ms: int = 0) -> int:
        """One attempt; its lease."""
        self._lease += 1
        job = Delivery(self._lease.to_bytes(16, "big"), self._lease, 1, 0, payload)
        peer.say(Deliver([Terms(task, timeout_ms=timeout_ms)], [job]))
        return self._lease

    def refuse(self, code: str, text: str) -> None:
        """From now on nobody is welcome."""
        self.refusal = Refusal(0, code, text)

    async def report(self, lease: int) -> Success | Failure:
        await self.until(lambda: lease in self.reports())
        return self.reports()[lease]
