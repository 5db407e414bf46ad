"""What may be done to many jobs at once: cancel, run dead ones again, forget outcomes."""

from collections.abc import Iterable
from typing import assert_never

from taskq.core import records as r
from taskq.core.asking.filters import STATES_FOR
from taskq.core.effects import Now
from taskq.core.intake.uniqueness import Uniqueness
from taskq.core.job import READY, RUNNING, Job
from taskq.core.ledger import Ledger
from taskq.core.records import TermsIndex
from taskq.core.retention import Retention
from taskq.core.running.attempts import Attempts
from taskq.core.running.endings import Endings
from taskq.core.state import Kept
from taskq.core.timers import Timers
from taskq.protocol.ext import BIND
from taskq.protocol.messages import FSYNC, Ext, Verb


class Verbs:
    """Does what was asked to those that it can be done to."""

    def __init__(
        self,
        ledger: Ledger,
        timers: Timers,
        attempts: Attempts,
        endings: Endings,
        retention: Retention,
        uniqueness: Uniqueness,
    ) -> None:
        self._ledger = ledger
        self._timers = timers
        self._attempts = attempts
        self._endings = endings
        self._retention = retention
        self._uniqueness = uniqueness
        self.revived = 0

    def do(self, verb: Verb, found: Iterable[Job | Kept], reason: str, now: Now) -> int:
        """`found` are in states that the verb is for. How many were left alone, because another job is
        there that is to be alone."""
        jobs = [each for each in found if isinstance(each, Job)]
        kept = [each for each in found if isinstance(each, Kept)]
        assert all(each.state in STATES_FOR[verb] for each in found), f"{verb} is not for these"
        match verb:
            case "cancel":
                self._cancel(jobs, reason, now)
            case "retry":
                taken: dict[bytes, bytes] = {}
                free = [each for each in kept if self._uniqueness.is_free(each.item, taken)]
                self._revive(free, now)
                return len(kept) - len(free)
            case "delete" | "discard":
                self._forget(kept)
            case _:
                assert_never(verb)
        return 0

    def _cancel(self, jobs: list[Job], reason: str, now: Now) -> None:
        for job in jobs:
            if job.state is RUNNING:
                self._attempts.revoke(job, reason)
        self._endings.cancel(jobs, reason, now)

    def _revive(self, kept: list[Kept], now: Now) -> None:
        durable = [each for each in kept if each.seq]
        fleeting = [each for each in kept if not each.seq]
        for part in (durable, fleeting):
            if not part:
                continue
            strictest = min(each.terms.durability for each in part)
            for job in self._ledger.revive(_revived(part, now), strictest):
                self._attempts.ready(job)
                if job.terms.expires_ms:
                    expires_ms = now.boot_ms + job.terms.expires_ms
                    self._timers.after(expires_ms, "expires", job.id, job.expires_at_ms)
        self.revived += len(kept)
        self._retention.left(kept)

    def _forget(self, kept: list[Kept]) -> None:
        # Unlike what is forgotten with time, it was asked for and is told to be gone: it must not come back.
        if kept:
            self._ledger.forget(r.Forgotten([each.item.id for each in kept]), FSYNC)
        self._retention.left(kept)


def _revived(kept: list[Kept], now: Now) -> r.Revived:
    """As if they were submitted now; but a worker that was given up may yet say that it has succeeded."""
    index = TermsIndex()
    jobs = []
    for each in kept:
        item = each.item
        assert not isinstance(item, r.SuccessItem)
        jobs.append(
            r.FullJob(
                id=item.id,
                terms=index.index(each.terms),
                payload=item.payload,
                flags=item.flags,
                ext=_unbound(item.ext),
                state=READY,
                submitted_ms=now.wall_ms,
                due_ms=0,
                failures=0,
                crashes=0,
                lease=item.lease,
                past=item.past,
                holder=b"",
                started_ms=0,
                story=item.story,
                checkpoint=item.checkpoint,
            )
        )
    return r.Revived(index.terms, jobs)


def _unbound(ext: Ext | None) -> Ext | None:
    """Whoever runs it again wants it, whether the client that it was bound to is there or not."""
    if not ext or BIND not in ext:
        return ext
    return {name: value for name, value in ext.items() if name != BIND} or None
