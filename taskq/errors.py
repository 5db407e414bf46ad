"""The errors of taskq: one tree, and each says whose fault it is.

    TaskqError
    |- ConnectionLost            the broker could not be reached, or went away
    |- ConfirmTimeout(job_id)    no word in time: the job may or may not be there
    |- Refused(code)             the broker said no
    |  |- Unauthorized           who you are is not known, or may not do this
    |  |- Busy(retry_after)      not now
    |  |- QueueFull              the queue is at its bound
    |  |- TooLarge               over a limit; the text names it
    |  |- Conflict               this id is another job
    |  |- NotFound               no such job
    |  |- ResultGone             it was there, and is no longer kept
    |  `- VersionMismatch        the two ends speak different protocol versions
    |- EncodeError               an argument or result cannot be sent
    |- DecodeError               bytes that cannot be read back
    |- ConfigError               a setting, name or address that cannot be used
    |- JournalError              the broker's own memory
    |  |- JournalLocked          another broker holds it
    |  |- JournalCorrupt         what it holds is not what was written
    |  |- JournalFull            no room; nothing was written
    |  `- JournalFailed          it cannot be written any more; the broker stops
    |- Retry, Snooze, Discard,   raised by a task, to say what should happen next
    |  Throttle
    `- JobError(job_id)          the job's own outcome
       |- JobFailed              it raised; carries type, message and traceback as text
       |- JobTimedOut            it ran longer than allowed
       |- JobCrashed             its workers died
       |- JobCancelled(reason)   somebody cancelled it
       `- JobExpired             it waited longer than allowed

Exceptions are never re-created by importing what the wire names: a task's own exception comes
back as JobFailed with its type as text.
SubmitErrors stands beside the tree: an ExceptionGroup of such errors.
"""

import math
from collections.abc import Sequence
from typing import Any

from taskq.limits import NAME_CHARS_MAX


class TaskqError(Exception):
    """The root of everything that taskq raises on purpose."""


class ConnectionLost(TaskqError):
    """The broker could not be reached, or the connection to it went away for good."""


class ConfirmTimeout(TaskqError):
    """The broker did not confirm in time: the job may or may not be there.

    Submitting again under the same id (`task.options(id=error.job_id)`) is safe.
    """

    def __init__(self, job_id: str, seconds: float) -> None:
        super().__init__(
            f"job {job_id}: not confirmed within {seconds:g} s; it may or may not be there, "
            "and submitting it again with the same id is safe"
        )
        self.job_id = job_id


class Refused(TaskqError):
    """The broker said no. `code` is the wire's word for why."""

    code = "refused"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code

    @staticmethod
    def from_code(code: str, message: str) -> "Refused":
        """The error class for a refusal's code; unknown codes become plain Refused."""
        return _BY_CODE.get(code, Refused)(message or code, code=code)


class Unauthorized(Refused):
    code = "unauthorized"


class Busy(Refused):
    """Not now. `retry_after` is in seconds."""

    code = "busy"
    retry_after: float = 1.0


class QueueFull(Refused):
    code = "queue_full"


class TooLarge(Refused):
    code = "too_large"


class Conflict(Refused):
    code = "conflict"


class NotFound(Refused):
    code = "not_found"


class ResultGone(Refused):
    code = "result_gone"


class VersionMismatch(Refused):
    code = "version"


_BY_CODE: dict[str, type[Refused]] = {
    error.code: error
    for error in (
        Unauthorized,
        Busy,
        QueueFull,
        TooLarge,
        Conflict,
        NotFound,
        ResultGone,
        VersionMismatch,
    )
}


class EncodeError(TaskqError):
    """An argument or a result cannot be sent; the text names it."""


class DecodeError(TaskqError):
    """Bytes that were to be a payload cannot be read back."""


class ConfigError(TaskqError):
    """A setting, an address or a name that cannot be used; the text says what can."""


class JournalError(TaskqError):
    """Something about the broker's journal."""


class JournalLocked(JournalError):
    """Another broker holds the journal."""


class JournalCorrupt(JournalError):
    """The journal does not hold what was written to it."""


class JournalFull(JournalError):
    """No room: nothing of this batch was written, and the journal is still good."""


class JournalFailed(JournalError):
    """The journal cannot be written any more. Never try again: stop, and start from what is there."""


class Retry(TaskqError):
    """Raise in a task: run me again, `after` seconds from now. Counts as an attempt."""

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        if after is not None:
            _check_seconds("Retry: after", after)
        super().__init__(reason or "the task asked to be run again")
        self.after = after
        self.reason = reason


class Snooze(TaskqError):
    """Raise in a task: run me again in `seconds`. Does not count as an attempt."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        _check_seconds("Snooze", seconds)
        super().__init__(reason or f"the task asked to be run again in {seconds:g} s")
        self.seconds = seconds
        self.reason = reason


class Discard(TaskqError):
    """Raise in a task: this job is dead, do not run it again."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the task discarded the job")
        self.reason = reason


class Throttle(TaskqError):
    """Raise in a task: start no job of this key in this queue for so many seconds, and run me again then.

    For "429 Too Many Requests" and its like. Does not count as an attempt.
    """

    def __init__(self, key: str, seconds: float, reason: str = "") -> None:
        if not isinstance(key, str) or not 1 <= len(key) <= NAME_CHARS_MAX or not key.isprintable():
            raise ValueError(
                f"Throttle: {str(key)[:60]!r} is no key; 1 to {NAME_CHARS_MAX} printable characters are"
            )
        _check_seconds("Throttle", seconds)
        super().__init__(reason or f"the task asked to hold {key!r} for {seconds:g} s")
        self.key = key
        self.seconds = seconds
        self.reason = reason


def _check_seconds(what: str, seconds: object) -> None:
    """Here, where the traceback is the task's, and not where the report to the broker is made."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} is a number of seconds, not {seconds!r}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{what}={seconds} cannot be waited for; 0 or more seconds are allowed")


class JobError(TaskqError):
    """The outcome of a job that did not succeed."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(message)
        self.job_id = job_id

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


class JobFailed(JobError):
    """The task raised. What it raised is here as text; the traceback is the worker's."""

    def __init__(
        self,
        job_id: str,
        remote_type: str,
        remote_message: str,
        remote_traceback: str = "",
        attempts: int = 1,
    ) -> None:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(job_id, f"{remote_type}: {remote_message} (job {job_id}, {tries})")
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback
        self.attempts = attempts
        if remote_traceback:
            self.add_note(f"in the worker:\n{remote_traceback}")


class JobTimedOut(JobError):
    """An attempt ran longer than its timeout, and no attempt was left."""


class JobCrashed(JobError):
    """The job's worker died each time, as often as is allowed."""


class JobCancelled(JobError):
    """The job was cancelled."""

    def __init__(self, job_id: str, reason: str = "") -> None:
        super().__init__(job_id, f"job {job_id} was cancelled" + (f": {reason}" if reason else ""))
        self.reason = reason


class JobExpired(JobError):
    """The job waited longer than its `expires`, and was not run."""


class SubmitErrors(ExceptionGroup[TaskqError]):
    """Some of the jobs submitted together were not accepted. `accepted` holds the jobs that were."""

    accepted: Sequence[Any] = ()

    def derive(  # type: ignore[override]  # what is split off our errors is our errors
        self, excs: Sequence[TaskqError], /
    ) -> "SubmitErrors":
        group = SubmitErrors(self.message, excs)
        group.accepted = self.accepted
        return group


def _rebuild(cls: type[JobError], args: tuple[object, ...], state: dict[str, object]) -> JobError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error
