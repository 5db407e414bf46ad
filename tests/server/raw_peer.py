"""A peer made of a socket and the protocol's own rules, and a daemon to talk to; for tests of the shell."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Announce, JobSpec, Message, Resume, Role, Submit, Terms, Welcome
from taskq.server.daemon import Daemon
from taskq.server.settings import BrokerSettings

# A hang is a failure; how long something takes is not what these tests are about.
PATIENCE_SECONDS = 20

M = TypeVar("M", bound=Message)


class RunningDaemon:
    """A daemon in this process, and what it has printed."""

    def __init__(self, daemon: Daemon, printed: list[str], ended: asyncio.Task[int]) -> None:
        self.daemon = daemon
        self.ended = ended
        self.printed = printed
        self.exit_code: int | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.daemon.address

    @property
    def http(self) -> tuple[str, int]:
        (line,) = [line for line in self.printed if line.startswith("serving http://")]
        host, port = line.removeprefix("serving http://").split(":")
        return host, int(port)


@asynccontextmanager
async def running(journal: str = "memory:", **settings: Any) -> AsyncGenerator[RunningDaemon, None]:
    """A daemon on a free port of 127.0.0.1, stopped at the end if it has not stopped by itself."""
    printed: list[str] = []
    daemon = Daemon(BrokerSettings(port=0, journal=journal, announce=printed.append, **settings))
    task = asyncio.create_task(daemon.run())
    serving = asyncio.create_task(daemon.serving.wait())
    await asyncio.wait([task, serving], return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    if task.done():
        task.result()
    running = RunningDaemon(daemon, printed, task)
    try:
        yield running
    finally:
        if not task.done():
            daemon.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            running.exit_code = await task


class RawPeer:
    """One connection; hears message by message."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: PeerSide | None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.side = side
        self._heard: list[Message] = []

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: tuple[str, int],
        role: Role = "producer",
        *,
        session: bytes = b"s" * 16,
        token: str | None = None,
        **settings: Any,
    ) -> AsyncGenerator[Self, None]:
        """Connected and welcome."""
        side = PeerSide(session=session, role=role, name=role, token=token, **settings)
        async with cls.open(address, side) as peer:
            await peer.hear(Welcome)
            yield peer

    @classmethod
    @asynccontextmanager
    async def open(cls, address: tuple[str, int], side: PeerSide | None = None) -> AsyncGenerator[Self, None]:
        """Connected, and nothing said."""
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield cls(reader, writer, side)
        finally:
            writer.transport.abort()

    async def say(self, *messages: Message) -> None:
        self.writer.write(encode(*messages))
        await self.writer.drain()

    async def hear(self, kind: type[M]) -> M:
        """The next message of a kind; the others are kept."""
        while True:
            for index, message in enumerate(self._heard):
                if isinstance(message, kind):
                    del self._heard[index]
                    return message
            await self.receive()

    async def next(self) -> Message:
        while not self._heard:
            await self.receive()
        return self._heard.pop(0)

    async def receive(self) -> None:
        """Read what has come; says what the rules say must be said."""
        assert self.side is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            data = await self.reader.read(65536)
        assert data, "the broker closed the connection"
        self._heard += self.side.receive(data)
        self.writer.write(self.side.take_replies())

    async def rest(self) -> list[Message]:
        """All that is said until the broker closes."""
        assert self.side is not None
        self._heard += self.side.receive(await self.rest_bytes())
        heard, self._heard = self._heard, []
        return heard

    async def rest_bytes(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def work(self, *, slots: int = 10, tasks: tuple[str, ...] = ("work",)) -> None:
        """Become a worker that holds nothing."""
        await self.say(Announce(dict.fromkeys(tasks, "async"), ["default"], {"async": slots}), Resume([]))


def submit(*ids: bytes, first: int = 0, payload: bytes = b"", **terms: Any) -> Submit:
    return Submit(first, [Terms("work", **terms)], [JobSpec(id, 0, payload) for id in ids])


A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
