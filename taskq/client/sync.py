"""The client for code without asyncio: one background event loop per process, in a daemon thread."""

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload
from uuid import UUID

from taskq.client.job import Job, JobInfo
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

    def cancel(self, *, reason: str = "") -> bool:
        """True: it will not complete. False: it has ended already."""
        return run(self._job.cancel(reason=reason))


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
        completed = run(_begin(lambda: self._app.as_completed(inner, timeout=timeout)))
        try:
            while True:
                job = run(_next(completed))
                if job is None:
                    return
                yield SyncJob(job)
        finally:
            run(completed.aclose())

    def job(self, id: str | UUID) -> SyncJob[Any]:
        return SyncJob(self._app.job(id))

    def status(self) -> StatusReport:
        return run(self._app.status())

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


async def _begin(make: Callable[[], T]) -> T:
    return make()


async def _next(jobs: Any) -> Job[Any] | None:
    job: Job[Any] | None = await anext(jobs, None)
    return job


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
