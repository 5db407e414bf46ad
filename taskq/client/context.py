"""What a running task may know and say of its own job: `current()`."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from taskq.client.seconds import Seconds, millis_of
from taskq.limits import TEXT_CHARS_MAX
from taskq.protocol.ext import KEY
from taskq.protocol.messages import Ext

OnProgress = Callable[[int, int, str], None]
OnExtend = Callable[[int], None]


def _say_nothing(*_: object) -> None:
    """Progress and extensions of a task that nobody listens to."""


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
        """This attempt may run `seconds` from now, whatever its timeout was."""
        millis = millis_of("extend", seconds)
        self.on_extend(millis)  # first: looking it up may fill in the deadline as it was
        self.deadline = datetime.now(UTC) + timedelta(milliseconds=millis)

    def cancel(self, reason: str = "") -> None:
        """For the worker: somebody wants this job stopped."""
        self.cancelled = True
        self.reason = reason


context_var: ContextVar[Context] = ContextVar("taskq_context")


def current() -> Context:
    """The context of the job that this code runs for. RuntimeError outside of one."""
    try:
        return context_var.get()
    except LookupError:
        raise RuntimeError(
            "current() is for code that a worker runs as a task; there is no job here"
        ) from None
