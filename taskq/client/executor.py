"""`q.executor()`: jobs as futures of `concurrent.futures`, for code that knows pools of threads."""

import os
import threading
import time
import weakref
from asyncio import Future as LoopFuture
from asyncio import Lock, wait, wrap_future
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from difflib import get_close_matches
from functools import partial
from itertools import islice
from logging import getLogger
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from taskq import limits
from taskq.client import background
from taskq.client.future import Ending, JobFuture, nothing
from taskq.client.job import Job
from taskq.client.options import SubmitOptions
from taskq.client.task import Call, Task
from taskq.errors import ConnectionLost, TaskqError
from taskq.protocol.messages import JobStateName, Outcome

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

_log = getLogger("taskq.client")

# Not yet running: what a future's `cancel` is for.
_WAITING: Final[list[JobStateName]] = ["scheduled", "blocked", "ready"]
# The thread that completes futures ends when there was nothing to do for so long.
_IDLE_SECONDS: Final = 1.0


class JobExecutor(Executor):
    """Submits calls of tasks; workers run them. Made by `TaskQ.executor`, not by hand.

    Usable from any thread. Futures are completed, and their callbacks called, in a thread of its own.
    """

    def __init__(self, app: "TaskQ", options: SubmitOptions) -> None:
        if "id" in options:
            raise TypeError("executor(): an id is for one job, and this is for many")
        self._app = app
        self._options = options
        self._is_shut = False
        self._begin()
        _executors.add(self)

    def _begin(self) -> None:
        """Nothing submitted yet, in this process."""
        self._lock = threading.RLock()  # the collector may run a `__del__` that wants it too
        self._changed = threading.Condition(self._lock)
        self._asking = Lock()
        self._thread: threading.Thread | None = None
        self._open: dict[JobFuture[Any], None] = {}
        self._arrived: SimpleQueue[tuple[JobFuture[Any], Ending[Any]]] = SimpleQueue()
        self._unconfirmed = 0
        self._tasks: dict[int, Task[..., Any]] = {}

    # -- what an Executor does --------------------------------------------------------------------

    @overload
    def submit(self, fn: Task[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]: ...
    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]: ...
    @overload
    def submit(self, fn: str, /, *args: Any, **kwargs: Any) -> JobFuture[Any]: ...

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> JobFuture[Any]:
        """Submit a call of a task, of its function, or of the task of that name.

        Returns at once, unless very many are not yet confirmed. Raises TypeError when that is no task or
        the arguments do not fit, EncodeError or TooLarge when they cannot be sent, and RuntimeError after
        `shutdown`. What the broker says later is the future's exception.
        """
        call: Call[Any] = self._call(fn, args, kwargs)
        future: JobFuture[Any] = JobFuture(self)
        with self._changed:
            self._changed.wait_for(lambda: self._unconfirmed < limits.EXECUTOR_UNCONFIRMED_MAX)
            if background.is_exiting():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future._sending = background.post(self._send(future, call))
            self._open[future] = None
            self._unconfirmed += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._complete, name="taskq executor", daemon=True)
                self._thread.start()
        return future

    @overload
    def map(
        self,
        fn: Task[..., T] | Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        timeout: float | None = ...,
        chunksize: int = ...,
        buffersize: int | None = ...,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = ...,
        chunksize: int = ...,
        buffersize: int | None = ...,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: str,
        *iterables: Iterable[Any],
        timeout: float | None = ...,
        chunksize: int = ...,
        buffersize: int | None = ...,
    ) -> Iterator[Any]: ...

    def map(
        self,
        fn: Any,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results, in order. Submits all calls at once, or with `buffersize` only so many ahead.

        `timeout` is in seconds from now. Calls travel many at a time anyway: `chunksize` changes nothing.
        Leaving early cancels those that wait.
        """
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize is 1 or more, or None for all at once, not {buffersize}")
        end = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        submitted = (self.submit(fn, *args) for args in calls)
        ahead = deque(islice(submitted, buffersize))
        return self._results(submitted, ahead, end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more. With `wait`, until all jobs have ended; the jobs of others are left alone.

        `cancel_futures` cancels those that no worker has yet.
        """
        with self._lock:
            self._is_shut = True
            waiting = list(self._open)
        if cancel_futures and waiting:
            self._cancel(waiting)
        if not wait:
            return
        if threading.current_thread() is self._thread:
            raise RuntimeError("shutdown() in a callback would wait for itself; say wait=False")
        with self._changed:
            self._changed.wait_for(lambda: not self._open)

    def _results(
        self, submitted: Iterator[JobFuture[T]], ahead: deque[JobFuture[T]], end: float | None
    ) -> Iterator[T]:
        try:
            while ahead:
                # Not held by a name in here: what was taken belongs to the caller alone.
                yield _result_or_cancel(ahead.popleft(), None if end is None else end - time.monotonic())
                ahead.extend(islice(submitted, 1))
        finally:
            if ahead and not background.is_exiting():
                self._cancel(list(ahead))

    # -- which task -------------------------------------------------------------------------------

    def _call(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        task = self._declared(fn)
        if task is None:
            task, name = self._app._functions.task_for(fn)
            args, kwargs = (name, args, kwargs), {}
        return self._optioned(task).call(*args, **kwargs)

    def _declared(self, fn: Any) -> Task[..., Any] | None:
        if isinstance(fn, str):
            return self._named(fn)
        if isinstance(fn, Task):
            if fn.app is not self._app:
                raise TypeError(f"{fn!r} is of another TaskQ: use an executor of that one")
            return fn
        if not callable(fn):
            raise TypeError(f"submit() takes a task, its function, or its name, not {fn!r:.80}")
        return next((task for task in self._app.tasks.values() if task.fn is fn), None)

    def _named(self, name: str) -> Task[..., Any]:
        tasks = self._app.tasks
        if name not in tasks:
            close = get_close_matches(name, tasks, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "import the module that declares it"
            raise TypeError(f"there is no task {name!r} in this app; {hint}")
        return tasks[name]

    def _optioned(self, task: Task[..., Any]) -> Task[..., Any]:
        if not self._options:
            return task
        changed = self._tasks.get(id(task))
        if changed is None:
            changed = task.options(**self._options)
            # Only those that live as long as the app: another one's id may come again.
            if self._app.tasks.get(task.name) is task:
                self._tasks[id(task)] = changed
        return changed

    # -- on the background loop -------------------------------------------------------------------

    async def _send(self, future: JobFuture[Any], call: Call[Any]) -> None:
        try:
            job = await self._app._submit(call.task, call.payload)
            future._job = job
            outcome = self._app._producer().outcome_nowait(job._id)
        except Exception as error:
            self._arrived.put((future, partial(nothing, error)))
        except BaseException:
            self._arrived.put((future, partial(nothing, ConnectionLost("this client was stopped"))))
            raise
        else:
            outcome.add_done_callback(partial(self._on_outcome, future, job))
        finally:
            with self._changed:
                self._unconfirmed -= 1
                self._changed.notify_all()

    def _on_outcome(self, future: JobFuture[Any], job: Job[Any], outcome: "LoopFuture[Outcome]") -> None:
        if outcome.cancelled():
            ending: Ending[Any] = partial(nothing, ConnectionLost("this client was stopped"))
        elif (error := outcome.exception()) is not None:
            ending = partial(nothing, error)
        else:
            job._settle(outcome.result())
            ending = partial(_taken, job)
        self._arrived.put((future, ending))

    async def _withdraw(self, futures: list[JobFuture[Any]]) -> int:
        """Have the broker cancel those of the jobs that no worker has. How many those were."""
        sending = [wrap_future(each) for future in futures if not (each := future._sending).done()]
        if sending:
            await wait(sending)
        ids = [job.id for future in futures if (job := future._job) is not None]
        done = 0
        async with self._asking:  # the broker takes few of these questions at once
            for start in range(0, len(ids), limits.BATCH_MAX):
                part = ids[start : start + limits.BATCH_MAX]
                done += (await self._app.jobs.cancel(id=part, state=_WAITING)).done
        return done

    # -- cancelling and completing ----------------------------------------------------------------

    def _cancel(self, futures: list[JobFuture[Any]]) -> bool:
        """Whether the broker has cancelled all of them. Does not wait where an event loop runs."""
        for future in futures:
            future._is_unwanted = True
        work = self._withdraw(futures)
        if background.is_in_loop():
            background.post(work)
            return False
        try:
            return background.run(work) == len(futures)
        except TaskqError as error:
            _log.warning("nobody could say whether %d jobs were cancelled: %s", len(futures), error)
            return False

    def _complete(self) -> None:
        while True:
            try:
                future, ending = self._arrived.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if not self._open:
                        self._thread = None
                        return
            else:
                self._end(future, ending)
                del future, ending  # it may be the last to know them

    def _end(self, future: JobFuture[Any], ending: Ending[Any]) -> None:
        """Complete the future, unless that was done already."""
        with self._lock:
            if future._is_settled:
                return
            future._is_settled = True
        try:
            future._settle(*ending())
        finally:
            with self._changed:
                self._open.pop(future, None)
                self._changed.notify_all()

    def _flush(self, deadline: float) -> None:
        """Wait until what was submitted is confirmed: the broker has it, whether we are there or not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unconfirmed, max(0.0, deadline - time.monotonic()))
            if self._unconfirmed:
                _log.warning(
                    "%d jobs that an executor has submitted were not confirmed when the process ended",
                    self._unconfirmed,
                )


def _taken(job: Job[R]) -> tuple[R | None, BaseException | None]:
    try:
        return job._take(), None
    except Exception as error:
        return None, error


def _result_or_cancel(future: JobFuture[T], timeout: float | None) -> T:
    try:
        try:
            return future.result(timeout)
        finally:
            future.cancel()  # it has ended, or the time is over
    finally:
        del future  # an exception's traceback must not keep it


_executors: "weakref.WeakSet[JobExecutor]" = weakref.WeakSet()


def _flush_all() -> None:
    deadline = time.monotonic() + limits.CONFIRM_TIMEOUT_MS / 1000
    for executor in list(_executors):
        executor._flush(deadline)


background.before_exit(_flush_all)


def _after_fork_in_child() -> None:
    for executor in list(_executors):
        executor._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
