"""Every message of the protocol, one typed struct each. What they mean is in PROTOCOL.md.

A message is one MessagePack array whose first element is its number. Messages grow by appending
fields that have defaults; a reader ignores elements that it does not know.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from taskq import limits

VERSION: Final = 1

# What a payload's `flags` may say; a reader that does not know a set bit must not guess.
COMPRESSED: Final = 1
ENCRYPTED: Final = 2
BLOB: Final = 4

# Terms.durability, weakest last: on disk, with the system, in the broker's memory only.
FSYNC: Final = 0
OS: Final = 1
MEMORY: Final = 2

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
Text = Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)]
Payload = Annotated[bytes, Meta(max_length=limits.FRAME_BYTES_MAX)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Millis = Annotated[int, Meta(ge=0, le=limits.HORIZON_MS)]
Wall = Annotated[int, Meta(ge=0, le=2**53)]
Ids = Annotated[list[Id], Meta(max_length=limits.BATCH_MAX)]
# In the order of their names, so that equal ones are equal.
Labels = Annotated[tuple[tuple[Name, Text], ...], Meta(max_length=limits.EXT_ITEMS_MAX)]
Resources = Annotated[
    tuple[tuple[Name, Annotated[int, Meta(ge=1, le=2**31)]], ...], Meta(max_length=limits.EXT_ITEMS_MAX)
]
Features = Annotated[list[Name], Meta(max_length=limits.FEATURES_MAX)]
Ext = Annotated[dict[Name, bytes], Meta(max_length=limits.EXT_ITEMS_MAX)]

Role = Literal["producer", "worker", "supervisor", "viewer", "operator", "admin"]
Durability = Literal[0, 1, 2]
# How an attempt that did not succeed ended. `failed` and `timed_out` count as failures,
# `crashed` as a crash; `returned` (never started, or handed back) and `snoozed` count as nothing;
# `discarded` and `rejected` are final; `cancelled` answers a Revoke.
Ending = Literal[
    "failed", "timed_out", "crashed", "returned", "snoozed", "discarded", "rejected", "cancelled"
]
SteerScope = Literal["queue", "task"]
SteerKind = Literal["pause", "concurrency", "rate", "weight", "closed"]
# What may be done to many jobs at once: `delete` forgets outcomes, `discard` those of dead jobs.
Verb = Literal["cancel", "retry", "delete", "discard"]
CatchUp = Literal["skip", "last", "all"]
Overlap = Literal["allow", "skip", "queue", "cancel"]
# What becomes of a submission to a queue that is at its bound.
WhenFull = Literal["reject", "wait", "drop_oldest"]
# What a worker may be told to do; `stack`: say what runs there, line by line.
WorkerVerb = Literal["drain", "resume", "stop", "stack"]
WorkerState = Literal["ready", "drained", "coming", "deaf", "gone"]
OutcomeState = Literal["succeeded", "cancelled", "expired", "dead"]
# What can be followed of a job: what its running attempt yields, what happens to it, what it logs.
FeedKind = Literal["items", "events", "logs"]
JobStateName = Literal[
    "scheduled", "blocked", "ready", "running", "succeeded", "cancelled", "expired", "dead"
]


class Part(Struct, array_like=True, gc=False, frozen=True):
    """A struct inside a message. `gc=False`: they never form cycles, and there are many."""


# -- parts ------------------------------------------------------------------------------------


class RetryTerms(Part, frozen=True):
    """Wait before attempt n+1: base * factor**(n-1) up to the maximum; with jitter, a uniform part of it."""

    max_attempts: Annotated[int, Meta(ge=1, le=limits.ATTEMPTS_MAX)] = 1
    base_ms: Millis = 1_000
    factor: Annotated[float, Meta(ge=1.0, le=100.0)] = 2.0
    max_delay_ms: Millis = 300_000
    jitter: bool = True
    max_crashes: Annotated[int, Meta(ge=0, le=limits.ATTEMPTS_MAX)] = limits.CRASHES_MAX
    on_timeout: bool = True


class Callback(Part, frozen=True):
    """A task that the broker submits when an attempt failed, or when the job is dead."""

    task: Name
    queue: Name = "default"
    priority: Annotated[int, Meta(ge=-limits.PRIORITY_MAX, le=limits.PRIORITY_MAX)] = 0
    timeout_ms: Millis = 0
    retry: RetryTerms = RetryTerms()


class Terms(Part, frozen=True, cache_hash=True):
    """What a job shares with its siblings: which task, where, when and how often."""

    task: Name
    queue: Name = "default"
    priority: Annotated[int, Meta(ge=-limits.PRIORITY_MAX, le=limits.PRIORITY_MAX)] = 0
    delay_ms: Millis = 0
    at_ms: Wall = 0
    expires_ms: Millis = 0
    timeout_ms: Millis = 0
    keep_ms: Millis = limits.KEEP_RESULT_MS
    durability: Durability = FSYNC
    retry: RetryTerms = RetryTerms()
    labels: Labels = ()
    resources: Resources = ()
    on_failure: Callback | None = None
    on_dead: Callback | None = None
    # Flags that whoever submitted the job can read in its result.
    reads: Annotated[int, Meta(ge=0, le=255)] = 0


class Limit(Part, frozen=True):
    """So much at once, or so often, of all jobs of a queue or a task; `per_key`: of each key's jobs.

    `rate`: `count` starts in each `period_ms`, of which `burst` may come at once.
    """

    scope: Literal["queue", "task"]
    name: Name
    kind: Literal["concurrency", "rate"]
    count: Annotated[int, Meta(ge=0, le=2**31)]
    per_key: bool = False
    period_ms: Millis = 0
    burst: Annotated[int, Meta(ge=0, le=2**31)] = 0


class Steering(Part, frozen=True):
    """One decision about a queue, a task, or (with `key`) one key of either. `is_set` false takes it back.

    `closed`: nothing new is accepted. `per_key`: the limit is for each key by itself.
    """

    scope: SteerScope
    name: Name
    kind: SteerKind
    key: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    per_key: bool = False
    is_set: bool = True
    count: Annotated[int, Meta(ge=0, le=2**31)] = 0
    period_ms: Millis = 0
    burst: Annotated[int, Meta(ge=0, le=2**31)] = 0
    for_ms: Millis = 0


class SettingReport(Part, frozen=True):
    """A decision that holds, and whose it is; `is_declared`: code's, not people's."""

    scope: SteerScope
    name: str
    kind: SteerKind
    key: str = ""
    per_key: bool = False
    count: int = 0
    period_ms: int = 0
    burst: int = 0
    until_ms: int = 0
    reason: str = ""
    by: str = ""
    set_ms: int = 0
    is_declared: bool = False


class JobSpec(Part, frozen=True):
    """One job as it is submitted. `terms` is an index into the message's list of terms."""

    id: Id
    terms: Annotated[int, Meta(ge=0, lt=limits.BATCH_MAX)]
    payload: Payload
    flags: Annotated[int, Meta(ge=0, le=255)] = 0
    ext: Ext | None = None


