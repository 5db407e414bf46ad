"""Bugs to plant, one at a time: a simulation that does not find them proves nothing by finding none."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from random import Random
from typing import Any, Final

from msgspec import structs

from taskq.client import following as hearing
from taskq.client.session import ClientSession
from taskq.core import compaction
from taskq.core import records as r
from taskq.core.asking import search_kinds, verbs
from taskq.core.asking.instructions import Instructions
from taskq.core.asking.search_kinds import Listing
from taskq.core.asking.searches import Searches
from taskq.core.asking.snapshot import Snapshot
from taskq.core.asking.verbs import Verbs
from taskq.core.asking.watchers import Watchers
from taskq.core.broker import Broker
from taskq.core.compaction import Compaction
from taskq.core.effects import Close, Effect, Now
from taskq.core.indexes import Index, Kin, Uniques
from taskq.core.intake import intake
from taskq.core.intake.bindings import Bindings
from taskq.core.intake.bounds import Room
from taskq.core.intake.editing import Editing
from taskq.core.intake.enclosures import Enclosures
from taskq.core.intake.intake import Enclosed, Intake
from taskq.core.intake.sieve import Sieve
from taskq.core.intake.uniqueness import Uniqueness
from taskq.core.job import RUNNING, SCHEDULED, Before, Job
from taskq.core.ledger import Ledger
from taskq.core.lines.controls import Controls
from taskq.core.lines.gates import Gate
from taskq.core.lines.queues import Queues
from taskq.core.lines.recall import Recall
from taskq.core.lines.registry import Registry
from taskq.core.lines.sights import Sight
from taskq.core.lines.workers import Pool, Slots, Worker
from taskq.core.memory import Memory
from taskq.core.outbox import Outbox, Parcel
from taskq.core.peers import Peer, Peers
from taskq.core.planning import schedules
from taskq.core.planning.schedule import Schedule, tick_id
from taskq.core.planning.schedules import Schedules
from taskq.core.running import attempts, callbacks
from taskq.core.running.attempts import Attempts
from taskq.core.running.callbacks import Callbacks
from taskq.core.running.cancels import Cancels
from taskq.core.running.checkpoints import Checkpoints
from taskq.core.running.endings import Endings
from taskq.core.running.presence import Presence
from taskq.core.running.retry import Verdict, judge
from taskq.core.running.waits import Waits
from taskq.core.state import Kept, Session, State
from taskq.core.telling.feed import Feed, Follower
from taskq.core.telling.following import Following
from taskq.core.telling.news import News
from taskq.core.timers import Kind, Timers
from taskq.errors import JournalFull
from taskq.journal.memory import MemoryJournal
from taskq.protocol.calendar import Calendar, due
from taskq.protocol.ext import UNIQUE, read_unique
from taskq.protocol.messages import (
    OS,
    Ack,
    AckAndSubmit,
    Acked,
    Announce,
    AttemptReport,
    Checkpoint,
    Checkpointed,
    ChildExit,
    Chunk,
    Confirm,
    Failure,
    Held,
    JobSpec,
    Nack,
    Obeyed,
    Outcomes,
    Query,
    Receipts,
    Reply,
    Submit,
    Welcome,
)
from taskq.protocol.messages import Recall as RecallMessage
from taskq.server.engine import Engine
from taskq.worker.checkpoints import Checkpoints as WorkerCheckpoints
from taskq.worker.executors.line import Line
from taskq.worker.session import WorkerSession
from taskq.worker.telling.outflow import Lines, Outflow
from tests.simulation.patching import Patch, patched

Plant = Callable[[Patch], None]
MUTANTS: Final[dict[str, Plant]] = {}


def planted(name: str | None) -> AbstractContextManager[None]:
    """With this bug in the code; None: without."""
    return patched(MUTANTS[name] if name is not None else None)


def mutant(plant: Plant) -> Plant:
    MUTANTS[plant.__name__] = plant
    return plant


# -- commit before speaking ---------------------------------------------------------------------------


def _speak_early(patch: Patch, kinds: tuple[type[Reply], ...]) -> None:
    may_go = Engine._may_go

    def early(engine: Engine, effect: Effect) -> bool:
        is_early = not isinstance(effect, Close) and isinstance(effect.message, kinds)
        return is_early or may_go(engine, effect)

    patch.set(Engine, "_may_go", early)


@mutant
def confirm_before_commit(patch: Patch) -> None:
    _speak_early(patch, (Confirm,))


@mutant
def ack_before_commit(patch: Patch) -> None:
    _speak_early(patch, (Acked,))


@mutant
def outcome_before_commit(patch: Patch) -> None:
    _speak_early(patch, (Outcomes,))


@mutant
def receipt_before_commit(patch: Patch) -> None:
    _speak_early(patch, (Receipts,))


@mutant
def deliver_before_submit_is_committed(patch: Patch) -> None:
    parcel = Outbox.parcel

    def early(outbox: Outbox, peer: int, after: int) -> Parcel:
        return parcel(outbox, peer, 0)

    patch.set(Outbox, "parcel", early)


@mutant
def full_disk_is_taken_for_a_commit(patch: Patch) -> None:
    append = MemoryJournal.append

    async def careless(journal: MemoryJournal, seq: int, blob: bytes, durability: int) -> None:
        try:
            await append(journal, seq, blob, durability)
        except JournalFull:
            journal._disk.last_seq = seq
            journal._disk.batches[seq] = r.encode([])

    patch.set(MemoryJournal, "append", careless)


# -- the journal --------------------------------------------------------------------------------------


@mutant
def fsync_is_forgotten(patch: Patch) -> None:
    add = Ledger._add

    def weak(ledger: Ledger, record: r.AnyRecord, durability: int) -> int:
        return add(ledger, record, max(durability, OS))

    patch.set(Ledger, "_add", weak)


@mutant
def deliveries_are_not_recorded(patch: Patch) -> None:
    def deliver(ledger: Ledger, record: r.Delivered, durability: int, jobs: list[Job]) -> None:
        ledger.state.delivered(record, jobs)

    patch.set(Ledger, "deliver", deliver)


@mutant
def compaction_forgets_leases(patch: Patch) -> None:
    restated = compaction._restated

    def forgetful(jobs: list[Job]) -> r.Restated:
        record = restated(jobs)
        full = [structs.replace(job, lease=0, past=[], holder=b"") for job in record.jobs]
        return structs.replace(record, jobs=full)

    patch.set(compaction, "_restated", forgetful)


@mutant
def compaction_forgets_sessions(patch: Patch) -> None:
    patch.set(Compaction, "_restate_sessions", lambda self, entry: None)


@mutant
def trim_before_the_copy_is_committed(patch: Patch) -> None:
    def trim_before(self: Compaction, committed: int) -> int | None:
        before = None
        while self._drops and self._drops[0][1] <= committed + 1:
            before = self._drops.pop(0)[1]
        return before

    patch.set(Compaction, "trim_before", trim_before)


# -- submitting once ----------------------------------------------------------------------------------


@mutant
def ids_are_not_compared(patch: Patch) -> None:
    def never(self: Intake, submit: Submit, horizon_ms: int) -> bool:
        return True

    def nothing(self: Sieve, spec: JobSpec) -> None:
        return None

    patch.set(Intake, "_are_plain", never)
    patch.set(Sieve, "_there", nothing)


@mutant
def session_floor_is_ignored(patch: Patch) -> None:
    sift = Intake._sift

    def forgetful(self: Intake, known: Session | None, *rest: Any) -> object:
        return sift(self, None, *rest)

    patch.set(Intake, "_sift", forgetful)


@mutant
def refused_sequences_are_dropped(patch: Patch) -> None:
    raise_floor = State._raise_floor

    def forgetful(state: State, record: r.Submitted, seq: int) -> None:
        raise_floor(state, structs.replace(record, refused=[]), seq)

    patch.set(State, "_raise_floor", forgetful)


@mutant
def client_does_not_send_again(patch: Patch) -> None:
    on_welcome = ClientSession.on_welcome

    def silent(session: ClientSession, welcome: Welcome) -> None:
        unsent = session._unsent
        on_welcome(session, welcome)
        session._unsent = unsent

    patch.set(ClientSession, "on_welcome", silent)


@mutant
def client_numbers_anew_when_it_sends_again(patch: Patch) -> None:
    on_welcome = ClientSession.on_welcome

    def renumbering(session: ClientSession, welcome: Welcome) -> None:
        batches = list(session._batches.values())
        session._batches = {}
        for batch in batches:
            moved = session._next_seq - batch.first
            session._next_seq += len(batch.jobs)
            batch.first += moved
            batch.shares = [(first + moved, count, whose) for first, count, whose in batch.shares]
            session._batches[batch.first] = batch
        on_welcome(session, welcome)

    patch.set(ClientSession, "on_welcome", renumbering)


@mutant
def client_does_not_watch_again(patch: Patch) -> None:
    on_welcome = ClientSession.on_welcome

    def forgetful(session: ClientSession, welcome: Welcome) -> None:
        on_welcome(session, welcome)
        session._to_watch = {}

    patch.set(ClientSession, "on_welcome", forgetful)


# -- leases -------------------------------------------------------------------------------------------


@mutant
def stale_nacks_count(patch: Patch) -> None:
    def nack(self: Attempts, worker: Worker, nack: Nack, now: Now) -> None:
        for failure in nack.items:
            self._give_back(worker, failure.lease, now)
            job = self._jobs.get(failure.id)
            if job is not None and job.state is RUNNING:
                self.end([(job, failure)], now, by=worker.name)
        worker.reported = nack.seq
        self._out.acked(worker.peer, nack.seq, [])

    patch.set(Attempts, "nack", nack)


@mutant
def stale_successes_count_when_dead(patch: Patch) -> None:
    """A second outcome: the first one is overwritten."""
    ack = Attempts.ack

    def overwriting(self: Attempts, worker: Worker, message: Ack, now: Now) -> None:
        for success in message.items:
            kept = self._ledger.state.outcomes.get(success.id)
            if kept is not None and isinstance(kept.item, r.EndedItem):
                item = kept.item
                times = (item.submitted_ms, item.started_ms, now.wall_ms, item.digest)
                done = r.SuccessItem(
                    success.id, success.lease, 0, item.failures, item.crashes, *times, success.result, 0
                )
                self._ledger.succeed(r.Succeeded([kept.terms], [done]), kept.terms.durability)
        ack(self, worker, message, now)

    patch.set(Attempts, "ack", overwriting)


@mutant
def slots_are_not_given_back(patch: Patch) -> None:
    def leak(self: Attempts, worker: Worker, lease: int) -> None:
        worker.held.pop(lease, None)

    patch.set(Attempts, "_give_back", leak)


@mutant
def one_slot_too_many(patch: Patch) -> None:
    served = Pool.served

    def generous(pool: Pool, slots: Slots) -> None:
        served(pool, slots)
        if slots.running == slots.capacity:
            slots.running -= 1
            slots.in_ring = True
            pool.ring.append(slots)

    patch.set(Pool, "served", generous)


@mutant
def room_wakes_nobody(patch: Patch) -> None:
    offer = Pool.offer

    def quiet(pool: Pool, slots: Slots) -> None:
        awake, pool.awake = pool.awake, True
        offer(pool, slots)
        pool.awake = awake

    patch.set(Pool, "offer", quiet)


@mutant
def leases_begin_again_after_a_restart(patch: Patch) -> None:
    def begin(self: Attempts, epoch: int) -> None:
        self._first_lease = self._lease = 1 << attempts.LEASE_COUNTER_BITS

    patch.set(Attempts, "begin_epoch", begin)


@mutant
def crashes_count_as_failures(patch: Patch) -> None:
    def strict(job: Job, failure: Failure, rng: Random) -> Verdict:
        if failure.ending == "crashed":
            failure = structs.replace(failure, ending="failed")
        return judge(job, failure, rng)

    patch.set(attempts, "judge", strict)


@mutant
def reported_leases_are_taken_up_again(patch: Patch) -> None:
    released = State.released

    def careless(state: State, record: r.Released) -> None:
        released(state, structs.replace(record, items=[structs.replace(i, lost=True) for i in record.items]))

    patch.set(State, "released", careless)


@mutant
def worker_forgets_reports_when_it_reconnects(patch: Patch) -> None:
    on_welcome = WorkerSession.on_welcome

    def forgetful(session: WorkerSession, welcome: Welcome) -> None:
        on_welcome(session, welcome)
        session._reports_again = False

    patch.set(WorkerSession, "on_welcome", forgetful)


@mutant
def worker_does_not_resume_what_it_holds(patch: Patch) -> None:
    held: list[Held] = []
    patch.set(WorkerSession, "held", property(lambda self: held))


# -- who is alive -------------------------------------------------------------------------------------


@mutant
def no_grace_after_a_restart(patch: Patch) -> None:
    after = Timers.after

    def hasty(timers: Timers, boot_ms: int, kind: Kind, key: bytes | int, mark: int = 0) -> None:
        after(timers, 0 if kind == "resume" else boot_ms, kind, key, mark)

    patch.set(Timers, "after", hasty)


@mutant
def exits_are_ignored(patch: Patch) -> None:
    patch.set(Presence, "exited", lambda self, child, now: None)


@mutant
def vouching_is_ignored(patch: Patch) -> None:
    patch.set(Peers, "is_vouched", lambda self, session: False)


@mutant
def an_earlier_loss_decides(patch: Patch) -> None:
    """A second loss of the connection does not get a second of its own."""
    word_is_due = Presence.word_is_due

    def hasty(presence: Presence, session: bytes, lost_ms: int, now: Now) -> None:
        worker = presence._roster.workers.get(session)
        word_is_due(presence, session, worker.lost_ms if worker is not None else lost_ms, now)

    patch.set(Presence, "word_is_due", hasty)


@mutant
def silence_is_ignored(patch: Patch) -> None:
    patch.set(Peers, "is_silent", lambda self, peer, now: False)


@mutant
def what_never_arrived_is_not_given_back(patch: Patch) -> None:
    resume = Attempts.resume

    def trusting(self: Attempts, worker: Worker, items: Sequence[Held], last: bool, now: Now) -> None:
        worker.unreported = {}
        resume(self, worker, list(items), last, now)

    patch.set(Attempts, "resume", trusting)


# -- times, and what is not to run --------------------------------------------------------------------


@mutant
def waits_run_on_the_wall_clock(patch: Patch) -> None:
    due = Timers.due
    offset: list[int] = []

    def by_the_wall(timers: Timers, now: Now, limit: int) -> object:
        if not offset:
            offset.append(now.wall_ms - now.boot_ms)
        return due(timers, Now(now.wall_ms - offset[0], now.wall_ms), limit)

    patch.set(Timers, "due", by_the_wall)


@mutant
def backoffs_are_skipped(patch: Patch) -> None:
    def hasty(job: Job, failure: Failure, rng: Random) -> Verdict:
        return structs.replace(judge(job, failure, rng), wait_ms=0)

    patch.set(attempts, "judge", hasty)


@mutant
def cancelling_only_says_so(patch: Patch) -> None:
    def lazy(cancels: Cancels, ids: list[bytes], reason: str, now: Now) -> int:
        return len(ids)

    patch.set(Cancels, "_end", lazy)


@mutant
def cancelled_jobs_stay_in_line(patch: Patch) -> None:
    patch.set(Queues, "bury", lambda self, job: None)


@mutant
def expiry_is_ignored(patch: Patch) -> None:
    fire = Waits.fire

    def lazy(waits: Waits, job: Job, kind: str, mark: int, now: Now) -> None:
        if kind != "expires":
            fire(waits, job, kind, mark, now)

    patch.set(Waits, "fire", lazy)


# -- limits and pauses ----------------------------------------------------------------------------------


@mutant
def gates_do_not_count(patch: Patch) -> None:
    patch.set(Gate, "take", lambda self: None)
    patch.set(Gate, "give_back", lambda self, now_ms: None)


@mutant
def keys_do_not_take_turns(patch: Patch) -> None:
    patch.set(Sight, "next_key", lambda self: None)


@mutant
def what_runs_is_not_counted_when_a_limit_comes(patch: Patch) -> None:
    patch.set(Registry, "move", lambda self, lease, gates: None)


@mutant
def who_is_parked_is_not_woken(patch: Patch) -> None:
    patch.set(Gate, "wake", lambda self, now_ms: None)


@mutant
def a_bucket_is_filled_twice(patch: Patch) -> None:
    refill = Gate._refill

    def twice(gate: Gate, now_ms: int) -> None:
        before = gate._level_ms
        refill(gate, now_ms)
        gate._level_ms = min(before + 1, now_ms)

    patch.set(Gate, "_refill", twice)


@mutant
def settings_are_not_written_again(patch: Patch) -> None:
    patch.set(Compaction, "_restate_settings", lambda self, entry: None)


@mutant
def a_pause_with_an_end_has_none(patch: Patch) -> None:
    patch.set(Controls, "end_pause", lambda self, number, now: None)


# -- more than there are slots ------------------------------------------------------------------------


@mutant
def nothing_is_recalled(patch: Patch) -> None:
    patch.set(Recall, "look", lambda self: None)


@mutant
def what_is_recalled_is_given_away_at_once(patch: Patch) -> None:
    """Not when the worker has said that it had not begun."""
    init = Broker.__init__

    def hasty(broker: Broker, *args: Any, **fields: Any) -> None:
        init(broker, *args, **fields)
        look = broker.recall.look

        def look_and_take() -> None:
            look()
            for _, message in broker.out._after_deliveries:
                if isinstance(message, RecallMessage):
                    _take_away(broker, message)

        broker.recall.look = look_and_take  # type: ignore[method-assign]  # planted

    patch.set(Broker, "__init__", hasty)


def _take_away(broker: Broker, recall: RecallMessage) -> None:
    for held in recall.items:
        job = broker.state.jobs.get(held.id)
        if job is not None and job.state is RUNNING and job.lease == held.lease:
            failure = Failure(held.id, held.lease, "returned")
            broker.attempts.end([(job, failure)], Now(0, 0), by="")


@mutant
def answers_to_recalls_are_not_noticed(patch: Patch) -> None:
    announced = Recall.announced

    def deaf(recall: Recall, worker: Worker, announce: Announce) -> None:
        asked = dict(recall._asked)
        announced(recall, worker, announce)
        recall._asked = asked

    patch.set(Recall, "announced", deaf)


@mutant
def a_worker_does_not_answer_a_recall(patch: Patch) -> None:
    on_recall = WorkerSession._on_recall

    def silent(session: WorkerSession, recall: RecallMessage) -> None:
        due = list(session._due)
        on_recall(session, recall)
        session._due = due

    patch.set(WorkerSession, "_on_recall", silent)


@mutant
def what_is_handed_back_stays_in_line(patch: Patch) -> None:
    def careless(line: Line[Any], leases: Any) -> list[Any]:
        return [attempt for attempt in line.waiting if attempt.delivery.lease in leases]

    patch.set(Line, "take_out", careless)


@mutant
def a_worker_keeps_its_line_when_it_is_asked(patch: Patch) -> None:
    patch.set(Line, "take_out", lambda line, leases: [])


# -- failures, and what follows from them -------------------------------------------------------------


@mutant
def compaction_forgets_stories(patch: Patch) -> None:
    restated = compaction._restated

    def forgetful(jobs: list[Job]) -> r.Restated:
        record = restated(jobs)
        return structs.replace(record, jobs=[structs.replace(job, story=()) for job in record.jobs])

    patch.set(compaction, "_restated", forgetful)


@mutant
def stories_count_failures_only(patch: Patch) -> None:
    tell = attempts.told

    def vague(failure: Failure, *, attempt: int, **words: Any) -> AttemptReport | None:
        report = tell(failure, attempt=attempt, **words)
        is_crash = report is not None and failure.ending == "crashed"
        return structs.replace(report, attempt=1) if report is not None and is_crash else report

    patch.set(attempts, "told", vague)


@mutant
def the_last_attempt_is_not_told(patch: Patch) -> None:
    die = Endings.die

    def silent(self: Endings, job: Job, failure: Failure, verdict: Verdict, last: object, now: Now) -> None:
        die(self, job, failure, verdict, None, now)

    patch.set(Endings, "die", silent)


@mutant
def callbacks_follow_the_lease_alone(patch: Patch) -> None:
    """A lease that was lost, taken up again and lost again failed twice."""
    identify = callbacks.callback_id

    def careless(job_id: bytes, lease: int, attempt: int, cause: Any) -> bytes:
        return identify(job_id, lease, 1, cause)

    patch.set(callbacks, "callback_id", careless)


@mutant
def crashes_call_nobody_back(patch: Patch) -> None:
    make = Callbacks.make

    def forgetful(self: Callbacks, job: Job, failure: Failure, *, is_dead: bool, now: Now) -> list[Job]:
        return [] if failure.ending == "crashed" else make(self, job, failure, is_dead=is_dead, now=now)

    patch.set(Callbacks, "make", forgetful)


@mutant
def callbacks_are_made_after_the_batch(patch: Patch) -> None:
    """A crash between the two commits loses the callback of a death that is recorded."""
    make, cut = Callbacks.make, Ledger.cut
    late: list[tuple[Callbacks, Job, Failure, bool, Now]] = []

    def postponing(self: Callbacks, job: Job, failure: Failure, *, is_dead: bool, now: Now) -> list[Job]:
        late.append((self, job, failure, is_dead, now))
        return []

    def cutting(self: Ledger) -> object:
        batch = cut(self)
        while late:
            callbacks_, job, failure, is_dead, now = late.pop(0)
            make(callbacks_, job, failure, is_dead=is_dead, now=now)
        return batch

    patch.set(Callbacks, "make", postponing)
    patch.set(Ledger, "cut", cutting)


@mutant
def timeouts_are_tried_again_whatever_was_asked(patch: Patch) -> None:
    def stubborn(job: Job, failure: Failure, rng: Random) -> Verdict:
        if failure.ending == "timed_out":
            failure = structs.replace(failure, ending="failed")
        return judge(job, failure, rng)

    patch.set(attempts, "judge", stubborn)


@mutant
def throttled_jobs_do_not_wait(patch: Patch) -> None:
    def hasty(job: Job, failure: Failure, rng: Random) -> Verdict:
        return judge(job, structs.replace(failure, hold_ms=0), rng)

    patch.set(attempts, "judge", hasty)


@mutant
def far_timers_are_dropped(patch: Patch) -> None:
    patch.set(Broker, "_is_wanted", lambda self, timer: False)


# -- searches, and dead jobs that are run again ---------------------------------------------------------


@mutant
def the_rest_of_a_slice_is_forgotten(patch: Patch) -> None:
    patch.set(Snapshot, "put_back", lambda self, count: None)


@mutant
def a_page_skips_a_job(patch: Patch) -> None:
    advance = Listing._advance

    def hasty(listing: Listing) -> None:
        advance(listing)
        if listing.query.limit == len(listing._runs) + 1 and listing._next is not None:
            advance(listing)

    patch.set(Listing, "_advance", hasty)


@mutant
def lists_are_in_the_order_of_the_search(patch: Patch) -> None:
    patch.set(search_kinds, "merge", chain)


@mutant
def an_older_list_goes_on(patch: Patch) -> None:
    """Whoever begins a list anew goes on with the one that was found the last time."""
    listing = Searches._listing

    def lazy(searches: Searches, peer: int, query: Query, now: Now) -> Listing:
        for kept in searches._listings:
            if kept.peer == peer and kept.filter == query.filter and kept.after >= query.after:
                searches._listings.remove(kept)
                kept.query = query
                return kept
        return listing(searches, peer, query, now)

    patch.set(Searches, "_listing", lazy)


@mutant
def retries_are_not_recorded(patch: Patch) -> None:
    def revive(ledger: Ledger, record: r.Revived, durability: int) -> list[Job]:
        return ledger.state.revived(record, 0)

    patch.set(Ledger, "revive", revive)


@mutant
def a_retry_counts_the_attempts_before_it(patch: Patch) -> None:
    revived = verbs._revived

    def unforgiving(kept: list[Kept], now: Now) -> r.Revived:
        record = revived(kept, now)
        jobs = [
            structs.replace(job, failures=each.item.failures, crashes=each.item.crashes)
            for job, each in zip(record.jobs, kept, strict=True)
        ]
        return structs.replace(record, jobs=jobs)

    patch.set(verbs, "_revived", unforgiving)


@mutant
def deleting_only_says_so(patch: Patch) -> None:
    patch.set(Verbs, "_forget", lambda self, kept: None)


# -- processes that were put down ---------------------------------------------------------------------


def _blame(patch: Patch, change: Callable[[ChildExit, Worker | None], ChildExit]) -> None:
    exited = Presence.exited

    def wrong(self: Presence, child: ChildExit, now: Now) -> None:
        worker = self._roster.workers.get(child.session)
        exited(self, change(child, worker) if child.uncounted else child, now)

    patch.set(Presence, "exited", wrong)


@mutant
def a_child_put_down_has_crashed(patch: Patch) -> None:
    _blame(patch, lambda child, worker: structs.replace(child, timed_out=[], uncounted=False))


@mutant
def all_are_to_blame_for_one(patch: Patch) -> None:
    def all_of(child: ChildExit, worker: Worker | None) -> ChildExit:
        return structs.replace(child, timed_out=list(worker.held) if worker is not None else [])

    _blame(patch, all_of)


@mutant
def who_cost_a_process_goes_free(patch: Patch) -> None:
    _blame(patch, lambda child, worker: structs.replace(child, timed_out=[]))


# -- schedules ----------------------------------------------------------------------------------------


@mutant
def tick_identity_is_forgotten(patch: Patch) -> None:
    count = iter(range(1_000_000))

    def anything(schedule: Schedule, tick_ms: int) -> bytes:
        return tick_id(schedule, tick_ms)[:-4] + next(count).to_bytes(4, "big")

    patch.set(schedules, "tick_id", anything)


@mutant
def decided_ticks_are_not_journaled(patch: Patch) -> None:
    tick = Ledger.tick

    def forgetful(ledger: Ledger, record: r.Ticked, durability: int) -> list[Job]:
        before = ledger.state.schedules[record.name].floor_ms
        made = tick(ledger, structs.replace(record, floor_ms=before), durability)
        ledger.state.schedules[record.name].floor_ms = record.floor_ms
        return made

    patch.set(Ledger, "tick", forgetful)


@mutant
def a_restart_begins_schedules_anew(patch: Patch) -> None:
    begin = Schedules.begin

    def from_now_on(self: Schedules, now: Now) -> None:
        for schedule in self._schedules.values():
            schedule.floor_ms = max(schedule.floor_ms, now.wall_ms)
        begin(self, now)

    patch.set(Schedules, "begin", from_now_on)


@mutant
def all_is_made_up_for(patch: Patch) -> None:
    def generous(calendar: Calendar, after_ms: int, until_ms: int, most: int) -> list[int]:
        return due(calendar, after_ms, until_ms, 1_000)

    patch.set(schedules, "due", generous)


@mutant
def paused_schedules_tick(patch: Patch) -> None:
    plan = Schedules.plan

    def deaf(self: Schedules, schedule: Schedule, now: Now) -> None:
        paused, schedule.is_paused = schedule.is_paused, False
        plan(self, schedule, now)
        schedule.is_paused = paused

    patch.set(Schedules, "plan", deaf)


@mutant
def overlap_is_ignored(patch: Patch) -> None:
    patch.set(Schedules, "_unfinished", lambda self, schedule: None)


@mutant
def what_waits_for_a_job_is_not_told(patch: Patch) -> None:
    patch.set(Watchers, "tie", lambda self, job_id: None)


@mutant
def compaction_forgets_schedules(patch: Patch) -> None:
    patch.set(Compaction, "_restate_schedules", lambda self, entry, names: None)


# -- what waits, and how much of it -------------------------------------------------------------------


@mutant
def uniqueness_is_checked_at_the_door_only(patch: Patch) -> None:
    """Who goes back to waiting does not look whether another waits already."""
    patch.set(Uniqueness, "waits_instead", lambda self, job, waiting: None)


@mutant
def claims_are_forgotten_by_a_restart(patch: Patch) -> None:
    begin = Uniqueness.begin

    def forgetful(uniqueness: Uniqueness, now: Now) -> None:
        uniqueness._state.uniques.claims.clear()
        begin(uniqueness, now)

    patch.set(Uniqueness, "begin", forgetful)


@mutant
def claims_end_with_their_jobs(patch: Patch) -> None:
    leave = Uniques.leave

    def hasty(uniques: Uniques, job: Job) -> None:
        leave(uniques, job)
        uniques.claims.pop(read_unique((job.ext or {})[UNIQUE]).digest, None)

    patch.set(Uniques, "leave", hasty)


@mutant
def compaction_forgets_claims(patch: Patch) -> None:
    patch.set(Compaction, "_restate_claims", lambda self, entry, digests: None)


@mutant
def a_message_is_one_job_to_its_queue(patch: Patch) -> None:
    """Jobs of one message do not see those before them."""

    def blind(room: Room, queue: str, size: int, jobs: int = 1) -> tuple[str, str]:
        room._taken.clear()
        return take(room, queue, size, jobs)

    take = Room.take
    patch.set(Room, "take", blind)


@mutant
def nobody_looks_after_who_waits_for_room(patch: Patch) -> None:
    patch.set(Intake, "admit_held", lambda self, now: iter(()))


@mutant
def what_is_held_is_taken_for_accepted(patch: Patch) -> None:
    refused_by_now = intake._refused_by_now

    def careless(known: Session | None, submit: Submit, verdicts: list[Any]) -> list[int]:
        return refused_by_now(known, submit, [each for each in verdicts if each.code != "held"])

    patch.set(intake, "_refused_by_now", careless)


@mutant
def who_leaves_a_line_is_still_counted(patch: Patch) -> None:
    patch.set(Index, "wait_no_more", lambda self, job: None)


@mutant
def memory_has_no_bound(patch: Patch) -> None:
    patch.set(Memory, "left_bytes", property(lambda self: 1 << 62))
    patch.set(Memory, "has_room", lambda self, specs: True)


@mutant
def edits_are_not_recorded(patch: Patch) -> None:
    def edit(ledger: Ledger, record: r.Edited, durability: int) -> None:
        ledger.state.edited(record, ledger.state.jobs[record.jobs[0].id].seq)

    patch.set(Ledger, "edit", edit)


@mutant
def an_edit_leaves_the_old_time(patch: Patch) -> None:
    wait = Editing._wait

    def hasty(editing: Editing, job: Job, state: Any, now: Now) -> None:
        wait(editing, job, state, now)
        if state is SCHEDULED:
            editing._timers.after(now.boot_ms, "due", job.id, job.due_ms)

    patch.set(Editing, "_wait", hasty)


@mutant
def trees_end_with_the_first_branch(patch: Patch) -> None:
    enter = Kin.enter

    def shallow(kin: Kin, job: Job) -> None:
        ext = job.ext or {}
        job.ext = {name: value for name, value in ext.items() if name != "ancestors"}
        enter(kin, job)
        job.ext = ext

    leave = Kin.leave

    def leave_shallow(kin: Kin, job: Job) -> None:
        ext = job.ext or {}
        job.ext = {name: value for name, value in ext.items() if name != "ancestors"}
        leave(kin, job)
        job.ext = ext

    patch.set(Kin, "enter", shallow)
    patch.set(Kin, "leave", leave_shallow)


@mutant
def nobody_misses_who_is_gone(patch: Patch) -> None:
    patch.set(Bindings, "_miss", lambda self, session, now: None)


# -- what attempts leave behind -----------------------------------------------------------------------


@mutant
def checkpointed_before_commit(patch: Patch) -> None:
    _speak_early(patch, (Checkpointed,))


@mutant
def stale_attempts_leave_checkpoints(patch: Patch) -> None:
    def save(self: Checkpoints, worker: Worker, command: Checkpoint) -> None:
        items = [item for item in command.items if item.id in self._ledger.state.jobs]
        self._ledger.checkpoint(r.Checkpointed(items), OS)
        self._out.say(worker.peer, Checkpointed(command.seq))

    patch.set(Checkpoints, "save", save)


@mutant
def compaction_forgets_checkpoints(patch: Patch) -> None:
    full_job = compaction.full_job
    patch.set(
        compaction, "full_job", lambda job, terms: structs.replace(full_job(job, terms), checkpoint=None)
    )


@mutant
def the_next_lease_forgets_the_checkpoint(patch: Patch) -> None:
    delivered = State.delivered

    def forgetful(state: State, record: r.Delivered, jobs: Any = None) -> None:
        delivered(state, record, jobs)
        for held in record.items:
            job = state.jobs.get(held.id)
            if job is not None and job.before.checkpoint is not None:
                state._leave_behind(job, Before(job.past, job.story))

    patch.set(State, "delivered", forgetful)


@mutant
def reports_overtake_checkpoints(patch: Patch) -> None:
    patch.set(WorkerCheckpoints, "hurry", lambda self, lease: None)


@mutant
def checkpoints_are_not_said_again(patch: Patch) -> None:
    patch.set(WorkerCheckpoints, "again", lambda self: [])


@mutant
def any_success_submits_what_comes_of_it(patch: Patch) -> None:
    patch.set(Attempts, "counts", lambda self, worker, ack: True)


@mutant
def some_of_an_outbox_is_submitted(patch: Patch) -> None:
    """What does not fit is left out."""
    enclosed = Intake.enclosed

    def generous(self: Intake, terms: Any, specs: list[JobSpec], parent: bytes, now: Now) -> Any:
        good = [spec for spec in specs if isinstance(enclosed(self, terms, [spec], parent, now), Enclosed)]
        return enclosed(self, terms, good, parent, now)

    patch.set(Intake, "enclosed", generous)


@mutant
def an_outbox_is_lost_with_the_connection(patch: Patch) -> None:
    on_welcome = WorkerSession.on_welcome

    def forgetful(session: WorkerSession, welcome: Welcome) -> None:
        for at, report in enumerate(session._unconfirmed):
            if isinstance(report, AckAndSubmit):
                session._unconfirmed[at] = Ack(report.seq, [report.success])
        on_welcome(session, welcome)

    patch.set(WorkerSession, "on_welcome", forgetful)


@mutant
def an_outbox_is_submitted_when_its_attempt_fails(patch: Patch) -> None:
    def eager(self: Enclosures, worker: Worker, command: AckAndSubmit, now: Now) -> None:
        decided = self._intake.enclosed(command.terms, command.jobs, command.success.id, now)
        if isinstance(decided, Enclosed):
            self._arrivals.line_up(self._intake.write_enclosed(decided, now), now)
        failure = Failure(command.success.id, command.success.lease, "failed")
        self._attempts.nack(worker, Nack(command.seq, [failure]), now)

    patch.set(Enclosures, "ack", eager)


@mutant
def an_outbox_is_refused_where_a_job_is_there_already(patch: Patch) -> None:
    verdict = Sieve.verdict

    def strict(self: Sieve, known: Any, seq: int, spec: JobSpec, now: Now) -> Any:
        found = verdict(self, known, seq, spec, now)
        if self._ending and found is not None and found.code == "exists":
            return structs.replace(found, code="conflict")
        return found

    patch.set(Sieve, "verdict", strict)


# -- telling ------------------------------------------------------------------------------------------


@mutant
def a_retry_streams_on_as_if_nothing_had_happened(patch: Patch) -> None:
    begin = Feed.begin

    def careless(feed: Feed, series: int, attempt: int) -> int:
        if feed.kind != "items" or not feed.series:
            return begin(feed, series, attempt)
        feed.series = series
        return 0

    patch.set(Feed, "begin", careless)


@mutant
def gaps_are_not_told(patch: Patch) -> None:
    def silent(following: hearing.Following, number: int) -> None:
        following.next = max(following.next, number)

    patch.set(hearing.Following, "_miss", silent)


@mutant
def nobody_is_waited_for(patch: Patch) -> None:
    patch.set(Follower, "is_behind", lambda self, feed: False)


@mutant
def a_slow_consumer_holds_for_ever(patch: Patch) -> None:
    patch.set(Following, "hold_is_over", lambda self, job_id, now: None)


@mutant
def the_end_of_a_stream_is_not_told(patch: Patch) -> None:
    ended = News.ended

    def forgetful(news: News, record: Any) -> None:
        ended(news, record)
        for item in record.items:
            feed = news.feeds.get("items", item.id)
            if feed is not None:
                feed.is_over = False

    patch.set(News, "ended", forgetful)


@mutant
def the_outcome_is_no_event(patch: Patch) -> None:
    add = News._add

    def quiet(news: News, feed: Feed, event: Any) -> None:
        if event.state not in ("succeeded", "cancelled"):
            add(news, feed, event)

    patch.set(News, "_add", quiet)


@mutant
def a_worker_says_items_once(patch: Patch) -> None:
    def once(outflow: Outflow) -> None:
        for stream in outflow.streams.values():
            stream._untaken.clear()

    patch.set(Outflow, "on_welcome", once)


@mutant
def lines_that_are_lost_leave_no_gap(patch: Patch) -> None:
    cut = Lines.cut

    def careless(lines: Lines) -> list[Chunk]:
        number = lines.next
        if number > 2 and number % 3 == 0 and lines.items:
            lines.items.popleft()
            lines.next += 1
            return [structs.replace(chunk, first=chunk.first - 1) for chunk in cut(lines)]
        return cut(lines)

    patch.set(Lines, "cut", careless)


# -- looking after workers ------------------------------------------------------------------------------


@mutant
def instructions_are_answered_again(patch: Patch) -> None:
    obeyed = Instructions.obeyed

    def again(instructions: Instructions, peer: Peer, answer: Obeyed) -> None:
        errand = instructions.pending.get(answer.number)
        obeyed(instructions, peer, answer)
        if errand is not None:
            instructions.pending[answer.number] = errand

    patch.set(Instructions, "obeyed", again)


@mutant
def supervisors_have_all_the_time_in_the_world(patch: Patch) -> None:
    patch.set(Instructions, "expire", lambda self, key: None)


@mutant
def instructions_die_with_their_supervisor(patch: Patch) -> None:
    def forget(instructions: Instructions, number: int) -> None:
        for key, errand in list(instructions.pending.items()):
            if number in (errand.asker, errand.supervisor):
                del instructions.pending[key]

    patch.set(Instructions, "lost", forget)


@mutant
def drained_is_who_says_so(patch: Patch) -> None:
    patch.set(Instructions, "_hold", lambda self, errand, is_held: None)


@mutant
def once_drained_always_drained(patch: Patch) -> None:
    patch.set(Presence, "undrain", lambda self, worker: None)


@mutant
def an_old_drain_goes_before_a_new_word(patch: Patch) -> None:
    patch.set(Instructions, "undrained", lambda self, session: None)
