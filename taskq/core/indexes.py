"""What the state knows jobs by beside their ids: what they are alone with, whose descendants they are,
which session they are bound to, which bounded queue they wait in. Only jobs that ask for it are here.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from taskq.core import records as r
from taskq.core.job import RECORD_OVERHEAD_BYTES, RUNNING, Job
from taskq.protocol.ext import ANCESTORS, BIND, PARENT, QUEUED, SECONDS, UNIQUE, above, read_unique


class Index:
    """All of them. The state calls it; what it returns is a change in what the journal has to keep."""

    def __init__(self) -> None:
        self.uniques = Uniques()
        self.kin = Kin()
        self.lines: dict[str, Line] = {}  # by queue

    def enter(self, job: Job) -> None:
        """A job is there: what else is it known by?"""
        if job.ext is None or _INDEXED.isdisjoint(job.ext):
            return
        if UNIQUE in job.ext:
            self.uniques.enter(job)
        self.kin.enter(job)

    def leave(self, job: Job) -> None:
        """It has ended."""
        if job.ext is None or _INDEXED.isdisjoint(job.ext):
            return
        if UNIQUE in job.ext:
            self.uniques.leave(job)
        self.kin.leave(job)

    def claim(self, job: Job) -> int:
        """A job was submitted: it may be alone for a time, which can outlive it."""
        if job.ext is None or UNIQUE not in job.ext:
            return 0
        unique = read_unique(job.ext[UNIQUE])
        if unique.scope != SECONDS:
            return 0
        until_ms = job.submitted_ms + unique.window_ms
        return self.uniques.claim(r.Claim(unique.digest, job.id, until_ms, unique.window_ms), job.seq)

    def wait(self, job: Job) -> None:
        """It waits from now on, scheduled or ready."""
        line = self.lines.get(job.terms.queue)
        if line is not None:
            line.put(job)

    def wait_no_more(self, job: Job) -> None:
        """It will run or has ended: if it waited, it leaves the line."""
        if job.state is not RUNNING and (line := self.lines.get(job.terms.queue)) is not None:
            line.take(job)

    def bounded(self, record: r.Bound, seq: int, jobs: Iterable[Job]) -> int:
        """A queue is bounded, or no longer. `jobs` are all there are, for one that was not so before."""
        line = self.lines.pop(record.queue, None)
        change = -RECORD_OVERHEAD_BYTES if line is not None else 0
        if not (record.max_jobs or record.max_bytes):
            return change
        is_ordered = record.when_full == "drop_oldest"
        if line is None or (is_ordered and line.order is None):
            line = Line(record)
            line.order = OrderedDict() if is_ordered else None
            for job in jobs:
                if job.terms.queue == record.queue and job.state is not RUNNING:
                    line.put(job)
        if not is_ordered:
            line.order = None
        line.bound = record
        line.seq = seq
        self.lines[record.queue] = line
        return change + RECORD_OVERHEAD_BYTES


class KeptClaim(Struct, gc=False, frozen=True):
    """A claim, and the batch that says so."""

    claim: r.Claim
    seq: int


class Uniques:
    """The index. Only jobs that ask for it are in it; it changes with the state, and nowhere else."""

    def __init__(self) -> None:
        self.holders: dict[bytes, bytes] = {}  # digest -> job, of those unique while queued or active
        self.claims: dict[bytes, KeptClaim] = {}  # digest -> for a time

    def enter(self, job: Job) -> None:
        """A job is there, or waits again. One that does not hold its digest now leaves it to others."""
        assert job.ext is not None
        unique = read_unique(job.ext[UNIQUE])
        if unique.scope != SECONDS and holds(job):
            self.holders[unique.digest] = job.id

    def leave(self, job: Job) -> None:
        """A job has ended."""
        assert job.ext is not None
        digest = read_unique(job.ext[UNIQUE]).digest
        if self.holders.get(digest) == job.id:
            del self.holders[digest]

    def claim(self, claim: r.Claim, seq: int) -> int:
        """The change in what the journal has to keep, in bytes."""
        change = self.lapse(claim.digest)
        self.claims[claim.digest] = KeptClaim(claim, seq)
        return change + (RECORD_OVERHEAD_BYTES if seq else 0)

    def lapse(self, digest: bytes) -> int:
        """The same."""
        kept = self.claims.pop(digest, None)
        return -RECORD_OVERHEAD_BYTES if kept is not None and kept.seq else 0


class Kin:
    """Jobs without outcome by the jobs above them, and by the session that they are bound to."""

    def __init__(self) -> None:
        self.below: dict[bytes, dict[bytes, None]] = {}  # at any depth, whether the upper one lives or not
        self.bound: dict[bytes, dict[bytes, None]] = {}

    def enter(self, job: Job) -> None:
        assert job.ext is not None
        for upper in above(job.ext):
            self.below.setdefault(upper, {})[job.id] = None
        if BIND in job.ext:
            self.bound.setdefault(job.ext[BIND], {})[job.id] = None

    def leave(self, job: Job) -> None:
        assert job.ext is not None
        for upper in above(job.ext):
            _take(self.below, upper, job.id)
        if BIND in job.ext:
            _take(self.bound, job.ext[BIND], job.id)


class Line:
    """What waits in a queue that has a bound: scheduled or ready, not running."""

    def __init__(self, bound: r.Bound) -> None:
        self.bound = bound
        self.jobs = 0
        self.bytes = 0
        # By how long they have waited; only where the oldest may have to go. (A plain dict would look
        # through all that was taken out of its front, again and again.)
        self.order: OrderedDict[bytes, None] | None = None
        self.seq = 0  # the batch that says how it is bound

    def put(self, job: Job) -> None:
        self.jobs += 1
        self.bytes += job.size
        if self.order is not None:
            self.order[job.id] = None

    def take(self, job: Job) -> None:
        self.jobs -= 1
        self.bytes -= job.size
        if self.order is not None:
            del self.order[job.id]

    @property
    def is_over(self) -> bool:
        bound = self.bound
        return bool(
            (bound.max_jobs and self.jobs > bound.max_jobs)
            or (bound.max_bytes and self.bytes > bound.max_bytes)
        )


_INDEXED: Final = frozenset({UNIQUE, PARENT, ANCESTORS, BIND})


def holds(job: Job) -> bool:
    """Does this job, which is unique while it is queued or active, keep others out now?"""
    assert job.ext is not None
    return job.state is not RUNNING or read_unique(job.ext[UNIQUE]).scope != QUEUED


def _take(index: dict[bytes, dict[bytes, None]], key: bytes, job_id: bytes) -> None:
    ids = index[key]
    del ids[job_id]
    if not ids:
        del index[key]
