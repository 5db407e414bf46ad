"""The broker's machine: the real core, engine, journal and connections, with the daemon's loop around
them in virtual time. It can crash at any point, lose power, and start again from its disk.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from random import Random
from typing import Final, Protocol, TypeVar

from taskq import limits
from taskq.core.broker import Broker, Event
from taskq.core.effects import Batch, Blocked, Close, Connected, Effect, Heard, Lost, Received, Unblocked
from taskq.errors import JournalError, JournalFailed, JournalFull
from taskq.journal.memory import MemoryDisk, MemoryJournal
from taskq.protocol.connection import BrokerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Command, Goodbye, Hello, Message, Pong, Unsupported
from taskq.server.engine import Engine
from tests.simulation.agenda import MS, SECOND, Agenda
from tests.simulation.process import SimLink
from tests.simulation.wire import Wire

T = TypeVar("T")
CLUSTER: Final = b"simulated-broker"


class Witness(Protocol):
    """Whoever checks what the broker hears, says and writes."""

    def on_started(self, host: "BrokerHost") -> None: ...
    def on_crashed(self, host: "BrokerHost", *, power: bool) -> None: ...
    def on_connected(self, hello: Hello, number: int) -> None: ...
    def on_lost(self, hello: Hello, number: int) -> None: ...
    def on_bytes(self, number: int) -> None: ...
    def on_closing(self, hello: Hello, number: int, code: str) -> None: ...
    def on_heard(self, host: "BrokerHost", hello: Hello, number: int, command: Command) -> None: ...
    def on_said(self, host: "BrokerHost", hello: Hello, number: int, message: Message) -> None: ...
    def on_turn(self, host: "BrokerHost") -> None: ...
    def on_cut(self, host: "BrokerHost", batch: Batch) -> None: ...
    def on_written(self, host: "BrokerHost", batch: Batch) -> None: ...
    def on_trimmed(self, host: "BrokerHost") -> None: ...


class HostPeer:
    """The broker's end of one connection."""

    def __init__(self, number: int, wire: Wire, side: BrokerSide) -> None:
        self.number = number
        self.wire = wire
        self.side = side
        self.is_welcome = False
        self.is_closing = False
        self.has_parted = False  # it said goodbye
        self.is_given_up = False  # by the broker, who has drawn its conclusions already

    @property
    def hello(self) -> Hello:
        assert self.side.hello is not None
        return self.side.hello


