"""What the journal keeps. Records hold decided values and wall times, so that reading them back
never asks a clock or a die. Each that makes or ends a job is complete in itself: old batches can
be dropped as soon as nothing in them is the latest word on anything.
"""

from typing import Final, Literal

import msgspec
from msgspec import Struct

from taskq.errors import JournalCorrupt
from taskq.protocol.messages import (
    AttemptReport,
    CheckpointItem,
    Ending,
    Ext,
    Fault,
    Held,
    JobSpec,
    JobStateName,
    Saved,
    ScheduleSpec,
    Steering,
    SteerKind,
    SteerScope,
    Terms,
    WhenFull,
)


class Record(Struct, array_like=True, gc=False, frozen=True):
    """The base of what a batch is a list of."""


class Submitted(Record, frozen=True, tag=1):
    """One Submit message's accepted jobs; the session is decided up to `floor`.

    `refused` are all sequences below the floor that were not accepted, as ranges (see ranges.py), and
    `settled` says below which the client knows all verdicts, so that older ones need not be remembered.
    """

    session: bytes
    floor: int
    settled: int
    wall_ms: int
    terms: list[Terms]
    jobs: list[JobSpec]
    refused: list[int] = []


class Delivered(Record, frozen=True, tag=2):
    """Leases given to a worker's session."""

    session: bytes
    wall_ms: int
    items: list[Held]


class Release(Record, frozen=True):
    """An attempt that ended without an outcome for its job: when it is due again, and its counts.

    `lost`: its worker was given up and has not said itself that the attempt has ended. `told` is what
    the job's story says of it from now on.
    """

    id: bytes
    lease: int
    ending: Ending
    due_ms: int  # wall; 0: at once
    failures: int
    crashes: int
    lost: bool = False
    told: AttemptReport | None = None


class Released(Record, frozen=True, tag=3):
    """Leases that ended; their jobs wait again."""

    wall_ms: int
    items: list[Release]


class SuccessItem(Record, frozen=True):
    """How a job succeeded: all that is kept of it."""

    id: bytes
    lease: int
    terms: int
    failures: int  # of the attempts before
    crashes: int
    submitted_ms: int
    started_ms: int
    finished_ms: int
    digest: int
    result: bytes
    flags: int
    story: tuple[AttemptReport, ...] = ()


class Succeeded(Record, frozen=True, tag=4):
    """Jobs that succeeded."""

    terms: list[Terms]
    items: list[SuccessItem]


class EndedItem(Record, frozen=True):
    """How a job ended otherwise. A dead job keeps what it would need to be run again."""

    id: bytes
    lease: int
    terms: int
    state: JobStateName
    ending: Ending | Literal[""]
    failures: int
    crashes: int
    submitted_ms: int
    started_ms: int
    finished_ms: int
    digest: int
    fault: Fault | None = None
    reason: str = ""
    payload: bytes = b""
    flags: int = 0
    ext: Ext | None = None
    story: tuple[AttemptReport, ...] = ()
    past: list[int] = []  # leases before the last one
    checkpoint: Saved | None = None


class Ended(Record, frozen=True, tag=5):
    """Jobs that were cancelled, expired or died."""

    terms: list[Terms]
    items: list[EndedItem]


class Forgotten(Record, frozen=True, tag=6):
    """Outcomes and sessions that are no longer kept."""

    ids: list[bytes]
    sessions: list[bytes] = []


class FullJob(Record, frozen=True):
    """Everything about a job without outcome."""

    id: bytes
    terms: int
    payload: bytes
    flags: int
    ext: Ext | None
    state: JobStateName
    submitted_ms: int
    due_ms: int
    failures: int
    crashes: int
    lease: int
    past: list[int]
    holder: bytes
    started_ms: int
    story: tuple[AttemptReport, ...] = ()
    checkpoint: Saved | None = None


class Restated(Record, frozen=True, tag=7):
    """Live jobs written again, so that their old batches can go."""

    terms: list[Terms]
    jobs: list[FullJob]


class SessionRestated(Record, frozen=True, tag=8):
    """A session's floor, written again."""

    session: bytes
    floor: int
    settled: int
    wall_ms: int
    refused: list[int]


class Made(Record, frozen=True, tag=9):
    """Jobs in nobody's session: callbacks, and what came with an attempt's success."""

    wall_ms: int
    terms: list[Terms]
    jobs: list[JobSpec]


