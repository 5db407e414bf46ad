"""The open batch, and what each batch in the journal still matters for.

Every change of state is a record written here: applied at once, journaled with the batch.
"""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct, structs

from taskq.core import records as r
from taskq.core.effects import Batch
from taskq.core.job import Job
from taskq.core.state import State
from taskq.core.telling.news import News
from taskq.protocol.ext import SECONDS, UNIQUE, read_unique
from taskq.protocol.messages import FSYNC, MEMORY, OS, JobSpec


class BatchEntry(Struct):
    """A batch in the journal: its bytes, and what has a full record in it."""

    seq: int
    size: int = 0
    jobs: list[bytes] = []
    sessions: list[bytes] = []
    settings: list[r.SettingKey] = []
    schedules: list[str] = []
    claims: list[bytes] = []
    bounds: list[str] = []


class Ledger:
    """Applies records to the state and collects them for the journal."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.seq = 1  # the batch that is being filled
        self.journal_bytes = 0
        self.batches: deque[BatchEntry] = deque()  # in the journal, oldest first
        self.open = BatchEntry(1)
        self.news: News | None = None  # who is told of what becomes of jobs
        self._records: list[r.AnyRecord] = []
        self._durability = MEMORY

    @property
    def newest(self) -> int:
        """The batch of the newest record: who waits for it hears of nothing that a crash could undo."""
        return self.seq if self._records else self.seq - 1

    # -- writing ------------------------------------------------------------------------------

    def submit(self, record: r.Submitted, durability: int) -> list[Job]:
        seq = self._add(record, durability)
        if seq:
            self.open.jobs.extend([spec.id for spec in record.jobs])
            self.open.sessions.append(record.session)
        made = self.state.submitted(record, seq)
        if seq and self.state.uniques.claims:
            self.open.claims.extend(_claims_in(record.jobs))
        return made

    def make(self, record: r.Made, durability: int) -> list[Job]:
        seq = self._add(record, durability)
        if seq:
            self.open.jobs.extend([spec.id for spec in record.jobs])
            self.open.claims.extend(_claims_in(record.jobs))
        return self.state.made(record, seq)

    def deliver(self, record: r.Delivered, durability: int, jobs: list[Job]) -> None:
        # Losing the newest deliveries in a power cut only means that those jobs may run again.
        self._add(record, durability if durability == MEMORY else OS)
        self.state.delivered(record, jobs)
        if self.news:
            self.news.delivered(record, jobs)

    def checkpoint(self, record: r.Checkpointed, durability: int) -> None:
        self._add(record, durability)
        self.state.checkpointed(record)

    def release(self, record: r.Released, durability: int) -> None:
        self._add(record, durability)
        self.state.released(record)
        if self.news:
            self.news.released(record)

    def succeed(self, record: r.Succeeded, durability: int) -> None:
        seq = self._add(record, durability)
        self._list(record, seq)
        self.state.succeeded(record, seq)
        if self.news:
            self.news.ended(record)

    def end(self, record: r.Ended, durability: int) -> None:
        seq = self._add(record, durability)
        self._list(record, seq)
        self.state.ended(record, seq)
        if self.news:
            self.news.ended(record)

    def _list(self, record: r.Succeeded | r.Ended, seq: int) -> None:
        if seq:
            self.open.jobs.extend([item.id for item in record.items])

    def forget(self, record: r.Forgotten, durability: int = OS) -> None:
        # When it is lost, the outcomes are there a little longer.
        self._add(record, durability)
        self.state.forgotten(record)
        if self.news:
            self.news.forgotten(record.ids)

    def revive(self, record: r.Revived, durability: int) -> list[Job]:
        seq = self._add(record, durability)
        if seq:
            self.open.jobs.extend([job.id for job in record.jobs])
        revived = self.state.revived(record, seq)
        if self.news:
            self.news.revived(revived)
        return revived

    def restate(self, record: r.Restated) -> None:
        # Old batches are dropped on the strength of this one, so it must be as durable as they were.
        seq = self._add(record, FSYNC)
        self.open.jobs.extend([job.id for job in record.jobs])
        self.state.restated(record, seq)

    def restate_session(self, record: r.SessionRestated) -> None:
        seq = self._add(record, FSYNC)
        self.open.sessions.append(record.session)
        self.state.session_restated(record, seq)

    def set(self, record: r.Setting) -> None:
        seq = self._add(record, FSYNC)
        self.open.settings.append(r.key_of(record))
        self.state.set(record, seq)

    def set_schedule(self, record: r.ScheduleSet) -> None:
        seq = self._add(record, FSYNC)
        self.open.schedules.append(record.spec.name)
        self.state.schedule_set(record, seq)

    def tick(self, record: r.Ticked, durability: int) -> list[Job]:
        if durability == MEMORY and record.jobs:
            # The job may be lost, but its tick must not come again.
            self._add(structs.replace(record, terms=[], jobs=[]), OS)
            return self.state.ticked(record, 0)
        seq = self._add(record, min(durability, OS))
        self.open.jobs.extend([spec.id for spec in record.jobs])
        self.open.claims.extend(_claims_in(record.jobs))
        return self.state.ticked(record, seq)

    def remove_schedule(self, record: r.ScheduleRemoved) -> None:
        self._add(record, FSYNC)
        self.state.schedule_removed(record)

    def edit(self, record: r.Edited, durability: int) -> None:
        seq = self._add(record, durability)
        if seq:
            self.open.jobs.extend([job.id for job in record.jobs])
        self.state.edited(record, seq)

    def bound(self, record: r.Bound) -> None:
        seq = self._add(record, FSYNC)
        self.open.bounds.append(record.queue)
        self.state.bounded(record, seq)

    def claim_again(self, record: r.Claimed) -> None:
        seq = self._add(record, FSYNC)
        self.open.claims.extend([claim.digest for claim in record.items])
        self.state.claimed(record, seq)

    def lapse(self, record: r.Lapsed) -> None:
        # When it is lost, they lapse again.
        self._add(record, OS)
        self.state.lapsed(record)

    def _add(self, record: r.AnyRecord, durability: int) -> int:
        if durability == MEMORY:
            return 0
        self._records.append(record)
        self._durability = min(self._durability, durability)  # a mixed batch takes the strictest
        return self.seq

    # -- batches ------------------------------------------------------------------------------

    def cut(self) -> Batch | None:
        """Close the open batch and return it for the journal; None when it is empty."""
        if not self._records:
            return None
        batch = Batch(self.seq, r.encode(self._records), self._durability)
        self.open.size = len(batch.blob)
        self._shelve(self.open)
        self._records = []
        self._durability = MEMORY
        self.seq += 1
        self.open = BatchEntry(self.seq)
        return batch

    def load(self, seq: int, blob: bytes) -> None:
        """Fold a batch that the journal held into the state."""
        entry = BatchEntry(seq, len(blob))
        for record in r.decode(seq, blob):
            self.state.apply(record, seq)
            _list_contents(entry, record)
        self._shelve(entry)
        self.seq = seq + 1
        self.open = BatchEntry(self.seq)

    def go_on_from(self, last_seq: int) -> None:
        """The journal's newest batch; what was trimmed is not numbered again."""
        self.seq = max(self.seq, last_seq + 1)
        self.open = BatchEntry(self.seq)

    def _shelve(self, entry: BatchEntry) -> None:
        self.batches.append(entry)
        self.journal_bytes += entry.size

    def drop_oldest(self) -> None:
        """Nothing in the oldest batch matters any more."""
        self.journal_bytes -= self.batches.popleft().size


