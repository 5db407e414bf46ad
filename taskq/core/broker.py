"""The broker, as a function of events and time: a router to the parts that own the state.

`handle` takes what happened, `settle` ends a turn: it fires what is due, gives ready jobs to
workers with room, and returns all that is to be said. `cut` returns what is to be committed.
"""

from collections.abc import Iterable
from random import Random
from typing import Literal, assert_never

from taskq import limits
from taskq.core import reports
from taskq.core.attempts import Attempts
from taskq.core.compaction import Compaction
from taskq.core.effects import (
    Batch,
    Blocked,
    Connected,
    Effect,
    Heard,
    Lost,
    Now,
    Received,
    Unblocked,
)
from taskq.core.endings import Endings
from taskq.core.intake import Intake
from taskq.core.job import CANCELLED, OVERDUE, READY, RUNNING, SCHEDULED, Job
from taskq.core.ledger import Ledger
from taskq.core.outbox import Outbox
from taskq.core.peers import SILENCE_MS, Peer, Peers
from taskq.core.queues import Queues
from taskq.core.retention import Retention
from taskq.core.state import State
from taskq.core.timers import Timer, Timers
from taskq.core.watchers import Watchers
from taskq.core.workers import Roster, Worker
from taskq.protocol.messages import (
    Ack,
    Announce,
    Cancel,
    ChildExit,
    Drain,
    Exited,
    Extend,
    Inspect,
    Nack,
    Ping,
    Pong,
    Progress,
    Receipt,
    Receipts,
    Refusal,
    Resume,
    Status,
    StatusReport,
    Submit,
    Unwatch,
    Vouch,
    Watch,
)

# Timers fired in one turn: a million that come due at once must not hold up the loop.
TIMERS_PER_TURN = 5_000

Event = Connected | Received | Heard | Blocked | Unblocked | Lost


