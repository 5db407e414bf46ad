"""The client for code without asyncio: one background event loop per process, in a daemon thread."""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload
from uuid import UUID

from taskq.client.filters import FilterFields
from taskq.client.job import Job, JobInfo
from taskq.client.jobs import BulkResult, Dead, Groups, Jobs
from taskq.client.options import DurabilityName
from taskq.client.seconds import Seconds
from taskq.protocol.messages import JobStateName, StatusReport

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.schedules import ScheduleInfo, ScheduleOptions, Schedules
    from taskq.client.task import Call, Task

R = TypeVar("R")
T = TypeVar("T")


class SyncJob(Generic[R]):
    """A `Job` for code without asyncio: the same verbs, which block."""

    __slots__ = ("_job",)

    def __init__(self, job: Job[R]) -> None:
        self._job = job

    def __repr__(self) -> str:
        return f"<Sync{repr(self._job)[1:]}"

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
        self, query: str = "", *, reason: str = "", dry_run: bool = False, **fields: Unpack[FilterFields]
    ) -> BulkResult:
        return run(self._jobs.cancel(query, reason=reason, dry_run=dry_run, **fields))

    def retry(self, query: str = "", *, dry_run: bool = False, **fields: Unpack[FilterFields]) -> BulkResult:
        return run(self._jobs.retry(query, dry_run=dry_run, **fields))

    def delete(self, query: str = "", *, dry_run: bool = False, **fields: Unpack[FilterFields]) -> BulkResult:
        return run(self._jobs.delete(query, dry_run=dry_run, **fields))


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

    def retry(self, query: str = "", *, dry_run: bool = False, **fields: Unpack[FilterFields]) -> BulkResult:
        return run(self._dead.retry(query, dry_run=dry_run, **fields))

    def discard(
        self, query: str = "", *, dry_run: bool = False, **fields: Unpack[FilterFields]
    ) -> BulkResult:
        return run(self._dead.discard(query, dry_run=dry_run, **fields))


class SyncTaskQ:
    """The verbs of a TaskQ, which block. Works in any thread, and after a fork."""

    def __init__(self, app: "TaskQ") -> None:
        self._app = app

    def connect(self) -> None:
        run(self._app.connect())

    def close(self) -> None:
        """Close the background connection. It comes back at the next use."""
        if _background is not None and _background.is_mine:
            run(self._app.close())

    def submit_many(
        self, calls: "Iterable[Call[R]]", *, durability: DurabilityName | None = None
    ) -> list[SyncJob[R]]:
        return [SyncJob(job) for job in run(self._app.submit_many(calls, durability=durability))]

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


def submit_sync(task: "Task[..., R]", payload: bytes) -> SyncJob[R]:
    return SyncJob(run(task.app._submit(task, payload)))


def _each(make: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """What an async generator gives, one after the other; it is made and closed on the background loop."""
    items = run(_begin(make))
    try:
        while True:
            item = run(_next(items))
            if item is None:
                return
            yield item
    finally:
        run(items.aclose())


async def _begin(make: Callable[[], T]) -> T:
    return make()


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)


# -- the background loop ------------------------------------------------------------------------


class _Background:
    """One thread with an event loop that runs until `stop`."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._thread = threading.Thread(target=self._main, name="taskq background loop", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def is_mine(self) -> bool:
        """Threads do not survive a fork: the child needs its own."""
        return self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C here must end the waiting there; a result that is there is not harmed.
            future.cancel()
            raise

    def stop(self) -> None:
        if self.is_mine and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _main(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._stopping.wait()


_background: _Background | None = None
_starting = threading.Lock()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, and block until it is done."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _the_background().run(work)
    work.close()
    raise RuntimeError("this would block the event loop that runs here; use the async verbs with await")


def _the_background() -> _Background:
    global _background
    if _background is None or not _background.is_mine:
        with _starting:
            if _background is None or not _background.is_mine:
                _background = _Background()
                atexit.register(_background.stop)
    return _background


def _after_fork_in_child() -> None:
    # Another thread may have held it at the fork.
    global _starting
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
