"""How jobs end: every outcome is made here, recorded, and told to those who wait."""

from collections.abc import Callable, Iterable
from zlib import crc32

from msgspec import structs

from taskq.core import records as r
from taskq.core.asking.watchers import Watchers, outcome_of
from taskq.core.effects import Now
from taskq.core.job import CANCELLED, DEAD, EXPIRED, READY, Job
from taskq.core.ledger import Ledger
from taskq.core.lines.queues import Queues
from taskq.core.records import TermsIndex
from taskq.core.retention import Retention
from taskq.core.running.retry import Verdict
from taskq.core.running.story import longer
from taskq.core.state import Kept
from taskq.protocol.messages import MEMORY, AttemptReport, Failure, JobStateName, Outcome, Success


class Endings:
    """Turns decided ends into records."""

    def __init__(self, ledger: Ledger, queues: Queues, watchers: Watchers, retention: Retention) -> None:
        self._ledger = ledger
        self._queues = queues
        self._watchers = watchers
        self._retention = retention
        self.succeeded = 0
        self.died = 0
        self.cancelled = 0
        self.expired = 0

    def succeed(self, pairs: Iterable[tuple[Job, Success]], now: Now) -> None:
        """These jobs succeeded, under these leases."""
        durable: tuple[TermsIndex, list[r.SuccessItem]] = (TermsIndex(), [])
        fleeting: tuple[TermsIndex, list[r.SuccessItem]] = (TermsIndex(), [])
        strictest = MEMORY
        watched = self._watchers.by_job
        wall_ms = now.wall_ms
        for job, success in pairs:
            terms = job.terms
            durability = terms.durability
            if durability < strictest:
                strictest = durability
            index, items = fleeting if durability == MEMORY else durable
            items.append(
                r.SuccessItem(
                    job.id,
                    success.lease,
                    index.index(terms),
                    job.failures,
                    job.crashes,
                    job.submitted_ms,
                    job.started_ms,
                    wall_ms,
                    crc32(job.payload),
                    success.result,
                    success.flags,
                    job.before.story,
                )
            )
            if job.state is READY:
                self._queues.bury(job)
            if job.id in watched:
                attempts = job.failures + job.crashes + 1
                outcome = Outcome(job.id, "succeeded", success.result, success.flags, attempts=attempts)
                self._watchers.ended(job.id, outcome)
        if durable[1]:
            self._ledger.succeed(r.Succeeded(durable[0].terms, durable[1]), strictest)
            self._retention.note([item.id for item in durable[1]])
        if fleeting[1]:
            self._ledger.succeed(r.Succeeded(fleeting[0].terms, fleeting[1]), MEMORY)
            self._retention.note([item.id for item in fleeting[1]])
        self.succeeded += len(durable[1]) + len(fleeting[1])

    def cancel(self, jobs: Iterable[Job], reason: str, now: Now) -> None:
        self.cancelled += self._end(jobs, lambda job, terms: self._item(job, terms, CANCELLED, now, reason))

    def expire(self, jobs: Iterable[Job], now: Now) -> None:
        self.expired += self._end(jobs, lambda job, terms: self._item(job, terms, EXPIRED, now))

    def expire_after(self, job: Job, verdict: Verdict, last: AttemptReport | None, now: Now) -> None:
        """An attempt failed, and it is too late for another."""

        def item(job: Job, terms: int) -> r.EndedItem:
            return structs.replace(
                self._item(job, terms, EXPIRED, now),
                failures=verdict.failures,
                crashes=verdict.crashes,
                story=longer(job.story, last),
            )

        self.expired += self._end([job], item)

    def die(self, job: Job, failure: Failure, verdict: Verdict, last: AttemptReport | None, now: Now) -> None:
        """Out of attempts: kept for people, with what it would need to be run again."""

        def item(job: Job, terms: int) -> r.EndedItem:
            return r.EndedItem(
                id=job.id,
                lease=job.lease,
                terms=terms,
                state=DEAD,
                ending=failure.ending,
                failures=verdict.failures,
                crashes=verdict.crashes,
                submitted_ms=job.submitted_ms,
                started_ms=job.started_ms,
                finished_ms=now.wall_ms,
                digest=crc32(job.payload),
                fault=failure.fault,
                payload=job.payload,
                flags=job.flags,
                ext=job.ext,
                story=longer(job.story, last),
                past=list(job.past),
                checkpoint=job.before.checkpoint,
            )

        self.died += self._end([job], item)

    # -- parts --------------------------------------------------------------------------------

    def _item(self, job: Job, terms: int, state: JobStateName, now: Now, reason: str = "") -> r.EndedItem:
        return r.EndedItem(
            id=job.id,
            lease=job.lease,
            terms=terms,
            state=state,
            ending="",
            failures=job.failures,
            crashes=job.crashes,
            submitted_ms=job.submitted_ms,
            started_ms=job.started_ms,
            finished_ms=now.wall_ms,
            digest=crc32(job.payload),
            reason=reason,
            story=job.story,
        )

    def _end(self, jobs: Iterable[Job], make: Callable[[Job, int], r.EndedItem]) -> int:
        """One record for all that go to the journal, and one for those in memory only."""
        durable: tuple[TermsIndex, list[r.EndedItem]] = (TermsIndex(), [])
        fleeting: tuple[TermsIndex, list[r.EndedItem]] = (TermsIndex(), [])
        strictest = MEMORY
        watched = self._watchers.by_job
        for job in jobs:
            terms = job.terms
            strictest = min(strictest, terms.durability)
            index, items = fleeting if terms.durability == MEMORY else durable
            item = make(job, index.index(terms))
            items.append(item)
            if job.state is READY:
                self._queues.bury(job)
            if job.id in watched:
                self._watchers.ended(job.id, outcome_of(Kept(item, terms, 0, 0)))
        for (index, items), durability in ((durable, strictest), (fleeting, MEMORY)):
            if items:
                self._ledger.end(r.Ended(index.terms, items), durability)
                self._retention.note([item.id for item in items])
        return len(durable[1]) + len(fleeting[1])
