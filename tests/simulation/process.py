"""A process that can be killed and frozen, and its reconnecting link to the broker, as link.py has it."""

from random import Random
from typing import Final, Protocol

from taskq import limits
from taskq.client.link import Speaker
from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import Goodbye, Ping, Pong, Refusal, Role, Unsupported, Welcome
from tests.simulation.agenda import MS, Action, Agenda, Violation
from tests.simulation.wire import Wire

_BEAT_US: Final = limits.BEAT_MS * MS


class House(Protocol):
    """What a link knows of the broker: an address where somebody may listen."""

    def dial(self, link: "SimLink") -> Wire | None:
        """A connection; None when it is refused."""

    @property
    def is_reachable(self) -> bool:
        """False: a connection attempt is never answered."""


class Process:
    """Runs actions, unless it is frozen (then later, all at once) or dead (then never)."""

    def __init__(self, agenda: Agenda, rng: Random, name: str) -> None:
        self.agenda = agenda
        self.rng = rng
        self.name = name
        self.is_alive = True
        self.links: list[SimLink] = []
        self._frozen = 0
        self._waiting: list[Action] = []

    @property
    def is_frozen(self) -> bool:
        return self._frozen > 0

    def do(self, action: Action) -> None:
        if not self.is_alive:
            return
        if self._frozen:
            self._waiting.append(action)
        else:
            action()

    def after(self, us: int, action: Action) -> None:
        self.agenda.after(us, lambda: self.do(action))

    def freeze(self, us: int) -> None:
        """SIGSTOP, or a loop that is blocked: nothing in here happens for so long."""
        self._frozen += 1
        self.agenda.note("freeze", self.name, us)
        self.agenda.after(us, self._thaw)

    def kill(self) -> None:
        """SIGKILL: the kernel closes its sockets, after what was written."""
        if not self.is_alive:
            return
        self.agenda.note("kill", self.name)
        self.is_alive = False
        for link in self.links:
            link.hang_up()

    def vanish(self) -> None:
        """Its machine is gone: nobody closes anything, and the broker hears only silence."""
        for link in self.links:
            if link.wire is not None:
                link.wire.cut(None, None)
        self.kill()

    def _thaw(self) -> None:
        self._frozen -= 1
        if self._frozen or not self.is_alive:
            return
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            self.do(action)


class SimLink:
    """What `taskq.client.link.Link` does, in virtual time: hello, beats, silence, reconnects."""

    def __init__(
        self, process: Process, house: House, *, session: bytes, role: Role, speaker: Speaker
    ) -> None:
        self.process = process
        self.session = session
        self.role: Role = role
        self.name = process.name
        self.is_connected = False
        self._house = house
        self._speaker = speaker
        self._wire: Wire | None = None
        self._peer: PeerSide | None = None
        self._is_closed = False
        self._is_flush_due = False
        self._visit = 0
        self._began_us = 0
        self._step_ms = limits.RECONNECT_FIRST_MS
        self._silent_beats = 0
        process.links.append(self)

    @property
    def wire(self) -> Wire | None:
        return self._wire

    @property
    def is_sound(self) -> bool:
        """Connected, and not only in its own belief."""
        return self.is_connected and self._wire is not None and self._wire.down.is_flowing

    def start(self) -> None:
        self._began_us = self.process.agenda.us
        self._dial()

    def wake(self) -> None:
        """There is something to say: all of it goes out at the end of this turn of the loop."""
        if self.is_connected and not self._is_flush_due:
            self._is_flush_due = True
            self.process.after(self.process.rng.randrange(100), self._flush)

    def close(self) -> None:
        """Say what is queued and goodbye, and never connect again."""
        self._flush()
        self._is_closed = True
        if self._wire is not None and self.is_connected:
            self._wire.up.put(encode(Goodbye("closed", "")))
        self._end()

    def hang_up(self) -> None:
        """The process has died; the kernel says so."""
        self._is_closed = True
        if self._wire is not None:
            self._wire.up.put(None)
        self._wire = None

    # -- connecting -------------------------------------------------------------------------------

    def _dial(self) -> None:
        if self._is_closed:
            return
        self._visit += 1
        visit = self._visit
        if self._house.is_reachable:
            self._wire = self._house.dial(self)
        if self._wire is None and self._house.is_reachable:
            self._retry()
            return
        self._peer = PeerSide(session=self.session, role=self.role, name=self.name, token=None)
        self.process.after(limits.CONNECT_TIMEOUT_MS * MS, lambda: self._give_up(visit))

    def _give_up(self, visit: int) -> None:
        if visit == self._visit and not self.is_connected and not self._is_closed:
            self._end()

    def _retry(self) -> None:
        if self._is_closed:
            return
        is_early = self.process.agenda.us - self._began_us < limits.RECONNECT_EARLY_FOR_MS * MS
        wait_ms = self.process.rng.uniform(0, self._step_ms)
        longest_ms = limits.RECONNECT_MAX_EARLY_MS if is_early else limits.RECONNECT_MAX_MS
        self._step_ms = min(self._step_ms * 2, longest_ms)
        self.process.after(int(wait_ms * MS), self._dial)

    def _end(self) -> None:
        """This connection is over, for whatever reason."""
        if self._wire is not None:
            self._wire.up.put(None)
            self._wire = None
        self._peer = None
        self._visit += 1
        if self.is_connected:
            self.is_connected = False
            self._began_us = self.process.agenda.us
            self._step_ms = limits.RECONNECT_FIRST_MS
            self._speaker.on_lost()
        self._retry()

    # -- the wire calls these ---------------------------------------------------------------------

    def on_bytes(self, wire: Wire, data: bytes) -> None:
        self.process.do(lambda: self._hear(wire, data))

    def on_end(self, wire: Wire) -> None:
        self.process.do(lambda: self._end() if wire is self._wire else None)

    def _hear(self, wire: Wire, data: bytes) -> None:
        if wire is not self._wire or self._peer is None:
            return
        self._silent_beats = 0
        for message in self._peer.receive(data):
            match message:
                case Welcome():
                    self._enter(message)
                case Ping():
                    self._say(encode(Pong(message.token)))
                case Pong():
                    pass
                case Goodbye():
                    self._end()
                    return
                case Refusal(request=0) | Unsupported():
                    raise Violation("wire", f"{self.name} was told {message}")
                case _:
                    self._speaker.on_message(message)
        replies = self._peer.take_replies()
        if replies:
            self._say(replies)
        self.wake()

    def _enter(self, welcome: Welcome) -> None:
        self.is_connected = True
        self._silent_beats = 0
        self._speaker.on_welcome(welcome)
        visit = self._visit
        self.process.after(_BEAT_US, lambda: self._beat(visit))

    def _beat(self, visit: int) -> None:
        if visit != self._visit or not self.is_connected:
            return
        if self._silent_beats >= limits.SILENT_BEATS:
            self._end()
            return
        self.process.after(_BEAT_US, lambda: self._beat(visit))
        self._say(encode(Ping()))
        self._silent_beats += 1

    def _flush(self) -> None:
        self._is_flush_due = False
        if not self.is_connected or self._is_closed:
            return
        messages = self._speaker.outgoing()
        if messages:
            self._say(encode(*messages))

    def _say(self, data: bytes) -> None:
        if self._wire is not None:
            self._wire.up.put(data)
