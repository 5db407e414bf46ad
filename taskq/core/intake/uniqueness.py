"""Who is alone with what: which job has a digest, and for how long.

A job that is unique while it is queued has its digest while it waits, one that is unique while it is
active until it has an outcome; a claim is kept for so long after its submission, whatever becomes of
the job. The index is the state's (indexes.py); here is who asks it.
"""

from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.indexes import holds
from taskq.core.job import Job
from taskq.core.ledger import Ledger
from taskq.core.timers import Timers
from taskq.protocol.ext import QUEUED, UNIQUE, Unique, read_unique
from taskq.protocol.messages import Ext


class Uniqueness:
    """Answers who is in the way of a job, on every way in: submit, retry, revival, cron."""

    def __init__(self, ledger: Ledger, timers: Timers) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._timers = timers

    def begin(self, now: Now) -> None:
        """After recovery: claims last no longer than they would have, wherever the clock was set."""
        for digest, kept in self._state.uniques.claims.items():
            claim = kept.claim
            left_ms = min(max(claim.until_ms - now.wall_ms, 0), claim.window_ms)
            self._timers.after(now.boot_ms + left_ms, "claim", digest, claim.until_ms)

    def other(self, job_id: bytes, ext: Ext | None) -> bytes | None:
        """The job that is in the way of this one; None: nobody is."""
        if not ext or UNIQUE not in ext:
            return None
        return self.holder(read_unique(ext[UNIQUE]), job_id)

    def is_free(self, item: r.SuccessItem | r.EndedItem, taken: dict[bytes, bytes]) -> bool:
        """May this dead job be there again? `taken` collects those that are, and not in the books yet."""
        ext = None if isinstance(item, r.SuccessItem) else item.ext
        if not ext or UNIQUE not in ext:
            return True
        unique = read_unique(ext[UNIQUE])
        if unique.digest in taken or self.holder(unique, item.id) is not None:
            return False
        taken[unique.digest] = item.id
        return True

    def holder(self, unique: Unique, job_id: bytes, ending: bytes = b"") -> bytes | None:
        """Whoever has this, other than the job itself. `ending` has it no longer, unless for a time."""
        uniques = self._state.uniques
        kept = uniques.claims.get(unique.digest)
        if kept is not None and kept.claim.id != job_id:
            return kept.claim.id
        there = uniques.holders.get(unique.digest)
        if there is None or there in (job_id, ending) or not holds(self._state.jobs[there]):
            return None
        return there

    def waits_instead(self, job: Job, waiting: dict[bytes, bytes]) -> bytes | None:
        """A running job would wait again: the job that has taken its place meanwhile, if it was to be
        the only one that waits. (What is alone for a time has had its time.) `waiting` collects those
        that are to wait again and are not in the books yet."""
        if not job.ext or UNIQUE not in job.ext:
            return None
        unique = read_unique(job.ext[UNIQUE])
        if unique.scope != QUEUED:
            return None
        other = waiting.get(unique.digest) or self.holder(unique, job.id)
        if other is None:
            waiting[unique.digest] = job.id
        return other

    def claimed(self, unique: Unique, now: Now) -> None:
        """A job was submitted that is unique for a time."""
        until_ms = now.wall_ms + unique.window_ms
        self._timers.after(now.boot_ms + unique.window_ms, "claim", unique.digest, until_ms)

    def lapse(self, digest: bytes, until_ms: int) -> None:
        """The time of a claim is over; called by its own timer."""
        if self.is_claimed(digest, until_ms):
            self._ledger.lapse(r.Lapsed([digest]))

    def is_claimed(self, digest: bytes, until_ms: int) -> bool:
        kept = self._state.uniques.claims.get(digest)
        return kept is not None and kept.claim.until_ms == until_ms
