"""Which live things to write again, so that old batches can be dropped: a slice at a time, no pause."""

from msgspec import structs

from taskq import limits
from taskq.core import records as r
from taskq.core.job import Job
from taskq.core.ledger import BatchEntry, Ledger
from taskq.core.planning.schedule import record_of
from taskq.core.records import TermsIndex
from taskq.core.state import Kept
from taskq.protocol.messages import FSYNC


class Compaction:
    """Works off the oldest batches when the journal is more than twice its live bytes."""

    def __init__(self, ledger: Ledger, slack_bytes: int = limits.COMPACT_SLACK_BYTES) -> None:
        self._ledger = ledger
        self._slack_bytes = slack_bytes
        self._at = 0  # how far the oldest batch's contents have been looked through
        self._drops: list[tuple[int, int]] = []  # (once this is committed, all before this may go)

    def step(self) -> None:
        """Look through one slice of the oldest batches, if the journal is too large for what lives."""
        ledger = self._ledger
        budget = limits.COMPACT_SLICE
        while budget > 0 and ledger.batches and self._is_too_large():
            entry = ledger.batches[0]
            if self._at < len(entry.jobs):
                part = entry.jobs[self._at : self._at + budget]
                self._at += len(part)
                budget -= len(part)
                self._restate(entry, part)
                continue
            at = self._at - len(entry.jobs)
            if at < len(entry.schedules):
                names = entry.schedules[at : at + budget]
                self._at += len(names)
                budget -= len(names)
                self._restate_schedules(entry, names)
                continue
            at -= len(entry.schedules)
            if at < len(entry.claims):
                digests = entry.claims[at : at + budget]
                self._at += len(digests)
                budget -= len(digests)
                self._restate_claims(entry, digests)
                continue
            self._restate_sessions(entry)
            self._restate_settings(entry)
            self._restate_bounds(entry)
            self._at = 0
            budget -= 1
            ledger.drop_oldest()
            self._drops.append((ledger.newest, entry.seq + 1))

    def trim_before(self, committed: int) -> int | None:
        """The batch before which all can be dropped, now that batch `committed` is durable."""
        before = None
        while self._drops and self._drops[0][0] <= committed:
            before = self._drops.pop(0)[1]
        return before

    def _is_too_large(self) -> bool:
        return self._ledger.journal_bytes > 2 * self._ledger.state.live_bytes + self._slack_bytes

    def _restate(self, entry: BatchEntry, ids: list[bytes]) -> None:
        state = self._ledger.state
        jobs: list[Job] = []
        kept: list[Kept] = []
        for job_id in ids:
            job = state.jobs.get(job_id)
            if job is not None:
                if job.seq == entry.seq:
                    jobs.append(job)
                continue
            outcome = state.outcomes.get(job_id)
            if outcome is not None and outcome.seq == entry.seq:
                kept.append(outcome)
        if jobs:
            self._ledger.restate(_restated(jobs))
        if kept:
            self._restate_outcomes(kept)

    def _restate_outcomes(self, kept: list[Kept]) -> None:
        index = TermsIndex()
        succeeded: list[r.SuccessItem] = []
        ended: list[r.EndedItem] = []
        for outcome in kept:
            item = structs.replace(outcome.item, terms=index.index(outcome.terms))
            if isinstance(item, r.SuccessItem):
                succeeded.append(item)
            else:
                ended.append(item)
        if succeeded:
            self._ledger.succeed(r.Succeeded(index.terms, succeeded), FSYNC)
        if ended:
            self._ledger.end(r.Ended(index.terms, ended), FSYNC)

    def _restate_sessions(self, entry: BatchEntry) -> None:
        for name in dict.fromkeys(entry.sessions):
            session = self._ledger.state.sessions.get(name)
            if session is not None and session.seq == entry.seq:
                self._ledger.restate_session(
                    r.SessionRestated(
                        name, session.floor, session.settled, session.seen_ms, list(session.refused)
                    )
                )

    def _restate_settings(self, entry: BatchEntry) -> None:
        state = self._ledger.state
        for key in dict.fromkeys(entry.settings):
            if state.setting_seqs.get(key) == entry.seq:
                self._ledger.set(state.settings[key])

    def _restate_schedules(self, entry: BatchEntry, names: list[str]) -> None:
        for name in names:
            schedule = self._ledger.state.schedules.get(name)
            if schedule is not None and schedule.seq == entry.seq:
                self._ledger.set_schedule(record_of(schedule))

    def _restate_claims(self, entry: BatchEntry, digests: list[bytes]) -> None:
        claims = self._ledger.state.uniques.claims
        found = (claims.get(digest) for digest in dict.fromkeys(digests))
        items = [kept.claim for kept in found if kept is not None and kept.seq == entry.seq]
        if items:
            self._ledger.claim_again(r.Claimed(items))

    def _restate_bounds(self, entry: BatchEntry) -> None:
        for queue in dict.fromkeys(entry.bounds):
            line = self._ledger.state.lines.get(queue)
            if line is not None and line.seq == entry.seq:
                self._ledger.bound(line.bound)


def _restated(jobs: list[Job]) -> r.Restated:
    index = TermsIndex()
    full = [full_job(job, index.index(job.terms)) for job in jobs]
    return r.Restated(index.terms, full)


def full_job(job: Job, terms: int) -> r.FullJob:
    """Everything about a job, as a record says it."""
    return r.FullJob(
        id=job.id,
        terms=terms,
        payload=job.payload,
        flags=job.flags,
        ext=job.ext,
        state=job.state,
        submitted_ms=job.submitted_ms,
        due_ms=job.due_ms,
        failures=job.failures,
        crashes=job.crashes,
        lease=job.lease,
        past=list(job.past),
        holder=job.holder,
        started_ms=job.started_ms,
        story=job.story,
        checkpoint=job.before.checkpoint,
    )
