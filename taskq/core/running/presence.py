"""Who is there: workers that connect, go silent, come back or die, and whose word decides it.

Leases belong to a worker's session, not to its socket. What becomes of the jobs is `attempts`'.
"""

from taskq import limits
from taskq.core.effects import Connected, Now
from taskq.core.intake.arrivals import Arrivals
from taskq.core.intake.bindings import Bindings
from taskq.core.job import Job
from taskq.core.lines.queues import Queues
from taskq.core.lines.workers import Roster, Worker
from taskq.core.outbox import Outbox
from taskq.core.peers import SILENCE_MS, Peer, Peers
from taskq.core.running.attempts import Attempts
from taskq.core.telling.following import Following
from taskq.core.timers import Timers
from taskq.protocol.messages import ChildExit


class Presence:
    """Decides who is alive."""

    def __init__(
        self,
        peers: Peers,
        roster: Roster,
        queues: Queues,
        attempts: Attempts,
        timers: Timers,
        bindings: Bindings,
        arrivals: Arrivals,
        following: Following,
        out: Outbox,
    ) -> None:
        self._bindings = bindings
        self._arrivals = arrivals
        self._following = following
        self._peers = peers
        self._roster = roster
        self._queues = queues
        self._attempts = attempts
        self._timers = timers
        self._out = out

    # -- connections --------------------------------------------------------------------------

    def worker(self, peer: Peer) -> Worker:
        """The worker behind a connection. One that was buried may still speak: what it finished counts."""
        session = peer.hello.session
        worker = self._roster.workers.get(session)
        if worker is None:
            worker = self._roster.workers[session] = Worker(session, peer.hello.name)
            worker.peer = peer.number
        return worker

    def drain(self, worker: Worker) -> None:
        worker.draining = True
        worker.refresh()

    def undrain(self, worker: Worker) -> None:
        worker.draining = worker.is_held = False
        worker.refresh()

    def connected(self, event: Connected, now: Now) -> None:
        peer = self._peers.add(event.peer, event.hello, now)
        earlier = self._bindings.connected(event.hello.session, event.peer)
        if earlier:
            # It submits again over this one what waited for room over that one. If both waited, it could
            # hear here that a job is refused, and the other would be let in.
            self._arrivals.forget(earlier)
        if event.hello.role != "worker":
            return
        worker = self.worker(peer)
        if worker.peer and worker.peer != peer.number:
            self._out.close(worker.peer, "replaced", "this session has connected again")
            self._peers.remove(worker.peer)  # what it still says was said by a past self
            self._following.lost(worker.peer)
        worker.peer = peer.number
        worker.name = event.hello.name
        worker.blocked = False
        worker.resumed = False
        worker.draining = worker.is_held = False  # it says so again if it is
        worker.unreported = dict(worker.held)
        worker.refresh()

    def lost(self, number: int, now: Now, *, parted: bool = False) -> None:
        peer = self._peers.peers.get(number)
        orphans = self._peers.remove(number)
        self._arrivals.forget(number)
        self._following.lost(number)
        if peer is None:
            return
        self._bindings.lost(peer.hello.session, number, now, parted=parted)
        worker = self._roster.workers.get(peer.hello.session)
        if worker is not None and worker.peer == number:
            worker.peer = 0
            worker.refresh()
            self._without_connection(worker, now)
        self._unvouched(orphans, f"its supervisor {peer.hello.name} was lost", now)

    def _without_connection(self, worker: Worker, now: Now) -> None:
        """Leases belong to the session. If a supervisor knows better than we, wait for its word."""
        if not worker.held:
            self._roster.remove(worker)
        elif self._peers.is_vouched(worker.session):
            worker.lost_ms = now.boot_ms
            self._timers.after(now.boot_ms + limits.VOUCH_WAIT_MS, "word", worker.session, now.boot_ms)
        else:
            self._attempts.bury(worker, "its connection was lost", now)

    def blocked(self, number: int, now: Now) -> None:
        peer = self._peers.peers.get(number)
        if peer is None:
            return
        peer.blocked_ms = now.boot_ms
        self._timers.after(now.boot_ms + limits.PEER_UNREAD_MS, "unread", number)
        worker = self._roster.workers.get(peer.hello.session)
        if worker is not None and worker.peer == number:
            worker.blocked = True
            worker.refresh()

    def unblocked(self, number: int) -> None:
        peer = self._peers.peers.get(number)
        if peer is None:
            return
        peer.blocked_ms = 0
        worker = self._roster.workers.get(peer.hello.session)
        if worker is not None and worker.peer == number:
            worker.blocked = False
            worker.refresh()

    def silent(self, number: int, look_ms: int, now: Now) -> None:
        peer = self._peers.peers.get(number)
        if peer is None or peer.look_ms != look_ms or not self._peers.is_silent(peer, now):
            return
        if self._peers.is_vouched(peer.hello.session):  # busy, but alive
            self._peers.watch_again(peer, now)
            return
        self._give_up(number, "silent", f"nothing was heard for {SILENCE_MS / 1000:g} s", now)

    def unread(self, number: int, now: Now) -> None:
        peer = self._peers.peers.get(number)
        if peer is None or not peer.blocked_ms or now.boot_ms - peer.blocked_ms < limits.PEER_UNREAD_MS:
            return
        if not self._peers.is_vouched(peer.hello.session):
            seconds = limits.PEER_UNREAD_MS / 1000
            self._give_up(number, "unread", f"what was sent has not been read for {seconds:g} s", now)

    def _give_up(self, number: int, code: str, text: str, now: Now) -> None:
        """Close, and go on at once: a socket to a frozen host can take for ever to be closed."""
        self._out.close(number, code, text)
        self.lost(number, now)

    # -- supervisors --------------------------------------------------------------------------

    def vouch(self, peer: Peer, sessions: list[bytes], now: Now) -> None:
        """A supervisor counts its processes: all of these are alive."""
        dropped = self._peers.vouch(peer.number, sessions, now)
        self._unvouched(dropped, f"its supervisor {peer.hello.name} no longer counts it as its own", now)

    def exited(self, child: ChildExit, now: Now) -> None:
        """A supervisor says that one of its processes has ended."""
        self._peers.unvouch(child.session)
        worker = self._roster.workers.get(child.session)
        if worker is not None:
            text = child.text or f"exit status {child.status}"
            self._attempts.bury(
                worker,
                text,
                now,
                status=child.status,
                timed_out=child.timed_out,
                uncounted=child.uncounted,
            )

    def word_is_due(self, session: bytes, lost_ms: int, now: Now) -> None:
        """A supervisor had a second to say what became of its process."""
        worker = self._roster.workers.get(session)
        if worker is None or worker.peer or worker.lost_ms != lost_ms:
            return  # it came back; if it was lost again, that loss has a second of its own
        if self._peers.vouched_since(session, lost_ms):
            return
        self._attempts.bury(worker, "its connection was lost, and its supervisor said nothing", now)

    def _unvouched(self, sessions: list[bytes], text: str, now: Now) -> None:
        """Nobody vouches for these any more: their own connections decide."""
        for session in sessions:
            worker = self._roster.workers.get(session)
            if worker is None:
                continue
            if not worker.peer:
                self._attempts.bury(worker, text, now)
            elif (peer := self._peers.peers.get(worker.peer)) is not None:
                self._peers.watch_silence(peer)
                if peer.blocked_ms:
                    self._timers.after(peer.blocked_ms + limits.PEER_UNREAD_MS, "unread", peer.number)

    # -- after a restart ----------------------------------------------------------------------

    def expect_back(self, job: Job) -> None:
        """The worker of a job that was running may still be running it: it has until `resume`."""
        worker = self._roster.workers.get(job.holder)
        if worker is None:
            worker = self._roster.workers[job.holder] = Worker(job.holder, "")
        worker.held[job.lease] = job

    def end_grace(self, now: Now) -> None:
        """Workers that were expected back after a restart and did not come are dead."""
        for worker in list(self._roster.workers.values()):
            if not worker.peer and not self._peers.is_vouched(worker.session):
                self._attempts.bury(worker, "it did not come back after the broker's restart", now)
        self._line_up()

    def maybe_end_grace(self) -> None:
        if self._queues.aside and all(worker.resumed for worker in self._roster.workers.values()):
            self._line_up()

    def _line_up(self) -> None:
        # In front of those that came while they were aside, the last one first.
        for job in reversed(self._queues.take_aside()):
            self._queues.put_back(job)
