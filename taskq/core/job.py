"""A job that has no outcome yet, its states, and the table of legal moves between them."""

from typing import Final

from msgspec import Struct

from taskq.core.running.story import Story, story_bytes
from taskq.protocol.messages import Ext, JobStateName, Saved, Terms

SCHEDULED: Final = "scheduled"  # waits for a time: delay, calendar time or backoff
READY: Final = "ready"  # waits for a worker with room
RUNNING: Final = "running"  # a worker holds its lease
SUCCEEDED: Final = "succeeded"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
DEAD: Final = "dead"

# Which states a job may go to from which. A move that is not here is a bug of ours.
BECOMES: Final[dict[str, frozenset[str]]] = {
    SCHEDULED: frozenset({READY, RUNNING, SUCCEEDED, CANCELLED, EXPIRED}),
    READY: frozenset({SCHEDULED, RUNNING, SUCCEEDED, CANCELLED, EXPIRED}),
    RUNNING: frozenset({READY, SCHEDULED, SUCCEEDED, CANCELLED, EXPIRED, DEAD}),
    SUCCEEDED: frozenset(),
    CANCELLED: frozenset(),
    EXPIRED: frozenset(),
    DEAD: frozenset(),
}
# SCHEDULED and READY may become RUNNING by resuming, and SUCCEEDED by a late ack: a worker that
# was thought dead had been running it all along. READY may become SCHEDULED by an edit.

# Not a time of its own: whether it has expired is decided by a timer, for the wall clock may be set.
# (Ranks may be below 0: who waited before a restart has its place in front.)
OVERDUE: Final = -(2**62)


class Before(Struct, gc=False, frozen=True):
    """What a job's attempts have left behind. Most have nothing: they share one of these."""

    leases: tuple[int, ...] = ()
    story: Story = ()  # of its attempts that did not succeed
    checkpoint: Saved | None = None  # also of the latest: what the next one begins with

    @property
    def checkpoint_bytes(self) -> int:
        return 0 if self.checkpoint is None else len(self.checkpoint.value)

    @property
    def bytes(self) -> int:
        """What it takes in the journal, about."""
        return story_bytes(self.story) + self.checkpoint_bytes


NOTHING: Final = Before()


class Job(Struct, gc=False, kw_only=True):
    """One job without an outcome. A million of these wait in memory: every field costs 8 MB.

    `gc=False`: nothing here refers back to a job, so that the collector need not look.
    """

    id: bytes
    terms: Terms
    payload: bytes
    submitted_ms: int  # wall
    seq: int  # the batch that holds its latest full record; 0: not in the journal
    flags: int = 0
    ext: Ext | None = None
    state: JobStateName = READY
    due_ms: int = 0  # wall; what a scheduled job waits for
    turn: int = 0  # when it became ready: boot us, each turn its own; OVERDUE: it expired while it ran
    failures: int = 0
    crashes: int = 0
    lease: int = 0  # its latest
    before: Before = NOTHING
    holder: bytes = b""  # the session that holds `lease`, or was given up while it did
    started_ms: int = 0  # wall

    def move(self, state: JobStateName) -> None:
        """The only way a state changes."""
        assert state in BECOMES[self.state], f"{self.id.hex()}: {self.state} -> {state}"
        self.state = state

    @property
    def key(self) -> str:
        """Jobs of one queue take turns between their keys."""
        return self.ext.get("key", b"").decode() if self.ext is not None else ""

    def had(self, lease: int) -> bool:
        """Was this ever a lease of this job?"""
        return lease == self.lease or lease in self.before.leases

    @property
    def past(self) -> tuple[int, ...]:
        """Its leases before the latest."""
        return self.before.leases

    @property
    def story(self) -> Story:
        """Of its attempts that did not succeed."""
        return self.before.story

    @property
    def expires_at_ms(self) -> int:
        """Wall time at which it is no longer wanted, if it still waits then; 0: never."""
        return self.submitted_ms + self.terms.expires_ms if self.terms.expires_ms else 0

    @property
    def size(self) -> int:
        """What it carries."""
        return len(self.payload) + ext_bytes(self.ext) if self.ext else len(self.payload)

    @property
    def live_bytes(self) -> int:
        """What its full record takes in the journal, about."""
        if self.before is not NOTHING:
            return self.size + self.before.bytes + RECORD_OVERHEAD_BYTES
        return self.size + RECORD_OVERHEAD_BYTES


def ext_bytes(ext: Ext | None) -> int:
    """What a job's rare things take."""
    size = 0
    if ext:
        # A loop, not a sum over a generator: half the time, and keyed jobs come here twice.
        for name, value in ext.items():
            size += len(name) + len(value)
    return size


# A record's own fields: id, times, counters, its share of the terms.
RECORD_OVERHEAD_BYTES: Final = 64