class BrokerHost:
    """Drives the engine as `server/daemon.py` does: drain, decide, commit, speak."""

    def __init__(
        self,
        agenda: Agenda,
        rng: Random,
        witness: Witness,
        *,
        slack_bytes: int,
        outcome_bytes: int,
        memory_bytes: int = 0,
    ) -> None:
        self.agenda = agenda
        self.disk = MemoryDisk(CLUSTER)
        self.is_up = False
        self.is_reachable = True
        self.started_us = 0
        self.starts = 0
        self.peers: dict[int, HostPeer] = {}
        # What the next appends will find: None is a healthy disk.
        self.trouble: list[JournalError] = []
        self.slow_commits = 0
        # Die at the next commit: right before the journal has it, or right after.
        self.doom = ""
        # Cut the connection over which the next message of this type should go.
        self.snip: type[Message] | None = None
        self._rng = rng
        self._witness = witness
        self._slack_bytes = slack_bytes
        self._outcome_bytes = outcome_bytes
        self.memory_bytes = memory_bytes
        self._count = 0
        self._inbox: list[Event] = []
        self._turn_is_due = False
        self._timer_ms = 0

    @property
    def broker(self) -> Broker:
        return self.engine.broker

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """As the daemon: read the journal, fold it, own it, begin."""
        if self.is_up:
            return
        self.starts += 1
        self.journal = MemoryJournal(self.disk, fail=self._fail)
        broker = Broker(
            Random(self._rng.random()),
            compact_slack_bytes=self._slack_bytes,
            outcome_bytes=self._outcome_bytes,
            memory_bytes=self.memory_bytes,
        )
        for seq, blob in _all(self.journal.read()):
            broker.ledger.load(seq, blob)
        broker.ledger.go_on_from(self.journal.last_seq)
        broker.begin(_now(self.journal.acquire()), self.agenda.now)
        self.engine = Engine(broker)
        self.is_up = True
        self.started_us = self.agenda.us
        self._inbox = []
        self._timer_ms = 0
        self._turn_is_due = False
        self.agenda.note("broker starts", self.journal.epoch)
        self._witness.on_started(self)
        self._schedule_turn()

    def set_memory(self, budget_bytes: int) -> None:
        """From now on it may take so much."""
        self.memory_bytes = budget_bytes
        if self.is_up:
            self.broker.memory._budget_bytes = budget_bytes

    def crash(self, *, power: bool = False) -> None:
        """Everything in memory is gone; with `power` also what was written without fsync."""
        if not self.is_up:
            return
        self.doom = ""
        self.agenda.note("broker crashes", "power" if power else "")
        self.is_up = False
        if power:
            self.disk.power_cut()
        peers, self.peers = self.peers, {}
        for peer in peers.values():
            # A killed process's sockets are closed by its kernel; a machine without power says nothing.
            learns_us = None if power and self._rng.random() < 0.2 else self._rng.randrange(1, 20 * MS)
            peer.wire.cut(None, learns_us)
        self._witness.on_crashed(self, power=power)
        down_us = self._rng.choice((5 * MS, 200 * MS, 1_500 * MS))
        self.agenda.after(self._rng.randrange(down_us), self.start)

    # -- connections ------------------------------------------------------------------------------

    def dial(self, link: SimLink) -> Wire | None:
        if not self.is_up:
            return None
        self._count += 1
        number = self._count
        wire = Wire(self.agenda, Random(self._rng.random()), f"{link.name}#{number}")
        side = BrokerSide(
            nonce=number.to_bytes(32, "big"), cluster=CLUSTER, epoch=self.journal.epoch, tokens=None
        )
        peer = self.peers[number] = HostPeer(number, wire, side)
        wire.join(
            (lambda data: self._receive(peer, data), lambda: self._lose(peer)),
            (lambda data: link.on_bytes(wire, data), lambda: link.on_end(wire)),
            (lambda: self._lose(peer), lambda: link.on_end(wire)),
        )
        wire.down.put(side.greeting())
        self._later(limits.HELLO_TIMEOUT_MS * MS, lambda: None if peer.is_welcome else self._lose(peer))
        return wire

    def stall(self, number: int, us: int) -> None:
        """A peer does not read for so long, and what it was told piles up."""
        peer = self.peers.get(number)
        if peer is None or not peer.is_welcome:
            return
        self.agenda.note("stall", peer.wire.name, us)
        peer.wire.down.stall()
        self._post(Blocked(number))
        self.agenda.after(us, lambda: self._flow(peer))

    def _flow(self, peer: HostPeer) -> None:
        peer.wire.down.flow()
        if self.peers.get(peer.number) is peer and not peer.is_closing:
            self._post(Unblocked(peer.number))

    def _receive(self, peer: HostPeer, data: bytes) -> None:
        if self.peers.get(peer.number) is not peer or peer.is_closing:
            return
        self._witness.on_bytes(peer.number)
        for message in peer.side.receive(data):
            match message:
                case Hello():
                    self._welcome(peer, message)
                case Pong() | Unsupported():
                    self._post(Heard(peer.number))
                case Goodbye():
                    peer.has_parted = True
                    self._part(peer, b"")
                    return
                case _:
                    self._witness.on_heard(self, peer.hello, peer.number, message)
                    self._post(Received(peer.number, message))
        replies = peer.side.take_replies()
        if replies:
            peer.wire.down.put(replies)

    def _welcome(self, peer: HostPeer, hello: Hello) -> None:
        session = self.broker.state.sessions.get(hello.session)
        next_seq = session.floor if session is not None else 0
        peer.is_welcome = True
        peer.wire.down.put(peer.side.welcome(self.agenda.now.wall_ms, next_seq))
        self._witness.on_connected(hello, peer.number)
        self._post(Connected(peer.number, hello))

    def _part(self, peer: HostPeer, last_words: bytes) -> None:
        """Close; the core hears of it when that is done."""
        if peer.is_closing:
            return
        peer.is_closing = True
        if last_words:
            peer.wire.down.put(last_words)
        peer.wire.down.put(None)
        self.agenda.after(self._rng.randrange(MS), lambda: self._lose(peer))

    def _lose(self, peer: HostPeer) -> None:
        if self.peers.get(peer.number) is not peer:
            return
        del self.peers[peer.number]
        peer.wire.down.put(None)
        if peer.is_welcome:
            if not peer.is_given_up:
                self._witness.on_lost(peer.hello, peer.number)
            self._post(Lost(peer.number, peer.has_parted))

    # -- turns ------------------------------------------------------------------------------------

    def _later(self, us: int, action: Callable[[], None]) -> None:
        """Unless this broker is dead by then."""
        life = self.starts
        self.agenda.after(us, lambda: action() if self.is_up and self.starts == life else None)

    def _post(self, event: Event) -> None:
        if self.is_up:
            self._inbox.append(event)
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._later(self._rng.randrange(1, 300), self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        events, self._inbox = self._inbox, []
        if len(events) > 1 and self._rng.random() < 0.1:  # a turn decides about so much and no more
            some = self._rng.randrange(1, len(events))
            events, self._inbox = events[:some], events[some:]
            self._schedule_turn()
        now = self.agenda.now
        self._speak(self.engine.turn(events, now))
        self._witness.on_turn(self)
        if self.engine.committing is None:
            self._commit()
        self._set_timer()

    def _set_timer(self) -> None:
        now = self.agenda.now
        deadline_ms = self.broker.next_deadline(now)
        if deadline_ms is None or (self._timer_ms and self._timer_ms <= deadline_ms):
            return
        self._timer_ms = deadline_ms
        wait_us = max(deadline_ms - now.boot_ms, 0) * MS + self._rng.randrange(MS)
        self._later(wait_us, lambda: self._on_timer(deadline_ms))

    def _on_timer(self, deadline_ms: int) -> None:
        if self._timer_ms == deadline_ms:
            self._timer_ms = 0
            self._schedule_turn()

    def _speak(self, effects: Iterable[Effect]) -> None:
        said: dict[int, list[Message]] = {}
        effects = list(effects)
        closes = [effect for effect in effects if isinstance(effect, Close)]
        for close in closes:
            self._give_up(close)
        for effect in effects:
            if isinstance(effect, Close):
                continue
            peer = self.peers.get(effect.peer)
            if peer is not None and not peer.is_closing:
                self._witness.on_said(self, peer.hello, peer.number, effect.message)
                said.setdefault(effect.peer, []).append(effect.message)
        for number, messages in said.items():
            wire = self.peers[number].wire
            if self.snip is not None and any(isinstance(message, self.snip) for message in messages):
                self.snip = None
                wire.cut(self._rng.choice((1, 10 * MS, None)), self._rng.randrange(1, 10 * MS))
            wire.down.put(encode(*messages))
        for close in closes:
            peer = self.peers.get(close.peer)
            if peer is not None:
                self._part(peer, encode(close.goodbye))

    def _give_up(self, close: Close) -> None:
        peer = self.peers.get(close.peer)
        if peer is not None and not peer.is_given_up:
            peer.is_given_up = True
            self._witness.on_closing(peer.hello, peer.number, close.goodbye.code)
            self._witness.on_lost(peer.hello, peer.number)

    # -- commits ----------------------------------------------------------------------------------

    def _commit(self) -> None:
        batch = self.engine.next_batch()
        if batch is None:
            return
        self._witness.on_cut(self, batch)
        self._later(self._commit_us() // 2, lambda: self._write(batch))

    def _commit_us(self) -> int:
        if self.slow_commits > 0:
            self.slow_commits -= 1
            return 500 * MS
        return self._rng.randrange(100, 5 * MS)

    def _write(self, batch: Batch) -> None:
        if self.doom == "before":
            self.crash()
            return
        try:
            _now(self.journal.append(batch.seq, batch.blob, batch.durability))
        except JournalFull:
            self.broker.intake.closed_because = "the broker's disk is full"
            self._later(SECOND, lambda: self._write(batch))
            return
        except JournalFailed:
            self.crash()  # crash-only: the daemon exits, and whoever supervises it starts it again
            return
        self._witness.on_written(self, batch)
        if self.doom == "after":
            self.crash()
            return
        # A crash may come between the commit and our hearing of it.
        self._later(self._commit_us() // 4, lambda: self._on_committed(batch))

    def _on_committed(self, batch: Batch) -> None:
        if self.broker.intake.closed_because:
            self.broker.intake.closed_because = ""
        self._speak(self.engine.on_committed())
        before = self.engine.trim_before()
        if before is not None:
            _now(self.journal.trim(before))
            self._witness.on_trimmed(self)
        self._commit()

    def _fail(self, seq: int) -> JournalError | None:
        if not self.trouble:
            return None
        error = self.trouble.pop(0)
        self.agenda.note("journal", type(error).__name__, seq)
        return error


def _now(coroutine: Coroutine[object, None, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the journal in memory waited for something")


def _all(items: AsyncIterator[T]) -> Iterable[T]:
    """What an async iterator that never waits gives."""
    while True:
        try:
            yield _now(_next(items))
        except StopAsyncIteration:
            return


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
