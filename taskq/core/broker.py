"""The broker, as a function of events and time: a router to the parts that own the state.

`handle` takes what happened, `settle` ends a turn: it fires what is due, gives ready jobs to
workers with room, and returns all that is to be said. `cut` returns what is to be committed.
"""

from collections.abc import Iterable
from random import Random
from typing import assert_never

from taskq import limits
from taskq.core.asking import reports
from taskq.core.asking.directory import Directory
from taskq.core.asking.instructions import Instructions
from taskq.core.asking.searches import Searches
from taskq.core.asking.verbs import Verbs
from taskq.core.asking.watchers import Watchers
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
from taskq.core.intake.arrivals import Arrivals
from taskq.core.intake.bindings import Bindings
from taskq.core.intake.bounds import Bounds
from taskq.core.intake.editing import Editing
from taskq.core.intake.enclosures import Enclosures
from taskq.core.intake.held import HeldBack
from taskq.core.intake.intake import Intake
from taskq.core.intake.uniqueness import Uniqueness
from taskq.core.job import READY, RUNNING, Job
from taskq.core.ledger import Ledger
from taskq.core.lines.controls import Controls
from taskq.core.lines.queues import Queues
from taskq.core.lines.recall import Recall
from taskq.core.lines.registry import Registry
from taskq.core.lines.why import Why
from taskq.core.lines.workers import Roster
from taskq.core.memory import Memory
from taskq.core.outbox import Outbox
from taskq.core.peers import Peer, Peers
from taskq.core.planning.schedules import Schedules
from taskq.core.planning.timetable import Timetable
from taskq.core.retention import DEAD_BOUNDS, DeadBounds, Retention
from taskq.core.running.attempts import Attempts
from taskq.core.running.callbacks import Callbacks
from taskq.core.running.cancels import Cancels
from taskq.core.running.checkpoints import Checkpoints
from taskq.core.running.endings import Endings
from taskq.core.running.presence import Presence
from taskq.core.running.waits import Waits, is_wanted
from taskq.core.state import State
from taskq.core.telling.feeds import Feeds
from taskq.core.telling.following import Following
from taskq.core.telling.news import News
from taskq.core.timers import Timer, Timers
from taskq.protocol.messages import (
    Ack,
    AckAndSubmit,
    Announce,
    AskSettings,
    Bound,
    Bulk,
    Cancel,
    Checkpoint,
    Drain,
    DropSchedule,
    Edit,
    Exited,
    Extend,
    Follow,
    GroupDead,
    Inspect,
    Instruct,
    Items,
    ListSchedules,
    ListWorkers,
    Logs,
    Nack,
    Obeyed,
    PauseSchedule,
    Ping,
    Pong,
    Progress,
    Query,
    Refusal,
    Resume,
    ResumeSchedule,
    RunSchedule,
    SetSchedule,
    Status,
    StatusReport,
    Steer,
    Submit,
    Taken,
    Tally,
    Undrain,
    Unfollow,
    Unwatch,
    Vouch,
    Watch,
)

