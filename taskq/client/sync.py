"""The client for code without asyncio: the verbs of the other one, which block."""

import builtins
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, Unpack, cast, overload
from uuid import UUID

from taskq import limits
from taskq.client import background
from taskq.client.background import run
from taskq.client.filters import FilterFields
from taskq.client.following import Missed, Restarted
from taskq.client.job import Job, JobInfo
from taskq.client.jobs import BULK_TIMEOUT, BulkResult, Dead, Groups, Jobs
from taskq.client.options import DurabilityName
from taskq.client.outbox import outbox_var
from taskq.client.producer import CONNECT_TIMEOUT
from taskq.client.seconds import Seconds
from taskq.client.telling import Event, LogLine, batches_of
from taskq.protocol.messages import JobStateName, QueueReport, StatusReport, WhenFull

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.queues import QueueBound, QueuesControl
    from taskq.client.schedules import ScheduleInfo, ScheduleOptions, Schedules
    from taskq.client.steering import Decision
    from taskq.client.task import Call, Task
    from taskq.client.workers import SyncWorkers

R = TypeVar("R")
T = TypeVar("T")

_NO_MORE: Final = object()


class SyncJob(Generic[R]):
    """A `Job` for code without asyncio: the same verbs, which block."""

    __slots__ = ("_job",)

    def __init__(self, job: Job[R]) -> None:
        self._job = job

    def __repr__(self) -> str:
        return f"<Sync{repr(self._job)[1:]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SyncJob) and other._job == self._job

    def __hash__(self) -> int:
        return hash(self._job)

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._job.id

    def result(self, timeout: Seconds | None = None) -> R:
        """What the task returned, or its outcome as an exception; see `Job.result`."""
        return run(self._job.result(timeout))

    def info(self) -> JobInfo:
        return run(self._job.info())

    def status(self) -> JobStateName:
        return run(self._job.status())

    def cancel(self, *, reason: str = "", tree: bool = False) -> bool:
        """True: it will not complete. False: it has ended already. See `Job.cancel`."""
        return run(self._job.cancel(reason=reason, tree=tree))

    def reschedule(self, *, delay: Seconds | None = None, at: datetime | float | None = None) -> None:
        """See `Job.reschedule`."""
        run(self._job.reschedule(delay=delay, at=at))

    def edit(
        self,
        call: "Call[R] | None" = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        expires: Seconds | None = None,
        delay: Seconds | None = None,
        at: datetime | float | None = None,
    ) -> None:
        """See `Job.edit`."""
        run(self._job.edit(call, queue=queue, priority=priority, expires=expires, delay=delay, at=at))

    def retry(self) -> "SyncJob[R]":
        """Run a dead job again; see `Job.retry`."""
        run(self._job.retry())
        return self

    def why(self) -> str:
        """Why it is not running, where it runs, or how it ended."""
        return run(self._job.why())

    def stream(self) -> Iterator[Any]:
        """What a generator task yields; see `StreamJob.stream`."""
        for batch in _each(lambda: batches_of(self._job)):
            if isinstance(batch, list):
                yield from batch
            else:
                yield batch

    def events(self) -> Iterator[Event | Missed]:
        """See `Job.events`."""
        return _each(self._job.events)

    def logs(self, *, follow: bool = False) -> Iterator[LogLine | Missed]:
        """See `Job.logs`."""
        return _each(lambda: self._job.logs(follow=follow))


class SyncStreamJob(SyncJob[int], Generic[T]):
    """A `StreamJob` for code without asyncio."""

    __slots__ = ()

    def stream(self) -> Iterator[T | Restarted | Missed]:
        """See `StreamJob.stream`."""
        return super().stream()