class Verdict(Part, frozen=True):
    """What became of one submitted job, where that is not simply `accepted`."""

    seq: Count
    code: Name
    text: Text = ""
    id: bytes = b""


class Saved(Part, frozen=True):
    """What an attempt has left for the next one. Opaque, as payloads are."""

    value: Annotated[bytes, Meta(max_length=limits.CHECKPOINT_BYTES_MAX)]
    flags: Annotated[int, Meta(ge=0, le=255)] = 0


class Delivery(Part, frozen=True):
    """One attempt of a job, given to a worker. `terms` is an index into the message's terms."""

    id: Id
    lease: Number
    attempt: Count
    terms: Annotated[int, Meta(ge=0, lt=limits.BATCH_MAX)]
    payload: Payload
    flags: Annotated[int, Meta(ge=0, le=255)] = 0
    ext: Ext | None = None
    checkpoint: Saved | None = None


class Fault(Part, frozen=True):
    """An exception as text."""

    type: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)]
    message: Text = ""
    traceback: Annotated[str, Meta(max_length=limits.TRACEBACK_CHARS_MAX)] = ""


class Success(Part, frozen=True):
    """An attempt that succeeded, with its result."""

    id: Id
    lease: Number
    result: Payload = b""
    flags: Annotated[int, Meta(ge=0, le=255)] = 0


class Failure(Part, frozen=True):
    """An attempt that did not. `after_ms` overrides the backoff; -1 leaves it to the terms.

    `hold_key`: no job of that key in this job's queue is to start for `hold_ms`. `status`: of one that
    crashed in a process of its own, the exit code, or minus the signal that killed it.
    """

    id: Id
    lease: Number
    ending: Ending
    fault: Fault | None = None
    final: bool = False
    after_ms: Annotated[int, Meta(ge=-1, le=limits.HORIZON_MS)] = -1
    hold_key: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    hold_ms: Millis = 0
    status: Annotated[int, Meta(ge=-256, le=256)] = 0


class AttemptReport(Part, frozen=True):
    """One attempt that did not succeed, as a job's history tells it. `status`: how its process ended."""

    attempt: Count
    ending: Ending
    started_ms: Wall
    ended_ms: Wall
    worker: str = ""
    error: str = ""
    status: int = 0


class Held(Part, frozen=True):
    """The fencing token: a job and the right to one attempt of it."""

    id: Id
    lease: Number


class Reported(Part, frozen=True):
    """What became of one reported attempt, where that is not simply `recorded`."""

    lease: Number
    code: Literal["duplicate", "stale"]


