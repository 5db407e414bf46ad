"""One reconnecting connection to a broker, for whoever has something to say on it.

It says hello, keeps the beat, reconnects; what the messages mean is its speaker's business.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from random import Random
from typing import Any, Final, Protocol, cast

from taskq import limits
from taskq.client.address import Address, addresses_of
from taskq.errors import ConnectionLost, Refused, TaskqError
from taskq.protocol.connection import Heard, PeerSide, ProtocolError
from taskq.protocol.frames import encode
from taskq.protocol.messages import (
    FromBroker,
    Goodbye,
    Message,
    Ping,
    Pong,
    Refusal,
    Role,
    Unsupported,
    Welcome,
)

_log = logging.getLogger("taskq.client")

# Trying again cannot help: somebody must change a token or upgrade one of the two ends.
_FATAL_CODES: Final = frozenset({"unauthorized", "version"})


class Speaker(Protocol):
    """What a link carries. Pure: it decides what is said, the link says it."""

    def on_welcome(self, welcome: Welcome) -> None:
        """Connected, for the first time or again: queue what must be said (again)."""

    def on_message(self, message: FromBroker) -> None:
        """A message arrived; never Greeting, Welcome, Ping, Pong or Goodbye."""

    def on_lost(self) -> None:
        """The connection is gone."""

    def outgoing(self) -> list[Message]:
        """What to say now, in order. Empties the queue; [] while not welcome."""
        ...


class Link:
    """One reconnecting connection. All that is said in one turn of the loop goes out in one write.

    It belongs to the event loop in which `start` was called.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        session: bytes,
        role: Role,
        speaker: Speaker,
        name: str = "",
        token: str | None = None,
        on_change: Callable[[], None] | None = None,
        rng: Random | None = None,
    ) -> None:
        self.connected = False
        self.fatal: TaskqError | None = None  # why there is no use in trying again
        self._trouble = ""
        self._addresses = addresses_of(urls)
        self._speaker = speaker
        self._on_change = on_change
        self._rng = rng or Random()
        self._make_peer = partial(
            PeerSide,
            session=session,
            role=role,
            name=name,
            token=token,
            namespace=self._addresses[0].namespace,
        )
        self._make_peer()  # a token that cannot be read is told to the caller, not to the log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: _Connection | None = None
        self._is_flush_due = False
        self._is_closing = False
        self._waiters: set[asyncio.Future[None]] = set()

    def start(self) -> None:
        """Begin connecting, in a background task that `close` ends."""
        assert self._task is None, "a link is started once"
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="taskq link")

    def wake(self) -> None:
        """The speaker has something to say: flush once, at the end of this turn of the loop."""
        if self.connected and not self._is_flush_due:
            self._is_flush_due = True
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    @property
    def trouble(self) -> str:
        """Why there is no connection, as far as is known, for people."""
        if self.connected:
            return "the connection is good, the broker is busy"
        return self._trouble or f"trying {', '.join(map(str, self._addresses))}"

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Until the broker has welcomed us.

        Raises ConnectionLost when that takes longer than `timeout` seconds or the link is closed,
        Unauthorized or VersionMismatch when trying again cannot help.
        """
        if self.connected:
            return
        self._raise_if_over()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise ConnectionLost(
                f"no broker within {timeout:g} s: {self.trouble}. "
                "Is one running there? `taskq broker` starts one"
            ) from None
        finally:
            self._waiters.discard(waiter)
        self._raise_if_over()

    async def close(self, text: str = "") -> None:
        """Say what is queued and goodbye, then close. Never raises; a second call does nothing."""
        if self._is_closing:
            return
        self._flush()
        self._is_closing = True
        try:
            if self._connection is not None:
                await self._connection.part(text)
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            self._wake_waiters()

    def _raise_if_over(self) -> None:
        if self.fatal is not None:
            raise self.fatal
        if self._is_closing:
            raise ConnectionLost("this connection was closed")

    async def _run(self) -> None:
        assert self._loop is not None
        backoff = _Backoff(self._rng, self._loop.time())
        for address in cycle(self._addresses):
            if await self._visit(address):
                backoff = _Backoff(self._rng, self._loop.time())
            if self.fatal is not None:
                self._changed()
                return
            await asyncio.sleep(backoff.next_seconds(self._loop.time()))

    async def _visit(self, address: Address) -> bool:
        """One connection from its beginning to its end. Whether the broker welcomed us."""
        connection = self._connection = _Connection(self, self._make_peer())
        try:
            async with asyncio.timeout(limits.CONNECT_TIMEOUT_MS / 1000):
                await _open(connection, address)
                await connection.is_met.wait()
        except TimeoutError:
            self._trouble = f"{address}: no answer within {limits.CONNECT_TIMEOUT_MS / 1000:g} s"
        except OSError as error:
            self._trouble = f"{address}: {_reason(error)}"
        else:
            await connection.is_ended.wait()
            if connection.trouble:
                self._trouble = f"{address}: {connection.trouble}"
        finally:
            connection.abort()
            self._connection = None
        if connection.fatal is not None:
            self.fatal = connection.fatal
        return connection.was_welcome

    def _flush(self) -> None:
        self._is_flush_due = False
        connection = self._connection
        # While the broker does not read, what there is to say stays with the speaker, who bounds it.
        if not self.connected or connection is None or connection.is_paused or self._is_closing:
            return
        messages = self._speaker.outgoing()
        if messages:
            connection.say(*messages)

    def _on_welcome(self, welcome: Welcome) -> None:
        self.connected = True
        self._trouble = ""
        self._speaker.on_welcome(welcome)
        self.wake()
        self._changed()

    def _on_message(self, message: FromBroker) -> None:
        self._speaker.on_message(message)

    def _on_ended(self) -> None:
        if not self.connected:
            return
        self.connected = False
        self._speaker.on_lost()
        self._changed()

    def _changed(self) -> None:
        if self.connected or self.fatal is not None:
            self._wake_waiters()
        if self._on_change is not None:
            self._on_change()

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Backoff:
    """Full jitter between zero and a step that doubles; steps stay short in the first minute."""

    def __init__(self, rng: Random, began: float) -> None:
        self._rng = rng
        self._early_until = began + limits.RECONNECT_EARLY_FOR_MS / 1000
        self._step_ms = limits.RECONNECT_FIRST_MS

    def next_seconds(self, now: float) -> float:
        seconds = self._rng.uniform(0, self._step_ms / 1000)
        is_early = now < self._early_until
        step_max = limits.RECONNECT_MAX_EARLY_MS if is_early else limits.RECONNECT_MAX_MS
        self._step_ms = min(self._step_ms * 2, step_max)
        return seconds


class _Connection(asyncio.Protocol):
    """One socket, from connect to close."""

    def __init__(self, link: Link, peer: PeerSide) -> None:
        self.is_met = asyncio.Event()  # welcomed, or ended before that
        self.is_ended = asyncio.Event()
        self.is_paused = False
        self.was_welcome = False
        self.trouble = ""
        self.fatal: TaskqError | None = None
        self._link = link
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_parting = False
        self._beat: asyncio.TimerHandle | None = None
        self._beat_seconds = limits.BEAT_MS / 1000
        self._silent_beats = 0
        self._has_spoken = False

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
        self._link.wake()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._link.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._beat is not None:
            self._beat.cancel()
        if not self.trouble:
            self.trouble = _reason(exc) if isinstance(exc, OSError) else "the broker closed the connection"
        self.is_ended.set()
        self.is_met.set()
        if self.was_welcome:
            self._link._on_ended()

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
            case _:
                self._link._on_message(message)

    def _enter(self, welcome: Welcome) -> None:
        greeting = self._peer.greeting
        assert greeting is not None
        # The broker's word on how often it wants to hear us, unless that is no beat at all.
        self._beat_seconds = min(max(greeting.beat_ms, 50), limits.BEAT_MS) / 1000
        self._beat = self._loop.call_later(self._beat_seconds, self._on_beat)
        self.was_welcome = True
        self.is_met.set()
        self._link._on_welcome(welcome)

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
        if self._silent_beats >= limits.SILENT_BEATS:
            self.trouble = f"the broker was silent for {limits.SILENT_BEATS} beats"
            self.abort()
            return
        self._beat = self._loop.call_later(self._beat_seconds, self._on_beat)
        if self._silent_beats or not self._has_spoken:
            self.say(Ping())
        self._silent_beats += 1
        self._has_spoken = False

    def _write(self, data: bytes) -> None:
        self._has_spoken = True
        if self._transport is not None:
            self._transport.write(data)


async def _open(connection: _Connection, address: Address) -> None:
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


def _reason(error: OSError) -> str:
    if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        return "nobody listens there"
    return error.strerror or str(error) or type(error).__name__
