"""The broker's state as the fold of its records. State changes here and nowhere else, so that what
is read back after a crash cannot drift from what was lived.
"""

from collections.abc import Iterable
from sys import intern
from typing import assert_never, cast

from msgspec import Struct

from taskq import limits
from taskq.core import records as r
from taskq.core.indexes import Index
from taskq.core.job import (
    DEAD,
    NOTHING,
    READY,
    RECORD_OVERHEAD_BYTES,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    Before,
    Job,
    ext_bytes,
)
from taskq.core.planning.schedule import Schedule, schedule_of
from taskq.core.running.story import longer, story_bytes
from taskq.protocol.ext import KEY, UNIQUE
from taskq.protocol.messages import JobSpec, JobStateName, Terms


class Session(Struct, gc=False):
    """What is remembered of a producer's submissions: all below `floor` are decided."""

    floor: int = 0
    settled: int = 0
    seen_ms: int = 0  # wall
    seq: int = 0
    refused: tuple[int, ...] = ()


class Kept(Struct, gc=False, frozen=True):
    """A finished job: how it ended, its terms, the batch that says so, the bytes it carries."""

    item: r.SuccessItem | r.EndedItem
    terms: Terms
    seq: int
    size: int

    @property
    def state(self) -> JobStateName:
        return SUCCEEDED if isinstance(self.item, r.SuccessItem) else self.item.state