class Stop(Part, frozen=True):
    """An attempt that its worker should stop."""

    id: Id
    lease: Number
    reason: Text = ""


class Outcome(Part, frozen=True):
    """How a job ended, for those who wait for it."""

    id: Id
    state: OutcomeState | Literal["unknown"]
    result: Payload = b""
    flags: Annotated[int, Meta(ge=0, le=255)] = 0
    ending: Ending | Literal[""] = ""
    fault: Fault | None = None
    attempts: Count = 0
    reason: Text = ""


class Receipt(Part, frozen=True):
    """The answer to one cancel."""

    id: Id
    code: Literal["cancelled", "finished", "unknown"]


class ProgressItem(Part, frozen=True):
    """How far an attempt has come."""

    id: Id
    lease: Number
    done: Count
    total: Count = 0
    text: Text = ""


class CheckpointItem(Part, frozen=True):
    """How far an attempt has come, for the next one if there has to be one."""

    id: Id
    lease: Number
    saved: Saved


class Unsaved(Part, frozen=True):
    """A checkpoint that was not recorded: its attempt is over, or the broker takes nothing new."""

    lease: Number
    code: Literal["stale", "busy"]


class Extension(Part, frozen=True):
    """More time for a running attempt, from now."""

    id: Id
    lease: Number
    timeout_ms: Millis


class Chunk(Part, frozen=True):
    """Entries `first` .. `first + count - 1` of a feed; `data` is a MessagePack array of them."""

    first: Annotated[int, Meta(ge=1, le=2**53)]
    count: Annotated[int, Meta(ge=1, le=limits.BATCH_MAX)]
    data: Payload


class Told(Part, frozen=True):
    """What an attempt has told, in the order of its numbers, which begin with 1."""

    id: Id
    lease: Number
    chunks: Annotated[list[Chunk], Meta(max_length=limits.BATCH_MAX)]


class Mark(Part, frozen=True):
    """All entries before `number` have arrived. `series`: in a Took the attempt's lease."""

    series: Number
    number: Count
    request: Count = 0


class EventItem(Part, frozen=True):
    """What happened to a job: an entry of its events. Wall times in ms since 1970, 0 where there is none."""

    at_ms: Wall
    kind: Text  # state, failed or progress; there may be more
    state: JobStateName
    attempt: Count = 0
    worker: str = ""
    done: Count = 0
    total: Count = 0
    text: str = ""
    error: str = ""
    due_ms: Wall = 0


class LogItem(Part, frozen=True):
    """A line that was logged inside an attempt: an entry of a job's log."""

    at_ms: Wall
    level: Annotated[int, Meta(ge=0, le=2**31)]
    logger: str
    text: str
    attempt: Count = 0


class ChildExit(Part, frozen=True):
    """A supervised process that ended: its exit code, or minus the signal that killed it.

    `timed_out`: it was killed because the time of these attempts was up, and they could not be reached.
    `uncounted`: its supervisor ended it, so what else it held is not to blame, and is handed back.
    """

    session: Id
    status: Annotated[int, Meta(ge=-256, le=256)]
    text: Text = ""
    timed_out: Annotated[list[Number], Meta(max_length=limits.BATCH_MAX)] = []
    uncounted: bool = False


class ScheduleSpec(Part, frozen=True):
    """A schedule: when, by a cron text or an interval, and the job that it makes each time.

    `catch_up`: what becomes of ticks that nobody could make in their time. `overlap`: what if the
    last job has no outcome yet. `jitter_ms`: each job is due up to so much after its tick.
    """

    name: Name
    terms: Terms
    payload: Payload
    cron: Annotated[str, Meta(max_length=limits.CRON_CHARS_MAX)] = ""
    interval_ms: Millis = 0
    zone: Name = "UTC"
    catch_up: CatchUp = "skip"
    overlap: Overlap = "allow"
    jitter_ms: Annotated[int, Meta(ge=0, le=limits.JITTER_MAX_MS)] = 0
    flags: Annotated[int, Meta(ge=0, le=255)] = 0
    ext: Ext | None = None


class ScheduleReport(Part, frozen=True):
    """What is known of a schedule. Wall times in ms since 1970, 0 where there is none."""

    name: str
    task: str
    queue: str
    cron: str
    interval_ms: int
    zone: str
    catch_up: str
    overlap: str
    jitter_ms: int
    app: str
    is_declared: bool
    is_paused: bool
    reason: str
    created_ms: int
    last_ms: int
    last_job: bytes
    is_waiting: bool
    next_ms: list[int]
    trouble: str


class QueueReport(Part, frozen=True):
    name: str
    ready: int
    running: int
    scheduled: int
    dead: int
    oldest_ms: int
    workers: int
    startable: int = 0


