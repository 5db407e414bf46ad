"""What a running task may know and say of its own job: `current()`."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from taskq.client.payload import pack_value, unpack_value
from taskq.client.saving import OnSaved, Saving, WhenSaved
from taskq.client.seconds import Seconds, millis_of
from taskq.client.session import NewJob
from taskq.errors import DecodeError, TooLarge
from taskq.limits import CHECKPOINT_BYTES_MAX, TEXT_CHARS_MAX
from taskq.protocol.ext import KEY
from taskq.protocol.messages import Ext, Saved

if TYPE_CHECKING:
    from taskq.client.outbox import Outbox

OnProgress = Callable[[int, int, str], None]
OnExtend = Callable[[int], None]
OnCheckpoint = Callable[[Saved], None]
OnOutbox = Callable[[list[NewJob]], None]


def _say_nothing(*_: object) -> None:
    """What a task says of itself when nobody listens."""


def _saved_at_once(on_saved: OnSaved) -> None:
    on_saved("")


class Enclosed:
    """The jobs in an attempt's outbox: they are submitted with its success, and not there before."""

    def __init__(self) -> None:
        self.ids: dict[bytes, None] = {}
        self.bytes = 0


@dataclass(slots=True, eq=False)
class Context:
    """The job that runs here and now. Made by the worker, which passes what it does with the words."""

    job_id: str
    task: str
    queue: str = "default"
    attempt: int = 1  # the first run is 1
    max_attempts: int = 1
    deadline: datetime | None = None  # when the attempt will be ended, if it has a timeout
    cancelled: bool = False  # somebody wants this job stopped; a task in a thread looks here
    reason: str = ""  # why
    ext: Ext | None = field(default=None, repr=False)  # what the job carries beside its arguments
    state: Any = field(default=None, repr=False)  # what the app's lifespan yielded in this worker
    on_progress: OnProgress = field(default=_say_nothing, repr=False)  # done, total, text
    on_extend: OnExtend = field(default=_say_nothing, repr=False)  # timeout from now, in ms
    saved: Saved | None = field(default=None, repr=False)  # the latest checkpoint
    on_checkpoint: OnCheckpoint = field(default=_say_nothing, repr=False)
    when_saved: WhenSaved = field(default=_saved_at_once, repr=False)
    urls: list[str] | None = field(default=None, repr=False)  # of the broker; None: any
    enclosed: Enclosed = field(default_factory=Enclosed, repr=False)
    on_outbox: OnOutbox = field(default=_say_nothing, repr=False)

    @property
    def key(self) -> str:
        """The job's `key`, if it has one."""
        return (self.ext or {}).get(KEY, b"").decode(errors="replace")

    @property
    def meta(self) -> dict[str, str]:
        """The job's `meta`."""
        from taskq.client.extras import read_meta

        return read_meta(self.ext)

    def progress(self, n: int, total: int = 0, message: str = "") -> None:
        """Tell how far the task has come. Cheap and never waits: only the latest word is kept."""
        if n < 0 or total < 0:
            raise ValueError(f"progress counts from 0, not {min(n, total)}")
        self.on_progress(n, total, message[:TEXT_CHARS_MAX])

    def extend(self, seconds: Seconds) -> None:
        """This attempt may run `seconds` from now, whatever its timeout was. Without one it may anyway."""
        millis = millis_of("extend", seconds)
        self.on_extend(millis)  # first: looking it up may fill in the deadline as it was
        if self.deadline is not None:
            self.deadline = datetime.now(UTC) + timedelta(milliseconds=millis)

    def checkpoint(self, value: object) -> Saving:
        """How far this job has come: `checkpointed` gives it to the next attempt, if there is one.

        Never waits: the broker is told soon, the latest value only, and always before it is told how
        this attempt ended. What a crash of this process right after it costs is the last moment. To be
        sure that it is recorded, as durably as the job is, `await` what this returns; in a thread, call
        its `wait()`. The value goes as results do, and comes back as plain values.

        Raises EncodeError when it cannot be sent, TooLarge above 64 KiB.
        """
        packed = pack_value(value)
        if len(packed) > CHECKPOINT_BYTES_MAX:
            raise TooLarge(
                f"the checkpoint has {len(packed)} bytes; the limit is {CHECKPOINT_BYTES_MAX}. "
                "Store the data elsewhere, and where it is here"
            )
        saved = Saved(packed)
        # First the call, as in `extend`.
        self.on_checkpoint(saved)
        self.saved = saved
        return Saving(self.when_saved)

    def checkpointed(self, default: Any = None) -> Any:
        """The latest checkpoint of this job, of this attempt or of those before it; else `default`.

        It is forgotten when the job succeeds; a dead job keeps it, and begins with it when it is retried.
        """
        if self.saved is None:
            return default
        if self.saved.flags:
            raise DecodeError(f"the checkpoint has flags {self.saved.flags}, of a newer version")
        return unpack_value(self.saved.value)

    def outbox(self) -> "Outbox":
        """For a `with` block: jobs submitted inside it are submitted when this attempt succeeds, in the
        same commit as its result; if it does not, they never are. Job handles are there at once; waiting
        for a job's result can begin when the attempt has ended.

        A block that an exception leaves submits nothing. If the broker refuses one of the jobs (its
        queue is full, say), none is submitted, and the attempt has failed with that reason.
        """
        from taskq.client.outbox import Outbox

        return Outbox(self)

    def cancel(self, reason: str = "") -> None:
        """For the worker: somebody wants this job stopped."""
        self.cancelled = True
        self.reason = reason


context_var: ContextVar[Context] = ContextVar("taskq_context")


def refuse_waiting(ids: Iterable[bytes]) -> None:
    """RuntimeError when one of these jobs is in the outbox of the attempt that runs here."""
    context = context_var.get(None)
    if context is None or not context.enclosed.ids:
        return
    for id in ids:
        if id in context.enclosed.ids:
            raise RuntimeError(
                f"job {id.hex()} is in the outbox of this attempt, which would wait for itself: the job is "
                "submitted when the attempt has succeeded. Submit it outside the block to wait for it here"
            )


def current() -> Context:
    """The context of the job that this code runs for. RuntimeError outside of one."""
    try:
        return context_var.get()
    except LookupError:
        raise RuntimeError(
            "current() is for code that a worker runs as a task; there is no job here"
        ) from None