class Checkpointed(Record, frozen=True, tag=60):
    """Running attempts have come so far."""

    items: list[CheckpointItem]


class Setting(Record, frozen=True, tag=20):
    """What people decided about a queue, a task or a key of either, until they decide otherwise.

    `is_set` false: no longer. A pause may have an end.
    """

    scope: SteerScope
    name: str
    key: str
    kind: SteerKind
    per_key: bool
    count: int
    period_ms: int
    burst: int
    until_ms: int  # wall; 0: for ever
    reason: str
    by: str
    wall_ms: int
    is_set: bool = True


# scope, name, key, kind, per_key: of each there is one setting.
SettingKey = tuple[str, str, str, str, bool]


def key_of(setting: Setting | Steering) -> SettingKey:
    return (setting.scope, setting.name, setting.key, setting.kind, setting.per_key)


class Revived(Record, frozen=True, tag=40):
    """Dead jobs that begin anew, as they are now."""

    terms: list[Terms]
    jobs: list[FullJob]


class ScheduleSet(Record, frozen=True, tag=30):
    """Everything about a schedule: new, changed, paused, resumed, or written again."""

    spec: ScheduleSpec
    app: str
    slot: int
    created_ms: int
    since_ms: int
    floor_ms: int
    last_ms: int
    last_job: bytes
    runs: list[bytes]
    waiting_ms: int
    is_paused: bool
    reason: str


class Ticked(Record, frozen=True, tag=31):
    """A schedule's ticks are decided up to `floor_ms`, and these jobs of it are made: one or none.

    One record, so that a tick and its job cannot be parted: neither is it made twice, nor not at
    all. `tick_ms` is the job's; 0: somebody asked for it. `due_ms`: not before; 0: at once.
    `waiting_ms` is a tick whose job is made when the one before has ended; 0: none.
    """

    name: str
    floor_ms: int
    tick_ms: int
    waiting_ms: int
    wall_ms: int
    due_ms: int = 0
    terms: list[Terms] = []
    jobs: list[JobSpec] = []


class ScheduleRemoved(Record, frozen=True, tag=32):
    """A schedule is no more; its jobs stay."""

    name: str


OfSchedules = ScheduleSet | Ticked | ScheduleRemoved

# -- intake -------------------------------------------------------------------------------------


class Edited(Record, frozen=True, tag=50):
    """A job that waits is this now."""

    terms: list[Terms]
    jobs: list[FullJob]


class Bound(Record, frozen=True, tag=51):
    """What a queue may hold. 0: no bound."""

    queue: str
    max_jobs: int
    max_bytes: int
    when_full: WhenFull


class Claim(Record, frozen=True):
    """A digest that nobody else may have before that time."""

    digest: bytes
    id: bytes
    until_ms: int  # wall
    window_ms: int


class Claimed(Record, frozen=True, tag=52):
    """Claims, written again. They are made by the submission of their jobs, and may outlive them."""

    items: list[Claim]


class Lapsed(Record, frozen=True, tag=53):
    """Claims whose time is over."""

    digests: list[bytes]


OfIntake = Edited | Bound | Claimed | Lapsed

OfJobs = (
    Submitted
    | Made
    | Delivered
    | Checkpointed
    | Released
    | Succeeded
    | Ended
    | Forgotten
    | Restated
    | SessionRestated
    | Revived
)
AnyRecord = OfJobs | Setting | OfSchedules | OfIntake

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[AnyRecord])


def encode(records: list[AnyRecord]) -> bytes:
    """A batch as the journal keeps it: one MessagePack array of records."""
    return _encoder.encode(records)


def decode(seq: int, blob: bytes) -> list[AnyRecord]:
    """The records of batch `seq`; JournalCorrupt when it holds anything else."""
    try:
        return _decoder.decode(blob)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"batch {seq} of the journal cannot be read: {error}") from error


class TermsIndex:
    """Collects the distinct terms of a record's items and hands out their indexes."""

    def __init__(self) -> None:
        self.terms: list[Terms] = []
        self._last: Terms | None = None
        self._index = -1
        self._indexes: dict[int, int] = {}

    def index(self, terms: Terms) -> int:
        """Where these terms stand in `self.terms`. Jobs in a row mostly share theirs, by identity."""
        if terms is self._last:
            return self._index
        index = self._indexes.get(id(terms), -1)
        if index < 0:
            index = self._indexes[id(terms)] = len(self.terms)
            self.terms.append(terms)
        self._last, self._index = terms, index
        return index