class WorkerReport(Part, frozen=True):
    session: bytes
    name: str
    queues: list[str]
    slots: int
    running: int
    beat_ms: int
    connected: bool


class RunningJob(Part, frozen=True):
    """A job that a worker holds."""

    id: Id
    task: str
    queue: str
    attempt: Count
    started_ms: Wall = 0
    progress: ProgressItem | None = None


class WorkerDetail(Part, frozen=True):
    """What is known of a worker session. `tasks` and `jobs` only of one that was asked for by name.

    `supervisor`: the session that vouches for it. `state`: `drained` was told to take nothing more,
    `coming` has not said yet what it holds, `deaf` does not read, `gone` has no connection.
    """

    session: Id
    name: str
    state: WorkerState
    supervisor: bytes = b""
    host: str = ""
    pid: int = 0
    version: str = ""
    started_ms: Wall = 0
    beat_ms: int = -1
    queues: list[str] = []
    slots: dict[str, int] = {}
    running: Count = 0
    labels: dict[str, str] = {}
    resources: dict[str, int] = {}
    tasks: dict[str, str] = {}
    jobs: list[RunningJob] = []


class WorkerText(Part, frozen=True):
    """What one worker session had to say, for people."""

    session: Id
    text: Annotated[str, Meta(max_length=limits.STACK_CHARS_MAX)]


# -- parts of jobs and filters ----------------------------------------------------------------


class Filter(Part, frozen=True):
    """Which jobs: those to which all of it applies that is not at its default. Ages count from the
    submission; `error` is a part of the last error's type or text, `error_type` all of its type."""

    states: Annotated[list[JobStateName], Meta(max_length=limits.FILTER_STATES_MAX)] = []
    task: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    queue: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    key: Text = ""
    older_ms: Millis = 0
    younger_ms: Millis = 0
    error: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    error_type: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    ids: Ids = []


class JobLine(Part, frozen=True):
    """A job in a list. What is heavy is there only if the Query asked for it."""

    id: Id
    task: str
    queue: str
    state: JobStateName
    attempts: Count = 0
    failures: Count = 0
    crashes: Count = 0
    max_attempts: Count = 1
    submitted_ms: Wall = 0
    due_ms: Wall = 0
    started_ms: Wall = 0
    finished_ms: Wall = 0
    key: str = ""
    worker: str = ""
    ending: Ending | Literal[""] = ""
    fault: Fault | None = None
    reason: str = ""
    payload: bytes = b""
    flags: Annotated[int, Meta(ge=0, le=255)] = 0
    ext: Ext | None = None


class DeadGroup(Part, frozen=True):
    """Dead jobs of one task that died of errors of one type."""

    task: str
    error_type: str
    count: Count
    oldest_ms: Wall
    newest_ms: Wall
    sample: Id
    message: str = ""


# -- messages ---------------------------------------------------------------------------------


class Message(Struct, array_like=True, gc=False, frozen=True):
    """The base of what stands in a frame."""


class Greeting(Message, frozen=True, tag=1):
    """broker: the first frame of every connection."""

    version_min: Count
    version_max: Count
    nonce: Annotated[bytes, Meta(min_length=16, max_length=64)]
    cluster: Id
    epoch: Count
    partitions: Count
    frame_bytes_max: Count
    payload_bytes_max: Count
    batch_max: Count
    beat_ms: Count
    auth: bool
    features: Features = []


class Hello(Message, frozen=True, tag=2):
    """peer: who I am. `proof` is HMAC-SHA256 over nonce, role and version, keyed by the token."""

    version: Count
    session: Id
    role: Role
    name: Text = ""
    namespace: Name = "default"
    features: Features = []
    token_id: Text = ""
    proof: Annotated[bytes, Meta(max_length=64)] = b""


class Welcome(Message, frozen=True, tag=3):
    """broker: come in. `next_seq` is the first submit sequence of this session not yet decided."""

    version: Count
    wall_ms: Wall
    next_seq: Count = 0
    features: Features = []


class Goodbye(Message, frozen=True, tag=4):
    """either: I am closing this connection on purpose, and why."""

    code: Name
    text: Text = ""


class Refusal(Message, frozen=True, tag=5):
    """broker: no. `request` names the command it answers; 0 means the connection, which closes."""

    request: Count
    code: Name
    text: Text = ""


class Ping(Message, frozen=True, tag=6):
    """either: are you there?"""

    token: Count = 0


class Pong(Message, frozen=True, tag=7):
    """either: I am."""

    token: Count = 0


class Unsupported(Message, frozen=True, tag=8):
    """either: I do not know that message; the connection stays."""

    number: int


class Moved(Message, frozen=True, tag=9):
    """broker: another broker owns this partition; ask there."""

    partition: Count
    epoch: Count
    address: Text


