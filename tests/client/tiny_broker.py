"""A real server that speaks the broker's end of the protocol, and decides nothing: the test does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from taskq.protocol.connection import BrokerSide, ProtocolError
from taskq.protocol.frames import encode
from taskq.protocol.messages import Goodbye, Hello, Message, Ping, Pong
from taskq.protocol.tokens import TokenTable
from taskq.server.listen import stop_listening

M = TypeVar("M", bound=Message)

Answer = Callable[[Message], list[Message]]


def answer_nothing(message: Message) -> list[Message]:
    return []


class TinyBroker:
    """Answers each command with what `answer` returns; `heard` holds all that was said, in order."""

    def __init__(self, answer: Answer = answer_nothing, tokens: TokenTable | None = None) -> None:
        self.answer = answer
        self.tokens = tokens
        self.welcomes = True
        self.heard: list[Message] = []
        self.reads = 0
        self.address = ""
        self._news = asyncio.Condition()
        self._peers: list[asyncio.Transport] = []
        self._server: asyncio.Server | None = None

    async def listen(self, path: str = "", port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        if path:
            self._server = await loop.create_unix_server(lambda: _Peer(self), path)
            self.address = f"unix:{path}"
            return
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", port)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.address = f"taskq://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._server is not None:
            await stop_listening(self._server)
            self.drop()
            await self._server.wait_closed()
            await self.until(lambda: not self._peers)
            self._server = None

    def say(self, *messages: Message) -> None:
        for peer in self._peers:
            peer.write(encode(*messages))

    def drop(self) -> None:
        """Cut every connection, without a word."""
        for peer in self._peers:
            peer.abort()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(5), self._news:
            await self._news.wait_for(is_so)

    async def hear(self, kind: type[M], count: int = 1) -> list[M]:
        """The first `count` messages of this kind, once they have arrived."""
        await self.until(lambda: len(self.said(kind)) >= count)
        return self.said(kind)

    def said(self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def note(self) -> None:
        self._telling = asyncio.ensure_future(self._tell())


class _Peer(asyncio.Protocol):
    def __init__(self, broker: TinyBroker) -> None:
        self._broker = broker
        self._side = BrokerSide(nonce=bytes(16), cluster=bytes(16), epoch=1, tokens=broker.tokens)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by type
        self._broker._peers.append(self._transport)
        self._transport.write(self._side.greeting())

    def data_received(self, data: bytes) -> None:
        self._broker.reads += 1
        try:
            messages = self._side.receive(data)
        except ProtocolError as error:
            self._transport.write(error.reply or b"")
            self._transport.close()
            return
        for message in messages:
            self._hear(message)
        self._transport.write(self._side.take_replies())
        self._broker.note()

    def _hear(self, message: Message) -> None:
        self._broker.heard.append(message)
        if isinstance(message, Hello):
            if self._broker.welcomes:
                self._transport.write(self._side.welcome(0, 0))
        elif isinstance(message, Ping):
            self._transport.write(encode(Pong(message.token)))
        elif isinstance(message, Goodbye):
            self._transport.close()
        else:
            self._transport.write(encode(*self._broker.answer(message)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._broker._peers.remove(self._transport)
        self._broker.note()


@asynccontextmanager
async def tiny_broker(
    answer: Answer = answer_nothing, *, tokens: TokenTable | None = None, path: str = ""
) -> AsyncIterator[TinyBroker]:
    broker = TinyBroker(answer, tokens)
    await broker.listen(path)
    try:
        yield broker
    finally:
        await broker.stop()
