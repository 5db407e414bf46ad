"""Who may hold what: a job is given to somebody else only for a reason. The books of an outsider, who
sees connections come and go and processes die, and never asks the core.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from taskq import limits
from taskq.protocol.messages import Command, Delivery, Exited, Hello, Terms, Vouch
from tests.simulation.agenda import MS, SECOND, Agenda, Violation

# From when a delivery was decided; it may leave the broker later, when a commit is slow.
_BACKSTOP_US: Final = limits.TIMEOUT_BACKSTOP_MS * MS - 3 * SECOND
_SILENCE_US: Final = limits.BEAT_MS * limits.SILENT_BEATS * MS


class Given(Struct):
    """A lease that the broker gave, and may not give anew without a reason."""

    lease: int
    session: bytes
    number: int  # the connection
    at_us: int
    timeout_ms: int
    has_arrived: bool = False
    is_over: bool = False  # its worker said so
    is_touched: bool = False  # a fault that the broker has to take for its worker's death


class Custody:
    """All leases given and not yet followed by another of the same job."""

    def __init__(self, agenda: Agenda) -> None:
        self.wall_may_mislead = False  # it jumped, and a restart measures by it
        self._agenda = agenda
        self._by_job: dict[bytes, list[Given]] = {}
        self._by_session: dict[bytes, list[Given]] = {}
        self._by_lease: dict[int, Given] = {}
        self._newest: dict[bytes, int] = {}
        self._connected: dict[bytes, int] = {}
        self._vouched: dict[bytes, tuple[int, int]] = {}  # child -> supervisor's connection, when
        self._dead: dict[bytes, None] = {}
        self._heard_us: dict[int, int] = {}
        self._life = 0

    # -- connections ------------------------------------------------------------------------------

    def on_connected(self, hello: Hello, number: int) -> None:
        if hello.role == "worker":
            self._connected[hello.session] = number

    def on_bytes(self, number: int) -> None:
        """Something came over this connection."""
        self._heard_us[number] = self._agenda.us

    def on_closing(self, hello: Hello, number: int, code: str) -> None:
        """The broker gives a connection up: it says why, and has to be right."""
        silent_us = self._agenda.us - self._heard_us[number]
        is_child = hello.session in self._vouched
        # What came this very moment may wait for the next turn.
        if code == "silent" and (is_child or MS < silent_us < _SILENCE_US - MS):
            raise Violation("V2", f"{hello.name} is said to be silent; it spoke {silent_us} us ago")
        if code == "unread" and is_child:
            raise Violation("V2", f"{hello.name} does not read, but is vouched for, and was closed")

    def on_heard(self, number: int, command: Command) -> None:
        if isinstance(command, Vouch):
            mine = dict.fromkeys(command.sessions)
            self._drop([s for s, word in self._vouched.items() if word[0] == number and s not in mine])
            for session in mine:
                self._vouched[session] = (number, self._agenda.us)
        elif isinstance(command, Exited):
            for child in command.children:
                self._vouched.pop(child.session, None)
                self.died(child.session)

    def on_lost(self, hello: Hello, number: int) -> None:
        session = hello.session
        if self._connected.get(session) == number:
            del self._connected[session]
            if session in self._vouched:
                lost_us, life = self._agenda.us, self._life
                # A moment early: the broker may look a moment later than it said.
                wait_us = limits.VOUCH_WAIT_MS * MS - 2 * MS
                self._agenda.after(wait_us, lambda: self._expect_word(session, lost_us, life))
            else:
                self._touch(session)
        self._drop([s for s, word in self._vouched.items() if word[0] == number])

    def _expect_word(self, session: bytes, lost_us: int, life: int) -> None:
        if life != self._life or session in self._connected:
            return
        word = self._vouched.get(session)
        if word is None or word[1] <= lost_us + MS:
            self._touch(session)

    def _drop(self, sessions: list[bytes]) -> None:
        for session in sessions:
            del self._vouched[session]
            if session not in self._connected:
                self._touch(session)

    # -- the broker itself ------------------------------------------------------------------------

    def on_crashed(self, is_recorded: Callable[[int], bool]) -> None:
        """What the journal does not hold, the next broker cannot know."""
        self._life += 1
        self._connected = {}
        self._vouched = {}
        for given in self._by_lease.values():
            if not is_recorded(given.lease):
                given.is_touched = True

    def on_started(self) -> None:
        life = self._life
        self._agenda.after(limits.RESUME_GRACE_MS * MS - 2 * MS, lambda: self._end_grace(life))

    def _end_grace(self, life: int) -> None:
        if life != self._life:
            return
        for session in list(self._by_session):
            if session not in self._connected and session not in self._vouched:
                self._touch(session)

    # -- leases -----------------------------------------------------------------------------------

    def give(self, hello: Hello, number: int, delivery: Delivery, terms: Terms) -> None:
        """A Deliver leaves the broker: was there a reason to give this job away (again)?"""
        id, lease = delivery.id, delivery.lease
        if lease <= self._newest.get(id, 0):
            raise Violation("I5", f"job {id.hex()}: lease {lease} after {self._newest[id]}")
        self._newest[id] = lease
        for earlier in self._close(id):
            if not self._may_follow(earlier):
                raise Violation(
                    "I6",
                    f"job {id.hex()} was given to {hello.name} under lease {lease}, "
                    f"but session {earlier.session.hex()[-8:]} holds it: {earlier}",
                )
        given = Given(lease, hello.session, number, self._agenda.us, terms.timeout_ms)
        given.is_touched = hello.session in self._dead
        self._by_job[id] = [given]
        self._by_lease[lease] = given
        self._by_session.setdefault(hello.session, []).append(given)

    def begin_anew(self, job_id: bytes) -> None:
        """What was given before was another job that had the same id."""
        self._close(job_id)

    def _close(self, job_id: bytes) -> list[Given]:
        closed = self._by_job.pop(job_id, [])
        for given in closed:
            del self._by_lease[given.lease]
            self._by_session[given.session].remove(given)
        return closed

    def arrived(self, lease: int) -> None:
        given = self._by_lease.get(lease)
        if given is not None:
            given.has_arrived = True

    def over(self, lease: int) -> None:
        """Its worker has ended the attempt."""
        given = self._by_lease.get(lease)
        if given is not None:
            given.is_over = True

    def died(self, session: bytes) -> None:
        self._dead[session] = None
        self._touch(session)

    def buried(self, lease: int) -> None:
        """The broker says that this lease's worker is dead."""
        given = self._by_lease.get(lease)
        if given is not None and not given.is_touched:
            raise Violation("V2", f"session {given.session.hex()[-8:]} is said to be dead: {given}")

    def open_leases(self, session: bytes) -> Iterable[tuple[bytes, int]]:
        """What this session holds, as far as anybody outside knows."""
        for id, leases in self._by_job.items():
            for given in leases:
                if given.session == session:
                    yield id, given.lease

    def _may_follow(self, given: Given) -> bool:
        if given.is_over or given.is_touched:
            return True
        if not given.has_arrived and self._connected.get(given.session) != given.number:
            return True
        ran_us = self._agenda.us - given.at_us
        is_late = self.wall_may_mislead or ran_us >= given.timeout_ms * MS + _BACKSTOP_US
        return bool(given.timeout_ms) and is_late

    def _touch(self, session: bytes) -> None:
        for given in self._by_session.get(session, ()):
            given.is_touched = True