class Submit(Message, frozen=True, tag=10):
    """producer: jobs, numbered first, first+1, ... in this session; all below `settled` are known decided."""

    first: Count
    terms: Annotated[list[Terms], Meta(max_length=limits.BATCH_MAX)]
    jobs: Annotated[list[JobSpec], Meta(max_length=limits.BATCH_MAX)]
    settled: Count = 0


class Confirm(Message, frozen=True, tag=11):
    """broker: jobs first .. first+count-1 are decided: durable, but for those with a verdict."""

    first: Count
    count: Count
    verdicts: Annotated[list[Verdict], Meta(max_length=limits.BATCH_MAX)] = []


class Watch(Message, frozen=True, tag=12):
    """producer: tell me the outcomes of these jobs, now or when they end."""

    ids: Ids


class Unwatch(Message, frozen=True, tag=13):
    """producer: no longer."""

    ids: Ids


class Outcomes(Message, frozen=True, tag=14):
    """broker: how watched jobs ended."""

    items: Annotated[list[Outcome], Meta(max_length=limits.BATCH_MAX)]


class Cancel(Message, frozen=True, tag=15):
    """producer: these jobs must not complete."""

    request: Count
    ids: Ids
    reason: Text = ""
    tree: bool = False


class Receipts(Message, frozen=True, tag=16):
    """broker: what became of a Cancel."""

    request: Count
    items: Annotated[list[Receipt], Meta(max_length=limits.BATCH_MAX)]
    descendants: Count = 0


class Inspect(Message, frozen=True, tag=17):
    """producer: what is known of this job?"""

    request: Count
    id: Id


class JobReport(Message, frozen=True, tag=18):
    """broker: what is known of a job. Wall times in ms since 1970, 0 where there is none."""

    request: Count
    id: Id
    task: str
    queue: str
    state: JobStateName
    attempts: Count = 0
    failures: Count = 0
    crashes: Count = 0
    max_attempts: Count = 1
    submitted_ms: Wall = 0
    due_ms: Wall = 0
    started_ms: Wall = 0
    finished_ms: Wall = 0
    worker: str = ""
    fault: Fault | None = None
    reason: str = ""
    progress: ProgressItem | None = None
    why: str = ""
    history: list[AttemptReport] = []
    ext: Ext | None = None


class Status(Message, frozen=True, tag=19):
    """any: how is the broker?"""

    request: Count


class StatusReport(Message, frozen=True, tag=20):
    """broker: counts and rates, queue by queue and worker by worker."""

    request: Count
    version: str
    wall_ms: Wall
    uptime_ms: Count
    epoch: Count
    journal: str
    journal_bytes: Count
    counts: dict[str, int]
    queues: list[QueueReport]
    workers: list[WorkerReport]
    connections: Count = 0
    warnings: list[str] = []


class Steer(Message, frozen=True, tag=60):
    """producer: from now on, all of this or nothing; survives a restart of the broker."""

    request: Count
    items: Annotated[list[Steering], Meta(min_length=1, max_length=limits.BATCH_MAX)]
    reason: Text = ""


class Steered(Message, frozen=True, tag=61):
    """broker: so many of the decisions were news."""

    request: Count
    count: Count


class AskSettings(Message, frozen=True, tag=62):
    """any: what was decided about this queue or task? Empty: about all."""

    request: Count
    name: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""


class Settings(Message, frozen=True, tag=63):
    """broker: what holds; at most BATCH_MAX of it."""

    request: Count
    items: Annotated[list[SettingReport], Meta(max_length=limits.BATCH_MAX)]


class Announce(Message, frozen=True, tag=30):
    """worker: what I run. `slots` is the absolute capacity of each executor; a later Announce replaces."""

    tasks: Annotated[dict[Name, Name], Meta(max_length=limits.TASKS_PER_WORKER_MAX)]
    queues: Annotated[list[Name], Meta(max_length=limits.QUEUES_PER_WORKER_MAX)]
    slots: Annotated[
        dict[Name, Annotated[int, Meta(ge=0, le=limits.SLOTS_MAX)]],
        Meta(max_length=limits.EXECUTORS_PER_WORKER_MAX),
    ]
    labels: Annotated[dict[Name, Text], Meta(max_length=limits.EXT_ITEMS_MAX)] = {}
    resources: Annotated[
        dict[Name, Annotated[int, Meta(ge=0, le=2**31)]], Meta(max_length=limits.EXT_ITEMS_MAX)
    ] = {}
    weights: Annotated[
        list[Annotated[int, Meta(ge=1, le=limits.WEIGHT_MAX)]], Meta(max_length=limits.QUEUES_PER_WORKER_MAX)
    ] = []
    is_strict: bool = False
    declared: Annotated[list[Limit], Meta(max_length=limits.TASKS_PER_WORKER_MAX)] = []
    extra: Annotated[
        dict[Name, Annotated[int, Meta(ge=0, le=limits.SLOTS_MAX)]],
        Meta(max_length=limits.EXECUTORS_PER_WORKER_MAX),
    ] = {}
    app: Text = ""
    schedules: Annotated[list[ScheduleSpec], Meta(max_length=limits.SCHEDULES_PER_WORKER_MAX)] | None = None
    host: Text = ""
    pid: Count = 0
    version: Text = ""
    started_ms: Wall = 0


