"""A connection to the broker in memory: the bytes of the real one, and no socket.

It stands where `taskq.client.link.Link` stands. Its speaker may live on another event loop, in another
thread: each end is called on its own.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextvars import Context as Variables

from taskq.client.link import Speaker
from taskq.errors import ConnectionLost, Refused, TaskqError
from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Goodbye, Message, Ping, Pong, Refusal, Role, Unsupported, Welcome
from taskq.testing.broker import MemoryBroker, Peer


class Switchboard:
    """Where wires end: the broker, the loop that it lives on, and the contexts of what belongs to it
    and of what was there before: in virtual time and in real time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, variables: Variables, outside: Variables) -> None:
        self.loop = loop
        self.variables = variables
        self.outside = outside
        self.broker: MemoryBroker
        self.wires: list[Wire] = []

    def soon(self, callback: Callable[[], object]) -> None:
        """In the next turn of the broker's loop, from there."""
        self.loop.call_soon(callback, context=self.variables)

    def call(self, callback: Callable[[], object]) -> None:
        """The same from any thread. Nothing happens once the loop is closed."""
        if _runs_here(self.loop):
            self.soon(callback)
        else:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(callback, context=self.variables)


class Wire:
    """One end of one connection after the other: it comes back at once when it was cut."""

    def __init__(
        self,
        switchboard: Switchboard,
        urls: Sequence[str],
        *,
        session: bytes,
        role: Role,
        speaker: Speaker,
        name: str = "",
        token: str | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.connected = False
        self.fatal: TaskqError | None = None
        self.role = role
        self.session = session
        self.speaker = speaker
        self._board = switchboard
        self._name = name
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._far: _FarEnd | None = None
        self._is_flush_due = False
        self._is_closed = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def trouble(self) -> str:
        return "the test environment's broker did not answer; is its event loop blocked?"

    # -- as a link ----------------------------------------------------------------------------

    def start(self) -> None:
        if self._board.loop.is_closed():
            raise ConnectionLost(
                "the event loop on which this test environment began has ended, and the environment with it"
            )
        self._board.wires.append(self)
        self._dial()

    def wake(self) -> None:
        if self.connected and not self._is_flush_due:
            self._is_flush_due = True
            if self._loop is self._board.loop:
                self._board.soon(self._flush)
            else:
                self._loop.call_soon(self._flush)

    async def wait_connected(self, timeout: float | None = None) -> None:
        if not self.connected:
            self._raise_if_over()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
            self._raise_if_over()

    async def close(self, text: str = "") -> None:
        if self._is_closed:
            return
        self._flush()
        if self._far is not None and self.connected:
            self._far.say(encode(Goodbye("closed", text)))
        self._is_closed = True
        self._end()

    # -- what happens to it -------------------------------------------------------------------

    def drop(self) -> None:
        """The connection is cut: both ends hear of it, and it comes back."""
        if self._far is not None:
            self._far.hang_up()

    def die(self) -> None:
        """The process at this end is gone, or the broker: nothing more is said, and it does not come back."""
        self._is_closed = True
        self.drop()

    # -- parts --------------------------------------------------------------------------------

    def _dial(self) -> None:
        side = PeerSide(session=self.session, role=self.role, name=self._name, token=None)
        self._far = _FarEnd(self, self._board, self._loop, side)
        self._board.call(self._far.connect)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self.connected and not self._is_closed and self._far is not None:
            messages = self.speaker.outgoing()
            if messages:
                self._far.say(encode(*messages))

    def enter(self, welcome: Welcome) -> None:
        self.connected = True
        self.speaker.on_welcome(welcome)
        self._changed()
        self.wake()

    def refused(self, code: str, text: str) -> None:
        self.fatal = Refused.from_code(code, text)
        self._changed()

    def ended(self, far: "_FarEnd") -> None:
        """That connection is over, for whatever reason."""
        if far is self._far:
            self._end()
            if not self._is_closed and self.fatal is None:
                self._dial()

    def _end(self) -> None:
        self._far = None
        if self.connected:
            self.connected = False
            self.speaker.on_lost()
        self._changed()
        if self._is_closed and self in self._board.wires:
            self._board.wires.remove(self)

    def _changed(self) -> None:
        if self.connected or self.fatal is not None or self._is_closed:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters = []
        if self._on_change is not None:
            self._on_change()

    def _raise_if_over(self) -> None:
        if self.fatal is not None:
            raise self.fatal
        if self._is_closed:
            raise ConnectionLost("this connection was closed")


class _FarEnd:
    """One connection, as the broker sees its far end; and as that end sees the broker."""

    def __init__(
        self, wire: Wire, board: Switchboard, loop: asyncio.AbstractEventLoop, side: PeerSide
    ) -> None:
        self._wire = wire
        self._board = board
        self._loop = loop
        self._side = side
        self._peer: Peer | None = None
        self._is_over = False

    # -- on the broker's loop -----------------------------------------------------------------

    def connect(self) -> None:
        self._peer = self._board.broker.connect(self)

    def hear(self, data: bytes) -> None:
        self._there(lambda: self._read(data))

    def hear_end(self) -> None:
        self._there(self._over)

    def _there(self, callback: Callable[[], object]) -> None:
        if self._loop is self._board.loop:
            self._board.soon(callback)
            return
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self._is_over:  # that loop is closed, as those of asyncio.run are; nobody is there
                self._is_over = True
                self._board.soon(self._hang_up)

    # -- on the speaker's loop ----------------------------------------------------------------

    def say(self, data: bytes) -> None:
        self._board.call(lambda: self._arrive(data))

    def hang_up(self) -> None:
        self._board.call(self._hang_up)

    def _arrive(self, data: bytes) -> None:
        assert self._peer is not None, "said something before it was greeted"
        self._board.broker.hear(self._peer, data)

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._board.broker.hang_up(self._peer)

    def _over(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._wire.ended(self)

    def _read(self, data: bytes) -> None:
        if self._is_over:
            return
        for message in self._side.receive(data):
            self._take(message)
        replies = self._side.take_replies()
        if replies:
            self.say(replies)
        self._wire.wake()

    def _take(self, message: Message) -> None:
        match message:
            case Welcome():
                self._wire.enter(message)
            case Ping():
                self.say(encode(Pong(message.token)))
            case Refusal(request=0):
                self._wire.refused(message.code, message.text)
            case Pong() | Goodbye() | Unsupported():
                pass
            case _:
                self._wire.speaker.on_message(message)  # type: ignore[arg-type]  # the rest is for it


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    return asyncio._get_running_loop() is loop