def _list_contents(entry: BatchEntry, record: r.AnyRecord) -> None:
    match record:
        case r.Submitted():
            entry.jobs.extend([spec.id for spec in record.jobs])
            entry.sessions.append(record.session)
            entry.claims.extend(_claims_in(record.jobs))
        case r.Made():
            entry.jobs.extend([spec.id for spec in record.jobs])
            entry.claims.extend(_claims_in(record.jobs))
        case r.Restated() | r.Revived() | r.Edited():
            entry.jobs.extend([job.id for job in record.jobs])
        case r.Succeeded() | r.Ended():
            entry.jobs.extend([item.id for item in record.items])
        case r.SessionRestated():
            entry.sessions.append(record.session)
        case r.Setting():
            entry.settings.append(r.key_of(record))
        case r.ScheduleSet():
            entry.schedules.append(record.spec.name)
        case r.Ticked():
            entry.jobs.extend([spec.id for spec in record.jobs])
            entry.claims.extend(_claims_in(record.jobs))
        case r.Claimed():
            entry.claims.extend([claim.digest for claim in record.items])
        case r.Bound():
            entry.bounds.append(record.queue)
        case _:
            return


def _claims_in(jobs: list[JobSpec]) -> list[bytes]:
    """The digests that these jobs claim for a time."""
    found = [spec.ext[UNIQUE] for spec in jobs if spec.ext and UNIQUE in spec.ext]
    return [unique.digest for unique in map(read_unique, found) if unique.scope == SECONDS]


def fold(batches: Iterable[tuple[int, bytes]]) -> State:
    """The state that these batches of a journal add up to."""
    ledger = Ledger(State())
    for seq, blob in batches:
        ledger.load(seq, blob)
    return ledger.state