class Deliver(Message, frozen=True, tag=31):
    """broker: run these."""

    terms: Annotated[list[Terms], Meta(max_length=limits.BATCH_MAX)]
    jobs: Annotated[list[Delivery], Meta(max_length=limits.BATCH_MAX)]


class Ack(Message, frozen=True, tag=32):
    """worker: these succeeded. `seq` numbers the session's reports (Ack and Nack) from 1."""

    seq: Count
    items: Annotated[list[Success], Meta(max_length=limits.BATCH_MAX)]


class Nack(Message, frozen=True, tag=33):
    """worker: these did not."""

    seq: Count
    items: Annotated[list[Failure], Meta(max_length=limits.BATCH_MAX)]


class Acked(Message, frozen=True, tag=34):
    """broker: report `seq` and all before it are recorded, but for those named."""

    seq: Count
    items: Annotated[list[Reported], Meta(max_length=limits.BATCH_MAX)] = []


class Revoke(Message, frozen=True, tag=35):
    """broker: stop these attempts; answer each with a report."""

    items: Annotated[list[Stop], Meta(max_length=limits.BATCH_MAX)]


class Extend(Message, frozen=True, tag=36):
    """worker: these attempts need more time."""

    items: Annotated[list[Extension], Meta(max_length=limits.BATCH_MAX)]


class Progress(Message, frozen=True, tag=37):
    """worker: how far these attempts are. Kept in memory, latest only."""

    items: Annotated[list[ProgressItem], Meta(max_length=limits.BATCH_MAX)]


class Resume(Message, frozen=True, tag=38):
    """worker: after each hello, all that I still hold, in parts of at most BATCH_MAX; `last` ends it."""

    items: Annotated[list[Held], Meta(max_length=limits.BATCH_MAX)]
    last: bool = True


class Resumed(Message, frozen=True, tag=39):
    """broker: of what you hold, these are no longer yours: stop them."""

    gone: Annotated[list[Stop], Meta(max_length=limits.BATCH_MAX)]


class Drain(Message, frozen=True, tag=40):
    """worker: give me nothing more."""


class Recall(Message, frozen=True, tag=41):
    """broker: hand back those of these that have not started; announce again when you have looked."""

    items: Annotated[list[Held], Meta(max_length=limits.BATCH_MAX)]


class Items(Message, frozen=True, tag=42):
    """worker: what these attempts have yielded. Said again after a reconnect, until it is taken."""

    items: Annotated[list[Told], Meta(max_length=limits.BATCH_MAX)]


class Logs(Message, frozen=True, tag=43):
    """worker: what was logged inside these attempts. Said once."""

    items: Annotated[list[Told], Meta(max_length=limits.BATCH_MAX)]


class Took(Message, frozen=True, tag=44):
    """broker: so far I have taken what these attempts yield; those that listen have room for it."""

    items: Annotated[list[Mark], Meta(max_length=limits.BATCH_MAX)]


# -- inside a job -----------------------------------------------------------------------------


class Checkpoint(Message, frozen=True, tag=45):
    """worker: these attempts have come so far. `seq` comes back; the latest of each counts."""

    seq: Count
    items: Annotated[list[CheckpointItem], Meta(max_length=limits.BATCH_MAX)]


class Checkpointed(Message, frozen=True, tag=46):
    """broker: recorded, but for those named."""

    seq: Count
    items: Annotated[list[Unsaved], Meta(max_length=limits.BATCH_MAX)] = []


class AckAndSubmit(Message, frozen=True, tag=47):
    """worker: this one succeeded, and these jobs come of it: all of it, or none. `seq` as in Ack."""

    seq: Count
    success: Success
    terms: Annotated[list[Terms], Meta(max_length=limits.BATCH_MAX)]
    jobs: Annotated[list[JobSpec], Meta(max_length=limits.OUTBOX_JOBS_MAX)]

    @property
    def items(self) -> list[Success]:
        """What it reports, as Ack has it."""
        return [self.success]


class Vouch(Message, frozen=True, tag=50):
    """supervisor: these sessions are processes of mine, and alive."""

    sessions: Annotated[list[Id], Meta(max_length=limits.CHILDREN_PER_SUPERVISOR_MAX)]


