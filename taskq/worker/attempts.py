"""One attempt as the worker sees it, and what the way it ended means to the broker."""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec.structs import replace

from taskq.client.callables import module_of
from taskq.client.context import Context, Enclosed
from taskq.client.payload import pack_value
from taskq.client.saving import OnSaved
from taskq.client.session import NewJob
from taskq.client.task import Task
from taskq.client.values.compression import inflated
from taskq.errors import DecodeError, Discard, Retry, Snooze, Throttle
from taskq.limits import HORIZON_MS, TEXT_CHARS_MAX
from taskq.protocol.messages import Delivery, Ending, Failure, Fault, Saved, Terms
from taskq.worker.faults import fault
from taskq.worker.hooks.surroundings import surrounded
from taskq.worker.telling.streaming import runnable

if TYPE_CHECKING:
    from taskq.worker.hooks.scope import WorkerScope

# How far an attempt had come when it raised: an exception means something else at each step.
READING: Final = 0
CALLING: Final = 1
PACKING: Final = 2


class Definition:
    """What the worker has to know of a task."""

    __slots__ = (
        "app",
        "declared",
        "executor",
        "function",
        "module",
        "name",
        "pack",
        "queue",
        "read",
        "retry",
        "takes_await",
        "waits",
    )

    def __init__(self, task: Task[..., Any]) -> None:
        self.app = task.app
        self.name = task.name
        self.function = surrounded(task, runnable(task))
        # Of those that a process of its own has to find.
        self.module = module_of(task.fn) if task.executor == "process" else ""
        self.executor = task.executor
        self.queue = task.settings.queue
        self.retry = task.settings.retry
        self.declared = task.settings.declared(task.name)
        self.read = task.signature.arguments
        # Of a stream the result is how many items there were: that is ours to pack, not the user's.
        self.pack = pack_value if task.is_stream else task.signature.encode_result
        self.takes_await = task.executor == "async"
        self.waits = False  # did its latest attempt wait for anything?

    def is_final(self, error: BaseException) -> bool:
        """Whether the task's retry policy says that trying again is of no use after this."""
        return self.retry.is_final(error)


class Words(Protocol):
    """What an attempt leaves behind; from any thread."""

    def checkpoint(self, delivery: Delivery, saved: Saved) -> None: ...

    def when_saved(self, delivery: Delivery, on_saved: OnSaved) -> None: ...

    def enclose(self, delivery: Delivery, jobs: list[NewJob]) -> None: ...


class Host(Protocol):
    """What an attempt asks of its runner, from any thread."""

    @property
    def words(self) -> Words: ...

    scope: "WorkerScope"

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def on_progress(self, attempt: "Attempt", done: int, total: int, text: str) -> None: ...

    def on_extend(self, attempt: "Attempt", timeout_ms: int) -> None: ...

    def left(self, attempt: "Attempt") -> float | None: ...


class Attempt(Context):
    """One delivery on its way through an executor; and, to the task, what `current()` answers.

    The context's fields are filled in when the task first looks at one. Most never do, and a
    context of its own for each job cost 1.4 of the 5 us that a worker has for it.
    """

    __slots__ = (
        "coroutine",
        "definition",
        "delivery",
        "host",
        "is_reported",
        "is_waiting",
        "running",
        "stopped",
        "terms",
        "waits_for",
    )

    def __init__(self, delivery: Delivery, terms: Terms, definition: Definition, host: Host) -> None:
        self.delivery = delivery
        self.terms = terms
        self.definition = definition
        self.host = host
        # For a slot of its executor.
        self.is_waiting = False
        # Of one that waits: the Task that is its own, its coroutine, and what it waits for.
        self.running: asyncio.Task[Any] | None = None
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self.waits_for: Any = None
        # Why it was told to stop, once it was; `reason` says more.
        self.stopped: Ending | None = None
        self.is_reported = False
        self.cancelled = False
        self.reason = ""

    def __getattr__(self, name: str) -> Any:
        """Called for a slot that is not filled yet."""
        if name not in _LATE:
            raise AttributeError(name)
        delivery, terms, left = self.delivery, self.terms, self.host.left(self)
        self.job_id = delivery.id.hex()
        self.task = terms.task
        self.queue = terms.queue
        self.attempt = delivery.attempt
        self.max_attempts = terms.retry.max_attempts
        self.ext = delivery.ext
        self.deadline = None if left is None else datetime.now(UTC) + timedelta(seconds=left)
        self.state = self.host.scope.state
        self.on_progress = partial(self.host.on_progress, self)
        self.on_extend = partial(self.host.on_extend, self)
        self.saved = delivery.checkpoint
        self.on_checkpoint = partial(self.host.words.checkpoint, delivery)
        self.when_saved = partial(self.host.words.when_saved, delivery)
        self.urls = self.definition.app.urls
        self.enclosed = Enclosed()
        self.on_outbox = partial(self.host.words.enclose, delivery)
        return getattr(self, name)


