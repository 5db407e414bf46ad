"""What people let workers do, or tell of themselves: on its way to a supervisor, and back.

Supervisors answer, for they are there while a worker's event loop stands still. Each instruction is
answered or refused once, whatever becomes of those who should.
"""

from msgspec import Struct

from taskq import limits
from taskq.core.asking.directory import Directory, Missed
from taskq.core.effects import Now
from taskq.core.lines.workers import Roster
from taskq.core.outbox import Outbox
from taskq.core.peers import Peer, Peers
from taskq.core.running.attempts import LEASE_COUNTER_BITS
from taskq.core.timers import Timers
from taskq.protocol.messages import Instruct, Instructed, Instruction, Obeyed, Refusal, WorkerVerb


class Errand(Struct, eq=False):
    """One on its way."""

    asker: int  # connections
    supervisor: int
    request: int
    verb: WorkerVerb
    name: str
    sessions: list[bytes]
    freed: list[bytes] = []  # those that have said meanwhile that they take jobs again


class Instructions:
    """All that are on their way, by number; `epoch` makes the numbers those of this broker's life."""

    def __init__(
        self, directory: Directory, roster: Roster, peers: Peers, timers: Timers, out: Outbox
    ) -> None:
        self.pending: dict[int, Errand] = {}
        self._directory = directory
        self._roster = roster
        self._peers = peers
        self._timers = timers
        self._out = out
        self._newest = 0

    def begin(self, epoch: int) -> None:
        self._newest = epoch << LEASE_COUNTER_BITS

    def instruct(self, peer: Peer, command: Instruct, now: Now) -> None:
        """Pass it on to the supervisor of who is meant, or refuse it."""
        found = self._directory.find(command.name)
        if isinstance(found, Missed):
            self._refuse(peer.number, command.request, found.code, found.text)
            return
        if found.lease and command.verb != "stack":
            text = f"{command.verb} is for workers, and {command.name!r} is a job, which {found.name} runs"
            self._refuse(peer.number, command.request, "invalid", text)
            return
        workers = found.workers
        if command.verb == "stop" and found.supervisor:  # it and all of its processes
            workers = self._directory.of_supervisor(found.supervisor)
        sessions = [worker.session for worker in workers][: limits.CHILDREN_PER_SUPERVISOR_MAX]
        supervisor = self._peers.supervisor_of(sessions[0])
        if supervisor is None:
            text = f"worker {found.name!r} has no supervisor that is connected now, who alone could tell it"
            self._refuse(peer.number, command.request, "conflict", text)
            return
        if len(self.pending) >= limits.INSTRUCTIONS_MAX:
            text = f"{len(self.pending)} instructions are on their way already; try again in a moment"
            self._refuse(peer.number, command.request, "busy", text)
            return
        self._newest += 1
        self.pending[self._newest] = Errand(
            peer.number, supervisor.number, command.request, command.verb, found.name, sessions
        )
        self._timers.after(now.boot_ms + limits.INSTRUCTION_TIMEOUT_MS, "instruction", self._newest)
        told = Instruction(self._newest, command.verb, sessions, found.lease, command.reason, found.is_whole)
        self._out.say(supervisor.number, told)

    def obeyed(self, peer: Peer, answer: Obeyed) -> None:
        """A supervisor has answered. One that took too long answers nothing any more."""
        errand = self.pending.get(answer.number)
        if errand is None or errand.supervisor != peer.number:
            return
        del self.pending[answer.number]
        if answer.code:
            self._refuse(errand.asker, errand.request, answer.code, answer.text)
            return
        if errand.verb in ("drain", "resume"):
            self._hold(errand, is_held=errand.verb == "drain")
        told = Instructed(errand.request, errand.name, errand.sessions, answer.texts)
        self._out.say(errand.asker, told)

    def lost(self, number: int) -> None:
        """A connection is gone: what it asked nobody waits for, and what it was asked it will not answer."""
        for key, errand in list(self.pending.items()):
            if errand.asker == number:
                del self.pending[key]
            elif errand.supervisor == number:
                del self.pending[key]
                text = f"worker {errand.name!r} has gone away meanwhile; it may have heard of it"
                self._refuse(errand.asker, errand.request, "conflict", text)

    def expire(self, key: int) -> None:
        errand = self.pending.pop(key, None)
        if errand is not None:
            seconds = limits.INSTRUCTION_TIMEOUT_MS / 1_000
            text = f"worker {errand.name!r} did not answer within {seconds:g} s; it may have heard of it"
            self._refuse(errand.asker, errand.request, "unanswered", text)

    def undrained(self, session: bytes) -> None:
        """A worker takes jobs again, by its own word; what is on its way over another connection is older."""
        for errand in self.pending.values():
            errand.freed.append(session)

    def _hold(self, errand: Errand, *, is_held: bool) -> None:
        """At once: a worker whose event loop stands still says so itself only later."""
        for session in errand.sessions:
            worker = self._roster.workers.get(session)
            if worker is not None and not (is_held and session in errand.freed):
                worker.is_held = is_held
                worker.refresh()

    def _refuse(self, number: int, request: int, code: str, text: str) -> None:
        self._out.say(number, Refusal(request, code, text))