class SyncJobs:
    """`q.jobs` for code without asyncio: the same verbs, which block."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def list(
        self, query: str = "", *, limit: int | None = None, **fields: Unpack[FilterFields]
    ) -> Iterator[JobInfo]:
        return _each(lambda: self._jobs.list(query, limit=limit, **fields))

    def count(self, query: str = "", **fields: Unpack[FilterFields]) -> int:
        return run(self._jobs.count(query, **fields))

    def states(self, query: str = "", **fields: Unpack[FilterFields]) -> dict[str, int]:
        return run(self._jobs.states(query, **fields))

    def groups(self, query: str = "", **fields: Unpack[FilterFields]) -> Groups:
        return run(self._jobs.groups(query, **fields))

    def cancel(
        self,
        query: str = "",
        *,
        reason: str = "",
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        return run(self._jobs.cancel(query, reason=reason, dry_run=dry_run, timeout=timeout, **fields))

    def retry(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        return run(self._jobs.retry(query, dry_run=dry_run, timeout=timeout, **fields))

    def delete(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        return run(self._jobs.delete(query, dry_run=dry_run, timeout=timeout, **fields))


class SyncDead:
    """`q.dead` for code without asyncio: the same verbs, which block."""

    def __init__(self, dead: Dead) -> None:
        self._dead = dead

    def list(
        self, query: str = "", *, limit: int | None = None, **fields: Unpack[FilterFields]
    ) -> Iterator[JobInfo]:
        return _each(lambda: self._dead.list(query, limit=limit, **fields))

    def export(self, query: str = "", **fields: Unpack[FilterFields]) -> Iterator[dict[str, Any]]:
        return _each(lambda: self._dead.export(query, **fields))

    def count(self, query: str = "", **fields: Unpack[FilterFields]) -> int:
        return run(self._dead.count(query, **fields))

    def groups(self, query: str = "", **fields: Unpack[FilterFields]) -> Groups:
        return run(self._dead.groups(query, **fields))

    def retry(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        return run(self._dead.retry(query, dry_run=dry_run, timeout=timeout, **fields))

    def discard(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        return run(self._dead.discard(query, dry_run=dry_run, timeout=timeout, **fields))


class SyncTaskQ:
    """The verbs of a TaskQ, which block. Works in any thread, and after a fork."""

    def __init__(self, app: "TaskQ") -> None:
        self._app = app

    def connect(self, timeout: Seconds = CONNECT_TIMEOUT) -> None:
        """Connect now instead of at first use; see `TaskQ.connect`."""
        run(self._app.connect(timeout))

    def close(self) -> None:
        """Close the background connection. It comes back at the next use."""
        if background.is_there():
            run(self._app.close())

    def submit_many(
        self,
        calls: "Iterable[Call[R]]",
        *,
        durability: DurabilityName | None = None,
        confirm_timeout: Seconds = limits.CONFIRM_TIMEOUT_MS / 1000,
    ) -> list[SyncJob[R]]:
        """See `TaskQ.submit_many`."""
        jobs = self._app.submit_many(calls, durability=durability, confirm_timeout=confirm_timeout)
        return [SyncJob(job) for job in run(jobs)]

    @overload
    def gather(self, *jobs: SyncJob[R], return_exceptions: Literal[False] = False) -> list[R]: ...
    @overload
    def gather(self, *jobs: SyncJob[R], return_exceptions: bool) -> list[R | BaseException]: ...

    def gather(self, *jobs: SyncJob[Any], return_exceptions: bool = False) -> list[Any]:
        inner = [job._job for job in jobs]
        return run(self._app.gather(*inner, return_exceptions=return_exceptions))

    def as_completed(
        self, jobs: Iterable[SyncJob[R]], *, timeout: Seconds | None = None
    ) -> Iterator[SyncJob[R]]:
        inner = [job._job for job in jobs]
        for job in _each(lambda: self._app.as_completed(inner, timeout=timeout)):
            yield SyncJob(job)

    def cancel_all(self, jobs: Iterable[SyncJob[Any]], *, reason: str = "") -> int:
        return run(self._app.cancel_all([job._job for job in jobs], reason=reason))

    def job(self, id: str | UUID) -> SyncJob[Any]:
        return SyncJob(self._app.job(id))

    def status(self) -> StatusReport:
        return run(self._app.status())

    @cached_property
    def jobs(self) -> SyncJobs:
        return SyncJobs(self._app.jobs)

    @cached_property
    def dead(self) -> SyncDead:
        return SyncDead(self._app.dead)

    @property
    def schedules(self) -> "SyncSchedules":
        return SyncSchedules(self._app.schedules)

    @cached_property
    def queues(self) -> "SyncQueues":
        return SyncQueues(self._app.queues)

    @cached_property
    def workers(self) -> "SyncWorkers":
        from taskq.client.workers import SyncWorkers

        return SyncWorkers(self._app.workers)


class SyncSchedules:
    """`q.schedules` for code without asyncio: the same verbs, which block."""

    def __init__(self, schedules: "Schedules") -> None:
        self._schedules = schedules

    def create(
        self, name: str, call: "Call[Any] | Task[[], Any]", **options: "Unpack[ScheduleOptions]"
    ) -> "ScheduleInfo":
        return run(self._schedules.create(name, call, **options))

    def next(self, name: str, n: int = 5) -> "list[datetime]":
        return run(self._schedules.next(name, n))

    def pause(self, name: str, reason: str = "") -> "ScheduleInfo":
        return run(self._schedules.pause(name, reason))

    def resume(self, name: str) -> "ScheduleInfo":
        return run(self._schedules.resume(name))

    def delete(self, name: str) -> None:
        run(self._schedules.delete(name))

    def run(self, name: str) -> "ScheduleInfo":
        return run(self._schedules.run(name))

    def list(self) -> "list[ScheduleInfo]":
        return run(self._schedules.list())

    def pages(self) -> "Iterator[ScheduleInfo]":
        return _each(self._schedules.pages)


class SyncQueues:
    """`q.queues` for code without asyncio: the same verbs, which block."""

    def __init__(self, queues: "QueuesControl") -> None:
        self._queues = queues

    def list(self) -> "list[QueueReport]":
        return run(self._queues.list())

    def decisions(self, name: str = "") -> "builtins.list[Decision]":
        return run(self._queues.decisions(name))

    def pause(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        key: str = "",
        seconds: Seconds | None = None,
        reason: str = "",
    ) -> None:
        run(self._queues.pause(queue, task=task, key=key, seconds=seconds, reason=reason))

    def resume(self, queue: str | None = None, *, task: str | None = None, key: str = "") -> bool:
        return run(self._queues.resume(queue, task=task, key=key))

    def limit(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        key: str = "",
        per: Literal["key"] | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
        burst: int = 0,
        reason: str = "",
    ) -> None:
        run(
            self._queues.limit(
                queue,
                task=task,
                key=key,
                per=per,
                concurrency=concurrency,
                rate=rate,
                burst=burst,
                reason=reason,
            )
        )

    def unlimit(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        key: str = "",
        per: Literal["key"] | None = None,
    ) -> bool:
        return run(self._queues.unlimit(queue, task=task, key=key, per=per))

    def weigh(self, queue: str, *, key: str, weight: int, reason: str = "") -> None:
        run(self._queues.weigh(queue, key=key, weight=weight, reason=reason))

    def drain(self, queue: str, *, reason: str = "") -> None:
        run(self._queues.drain(queue, reason=reason))

    def reopen(self, queue: str) -> bool:
        return run(self._queues.reopen(queue))

    def configure(
        self,
        queue: str,
        *,
        max_jobs: int | None = None,
        max_bytes: int | None = None,
        when_full: WhenFull = "reject",
    ) -> "QueueBound":
        return run(self._queues.configure(queue, max_jobs=max_jobs, max_bytes=max_bytes, when_full=when_full))


def submit_sync(task: "Task[..., R]", payload: bytes) -> SyncJob[R]:
    outbox = outbox_var.get(None)
    if outbox is not None and not task.app._around_submissions:  # nothing is sent yet: it need not block
        return SyncJob(outbox.submit(task, payload))
    return SyncJob(run(task.app._submit(task, payload)))


def _each(make: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """What an async generator gives, one after the other; it is made and closed on the background loop."""
    items = run(_begin(make))
    try:
        while (item := run(_next(items))) is not _NO_MORE:
            yield cast(T, item)
    finally:
        background.tidy(items.aclose())


async def _begin(make: Callable[[], T]) -> T:
    return make()


async def _next(items: AsyncGenerator[T, None]) -> object:
    return await anext(items, _NO_MORE)