_LATE: Final = frozenset(
    {
        *("attempt", "deadline", "enclosed", "ext", "job_id", "max_attempts", "on_checkpoint", "on_extend"),
        *("on_outbox", "on_progress", "queue", "saved", "state", "task", "urls", "when_saved"),
    }
)


def failure(attempt: Attempt, error: BaseException, step: int) -> Failure:
    """What to report of an attempt that raised. Never raises itself."""
    try:
        return _failure(attempt, error, step)
    except Exception as mistake:
        # `wish.after = "soon"; raise wish`: it cannot be read, so it is a failure as any other.
        return _report(attempt, "failed", fault(mistake))


def unknown_task(delivery: Delivery, task: str) -> Failure:
    """What to report of one that the worker should not have got."""
    return _rejection(
        delivery, f"this worker has no task {task!r}; is its module imported by the worker's app?"
    )


def inflate(delivery: Delivery) -> Delivery | Failure:
    """One with payload flags as it was submitted; or what to report, if it cannot be read here."""
    try:
        return replace(delivery, payload=inflated(delivery.payload, delivery.flags), flags=0)
    except DecodeError as error:
        return _rejection(delivery, str(error))


def _rejection(delivery: Delivery, text: str) -> Failure:
    told = Fault("taskq.errors.DecodeError", text[:TEXT_CHARS_MAX])
    return Failure(delivery.id, delivery.lease, "rejected", told, final=True)


def why_stopped(attempt: Attempt, ending: Ending, reason: str) -> str:
    """What an attempt is told when it has to stop."""
    if ending == "timed_out":
        return f"ran longer than its timeout of {attempt.terms.timeout_ms / 1_000:g} s"
    return reason or ending


def stop_failure(
    attempt: Attempt, stopped: Ending, error: BaseException | None = None, *, more: str = ""
) -> Failure:
    """What to report of an attempt that was told to stop; `error` shows where it was; `more` is added."""
    if stopped == "returned":
        return _report(attempt, stopped)
    text, type_name = attempt.reason + more, ""
    if stopped == "timed_out":
        # As the broker calls it, and people who look for it; the traceback tells of the cancellation.
        type_name = "TimeoutError"
    if error is None:
        return _report(attempt, stopped, Fault(type_name or stopped, text[:TEXT_CHARS_MAX]))
    told = fault(error, text)
    return _report(attempt, stopped, replace(told, type=type_name or told.type))


def crash_failure(attempt: Attempt, text: str, status: int) -> Failure:
    """What to report of an attempt whose own process ended: exit code, or minus the signal."""
    return replace(_report(attempt, "crashed", Fault("ProcessDied", text)), status=status)


def _failure(attempt: Attempt, error: BaseException, step: int) -> Failure:
    if step == READING:
        return _report(attempt, "rejected", fault(error), final=True)
    if step == PACKING:
        # It would be the same the next time, and the work is done: nobody should do it again.
        return _report(attempt, "failed", fault(error), final=True)
    if attempt.stopped and isinstance(error, asyncio.CancelledError):
        return stop_failure(attempt, attempt.stopped, error)
    match error:
        case Retry():
            after_ms = -1 if error.after is None else _millis(error.after)
            return _report(attempt, "failed", fault(error), after_ms=after_ms)
        case Snooze():
            return _report(attempt, "snoozed", fault(error), after_ms=_millis(error.seconds))
        case Throttle():
            return _held(attempt, error)
        case Discard():
            return _report(attempt, "discarded", fault(error), final=True)
        case _:
            final = _is_final(attempt, error)  # first, for it may add a note
            return _report(attempt, "failed", fault(error), final=final)


def _is_final(attempt: Attempt, error: BaseException) -> bool:
    """What the retry policy says. A function in it that raises has said nothing."""
    try:
        return attempt.definition.is_final(error)
    except Exception as mistake:
        told = fault(mistake)
        with contextlib.suppress(Exception):  # an error may refuse to be written to
            error.add_note(
                f"on= or give_up_on= of its retry policy raised {told.type}: {told.message}; "
                "so it is tried again"
            )
        return False


def _held(attempt: Attempt, error: Throttle) -> Failure:
    hold_ms = _millis(error.seconds)
    report = _report(attempt, "snoozed", fault(error), after_ms=hold_ms)
    return replace(report, hold_key=error.key, hold_ms=hold_ms)


def _report(
    attempt: Attempt, ending: Ending, fault: Fault | None = None, *, final: bool = False, after_ms: int = -1
) -> Failure:
    return Failure(attempt.delivery.id, attempt.delivery.lease, ending, fault, final, after_ms)


def _millis(seconds: float) -> int:
    return min(max(round(seconds * 1_000), 0), HORIZON_MS)
