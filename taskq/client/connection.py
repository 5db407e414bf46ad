"""One socket to a broker, from connect to close. Whoever owns it decides what is said and what comes next."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from taskq import limits
from taskq.client.address import Address
from taskq.errors import Refused, TaskqError
from taskq.protocol.connection import Heard, PeerSide, ProtocolError
from taskq.protocol.frames import encode
from taskq.protocol.messages import (
    FromBroker,
    Goodbye,
    Message,
    Ping,
    Pong,
    Refusal,
    Unsupported,
    Welcome,
)

_log = logging.getLogger("taskq.client")

# Trying again cannot help: somebody must change a token or upgrade one of the two ends.
_FATAL_CODES: Final = frozenset({"unauthorized", "version"})


class Owner(Protocol):
    """What a connection tells the link that it belongs to."""

    def on_welcome(self, welcome: Welcome) -> None: ...

    def on_message(self, message: FromBroker) -> None: ...

    def on_ended(self) -> None:
        """A connection that was welcome is gone."""

    def wake(self) -> None:
        """There may be something to say, or it may be said again."""


class Connection(asyncio.Protocol):
    """One socket, from connect to close."""

    def __init__(self, owner: Owner, peer: PeerSide) -> None:
        self.is_met = asyncio.Event()  # welcomed, or ended before that
        self.is_ended = asyncio.Event()
        self.is_paused = False
        self.was_welcome = False
        self.trouble = ""
        self.fatal: TaskqError | None = None
        self._owner = owner
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_parting = False
        self._beat: asyncio.TimerHandle | None = None
        self._beat_seconds = limits.BEAT_MS / 1000
        self._silent_beats = 0

    def say(self, *messages: Message) -> None:
        if self._transport is not None:
            self._write(encode(*messages))

    async def part(self, text: str) -> None:
        """Say goodbye and wait a moment for the broker to have read it."""
        if self._transport is None:
            return
        self._is_parting = True
        if self.was_welcome:
            self.say(Goodbye("closed", text))
        # The broker closes when it has read all; closing before that could reset what is on its way.
        # The broker may be gone already, and some transports cannot close one half.
        with contextlib.suppress(OSError, NotImplementedError):
            self._transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.CLOSE_TIMEOUT_MS / 1000):
                await self.is_ended.wait()
        self.abort()
        await self.is_ended.wait()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _tune(self._transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self._silent_beats = 0
        if self._is_parting:
            return
        fault: ProtocolError | None = None
        try:
            heard: Sequence[Heard] = self._peer.receive(data)
        except ProtocolError as error:
            fault = error
            heard = cast(Sequence[Heard], error.messages)
        for message in heard:
            self._hear(message)
        replies = self._peer.take_replies()
        if replies:
            self._write(replies)
        if fault is not None:
            self._fail(fault)
        self._owner.wake()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._owner.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._beat is not None:
            self._beat.cancel()
        if not self.trouble:
            self.trouble = reason_of(exc) if isinstance(exc, OSError) else "the broker closed the connection"
        self.is_ended.set()
        self.is_met.set()
        if self.was_welcome:
            self._owner.on_ended()

    # What was heard.

    def _hear(self, message: Heard) -> None:
        match message:
            case Welcome():
                self._enter(message)
            case Ping():
                self.say(Pong(message.token))
            case Pong():
                pass
            case Goodbye():
                self._part_with(message.code, message.text)
            case Refusal(request=0):
                self._part_with(message.code, message.text)
            case Unsupported():
                _log.warning("the broker does not know message %d; is it older?", message.number)
                self._owner.on_message(message)
            case _:
                self._owner.on_message(message)

    def _enter(self, welcome: Welcome) -> None:
        greeting = self._peer.greeting
        assert greeting is not None
        # The broker's word on how often it wants to hear us, unless that is no beat at all.
        self._beat_seconds = min(max(greeting.beat_ms, 50), limits.BEAT_MS) / 1000
        self._beat = self._loop.call_later(self._beat_seconds, self._on_beat)
        self.was_welcome = True
        self.is_met.set()
        self._owner.on_welcome(welcome)

    def _part_with(self, code: str, text: str) -> None:
        self.trouble = f"the broker closed the connection: {text or code}"
        if code in _FATAL_CODES:
            self.fatal = Refused.from_code(code, text)
        if self._transport is not None:
            self._transport.close()

    def _fail(self, fault: ProtocolError) -> None:
        self.trouble = fault.text
        if fault.code in _FATAL_CODES:
            self.fatal = Refused.from_code(fault.code, fault.text)
        if self._transport is not None:
            if fault.reply:
                self._transport.write(fault.reply)
            self._transport.close()

    def _on_beat(self) -> None:
        """Beats, not seconds, are counted: after a long block of our own loop one beat has passed,
        and what arrived meanwhile is read before the next one."""
        if self._is_parting:  # nothing can be written any more
            return
        if self._silent_beats >= limits.SILENT_BEATS:
            self.trouble = f"the broker was silent for {limits.SILENT_BEATS} beats"
            self.abort()
            return
        self._beat = self._loop.call_later(self._beat_seconds, self._on_beat)
        # Also when something was said a moment ago: two beats without a word would be one too many.
        self.say(Ping())
        self._silent_beats += 1

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def open_connection(connection: Connection, address: Address) -> None:
    loop = asyncio.get_running_loop()
    if address.path:
        await loop.create_unix_connection(lambda: connection, address.path)
    else:
        await loop.create_connection(lambda: connection, address.host, address.port)


def _tune(sock: Any) -> None:
    if sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A host that vanished does not answer with a reset: what we wrote would wait for many minutes.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.SILENT_BEATS * limits.BEAT_MS)


def reason_of(error: OSError) -> str:
    if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        return "nobody listens there"
    return error.strerror or str(error) or type(error).__name__