class Exited(Message, frozen=True, tag=51):
    """supervisor: these sessions' processes have ended."""

    children: Annotated[list[ChildExit], Meta(max_length=limits.CHILDREN_PER_SUPERVISOR_MAX)]


class Instruction(Message, frozen=True, tag=55):
    """broker: do this with these sessions of yours, or tell of them; answer with Obeyed."""

    number: Number
    verb: WorkerVerb
    sessions: Annotated[list[Id], Meta(max_length=limits.CHILDREN_PER_SUPERVISOR_MAX)]
    lease: Number = 0
    reason: Text = ""
    is_whole: bool = False


class Obeyed(Message, frozen=True, tag=56):
    """supervisor: it is done; with a `code`, it is not."""

    number: Number
    texts: Annotated[list[WorkerText], Meta(max_length=limits.STACKS_MAX)] = []
    code: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    text: Text = ""


class Undrain(Message, frozen=True, tag=57):
    """worker: give me jobs again."""


# -- schedules --------------------------------------------------------------------------------


class SetSchedule(Message, frozen=True, tag=70):
    """producer: a schedule, new or instead of the one of this name."""

    request: Count
    spec: ScheduleSpec


class PauseSchedule(Message, frozen=True, tag=71):
    """producer: no more jobs of this schedule, until it is resumed."""

    request: Count
    name: Name
    reason: Text = ""


class ResumeSchedule(Message, frozen=True, tag=72):
    """producer: go on, with the next tick from now."""

    request: Count
    name: Name


class DropSchedule(Message, frozen=True, tag=73):
    """producer: there is no such schedule any more."""

    request: Count
    name: Name


class RunSchedule(Message, frozen=True, tag=74):
    """producer: one job of this schedule now. `id` tells a repetition."""

    request: Count
    name: Name
    id: Id


class ListSchedules(Message, frozen=True, tag=75):
    """producer: which schedules are there, after this name? Or: how is the one of this name?"""

    request: Count
    name: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    after: Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)] = ""
    ticks: Annotated[int, Meta(ge=0, le=limits.NEXT_TICKS_MAX)] = 1


class ScheduleList(Message, frozen=True, tag=76):
    """broker: schedules, by name; the answer to all of the above."""

    request: Count
    items: Annotated[list[ScheduleReport], Meta(max_length=limits.BATCH_MAX)]
    more: bool = False


# -- jobs and filters -------------------------------------------------------------------------


class Query(Message, frozen=True, tag=80):
    """any: a page of these jobs, in the order of their ids, after the id `after`."""

    request: Count
    filter: Filter
    after: Annotated[bytes, Meta(max_length=16)] = b""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE_MAX)] = 100
    full: bool = False


class Page(Message, frozen=True, tag=81):
    """broker: a page of jobs. `next`: the `after` of the page that follows; empty: this was the last."""

    request: Count
    items: Annotated[list[JobLine], Meta(max_length=limits.PAGE_MAX)]
    next: bytes = b""


class Tally(Message, frozen=True, tag=82):
    """any: how many jobs are these?"""

    request: Count
    filter: Filter


class Counted(Message, frozen=True, tag=83):
    """broker: so many, by their states."""

    request: Count
    count: Count
    states: dict[str, int] = {}


class Bulk(Message, frozen=True, tag=84):
    """producer: do this to all of these jobs. With `dry_run`, only count them."""

    request: Count
    verb: Verb
    filter: Filter
    reason: Text = ""
    dry_run: bool = False


class BulkReport(Message, frozen=True, tag=85):
    """broker: what became of a Bulk; `skipped` says why not, and how often."""

    request: Count
    matched: Count
    done: Count = 0
    skipped: dict[str, int] = {}


class GroupDead(Message, frozen=True, tag=86):
    """any: what did these dead jobs die of?"""

    request: Count
    filter: Filter


class DeadGroups(Message, frozen=True, tag=87):
    """broker: dead jobs by task and error, the largest groups first; `others` are in none of them."""

    request: Count
    items: Annotated[list[DeadGroup], Meta(max_length=limits.DEAD_GROUPS_MAX)]
    others: Count = 0


# -- intake: what waits is changed, and queues are bounded ---------------------------------------


class Edit(Message, frozen=True, tag=90):
    """producer: this job, which does not run, is to be so; nil leaves a thing as it is."""

    request: Count
    id: Id
    queue: Name | None = None
    priority: Annotated[int, Meta(ge=-limits.PRIORITY_MAX, le=limits.PRIORITY_MAX)] | None = None
    delay_ms: Millis | None = None
    at_ms: Wall | None = None
    expires_ms: Millis | None = None
    payload: Payload | None = None
    flags: Annotated[int, Meta(ge=0, le=255)] = 0


class Edited(Message, frozen=True, tag=91):
    """broker: the job is so now."""

    request: Count
    id: Id
    state: JobStateName
    due_ms: Wall = 0


