"""A handle to one submitted job, and what its outcome means to those who wait for it."""

from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from msgspec import Struct

from taskq.client.context import refuse_waiting
from taskq.client.extras import read_meta
from taskq.client.options import edits, moment_ms, reason_of
from taskq.client.payload import unpack_value
from taskq.client.producer import ASK_TIMEOUT
from taskq.client.seconds import Seconds, millis_of
from taskq.client.values.compression import inflated
from taskq.errors import (
    JobCancelled,
    JobCrashed,
    JobError,
    JobExpired,
    JobFailed,
    JobTimedOut,
    NotFound,
    Refused,
    ResultGone,
)
from taskq.protocol.ext import KEY, PARENT
from taskq.protocol.messages import (
    AttemptReport,
    Bulk,
    BulkReport,
    Fault,
    Filter,
    JobLine,
    JobReport,
    JobStateName,
    Outcome,
    Receipts,
)

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.following import Missed
    from taskq.client.task import Call
    from taskq.client.telling import Event, LogLine

R = TypeVar("R")

ReadResult = Callable[[bytes], Any]

_NOTHING: Final = object()


class Job(Struct, Generic[R], gc=False, eq=False):
    """One submitted call. Waiting for it never changes it: a cancelled or timed-out wait leaves it alone.

    Made by TaskQ and Task, not by hand. (A struct that the collector need not look at, for there may be
    hundreds of thousands: with a plain class, making them was a fifth of a producer's CPU.)
    """

    _app: "TaskQ"
    _id: bytes
    _read: ReadResult = unpack_value
    _is_confirmed: bool = False
    _outcome: Outcome | None = None
    _value: Any = _NOTHING

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._id.hex()

    def __repr__(self) -> str:
        state = "" if self._outcome is None else f" {self._outcome.state}"
        return f"<Job {self.id}{state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self, timeout: Seconds | None = None) -> R:
        """What the task returned, as soon as the broker pushes it.

        Raises JobFailed, JobTimedOut, JobCrashed, JobCancelled or JobExpired, whichever the outcome
        is; ResultGone when it is no longer kept, NotFound when there was no such job; TimeoutError
        when `timeout` seconds have passed, which leaves the job alone.
        """
        if self._outcome is None:
            if not self._is_confirmed:
                refuse_waiting((self._id,))
            seconds = None if timeout is None else millis_of("timeout", timeout) / 1000
            self._outcome = await self._app._producer().outcome(self._id, seconds)
        return self._take()

    async def info(self) -> "JobInfo":
        """What the broker knows of the job. NotFound or ResultGone when that is nothing."""
        producer = self._app._producer()
        report = await producer.ask(lambda answer: producer.session.inspect(self._id, answer), ASK_TIMEOUT)
        assert isinstance(report, JobReport)
        return JobInfo._of(report)

    async def status(self) -> JobStateName:
        """The job's state: scheduled, blocked, ready, running, succeeded, cancelled, expired or dead."""
        return (await self.info()).state

    async def cancel(self, *, reason: str = "", tree: bool = False) -> bool:
        """Cancel the job. True: it will not complete. False: it has ended already.

        With `tree`, also all jobs that were submitted inside it, and inside those: this returns when all
        of them are cancelled, running ones too, whether the job itself had ended or not.
        """
        producer = self._app._producer()
        text = reason_of(reason)
        receipts = await producer.ask(
            lambda answer: producer.session.cancel([self._id], text, answer, tree=tree), ASK_TIMEOUT
        )
        assert isinstance(receipts, Receipts)
        code = receipts.items[0].code if receipts.items else "unknown"
        if code == "unknown" and not self._is_confirmed:
            raise NotFound(f"there is no job {self.id}")
        return code == "cancelled"

    async def retry(self) -> "Job[R]":
        """Run a dead job again, under its id, with all its attempts before it. Returns this handle,
        which waits for the new outcome.

        Raises NotFound when there is no such job, Refused (code `not_dead`) when it is not dead.
        """
        producer = self._app._producer()
        wanted = Filter(ids=[self._id])
        report = await producer.ask(
            lambda answer: producer.session.question(lambda number: Bulk(number, "retry", wanted), answer),
            ASK_TIMEOUT,
        )
        assert isinstance(report, BulkReport)
        if not report.done:
            state = next(iter(report.skipped), "unknown")
            if state == "unknown":
                raise NotFound(f"there is no job {self.id}, or its outcome is no longer kept")
            raise Refused(f"job {self.id} is {state}; only dead jobs can be retried", code="not_dead")
        self._outcome, self._value = None, _NOTHING
        return self

    async def why(self) -> str:
        """Why it is not running, where it runs, or how it ended."""
        info = await self.info()
        return info.why or info.end

    def stream(self) -> AsyncGenerator[Any, None]:
        """What a generator task yields, for a job whose task is not known here; see `StreamJob.stream`."""
        from taskq.client.telling import stream_of

        return stream_of(self)

    def events(self) -> "AsyncGenerator[Event | Missed, None]":
        """What happens to the job: first its present state (or what is still known since somebody first
        followed it), then each change and progress as it comes. Ends after the outcome.

        `Missed(count)`: events that should stand here are gone. Raises NotFound.
        """
        from taskq.client.telling import events_of

        return events_of(self)

    def logs(self, *, follow: bool = False) -> "AsyncGenerator[LogLine | Missed, None]":
        """The last lines that were logged inside the job; with `follow` also those to come, until it ends.

        `Missed(count)`: lines that should stand here are gone. The broker keeps them in memory only,
        for as long as the job's outcome. Raises NotFound.
        """
        from taskq.client.telling import logs_of

        return logs_of(self, follow=follow)

    async def reschedule(self, *, delay: Seconds | None = None, at: datetime | float | None = None) -> None:
        """Let a job that waits run so long from now, or at that time; `delay=0` is now.

        Raises Refused with the code `running` or `finished`, NotFound.
        """
        if (delay is None) is (at is None):
            raise TypeError("reschedule() takes delay= or at=, one of them")
        await self._edit(_times(delay, at))

    async def edit(
        self,
        call: "Call[R] | None" = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        expires: Seconds | None = None,
        delay: Seconds | None = None,
        at: datetime | float | None = None,
    ) -> None:
        """Change a job that waits: its arguments (`task.call(...)`), where and when it runs.

        What is not given stays. `expires` counts from now; 0: never. Raises Refused with the code
        `running` or `finished`, NotFound; QueueFull when the job would not fit into the queue.
        """
        changes = {**_times(delay, at), **edits(queue=queue, priority=priority, expires=expires)}
        if call is not None:
            changes["payload"] = call.payload
        if not changes:
            raise TypeError("edit() without a change: say what is to become of the job")
        await self._edit(changes)

    async def _edit(self, changes: dict[str, Any]) -> None:
        producer = self._app._producer()
        await producer.ask(lambda answer: producer.session.edit(self._id, changes, answer), ASK_TIMEOUT)

    def _settle(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome

    def _take(self) -> R:
        """The value or the exception of the outcome that has arrived. The value is read once."""
        if self._value is _NOTHING:
            assert self._outcome is not None, "asked for the value before the outcome"
            self._value = self._valued(self._outcome)
        value: R = self._value
        return value

    def _valued(self, outcome: Outcome) -> Any:
        if outcome.state != "succeeded":
            raise error_of(outcome, is_confirmed=self._is_confirmed)
        if outcome.flags:
            return self._read(inflated(outcome.result, outcome.flags))
        # A worker that is not ours may leave the result of nothing empty.
        return self._read(outcome.result) if outcome.result else None


def _times(delay: Seconds | None, at: datetime | float | None) -> dict[str, Any]:
    if delay is not None and at is not None:
        raise ValueError("delay and at exclude each other: give one")
    if delay is not None:
        return {"delay_ms": millis_of("delay", delay)}
    return {} if at is None else {"at_ms": moment_ms(at)}


def error_of(outcome: Outcome, *, is_confirmed: bool) -> JobError | Refused:
    """The exception that an outcome other than `succeeded` means."""
    id = outcome.id.hex()
    match outcome.state:
        case "unknown" if is_confirmed:
            return ResultGone(f"job {id} has ended and its outcome is no longer kept")
        case "unknown":
            return NotFound(f"there is no job {id}, or its outcome is no longer kept")
        case "cancelled":
            return JobCancelled(id, outcome.reason)
        case "expired":
            return JobExpired(id, f"job {id} waited longer than it was allowed to, and was not run")
    return _death_of(id, outcome)


def _death_of(id: str, outcome: Outcome) -> JobError:
    after = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
    why = f": {outcome.reason}" if outcome.reason else ""
    if outcome.ending == "timed_out":
        return JobTimedOut(id, f"job {id} ran longer than it was allowed to ({after}){why}")
    if outcome.ending == "crashed":
        return JobCrashed(id, f"job {id}: its worker died ({after}){why}")
    fault = outcome.fault
    if fault is None:
        return JobFailed(id, outcome.ending or "failed", outcome.reason, attempts=outcome.attempts)
    return JobFailed(id, fault.type, fault.message, fault.traceback, outcome.attempts)


@dataclass(frozen=True, slots=True)
class JobInfo:
    """What the broker knew of a job when it was asked. Times are aware, None where there is none."""

    id: str
    task: str
    queue: str
    state: JobStateName
    attempts: int
    max_attempts: int
    failures: int
    crashes: int
    submitted_at: datetime | None
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str
    error: str  # the last one, as `Type: message`
    traceback: str
    reason: str
    progress: "Progress | None"
    why: str  # why it is not running
    history: tuple["AttemptInfo", ...] = ()  # attempts that did not succeed: the first ones and the last
    key: str = ""
    parent: str = ""  # the id of the job in which it was submitted
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def end(self) -> str:
        """How it ended, as a sentence; empty while it has not."""
        match self.state:
            case "succeeded":
                return "it has succeeded"
            case "cancelled":
                return f"it was cancelled: {self.reason}" if self.reason else "it was cancelled"
            case "expired":
                return "it waited longer than it was allowed to"
            case "dead":
                return f"it is dead: {self.error or self.reason or 'its last attempt failed'}"
        return ""

    @staticmethod
    def _of(report: JobReport) -> "JobInfo":
        fault, progress, ext = report.fault, report.progress, report.ext or {}
        return JobInfo(
            id=report.id.hex(),
            task=report.task,
            queue=report.queue,
            state=report.state,
            attempts=report.attempts,
            max_attempts=report.max_attempts,
            failures=report.failures,
            crashes=report.crashes,
            submitted_at=moment(report.submitted_ms),
            due_at=moment(report.due_ms),
            started_at=moment(report.started_ms),
            finished_at=moment(report.finished_ms),
            worker=report.worker,
            error=_error(fault),
            traceback="" if fault is None else fault.traceback,
            reason=report.reason,
            progress=None if progress is None else Progress(progress.done, progress.total, progress.text),
            why=report.why,
            history=tuple(map(AttemptInfo._of, report.history)),
            key=ext.get(KEY, b"").decode(errors="replace"),
            parent=ext.get(PARENT, b"").hex(),
            meta=read_meta(ext),
        )

    @staticmethod
    def _of_line(line: JobLine) -> "JobInfo":
        """As it stands in a list: without progress, `why` and history, mostly without what is heavy."""
        ext = line.ext or {}
        return JobInfo(
            id=line.id.hex(),
            task=line.task,
            queue=line.queue,
            state=line.state,
            attempts=line.attempts,
            max_attempts=line.max_attempts,
            failures=line.failures,
            crashes=line.crashes,
            submitted_at=moment(line.submitted_ms),
            due_at=moment(line.due_ms),
            started_at=moment(line.started_ms),
            finished_at=moment(line.finished_ms),
            worker=line.worker,
            error=_error(line.fault),
            traceback="" if line.fault is None else line.fault.traceback,
            reason=line.reason,
            progress=None,
            why="",
            key=line.key,
            parent=ext.get(PARENT, b"").hex(),
            meta=read_meta(ext),
        )


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """One attempt of a job that did not succeed. Many in a row that were put off are told as the last."""

    attempt: int  # which one: 1 and the failures and crashes before it
    ending: str  # failed, timed_out, crashed, snoozed, discarded or rejected
    started_at: datetime | None
    ended_at: datetime | None
    worker: str
    error: str  # `Type: message`, cut when it is long
    status: int  # of a process that ended: its exit code, or minus the signal that killed it; else 0

    @staticmethod
    def _of(report: AttemptReport) -> "AttemptInfo":
        return AttemptInfo(
            attempt=report.attempt,
            ending=report.ending,
            started_at=moment(report.started_ms),
            ended_at=moment(report.ended_ms),
            worker=report.worker,
            error=report.error,
            status=report.status,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job has come, in its task's own words."""

    done: int
    total: int
    message: str


def _error(fault: Fault | None) -> str:
    return "" if fault is None else f"{fault.type}: {fault.message}"


def moment(wall_ms: int) -> datetime | None:
    """A wall time of the wire; 0 is none."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC) if wall_ms else None