class State:
    """All jobs without outcome, all outcomes kept, all sessions' floors."""

    def __init__(self) -> None:
        self.jobs: dict[bytes, Job] = {}
        self.outcomes: dict[bytes, Kept] = {}
        self.sessions: dict[bytes, Session] = {}
        self.settings: dict[r.SettingKey, r.Setting] = {}
        self.setting_seqs: dict[r.SettingKey, int] = {}  # the batch that says so
        self.closed: dict[str, r.Setting] = {}  # of those: queues that accept nothing new
        self.schedules: dict[str, Schedule] = {}
        self.outcome_bytes = 0  # what the outcomes cost in memory
        self.dead_jobs = 0  # of the outcomes
        self.dead_bytes = 0
        self.job_bytes = 0  # what jobs without outcome carry
        self.live_bytes = 0  # what a journal with nothing old in it would hold, about
        self.unfinished: dict[str, int] = {}  # jobs without outcome, by queue
        self.dead: dict[str, int] = {}  # dead jobs kept, by queue
        self.index = Index()
        self.uniques, self.kin, self.lines = self.index.uniques, self.index.kin, self.index.lines
        self._terms: dict[Terms, Terms] = {}

    @property
    def memory_bytes(self) -> int:
        """What jobs and outcomes take in memory, about."""
        return len(self.jobs) * limits.JOB_OVERHEAD_BYTES + self.job_bytes + self.outcome_bytes

    def apply(self, record: r.AnyRecord, seq: int) -> None:
        """Fold one record of batch `seq` into the state; 0: a record that is not in the journal."""
        match record:
            case r.Submitted():
                self.submitted(record, seq)
            case r.Made():
                self.made(record, seq)
            case r.Delivered():
                self.delivered(record)
            case r.Checkpointed():
                self.checkpointed(record)
            case r.Released():
                self.released(record)
            case r.Succeeded():
                self.succeeded(record, seq)
            case r.Ended():
                self.ended(record, seq)
            case r.Forgotten():
                self.forgotten(record)
            case r.Restated():
                self.restated(record, seq)
            case r.SessionRestated():
                self.session_restated(record, seq)
            case r.Setting():
                self.set(record, seq)
            case r.Revived():
                self.revived(record, seq)
            case r.ScheduleSet():
                self.schedule_set(record, seq)
            case r.Ticked():
                self.ticked(record, seq)
            case r.ScheduleRemoved():
                self.schedule_removed(record)
            case r.Edited():
                self.edited(record, seq)
            case r.Bound():
                self.bounded(record, seq)
            case r.Claimed():
                self.claimed(record, seq)
            case r.Lapsed():
                self.lapsed(record)
            case _:
                assert_never(record)

    # -- one method a record ------------------------------------------------------------------

    def submitted(self, record: r.Submitted, seq: int) -> list[Job]:
        """Make the jobs, and return them."""
        made = self._make(record.terms, record.jobs, record.wall_ms, seq)
        self._raise_floor(record, seq)
        return made

    def made(self, record: r.Made, seq: int) -> list[Job]:
        """The same for jobs that are in nobody's session."""
        return self._make(record.terms, record.jobs, record.wall_ms, seq)

    def _make(
        self, all_terms: list[Terms], specs: list[JobSpec], wall_ms: int, seq: int, later_ms: int = 0
    ) -> list[Job]:
        shared = [self.share(terms) for terms in all_terms]
        # One number for all that are due together, not one each: 32 bytes a job.
        dues_ms = [
            wall_ms + terms.delay_ms if terms.delay_ms else terms.at_ms or later_ms for terms in shared
        ]
        job_bytes = 0
        made = []
        for spec in specs:
            terms = shared[spec.terms]
            payload, ext = spec.payload, spec.ext
            job = Job(
                id=spec.id,
                terms=terms,
                payload=payload,
                submitted_ms=wall_ms,
                seq=seq,
                flags=spec.flags,
                ext=ext,
            )
            due_ms = dues_ms[spec.terms]
            if due_ms > wall_ms:
                job.due_ms = due_ms
                job.state = SCHEDULED
            self.jobs[spec.id] = job
            job_bytes += len(payload)
            if ext:
                job_bytes += ext_bytes(ext)
                if len(ext) > 1 or KEY not in ext:
                    self.live_bytes += self.index.claim(job)
                    self.index.enter(job)
            made.append(job)
            self.unfinished[terms.queue] = self.unfinished.get(terms.queue, 0) + 1
        self.job_bytes += job_bytes
        if seq:
            self.live_bytes += job_bytes + len(made) * RECORD_OVERHEAD_BYTES
        if self.lines:
            for job in made:
                self.index.wait(job)
        return made

    def _raise_floor(self, record: r.Submitted, seq: int) -> None:
        # Taken out and put back: sessions stand in the order in which they last submitted.
        session = self.sessions.pop(record.session, None) or Session()
        self.sessions[record.session] = session
        session.floor = record.floor
        session.settled = record.settled
        session.seen_ms = record.wall_ms
        session.seq = seq or session.seq
        session.refused = tuple(record.refused)

    def delivered(self, record: r.Delivered, jobs: Iterable[Job | None] | None = None) -> None:
        """`jobs`: those of the record's items, when they are at hand: with a million in the table, each
        look-up is a cache miss."""
        holder, wall_ms = record.session, record.wall_ms
        if jobs is None:
            jobs = [self.jobs.get(held.id) for held in record.items]
        for held, job in zip(record.items, jobs, strict=True):
            if job is None:  # its older records were dropped: a later one says everything about it
                continue
            if self.lines:
                self.index.wait_no_more(job)
            job.move(RUNNING)
            if job.lease and job.lease != held.lease:
                leases = (*job.past, job.lease)[-limits.PAST_LEASES_MAX :]
                job.before = Before(leases, job.story, job.before.checkpoint)
            job.lease = held.lease
            job.holder = holder
            job.started_ms = wall_ms

    def checkpointed(self, record: r.Checkpointed) -> None:
        for item in record.items:
            job = self.jobs.get(item.id)
            if job is not None:  # else as in `delivered`
                self._leave_behind(job, Before(job.past, job.story, item.saved))

    def released(self, record: r.Released) -> None:
        for item in record.items:
            job = self.jobs.get(item.id)
            if job is None:  # as in `delivered`
                continue
            job.move(SCHEDULED if item.due_ms else READY)
            job.due_ms = item.due_ms
            job.failures = item.failures
            job.crashes = item.crashes
            if item.told is not None:
                story = longer(job.story, item.told)
                self._leave_behind(job, Before(job.past, story, job.before.checkpoint))
            if not item.lost:
                job.holder = b""
            if self.lines:
                self.index.wait(job)
            if job.ext and UNIQUE in job.ext:
                self.uniques.enter(job)

    def _leave_behind(self, job: Job, before: Before) -> None:
        self.job_bytes += before.checkpoint_bytes - job.before.checkpoint_bytes
        if job.seq:
            self.live_bytes += before.bytes - job.before.bytes
        job.before = before

    def succeeded(self, record: r.Succeeded, seq: int) -> None:
        # `_end` and `_keep`, written out: the broker's hottest loop, and 0.3 us a job quicker so.
        jobs, outcomes, unfinished, lines = self.jobs, self.outcomes, self.unfinished, self.lines
        shared = [self.share(terms) for terms in record.terms]
        kept_bytes = live_bytes = job_bytes = 0
        for item in record.items:
            terms = shared[item.terms]
            job = jobs.pop(item.id, None)
            if job is not None:
                if lines:
                    self.index.wait_no_more(job)
                job.move(SUCCEEDED)
                left = unfinished[terms.queue] = unfinished[terms.queue] - 1
                if not left:
                    del unfinished[terms.queue]
                size = len(job.payload)
                if job.ext:
                    size += ext_bytes(job.ext)
                    if len(job.ext) > 1 or KEY not in job.ext:
                        self.index.leave(job)
                job_bytes += size
                if job.before is not NOTHING:
                    job_bytes += job.before.checkpoint_bytes
                    if job.seq:
                        live_bytes -= job.before.bytes
                if job.seq:
                    live_bytes -= size + RECORD_OVERHEAD_BYTES
            elif item.id in outcomes:  # the outcome written again
                self._drop_outcome(item.id)
            if terms.keep_ms:
                size = len(item.result)
                if item.story:
                    size += story_bytes(item.story)
                outcomes[item.id] = Kept(item, terms, seq, size)
                kept_bytes += size + limits.OUTCOME_OVERHEAD_BYTES
                if seq:
                    live_bytes += size + RECORD_OVERHEAD_BYTES
        self.outcome_bytes += kept_bytes
        self.live_bytes += live_bytes
        self.job_bytes -= job_bytes

    def ended(self, record: r.Ended, seq: int) -> None:
        shared = [self.share(terms) for terms in record.terms]
        for item in record.items:
            self._end(item.id, item.state)
            terms = shared[item.terms]
            if item.state == DEAD:
                self.dead[terms.queue] = self.dead.get(terms.queue, 0) + 1
            if terms.keep_ms or item.state == DEAD:
                self._keep(Kept(item, terms, seq, _size(item)))

    def forgotten(self, record: r.Forgotten) -> None:
        for job_id in record.ids:
            self._drop_outcome(job_id)
        for session in record.sessions:
            self.sessions.pop(session, None)

    def restated(self, record: r.Restated, seq: int) -> None:
        shared = [self.share(terms) for terms in record.terms]
        for full in record.jobs:
            old = self.jobs.get(full.id)
            if old is not None:  # the live path: all else is as it says
                old.seq = seq
            else:
                self._restore(full, shared[full.terms], seq)

    def session_restated(self, record: r.SessionRestated, seq: int) -> None:
        self.sessions[record.session] = Session(
            record.floor, record.settled, record.wall_ms, seq, tuple(record.refused)
        )

    def set(self, record: r.Setting, seq: int) -> None:
        key = r.key_of(record)
        if record.kind == "closed":
            if record.is_set:
                self.closed[record.name] = record
            else:
                self.closed.pop(record.name, None)
        if record.is_set:
            self.settings[key] = record
            self.setting_seqs[key] = seq
        else:
            self.settings.pop(key, None)
            self.setting_seqs.pop(key, None)

    def revived(self, record: r.Revived, seq: int) -> list[Job]:
        """Dead jobs are jobs again; returns them."""
        shared = [self.share(terms) for terms in record.terms]
        made = []
        for full in record.jobs:
            self._drop_outcome(full.id)
            made.append(self._restore(full, shared[full.terms], seq))
        return made

    def schedule_set(self, record: r.ScheduleSet, seq: int) -> None:
        old = self.schedules.get(record.spec.name)
        if old is not None:
            self.live_bytes -= old.live_bytes
        schedule = schedule_of(record, seq)
        self.schedules[record.spec.name] = schedule
        self.live_bytes += schedule.live_bytes

    def ticked(self, record: r.Ticked, seq: int) -> list[Job]:
        """Move the schedule on, and make its job."""
        schedule = self.schedules.get(record.name)
        if schedule is not None:  # else as in `delivered`
            schedule.floor_ms = record.floor_ms
            schedule.waiting_ms = record.waiting_ms
            if record.jobs:
                schedule.last_ms = record.tick_ms or record.wall_ms
                schedule.last_job = record.jobs[-1].id
                if not record.tick_ms:
                    schedule.runs = (*schedule.runs, schedule.last_job)[-limits.RUNS_REMEMBERED :]
        return self._make(record.terms, record.jobs, record.wall_ms, seq, record.due_ms)

    def schedule_removed(self, record: r.ScheduleRemoved) -> None:
        schedule = self.schedules.pop(record.name, None)
        if schedule is not None:
            self.live_bytes -= schedule.live_bytes

    def edited(self, record: r.Edited, seq: int) -> None:
        """A job that waits is another one now, in its old place in the tables."""
        shared = [self.share(terms) for terms in record.terms]
        for full in record.jobs:
            job = self.jobs.get(full.id)
            if job is None:  # its older records were dropped, or it was in memory only
                self._restore(full, shared[full.terms], seq)
                continue
            self.index.wait_no_more(job)
            self._discount(job)
            job.terms = shared[full.terms]
            job.payload = full.payload
            job.flags = full.flags
            job.ext = full.ext
            job.due_ms = full.due_ms
            job.failures, job.crashes = full.failures, full.crashes
            if full.story != job.story or full.checkpoint != job.before.checkpoint:
                job.before = Before(job.past, full.story, full.checkpoint)
            job.seq = seq
            state = cast(JobStateName, intern(full.state))
            if state is not job.state:
                job.move(state)
            self._count(job)
            self.index.wait(job)

    def bounded(self, record: r.Bound, seq: int) -> None:
        jobs = self.jobs.values() if record.queue in self.unfinished else ()
        self.live_bytes += self.index.bounded(record, seq, jobs)

    def claimed(self, record: r.Claimed, seq: int) -> None:
        for claim in record.items:
            self.live_bytes += self.uniques.claim(claim, seq)

    def lapsed(self, record: r.Lapsed) -> None:
        for digest in record.digests:
            self.live_bytes += self.uniques.lapse(digest)

    # -- parts of the above -------------------------------------------------------------------

    def share(self, terms: Terms) -> Terms:
        """The one object for terms that are equal: a million jobs of one kind share one."""
        known = self._terms.get(terms)
        if known is not None:
            return known
        if len(self._terms) >= limits.TERMS_CACHE_MAX:
            self._terms.clear()
        self._terms[terms] = terms
        return terms

    def _restore(self, full: r.FullJob, terms: Terms, seq: int) -> Job:
        job = Job(
            id=full.id,
            terms=terms,
            payload=full.payload,
            submitted_ms=full.submitted_ms,
            seq=seq,
            flags=full.flags,
            ext=full.ext,
            state=cast(JobStateName, intern(full.state)),  # states are compared by identity
            due_ms=full.due_ms,
            failures=full.failures,
            crashes=full.crashes,
            lease=full.lease,
            before=_left_behind(full),
            holder=full.holder,
            started_ms=full.started_ms,
        )
        self.jobs[full.id] = job
        self._count(job)
        self.index.enter(job)
        if job.state is not RUNNING:
            self.index.wait(job)
        return job

    def _end(self, job_id: bytes, state: JobStateName) -> None:
        job = self.jobs.pop(job_id, None)
        if job is not None:
            self.index.wait_no_more(job)
            job.move(state)
            self._discount(job)
            self.index.leave(job)
        elif job_id in self.outcomes:  # the outcome written again
            self._drop_outcome(job_id)

    def _count(self, job: Job) -> None:
        queue = job.terms.queue
        self.unfinished[queue] = self.unfinished.get(queue, 0) + 1
        self.job_bytes += job.size + job.before.checkpoint_bytes
        if job.seq:
            self.live_bytes += job.live_bytes

    def _discount(self, job: Job) -> None:
        _take_one(self.unfinished, job.terms.queue)
        self.job_bytes -= job.size + job.before.checkpoint_bytes
        if job.seq:
            self.live_bytes -= job.live_bytes

    def _keep(self, kept: Kept) -> None:
        self.outcomes[kept.item.id] = kept
        self.outcome_bytes += kept.size + limits.OUTCOME_OVERHEAD_BYTES
        if kept.state == DEAD:
            self.dead_jobs += 1
            self.dead_bytes += kept.size + limits.OUTCOME_OVERHEAD_BYTES
        if kept.seq:
            self.live_bytes += kept.size + RECORD_OVERHEAD_BYTES

    def _drop_outcome(self, job_id: bytes) -> None:
        kept = self.outcomes.pop(job_id, None)
        if kept is None:
            return
        if kept.state == DEAD:
            _take_one(self.dead, kept.terms.queue)
            self.dead_jobs -= 1
            self.dead_bytes -= kept.size + limits.OUTCOME_OVERHEAD_BYTES
        self.outcome_bytes -= kept.size + limits.OUTCOME_OVERHEAD_BYTES
        if kept.seq:
            self.live_bytes -= kept.size + RECORD_OVERHEAD_BYTES


def _left_behind(full: r.FullJob) -> Before:
    if not full.past and not full.story and full.checkpoint is None:
        return NOTHING
    return Before(tuple(full.past), full.story, full.checkpoint)


def _take_one(counts: dict[str, int], queue: str) -> None:
    """Names of queues come from peers: those that count nothing must not pile up."""
    counts[queue] -= 1
    if not counts[queue]:
        del counts[queue]


def _size(item: r.EndedItem) -> int:
    """What an outcome carries: for a dead job that is its payload, and mostly a long traceback."""
    fault = item.fault
    text = len(item.reason) + (len(fault.message) + len(fault.traceback) if fault else 0)
    saved = 0 if item.checkpoint is None else len(item.checkpoint.value)
    return len(item.payload) + ext_bytes(item.ext) + text + story_bytes(item.story) + saved