class Bound(Message, frozen=True, tag=92):
    """producer: so much may wait in this queue, and what becomes of the rest. 0: no bound."""

    request: Count
    queue: Name
    max_jobs: Count = 0
    max_bytes: Count = 0
    when_full: WhenFull = "reject"


class Bounded(Message, frozen=True, tag=93):
    """broker: the queue's bound, and what waits in it now."""

    request: Count
    queue: Name
    max_jobs: Count
    max_bytes: Count
    when_full: WhenFull
    jobs: Count = 0
    bytes: Count = 0
    held: Count = 0


# -- telling: what a running job yields, logs and goes through -------------------------------------


class Follow(Message, frozen=True, tag=100):
    """producer: tell me this feed of this job, from entry `number` of `series` on.

    I am done with all before `taken`. Without `live`, only what is there now.
    """

    request: Count
    id: Id
    kind: FeedKind
    series: Number = 0
    number: Annotated[int, Meta(ge=1, le=2**53)] = 1
    taken: Annotated[int, Meta(ge=1, le=2**53)] = 1
    live: bool = True


class Unfollow(Message, frozen=True, tag=101):
    """producer: no longer."""

    requests: Annotated[list[Count], Meta(max_length=limits.BATCH_MAX)]


class Fed(Message, frozen=True, tag=102):
    """broker: entries of a followed feed. After them comes `position`: what is missing before it is gone.

    `end`: the job has ended, and nothing more comes of this series.
    """

    request: Count
    series: Number
    attempt: Count
    chunks: Annotated[list[Chunk], Meta(max_length=limits.BATCH_MAX)]
    position: Count
    end: bool = False


class Taken(Message, frozen=True, tag=103):
    """producer: so far I am done with what I was fed, and have room again."""

    items: Annotated[list[Mark], Meta(max_length=limits.BATCH_MAX)]


# -- workers, by those who look after them --------------------------------------------------------


class ListWorkers(Message, frozen=True, tag=110):
    """any: which workers are there, after this session? Or: how are those of this name?"""

    request: Count
    name: Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)] = ""
    after: Annotated[bytes, Meta(max_length=16)] = b""


class WorkerList(Message, frozen=True, tag=111):
    """broker: workers, by session."""

    request: Count
    items: Annotated[list[WorkerDetail], Meta(max_length=limits.WORKERS_PER_PAGE)]
    more: bool = False


class Instruct(Message, frozen=True, tag=112):
    """producer: let this worker do this; `name` may also be a running job's id."""

    request: Count
    verb: WorkerVerb
    name: Annotated[str, Meta(min_length=1, max_length=limits.TEXT_CHARS_MAX)]
    reason: Text = ""


class Instructed(Message, frozen=True, tag=113):
    """broker: these sessions were told, and this is what they had to say."""

    request: Count
    name: str
    sessions: Annotated[list[Id], Meta(max_length=limits.CHILDREN_PER_SUPERVISOR_MAX)]
    texts: Annotated[list[WorkerText], Meta(max_length=limits.STACKS_MAX)] = []


FromSteerer = Steer | AskSettings
FromFollower = Follow | Unfollow | Taken
AboutJobs = Query | Tally | Bulk | GroupDead
FromScheduler = SetSchedule | PauseSchedule | ResumeSchedule | DropSchedule | RunSchedule | ListSchedules
FromIntake = Edit | Bound
FromCaretaker = ListWorkers | Instruct
FromProducer = (
    Submit
    | Watch
    | Unwatch
    | Cancel
    | Inspect
    | Status
    | FromSteerer
    | FromScheduler
    | AboutJobs
    | FromIntake
    | FromFollower
    | FromCaretaker
)
FromWorker = (
    Announce
    | Ack
    | Nack
    | Extend
    | Progress
    | Resume
    | Drain
    | Undrain
    | Items
    | Logs
    | Checkpoint
    | AckAndSubmit
)
FromSupervisor = Vouch | Exited | Obeyed
# What the core hears of a peer that has said hello.
Command = FromProducer | FromWorker | FromSupervisor | Ping
# What a peer hears of the broker once it is welcome.
Reply = (
    Confirm
    | Outcomes
    | Receipts
    | JobReport
    | StatusReport
    | Steered
    | Settings
    | Page
    | Counted
    | BulkReport
    | DeadGroups
    | Deliver
    | Acked
    | Revoke
    | Resumed
    | Recall
    | Checkpointed
    | ScheduleList
    | Refusal
    | Moved
    | Pong
    | Edited
    | Bounded
    | Took
    | Fed
    | WorkerList
    | Instructed
    | Instruction
)
ToBroker = Hello | Command | Pong | Goodbye | Unsupported
FromBroker = Greeting | Welcome | Reply | Ping | Goodbye | Unsupported
