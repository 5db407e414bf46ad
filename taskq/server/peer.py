"""One connection: bytes in, messages to the loop; messages out, in one write a turn."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Sequence
from typing import Protocol, cast

from taskq import limits
from taskq.core.broker import Event
from taskq.core.effects import Blocked, Connected, Heard, Lost, Received, Unblocked
from taskq.protocol.connection import BrokerSide, ProtocolError
from taskq.protocol.frames import FrameTooLong, encode
from taskq.protocol.messages import Goodbye, Hello, Message, Pong, Refusal, ToBroker, Unsupported
from taskq.protocol.tokens import TokenTable

log = logging.getLogger("taskq.server")


class House(Protocol):
    """What a connection needs of the daemon."""

    cluster: bytes
    epoch: int
    tokens: TokenTable | None

    def enter(self, peer: "PeerProtocol") -> bool: ...
    def leave(self, peer: "PeerProtocol") -> None: ...
    def accept(self, hello: Hello) -> tuple[int, int]: ...
    def post(self, events: list[Event], size: int, peer: "PeerProtocol") -> None: ...


class PeerProtocol(asyncio.Protocol):
    """The broker's end of one connection."""

    def __init__(self, house: House, number: int) -> None:
        self.number = number
        self._house = house
        self._side = BrokerSide(
            nonce=secrets.token_bytes(32), cluster=house.cluster, epoch=house.epoch, tokens=house.tokens
        )
        self._transport: asyncio.Transport | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self.is_welcome = False
        self._is_blocked = False
        self._has_parted = False  # it said goodbye

    @property
    def name(self) -> str:
        """Who this is, for logs."""
        hello = self._side.hello
        return f"{hello.role} {hello.name}" if hello is not None else f"connection {self.number}"

    # -- asyncio calls these ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._house.enter(self):
            self._part(encode(Goodbye("busy", "this broker has no room for more connections")))
            return
        _set_options(transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=limits.PEER_BUFFER_BYTES)
        self._transport.write(self._side.greeting())
        loop = asyncio.get_running_loop()
        self._hello_timer = loop.call_later(limits.HELLO_TIMEOUT_MS / 1000, self._on_no_hello)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            messages: Sequence[Message] = self._side.receive(data)
        except ProtocolError as error:
            self._handle(cast(Sequence[ToBroker], error.messages), len(data))
            log.warning("%s: %s; closing", self.name, error.text)
            self._part(error.reply or b"")
            return
        self._handle(cast(Sequence[ToBroker], messages), len(data))
        replies = self._side.take_replies()
        if replies:
            self._write(replies)

    def eof_received(self) -> None:
        try:
            self._side.receive_eof()
        except ProtocolError as error:
            log.warning("%s: %s", self.name, error.text)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in (self._hello_timer, self._abort_timer):
            if timer is not None:
                timer.cancel()
        self._house.leave(self)
        if self.is_welcome:
            self._house.post([Lost(self.number, self._has_parted)], 0, self)

    def pause_writing(self) -> None:
        self._is_blocked = True
        if self.is_welcome:
            self._house.post([Blocked(self.number)], 0, self)

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self.is_welcome:
            self._house.post([Unblocked(self.number)], 0, self)

    # -- the daemon calls these ---------------------------------------------------------------

    def say(self, messages: list[Message]) -> None:
        """Write these; nothing happens when the connection is gone."""
        try:
            self._write(encode(*messages))
        except FrameTooLong as error:
            # Our own mistake, but no other peer's: the rest of this turn must still be said.
            log.error("%s: %s; closing", self.name, error.text)
            self.part(Goodbye("too_large", error.text))

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if self._is_blocked and transport.get_write_buffer_size() > limits.PEER_BUFFER_BYTES_HARD:
            log.warning(
                "%s does not read: %d bytes wait for it; closing",
                self.name,
                transport.get_write_buffer_size(),
            )
            transport.abort()

    def part(self, goodbye: Goodbye) -> None:
        """Say goodbye and close."""
        self._part(encode(goodbye))

    def abort(self) -> None:
        """Close without last words."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- parts --------------------------------------------------------------------------------

    def _handle(self, messages: Sequence[ToBroker], size: int) -> None:
        events: list[Event] = []
        number = self.number
        for message in messages:
            match message:
                case Hello():
                    if not self._welcome(message):
                        return
                    events.append(Connected(number, message))
                case Pong() | Unsupported():
                    events.append(Heard(number))
                case Goodbye():
                    log.debug("%s: goodbye %s", self.name, message.text)
                    self._has_parted = True
                    self._part(b"")
                case _:
                    events.append(Received(number, message))
        if events:
            self._house.post(events, size, self)

    def _welcome(self, hello: Hello) -> bool:
        assert self._transport is not None
        if hello.namespace != "default":
            text = f"namespace {hello.namespace!r}: this broker has only the namespace 'default'"
            self._part(encode(Refusal(0, "not_found", text)))
            return False
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self.is_welcome = True
        wall_ms, next_seq = self._house.accept(hello)
        self._transport.write(self._side.welcome(wall_ms, next_seq))
        log.debug("%s is here", self.name)
        return True

    def _on_no_hello(self) -> None:
        log.info("%s said no hello within %g s; closing", self.name, limits.HELLO_TIMEOUT_MS / 1000)
        self._part(encode(Refusal(0, "sequence", "no Hello came in time")))

    def _part(self, last_words: bytes) -> None:
        if self._transport is None:
            return
        if last_words and not self._transport.is_closing():
            self._transport.write(last_words)
        self._transport.close()
        # A peer that does not read would keep a closing transport for ever.
        if self._is_blocked:
            self._transport.abort()
        elif self._abort_timer is None:
            loop = asyncio.get_running_loop()
            self._abort_timer = loop.call_later(limits.CLOSE_TIMEOUT_MS / 1000, self.abort)


def _set_options(sock: socket.socket | None) -> None:
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Unacknowledged data for this long: the network or the host is gone, keepalive would not tell.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.PEER_UNREAD_MS)