# Timers fired in one turn: a million that come due at once must not hold up the loop.
TIMERS_PER_TURN = 500

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
        dead: DeadBounds = DEAD_BOUNDS,
        compact_slack_bytes: int = limits.COMPACT_SLACK_BYTES,
        memory_bytes: int = 0,
    ) -> None:
        self.state = State()
        self.ledger = Ledger(self.state)
        self.out = Outbox()
        self.timers = Timers(self._is_wanted)
        self.peers = Peers(self.timers)
        self.registry = Registry(self.timers, self.state.settings)
        self.queues = Queues(self.registry)
        self.roster = Roster(self.queues)
        self.controls = Controls(self.ledger, self.registry, self.queues, self.roster, self.timers)
        self.held = HeldBack()
        self.watchers = Watchers(self.state, self.peers, self.out, self.held.ids)
        self.news = News(self.state, self.roster, Feeds(memory_bytes))
        self.ledger.news = self.news
        self.following = Following(self.state, self.roster, self.timers, self.news, self.out)
        self.memory = Memory(self.state, self.held, self.news.feeds, memory_bytes)
        self.retention = Retention(self.ledger, self.timers, outcome_bytes, dead, self.memory)
        self.endings = Endings(self.ledger, self.queues, self.watchers, self.retention)
        self.uniqueness = Uniqueness(self.ledger, self.timers)
        self.callbacks = Callbacks(self.ledger)
        self.attempts = Attempts(
            self.ledger,
            self.queues,
            self.roster,
            self.timers,
            self.endings,
            self.registry,
            self.controls,
            self.callbacks,
            self.uniqueness,
            self.out,
            rng,
        )
        self.waits = Waits(self.timers, self.attempts, self.endings)
        self.bounds = Bounds(self.ledger, self.endings, self.held, self.out)
        self.editing = Editing(self.ledger, self.queues, self.timers, self.attempts, self.out)
        self.intake = Intake(self.ledger, self.uniqueness, self.editing, self.bounds, self.held, self.memory)
        self.cancels = Cancels(self.state, self.attempts, self.endings, self.out)
        self.arrivals = Arrivals(
            self.intake,
            self.attempts,
            self.timers,
            self.bounds,
            self.held,
            self.cancels,
            self.watchers,
            self.out,
        )
        self.enclosures = Enclosures(self.intake, self.attempts, self.arrivals)
        self.checkpoints = Checkpoints(self.ledger, self.intake, self.out)
        self.bindings = Bindings(self.state, self.timers, self.cancels)
        self.presence = Presence(
            self.peers,
            self.roster,
            self.queues,
            self.attempts,
            self.timers,
            self.bindings,
            self.arrivals,
            self.following,
            self.out,
        )
        self.recall = Recall(self.roster, self.out)
        self.why = Why(self.state, self.queues, self.roster, self.registry)
        self.directory = Directory(self.state, self.roster, self.peers)
        self.instructions = Instructions(self.directory, self.roster, self.peers, self.timers, self.out)
        self.verbs = Verbs(
            self.ledger, self.timers, self.attempts, self.endings, self.retention, self.uniqueness
        )
        self.searches = Searches(self.ledger, self.peers, self.roster, self.verbs, self.out)
        self.compaction = Compaction(self.ledger, compact_slack_bytes)
        self.schedules = Schedules(
            self.ledger, self.timers, self.intake, self.attempts, self.endings, self.watchers, rng
        )
        self.timetable = Timetable(self.state, self.schedules, self.intake, self.roster, self.out)
        self._version = version
        self._journal = journal
        self.epoch = 0
        self.started_boot_ms = 0

    def recover(self, batches: Iterable[tuple[int, bytes]]) -> None:
        """Fold the journal into the state."""
        for seq, blob in batches:
            self.ledger.load(seq, blob)

    def begin(self, epoch: int, now: Now) -> None:
        """Start serving, with what was recovered."""
        self.epoch = epoch
        self.news.series = epoch
        self.started_boot_ms = now.boot_ms
        self.timers.look(now)
        self.attempts.begin_epoch(epoch)
        self.instructions.begin(epoch)
        self.retention.begin(now)
        self.attempts.begin_turn(now)
        self.uniqueness.begin(now)
        self.bindings.begin(now)
        ready: list[Job] = []
        for job in self.state.jobs.values():
            self.waits.recover(job, now)
            if job.state == READY:
                # Who waited before goes on waiting: a restart is nobody's turn.
                job.turn = self.attempts.turn - max(now.wall_ms - job.submitted_ms, 0) * 1_000
                ready.append(job)
            elif job.state == RUNNING:
                self.presence.expect_back(job)
        # What compaction has written again is read behind what came after it.
        ready.sort(key=_turn)
        self.controls.begin(now)
        self.schedules.begin(now)
        if not self.roster.workers:
            for job in ready:
                self.queues.put(job)
            return
        # Workers that are expected back may be running some of these, by the last deliveries of a
        # broker that died before it could write them down.
        for job in ready:
            self.queues.put_aside(job)
        self.timers.after(now.boot_ms + limits.RESUME_GRACE_MS, "resume", 0)

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
                self.presence.connected(event, now)
            case Lost():
                self.presence.lost(event.peer, now, parted=event.parted)
                if self.instructions.pending:
                    self.instructions.lost(event.peer)
            case Blocked():
                self.presence.blocked(event.peer, now)
            case Unblocked():
                self.presence.unblocked(event.peer)
            case _:
                assert_never(event)

    def settle(self, now: Now) -> list[Effect]:
        """End a turn: fire what is due, deliver what is ready, say what was decided."""
        for timer in self.timers.due(now, TIMERS_PER_TURN):
            self._fire(timer, now)
        if self.searches.running:
            self.searches.step(now)
        if self.watchers.noticed:
            self.schedules.ended(self.watchers.take_noticed(), now)
        if self.cancels.work:
            self.cancels.step(now)
        self.attempts.deliver(now)
        if self.arrivals.is_behind:
            self.arrivals.catch_up(now)
        if self.cancels.work:  # the rest of it in a turn of its own
            self.timers.after(now.boot_ms, "again", 0)
        self.recall.look()
        self.retention.trim(now)
        self.compaction.step()
        if self.following.has_work:
            self.following.step(now)
        self.attempts.begin_turn(now)
        return self.out.take(self.ledger.newest)

    def cut(self) -> Batch | None:
        """What is to be committed now: all records since the last cut. None: nothing."""
        return self.ledger.cut()

    def next_deadline(self, now: Now) -> int | None:
        """The boot time at which `settle` is wanted though nothing has happened."""
        if self.roster.awake:  # there was more to give than one turn gives
            return now.boot_ms
        if self.searches.running:
            return self.searches.next_ms(now)
        return self.timers.next_ms(now)

    # -- commands -----------------------------------------------------------------------------

    def _command(self, peer: Peer, event: Received, now: Now) -> None:
        command = event.command
        match command:
            case Submit():
                self.arrivals.submit(peer, command, now)
            case Ack():
                self.attempts.ack(self.presence.worker(peer), command, now)
            case Watch():
                self.watchers.watch(peer.number, command.ids)
            case Nack():
                self.attempts.nack(self.presence.worker(peer), command, now)
            case Ping():
                self.out.say_at_once(peer.number, Pong(command.token))
            case Unwatch():
                self.watchers.unwatch(peer.number, command.ids)
            case Cancel():
                self.arrivals.admit_to_cancel(command.ids, now)
                self.cancels.cancel(peer.number, command, now)
            case Edit():
                self.editing.edit(peer.number, command, now)
            case Bound():
                self.bounds.configure(peer.number, command)
            case Inspect():
                self._inspect(peer, command, now)
            case Status():
                self.out.say(peer.number, self.status(command.request, now))
            case Query() | Tally() | Bulk() | GroupDead():
                self.searches.begin(peer.number, command, now)
            case Announce():
                worker = self.presence.worker(peer)
                self.roster.announce(worker, command)
                self.controls.declare(command, now)
                self.recall.announced(self.presence.worker(peer), command)
                self.timetable.announce(worker, command, peer.hello.namespace, now)
            case Resume():
                self.attempts.resume(self.presence.worker(peer), command.items, command.last, now)
                self.presence.maybe_end_grace()
            case Drain():
                self.presence.drain(self.presence.worker(peer))
            case Undrain():
                self.presence.undrain(self.presence.worker(peer))
                self.instructions.undrained(peer.hello.session)
            case Extend():
                self.attempts.extend(self.presence.worker(peer), command.items, now)
            case Progress():
                self.presence.worker(peer).note(command.items)
                if self.news:
                    self.news.progressed(command.items, now.wall_ms)
            case Items():
                self.following.items(self.presence.worker(peer), command.items)
            case Logs():
                self.following.logs(command.items)
            case Follow():
                self.following.follow(peer.number, command, now)
            case Unfollow():
                self.following.unfollow(peer.number, command.requests)
            case Taken():
                self.following.taken(peer.number, command.items)
            case Checkpoint():
                self.checkpoints.save(self.presence.worker(peer), command)
            case AckAndSubmit():
                self.enclosures.ack(self.presence.worker(peer), command, now)
            case Steer():
                self.out.say(peer.number, self.controls.steer(peer.hello.name, command, now))
            case AskSettings():
                self.out.say(peer.number, self.controls.report(command))
            case Vouch():
                self.presence.vouch(peer, command.sessions, now)
            case Exited():
                for child in command.children:
                    self.presence.exited(child, now)
            case Obeyed():
                self.instructions.obeyed(peer, command)
            case ListWorkers():
                self.out.say(peer.number, self.directory.page(command, now))
            case Instruct():
                self.instructions.instruct(peer, command, now)
            case SetSchedule():
                self.timetable.set(peer, command, now)
            case PauseSchedule() | ResumeSchedule() | DropSchedule() | RunSchedule():
                self.timetable.change(peer, command, now)
            case ListSchedules():
                self.timetable.list(peer, command)
            case _:
                assert_never(command)

    def _inspect(self, peer: Peer, inspect: Inspect, now: Now) -> None:
        job = self.state.jobs.get(inspect.id)
        if job is not None:
            worker = self.roster.workers.get(job.holder)
            progress = worker.progress.get(job.lease) if worker is not None else None
            why = self.why.of(job, now)
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
            "held": self.held.jobs,
            "memory_bytes": self.memory.taken_bytes,
            "feeds": len(self.news.feeds),
            "feed_bytes": self.news.feeds.bytes,
            "follows": len(self.following),
            "peers": len(self.peers),
            "workers": len(self.roster.workers),
            "schedules": len(self.schedules),
            "submitted_total": self.arrivals.count,
            "ticked_total": self.schedules.made,
            "delivered_total": self.attempts.delivered,
            "redelivered_total": self.attempts.redelivered,
            "recalled_total": self.recall.recalled,
            "succeeded_total": self.endings.succeeded,
            "dead_total": self.endings.died,
            "cancelled_total": self.endings.cancelled,
            "expired_total": self.endings.expired,
            "revived_total": self.verbs.revived,
            "dropped_total": self.bounds.dropped,
            "failed_attempts_total": self.attempts.failed,
            "crashed_attempts_total": self.attempts.crashed,
            "callbacks_total": self.callbacks.made,
            "checkpoints_total": self.checkpoints.recorded,
            "outboxes_refused_total": self.enclosures.refused,
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
            warnings=self.timetable.warnings,
        )

    # -- timers -------------------------------------------------------------------------------

    def _fire(self, timer: Timer, now: Now) -> None:
        kind, key, mark = timer
        if isinstance(key, bytes):
            match kind:
                case "word":
                    self.presence.word_is_due(key, mark, now)
                case "claim":
                    self.uniqueness.lapse(key, mark)
                case "bound":
                    self.bindings.is_over(key, mark)
                case "hold":
                    self.following.hold_is_over(key, now)
                case _:
                    job = self.state.jobs.get(key)
                    if job is not None:
                        self.waits.fire(job, kind, mark, now)
            return
        match kind:
            case "silent":
                self.presence.silent(key, mark, now)
            case "unread":
                self.presence.unread(key, now)
            case "resume":
                self.presence.end_grace(now)
            case "retention":
                self.retention.sweep(now)
            case "gate":
                self.registry.on_timer(key, now)
            case "pause":
                self.controls.end_pause(key, now)
            case "tick":
                self.schedules.fire(key, mark, now)
            case "instruction":
                self.instructions.expire(key)

    def _is_wanted(self, timer: Timer) -> bool:
        """Could this timer still do something?"""
        kind, key, mark = timer
        if isinstance(key, int):
            if kind == "tick":
                return self.schedules.is_wanted(key, mark)
            if kind == "pause":
                return self.controls.is_ending(key)
            if kind == "instruction":
                return key in self.instructions.pending
            return kind not in ("silent", "unread") or key in self.peers.peers
        if kind == "word":
            return key in self.roster.workers
        if kind == "claim":
            return self.uniqueness.is_claimed(key, mark)
        if kind == "bound":
            return self.bindings.is_missed(key, mark)
        if kind == "hold":
            return self.following.is_streaming(key)
        job = self.state.jobs.get(key)
        return job is not None and is_wanted(job, kind, mark)


def _turn(job: Job) -> int:
    return job.turn
