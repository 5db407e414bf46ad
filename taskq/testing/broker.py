"""A broker without sockets, threads or files: the real core, engine and journal, in virtual time.

What arrives is decided at once, and committed at once, before anything is said.
"""

from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Final, Protocol, TypeVar

from taskq import __version__
from taskq.core.broker import Broker, Event
from taskq.core.effects import Close, Connected, Effect, Heard, Lost, Received
from taskq.core.job import Job
from taskq.core.timers import Line
from taskq.journal.memory import MemoryDisk, MemoryJournal
from taskq.protocol.connection import BrokerSide, ProtocolError
from taskq.protocol.frames import encode
from taskq.protocol.messages import Goodbye, Hello, Message, Pong, Unsupported
from taskq.server.engine import Engine
from taskq.testing.clock import Clock, Timer

T = TypeVar("T")
_HOUSEKEEPING: Final = "retention"
_NONCE: Final = bytes(32)  # there are no tokens that it could protect


class FarEnd(Protocol):
    """The other end of a connection, as the broker knows it."""

    def hear(self, data: bytes) -> None: ...
    def hear_end(self) -> None: ...


class Peer:
    """The broker's end of one connection."""

    def __init__(self, number: int, far: FarEnd, side: BrokerSide) -> None:
        self.number = number
        self.far = far
        self.side = side
        self.has_parted = False


class MemoryBroker:
    """Starts again on what its journal holds. `soon` calls something in the next turn of the loop."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        soon: Callable[[Callable[[], None]], object],
        on_new: Callable[[Job], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._soon = soon
        self._on_new = on_new
        self._on_failure = on_failure
        self._disk = MemoryDisk()
        self._peers: dict[int, Peer] = {}
        self._count = 0
        self._known: set[bytes] = set()  # jobs that were told of
        self.start()

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the journal, fold it, own it, begin: as the daemon does."""
        self._journal = MemoryJournal(self._disk)
        self.core = Broker(Random(self._rng.random()), version=__version__, journal="memory:")
        for seq, blob in list(self._disk.batches.items()):
            self.core.ledger.load(seq, blob)
        self.core.ledger.go_on_from(self._journal.last_seq)
        self.core.begin(self._journal.epoch, self._clock.now)
        self._engine = Engine(self.core)
        self._inbox: list[Event] = []
        self._is_due = False
        self._timer: Timer | None = None
        self.look()

    def restart(self) -> None:
        """As after SIGKILL: what was not committed is gone, connections end, and it starts again."""
        peers, self._peers = self._peers, {}
        if self._timer is not None:
            self._timer.cancel()
        self.start()
        for peer in peers.values():
            peer.far.hear_end()

    # -- connections --------------------------------------------------------------------------

    def connect(self, far: FarEnd) -> Peer:
        self._count += 1
        side = BrokerSide(nonce=_NONCE, cluster=self._disk.cluster, epoch=self._journal.epoch, tokens=None)
        peer = self._peers[self._count] = Peer(self._count, far, side)
        far.hear(side.greeting())
        return peer

    def hear(self, peer: Peer, data: bytes) -> None:
        """Bytes have arrived."""
        if peer.number not in self._peers:
            return
        try:
            messages = peer.side.receive(data)
        except ProtocolError as error:
            # One of ours speaks to one of ours: nobody else can be to blame.
            self._on_failure(error)
            return
        for message in messages:
            match message:
                case Hello():
                    session = self.core.state.sessions.get(message.session)
                    next_seq = 0 if session is None else session.floor
                    peer.far.hear(peer.side.welcome(self._clock.now.wall_ms, next_seq))
                    self._inbox.append(Connected(peer.number, message))
                case Pong() | Unsupported():
                    self._inbox.append(Heard(peer.number))
                case Goodbye():
                    peer.has_parted = True
                    self.hang_up(peer)
                case _:
                    self._inbox.append(Received(peer.number, message))
        replies = peer.side.take_replies()
        if replies:
            peer.far.hear(replies)
        self._schedule()

    def hang_up(self, peer: Peer) -> None:
        """The connection ends; both ends hear of it."""
        if self._peers.pop(peer.number, None) is not None:
            peer.far.hear_end()
            if peer.side.hello is not None:
                self._inbox.append(Lost(peer.number, peer.has_parted))
                self._schedule()

    # -- turns --------------------------------------------------------------------------------

    def look(self) -> None:
        """Do what is due, the housekeeping too."""
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        events, self._inbox = self._inbox, []
        now = self._clock.now
        try:
            effects = self._engine.turn(events, now)
            self._tell_new()
            self._speak(effects)
            while (batch := self._engine.next_batch()) is not None:
                _at_once(self._journal.append(batch.seq, batch.blob, batch.durability))
                self._speak(self._engine.on_committed())
                before = self._engine.trim_before()
                if before is not None:
                    _at_once(self._journal.trim(before))
            for event in events:
                if isinstance(event, Connected) and (peer := self.core.peers.peers.get(event.peer)):
                    # Nobody in here can freeze: its silence is not looked at every ten seconds of a year.
                    peer.look_ms = 0
            self._set_timer()
        except Exception as error:
            self._on_failure(error)

    def _tell_new(self) -> None:
        """Of jobs that are there now and were not: they stand at the end."""
        new: list[Job] = []
        for id in reversed(self.core.state.jobs):
            if id in self._known:
                break
            new.append(self.core.state.jobs[id])
        for job in reversed(new):
            self._known.add(job.id)
            self._on_new(job)

    def _speak(self, effects: Iterable[Effect]) -> None:
        said: dict[int, list[Message]] = {}
        closes: list[Close] = []
        for effect in effects:
            if isinstance(effect, Close):
                closes.append(effect)
            else:
                said.setdefault(effect.peer, []).append(effect.message)
        for number, messages in said.items():
            if number in self._peers:
                self._peers[number].far.hear(encode(*messages))
        for close in closes:
            if close.peer in self._peers:
                self._peers[close.peer].far.hear(encode(close.goodbye))
                self.hang_up(self._peers[close.peer])

    def _set_timer(self) -> None:
        """One timer for all that waits for a time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, core = self._clock.now, self.core
        if core.roster.awake or core.searches.running:
            self._schedule()
            return
        # Not the core's own `next_deadline`: it looks at the wall clock every second, for people may set
        # it. This one goes as the other does.
        boot_ms, wall_ms = _next_ms(core.timers.boot, now.boot_ms), core.timers.wall.next_ms(now.wall_ms)
        times = [] if boot_ms is None else [boot_ms]
        if wall_ms is not None:
            times.append(now.boot_ms + wall_ms - now.wall_ms)
        if times and min(times) <= now.boot_ms:
            self._schedule()
        elif times:
            self._timer = self._clock.call_at(min(times) * 1_000, self._on_timer, (), None)

    def _on_timer(self) -> None:
        self._timer = None
        self._schedule()


def _next_ms(line: Line, now_ms: int) -> int | None:
    """When something is due beside the housekeeping: that is done with whatever comes next.

    It comes every second, and of a year that is 30 million times.
    """
    next_ms = line.next_ms(now_ms)
    if not line.near or line.near[0][1] != _HOUSEKEEPING:
        return next_ms
    others = [entry[0] for entry in line.near if entry[1] != _HOUSEKEEPING]
    opens_ms = line.far.next_ms()
    return min([*others, *([] if opens_ms is None else [opens_ms])], default=None)


def _at_once(coroutine: Coroutine[object, None, T]) -> T:
    """The result of a coroutine that never waits, as those of the journal in memory."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the journal in memory waited for something")
