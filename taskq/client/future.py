"""The futures of `q.executor()`: those of `concurrent.futures`, of jobs."""

import os
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from taskq.client import background
from taskq.client.job import Job
from taskq.client.sync import SyncJob
from taskq.errors import JobCancelled

if TYPE_CHECKING:
    from taskq.client.executor import JobExecutor

R = TypeVar("R")


class JobFuture(Future[R]):
    """A `concurrent.futures.Future` of a job.

    It waits in the state PENDING until the job has its outcome, also while the job runs. What went wrong
    is its `exception()`: JobFailed and the others of `Job.result`, or what `submit` of a task raises.
    """

    def __init__(self, executor: "JobExecutor | None" = None) -> None:
        super().__init__()
        self._executor = executor
        self._pid = os.getpid()
        self._job: Job[R] | None = None
        self._sending: Future[None]
        self._is_unwanted = False  # somebody wants it cancelled
        self._is_settled = False

    @property
    def job(self) -> SyncJob[R] | None:
        """The job, with its id and verbs; None until the broker has confirmed it."""
        return None if self._job is None else SyncJob(self._job)

    def running(self) -> bool:
        """Whether a worker runs it now. Asks the broker, so that it blocks for a moment."""
        if self._job is None or self.done():
            return super().running()
        return background.run(self._job.status()) == "running"

    def cancel(self) -> bool:
        """Cancel the job if no worker has it yet. False: it runs or has ended, or nobody could say.

        Asks the broker, so that it blocks for a moment; but never where an event loop runs: there it
        mostly says False, and the future is cancelled once the broker has agreed. `future.job.cancel()`
        also stops a job that runs.
        """
        if self.done() or self._executor is None:
            return super().cancel()
        self._check_process()
        if self._executor._cancel([self]):
            self._executor._end(self, partial(nothing, CancelledError()))
            futures.wait([self])  # another thread may be about to say the same
        return self.cancelled()

    def result(self, timeout: float | None = None) -> R:
        self._check_process()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_process()
        return super().exception(timeout)

    def _check_process(self) -> None:
        """After a fork nobody here completes it: waiting would be for ever."""
        if self._pid != os.getpid() and not self.done():
            known = "" if self._job is None else f": q.sync.job('{self._job.id}') has it"
            raise RuntimeError(f"this future belongs to the process that was forked{known}")

    def _settle(self, value: R | None, error: BaseException | None) -> None:
        """Take what came of it; once."""
        if isinstance(error, CancelledError) or (self._is_unwanted and isinstance(error, JobCancelled)):
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        if error is None:
            self.set_result(value)  # type: ignore[arg-type]  # without an error it is the result
        else:
            self.set_exception(error)


Ending = Callable[[], tuple[R | None, BaseException | None]]


def nothing(error: BaseException) -> tuple[None, BaseException]:
    """An ending without a value."""
    return None, error