class Broker:
    """Routes events to the parts. Makes no decision that a part could make."""

    def __init__(
        self,
        rng: Random,
        *,
        version: str = "",
        journal: str = "",
        outcome_bytes: int = limits.OUTCOME_BYTES_BUDGET,
        compact_slack_bytes: int = limits.COMPACT_SLACK_BYTES,
    ) -> None:
        self.state = State()
        self.ledger = Ledger(self.state)
        self.out = Outbox()
        self.timers = Timers()
        self.peers = Peers(self.timers)
        self.queues = Queues()
        self.roster = Roster(self.queues)
        self.watchers = Watchers(self.state, self.peers, self.out)
        self.retention = Retention(self.ledger, self.timers, outcome_bytes)
        self.endings = Endings(self.ledger, self.queues, self.watchers, self.retention)
        self.intake = Intake(self.ledger)
        self.attempts = Attempts(
            self.ledger, self.queues, self.roster, self.timers, self.endings, self.out, rng
        )
        self.compaction = Compaction(self.ledger, compact_slack_bytes)
        self._version = version
        self._journal = journal
        self.epoch = 0
        self.started_boot_ms = 0

        self.submitted = 0

    # -- before the first event ---------------------------------------------------------------

    def recover(self, batches: Iterable[tuple[int, bytes]]) -> None:
        """Fold the journal into the state."""
        for seq, blob in batches:
            self.ledger.load(seq, blob)

    def begin(self, epoch: int, now: Now) -> None:
        """Start serving, with what was recovered."""
        self.epoch = epoch
        self.started_boot_ms = now.boot_ms
        self.attempts.begin_epoch(epoch)
        self.retention.begin(now)
        ready: list[Job] = []
        for job in self.state.jobs.values():
            self._set_timers(job, now)
            if job.state == READY:
                ready.append(job)
            elif job.state == RUNNING:
                self._expect_back(job)
        if not self.roster.workers:
            for job in ready:
                self.attempts.ready(job)
            return
        # Workers that are expected back may be running some of these, by the last deliveries of a
        # broker that died before it could write them down.
        for job in ready:
            self.queues.put_aside(job)
        self.timers.after(now.boot_ms + limits.RESUME_GRACE_MS, "resume", 0)

    def _expect_back(self, job: Job) -> None:
        """The worker of a job that was running may still be running it: it has until `resume`."""
        worker = self.roster.workers.get(job.holder)
        if worker is None:
            worker = self.roster.workers[job.holder] = Worker(job.holder, "")
        worker.held[job.lease] = job

    # -- a turn -------------------------------------------------------------------------------

    def handle(self, event: Event, now: Now) -> None:
        """Decide one event. What is to be said of it comes with `settle`."""
        match event:
            case Received():
                peer = self.peers.peers.get(event.peer)
                if peer is not None:
                    peer.heard_ms = now.boot_ms
                    self._command(peer, event, now)
            case Heard():
                peer = self.peers.peers.get(event.peer)
                if peer is not None:
                    peer.heard_ms = now.boot_ms
            case Connected():
                self._connected(event, now)
            case Lost():
                self._lost(event.peer, now)
            case Blocked():
                self._blocked(event.peer, now)
            case Unblocked():
                self._unblocked(event.peer)
            case _:
                assert_never(event)

    def settle(self, now: Now) -> list[Effect]:
        """End a turn: fire what is due, deliver what is ready, say what was decided."""
        for timer in self.timers.due(now, TIMERS_PER_TURN):
            self._fire(timer, now)
        self.timers.sweep(self._is_wanted)
        self.attempts.deliver(now)
        self.retention.trim(now)
        self.compaction.step()
        self.attempts.turn += 1
        return self.out.take(self.ledger.newest)

    def cut(self) -> Batch | None:
        """What is to be committed now: all records since the last cut. None: nothing."""
        return self.ledger.cut()

    def next_deadline(self, now: Now) -> int | None:
        """The boot time at which `settle` is wanted though nothing has happened."""
        return self.timers.next_ms(now)

    # -- commands -----------------------------------------------------------------------------

    def _command(self, peer: Peer, event: Received, now: Now) -> None:
        command = event.command
        match command:
            case Submit():
                self._submit(peer, command, now)
            case Ack():
                self.attempts.ack(self._worker(peer), command, now)
            case Watch():
                self.watchers.watch(peer.number, command.ids)
            case Nack():
                self.attempts.nack(self._worker(peer), command, now)
            case Ping():
                self.out.say_at_once(peer.number, Pong(command.token))
            case Unwatch():
                self.watchers.unwatch(peer.number, command.ids)
            case Cancel():
                self._cancel(peer, command, now)
            case Inspect():
                self._inspect(peer, command, now)
            case Status():
                self.out.say(peer.number, self.status(command.request, now))
            case Announce():
                self.roster.announce(self._worker(peer), command)
            case Resume():
                self.attempts.resume(self._worker(peer), command.items, command.last, now)
                self._maybe_end_grace()
            case Drain():
                self._drain(self._worker(peer))
            case Extend():
                self.attempts.extend(self._worker(peer), command.items, now)
            case Progress():
                self._note_progress(peer, command)
            case Vouch():
                dropped = self.peers.vouch(peer.number, command.sessions, now)
                self._unvouched(
                    dropped, f"its supervisor {peer.hello.name} no longer counts it as its own", now
                )
            case Exited():
                for child in command.children:
                    self._exited(child, now)
            case _:
                assert_never(command)

    def _submit(self, peer: Peer, submit: Submit, now: Now) -> None:
        jobs, confirm = self.intake.submit(peer.hello.session, submit, now)
        self.out.say(peer.number, confirm)
        self.submitted += len(jobs)
        ready = self.attempts.ready
        for job in jobs:
            terms = job.terms
            if job.state is READY:
                ready(job)
            elif terms.delay_ms:
                self.timers.after(now.boot_ms + terms.delay_ms, "due", job.id, job.due_ms)
            else:
                self.timers.at(terms.at_ms, "due", job.id, job.due_ms)
            if terms.expires_ms:
                self.timers.after(now.boot_ms + terms.expires_ms, "expires", job.id, job.submitted_ms)

    def _cancel(self, peer: Peer, cancel: Cancel, now: Now) -> None:
        receipts = []
        jobs = []
        for job_id in dict.fromkeys(cancel.ids):
            job = self.state.jobs.get(job_id)
            if job is not None:
                if job.state is RUNNING:
                    self.attempts.revoke(job, cancel.reason)
                jobs.append(job)
                receipts.append(Receipt(job_id, "cancelled"))
            else:
                receipts.append(Receipt(job_id, self._why_not_cancelled(job_id)))
        self.endings.cancel(jobs, cancel.reason, now)
        self.out.say(peer.number, Receipts(cancel.request, receipts))

    def _drain(self, worker: Worker) -> None:
        worker.draining = True
        worker.refresh()

    def _why_not_cancelled(self, job_id: bytes) -> Literal["cancelled", "finished", "unknown"]:
        kept = self.state.outcomes.get(job_id)
        if kept is None:
            return "unknown"
        return "cancelled" if kept.state == CANCELLED else "finished"

    def _inspect(self, peer: Peer, inspect: Inspect, now: Now) -> None:
        job = self.state.jobs.get(inspect.id)
        if job is not None:
            worker = self.roster.workers.get(job.holder)
            progress = worker.progress.get(job.lease) if worker is not None else None
            why = reports.why(job, self.roster, now)
            self.out.say(peer.number, reports.job_report(inspect.request, job, self.roster, progress, why))
            return
        kept = self.state.outcomes.get(inspect.id)
        if kept is not None:
            self.out.say(peer.number, reports.outcome_report(inspect.request, kept))
            return
        text = f"no job {inspect.id.hex()}: it never was, or its outcome is no longer kept"
        self.out.say(peer.number, Refusal(inspect.request, "not_found", text))

    def counts(self) -> dict[str, int]:
        """Everything counted since the start, and what there is now; for status and metrics."""
        return {
            "jobs": len(self.state.jobs),
            "outcomes": len(self.state.outcomes),
            "outcome_bytes": self.state.outcome_bytes,
            "sessions": len(self.state.sessions),
            "watched": len(self.watchers),
            "timers": len(self.timers),
            "peers": len(self.peers),
            "workers": len(self.roster.workers),
            "submitted_total": self.submitted,
            "delivered_total": self.attempts.delivered,
            "redelivered_total": self.attempts.redelivered,
            "succeeded_total": self.endings.succeeded,
            "dead_total": self.endings.died,
            "cancelled_total": self.endings.cancelled,
            "expired_total": self.endings.expired,
            "failed_attempts_total": self.attempts.failed,
            "crashed_attempts_total": self.attempts.crashed,
        }

    def status(self, request: int, now: Now) -> StatusReport:
        """One screenful about the broker; cheap whatever the backlog."""
        return StatusReport(
            request=request,
            version=self._version,
            wall_ms=now.wall_ms,
            uptime_ms=now.boot_ms - self.started_boot_ms,
            epoch=self.epoch,
            journal=self._journal,
            journal_bytes=self.ledger.journal_bytes,
            counts=self.counts(),
            queues=reports.queue_reports(self.state, self.queues, self.roster, now),
            workers=reports.worker_reports(self.roster, self.peers, now),
            connections=len(self.peers),
        )

    def _note_progress(self, peer: Peer, progress: Progress) -> None:
        worker = self._worker(peer)
        for item in progress.items:
            if item.lease in worker.held:
                worker.progress[item.lease] = item

    def _worker(self, peer: Peer) -> Worker:
        """The worker behind a connection. One that was buried may still speak: what it finished counts."""
        session = peer.hello.session
        worker = self.roster.workers.get(session)
        if worker is None:
            worker = self.roster.workers[session] = Worker(session, peer.hello.name)
            worker.peer = peer.number
        return worker

    # -- who is there -------------------------------------------------------------------------

    def _connected(self, event: Connected, now: Now) -> None:
        peer = self.peers.add(event.peer, event.hello, now)
        if event.hello.role != "worker":
            return
        worker = self._worker(peer)
        if worker.peer and worker.peer != peer.number:
            self.out.close(worker.peer, "replaced", "this session has connected again")
            self.peers.remove(worker.peer)  # what it still says was said by a past self
        worker.peer = peer.number
        worker.name = event.hello.name
        worker.blocked = False
        worker.resumed = False
        worker.unreported = dict(worker.held)
        worker.refresh()

    def _lost(self, number: int, now: Now) -> None:
        peer = self.peers.peers.get(number)
        orphans = self.peers.remove(number)
        if peer is None:
            return
        worker = self.roster.workers.get(peer.hello.session)
        if worker is not None and worker.peer == number:
            worker.peer = 0
            worker.refresh()
            self._without_connection(worker, now)
        self._unvouched(orphans, f"its supervisor {peer.hello.name} was lost", now)

    def _without_connection(self, worker: Worker, now: Now) -> None:
        """Leases belong to the session. If a supervisor knows better than we, wait for its word."""
        if not worker.held:
            self.roster.remove(worker)
        elif self.peers.is_vouched(worker.session):
            worker.lost_ms = now.boot_ms
            self.timers.after(now.boot_ms + limits.VOUCH_WAIT_MS, "word", worker.session, now.boot_ms)
        else:
            self.attempts.bury(worker, "its connection was lost", now)

    def _unvouched(self, sessions: list[bytes], text: str, now: Now) -> None:
        """Nobody vouches for these any more: their own connections decide."""
        for session in sessions:
            worker = self.roster.workers.get(session)
            if worker is None:
                continue
            if not worker.peer:
                self.attempts.bury(worker, text, now)
            elif (peer := self.peers.peers.get(worker.peer)) is not None:
                self.peers.watch_silence(peer)

    def _exited(self, child: ChildExit, now: Now) -> None:
        self.peers.unvouch(child.session)
        worker = self.roster.workers.get(child.session)
        if worker is not None:
            self.attempts.bury(worker, child.text or f"exit status {child.status}", now)

    def _blocked(self, number: int, now: Now) -> None:
        peer = self.peers.peers.get(number)
        if peer is None:
            return
        peer.blocked_ms = now.boot_ms
        self.timers.after(now.boot_ms + limits.PEER_UNREAD_MS, "unread", number)
        worker = self.roster.workers.get(peer.hello.session)
        if worker is not None and worker.peer == number:
            worker.blocked = True
            worker.refresh()

    def _unblocked(self, number: int) -> None:
        peer = self.peers.peers.get(number)
        if peer is None:
            return
        peer.blocked_ms = 0
        worker = self.roster.workers.get(peer.hello.session)
        if worker is not None and worker.peer == number:
            worker.blocked = False
            worker.refresh()

    # -- timers -------------------------------------------------------------------------------

    def _set_timers(self, job: Job, now: Now) -> None:
        """After a restart: waits go on from the wall times that the records hold, and take no longer
        than they would have in all: somebody may have set the clock back meanwhile."""
        if job.state == SCHEDULED:
            began_ms = job.started_ms or job.submitted_ms
            wait_ms = min(max(job.due_ms - now.wall_ms, 0), job.due_ms - began_ms)
            if job.due_ms == job.terms.at_ms:
                self.timers.at(job.due_ms, "due", job.id, job.due_ms)
            else:
                self.timers.after(now.boot_ms + wait_ms, "due", job.id, job.due_ms)
        if job.expires_at_ms:
            wait_ms = min(max(job.expires_at_ms - now.wall_ms, 0), job.terms.expires_ms)
            self.timers.after(now.boot_ms + wait_ms, "expires", job.id, job.submitted_ms)
        if job.state == RUNNING and job.terms.timeout_ms:
            timeout_ms = job.terms.timeout_ms
            left_ms = min(max(job.started_ms + timeout_ms - now.wall_ms, 0), timeout_ms)
            self.timers.after(
                now.boot_ms + left_ms + limits.TIMEOUT_BACKSTOP_MS, "timeout", job.id, job.lease
            )

    def _fire(self, timer: Timer, now: Now) -> None:
        kind, key, mark = timer
        if isinstance(key, bytes):
            if kind == "word":
                self._word_is_due(key, mark, now)
                return
            job = self.state.jobs.get(key)
            if job is not None:
                self._fire_job(job, kind, mark, now)
            return
        match kind:
            case "silent":
                self._silent(key, mark, now)
            case "unread":
                self._unread(key, now)
            case "resume":
                self._end_grace(now)
            case "retention":
                self.retention.sweep(now)

    def _is_wanted(self, timer: Timer) -> bool:
        """Could this timer still do something?"""
        kind, key, mark = timer
        if isinstance(key, int):
            return kind not in ("silent", "unread") or key in self.peers.peers
        if kind == "word":
            return key in self.roster.workers
        job = self.state.jobs.get(key)
        if job is None:
            return False
        # A lease that was lost may be taken up again.
        return job.lease == mark if kind == "timeout" else mark in (job.due_ms, job.submitted_ms)

    def _fire_job(self, job: Job, kind: str, mark: int, now: Now) -> None:
        if kind == "due" and job.state is SCHEDULED and job.due_ms == mark:
            self.attempts.due(job)
        elif kind == "expires" and job.submitted_ms == mark:
            if job.state is RUNNING:  # the attempt may go on, but there will be no other
                job.turn = OVERDUE
            else:
                self.endings.expire([job], now)
        elif kind == "timeout":
            self.attempts.time_out(job, mark, now)

    def _word_is_due(self, session: bytes, lost_ms: int, now: Now) -> None:
        """A supervisor had a second to say what became of its process."""
        worker = self.roster.workers.get(session)
        if worker is None or worker.peer or worker.lost_ms != lost_ms:
            return  # it came back; if it was lost again, that loss has a second of its own
        if self.peers.vouched_since(session, lost_ms):
            return
        self.attempts.bury(worker, "its connection was lost, and its supervisor said nothing", now)

    def _silent(self, number: int, look_ms: int, now: Now) -> None:
        peer = self.peers.peers.get(number)
        if peer is None or peer.look_ms != look_ms or not self.peers.is_silent(peer, now):
            return
        if self.peers.is_vouched(peer.hello.session):  # busy, but alive
            self.peers.watch_again(peer, now)
            return
        self._give_up(number, "silent", f"nothing was heard for {SILENCE_MS / 1000:g} s", now)

    def _unread(self, number: int, now: Now) -> None:
        peer = self.peers.peers.get(number)
        if peer is None or not peer.blocked_ms or now.boot_ms - peer.blocked_ms < limits.PEER_UNREAD_MS:
            return
        if not self.peers.is_vouched(peer.hello.session):
            seconds = limits.PEER_UNREAD_MS / 1000
            self._give_up(number, "unread", f"what was sent has not been read for {seconds:g} s", now)

    def _give_up(self, number: int, code: str, text: str, now: Now) -> None:
        """Close, and go on at once: a socket to a frozen host can take for ever to be closed."""
        self.out.close(number, code, text)
        self._lost(number, now)

    def _end_grace(self, now: Now) -> None:
        """Workers that were expected back after a restart and did not come are dead."""
        for worker in list(self.roster.workers.values()):
            if not worker.peer and not self.peers.is_vouched(worker.session):
                self.attempts.bury(worker, "it did not come back after the broker's restart", now)
        self._line_up()

    def _maybe_end_grace(self) -> None:
        if self.queues.aside and all(worker.resumed for worker in self.roster.workers.values()):
            self._line_up()

    def _line_up(self) -> None:
        for job in self.queues.take_aside():
            self.attempts.ready(job)
