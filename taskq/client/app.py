"""TaskQ: where tasks are declared and jobs come from. No I/O and no loop until the first use."""

import asyncio
import os
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload
from uuid import UUID

from taskq import limits
from taskq.client.address import addresses_of, token_of
from taskq.client.callables import module_of
from taskq.client.context import context_var
from taskq.client.extras import PLAIN
from taskq.client.job import Job
from taskq.client.jobs import Dead, Jobs
from taskq.client.making import smaller, with_ext
from taskq.client.middleware import Middleware, Outgoing, around_submissions, submit_through
from taskq.client.middleware import checked as checked_middleware
from taskq.client.options import (
    DeclareOptions,
    DurabilityName,
    SubmitOptions,
    TaskOptions,
    WorkerOptions,
    durability_of,
    id_of,
    reason_of,
    with_durability,
)
from taskq.client.outbox import outbox_var
from taskq.client.producer import ASK_TIMEOUT, CONNECT_TIMEOUT, Producer, StandIn
from taskq.client.queues import QueuesControl
from taskq.client.schedules import Scheduled, ScheduleOptions, Schedules, scheduled
from taskq.client.seconds import Seconds, millis_of
from taskq.client.session import NewJob, Submission
from taskq.client.sync import SyncTaskQ
from taskq.client.task import (
    OURS,
    AsyncStreamTask,
    AsyncTask,
    Call,
    Declare,
    P,
    PlainStreamTask,
    PlainTask,
    R,
    T,
    Task,
    declare,
)
from taskq.client.values.compression import check_can_compress
from taskq.client.values.serializers import Serializer, serializer_of
from taskq.client.waiting import cancel_all, in_order_of_completion, settle_all
from taskq.client.workers import Workers
from taskq.errors import ConfigError, ConfirmTimeout, Refused, SubmitErrors, TaskqError
from taskq.limits import COMPRESS_BYTES_MIN
from taskq.protocol.messages import CatchUp, Ext, Overlap, StatusReport

if TYPE_CHECKING:
    from taskq.client.executor import JobExecutor
    from taskq.client.functions import Functions

Lifespan = Callable[["TaskQ"], AbstractAsyncContextManager[Any]]


class TaskQ:
    """Declares tasks, submits jobs, waits for them.

    `url` is `taskq://HOST:PORT`, `taskq://HOST:PORT/NAMESPACE`, `unix:PATH`, or several; without it
    $TASKQ_URL, else taskq://127.0.0.1:7700. The token is `token`, else what $TASKQ_TOKEN_FILE or
    $TASKQ_TOKEN holds. A `viewer` may look and not submit: every token is good for that.

    It connects at first use, once per event loop that uses it: `close` closes the connection of the
    loop that it is called in. After a fork the child connects anew.

    `lifespan` is called with this app and returns an async context manager; workers enter it before they
    take jobs and leave it after the last one, once for each process, and what it yields is
    `current().state`. Producers do not enter it. `middleware` stands around submissions and attempts,
    the first outermost. `overrides`, for tests: which factory to call instead of that of a `Depends`.

    `serializer="pickle"` sends what MessagePack cannot, and runs code that arrives: only where all who can
    submit are trusted. An object that is a `Serializer` packs as it likes. `compress=True` makes arguments
    and results above 1 KiB smaller with zstd (extra `zstd`); only workers that have it get such jobs.
    ConfigError when one of these cannot be had.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        name: str = "",
        token: str | None = None,
        role: Literal["producer", "viewer"] = "producer",
        lifespan: Lifespan | None = None,
        middleware: Iterable[Middleware] = (),
        serializer: "Literal['msgpack', 'pickle'] | Serializer" = "msgpack",
        compress: bool = False,
    ) -> None:
        if compress:
            check_can_compress()
        self._addresses = addresses_of(url)
        self._name = name
        self._token = token
        self.serializer = serializer_of(serializer)  # None: MessagePack
        self.compresses = compress
        self._role: Literal["producer", "viewer"] = role
        if lifespan is not None and not callable(lifespan):
            raise ConfigError(f"lifespan= is a function under @asynccontextmanager, not {lifespan!r}")
        self.lifespan = lifespan
        self.middleware = checked_middleware(middleware)
        self._around_submissions = around_submissions(self.middleware)
        # For tests: the factory to call instead of one that a Depends names.
        self.overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._tasks: dict[str, Task[..., Any]] = {}
        self._producers: dict[asyncio.AbstractEventLoop, Producer] = {}
        self._latest: Producer | None = None
        self._stand_in: StandIn | None = None
        self._is_embedded = False
        _apps.add(self)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The declared tasks, by name."""
        return MappingProxyType(self._tasks)

    @property
    def name(self) -> str:
        """What this app is called: the name given, else the module of its first task."""
        tasks = (task for name, task in self._tasks.items() if not name.startswith(OURS))
        return self._name or next((module_of(task.fn) for task in tasks), "")

    @property
    def namespace(self) -> str:
        return self._addresses[0].namespace

    @property
    def urls(self) -> list[str]:
        """The addresses in use, as `TaskQ(urls)` reads them back."""
        return [str(address) for address in self._addresses]

    @property
    def token(self) -> str | None:
        """The token in use: the one given, or what the environment holds now."""
        return token_of() if self._token is None else self._token

    # -- declaring ----------------------------------------------------------------------------

    @overload  # the first that fits is meant: a plain `def` may return a coroutine too, but nobody's does
    def task(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, AsyncIterator[T]], /
    ) -> AsyncStreamTask[P, T]: ...
    @overload
    def task(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, Iterator[T]], /
    ) -> PlainStreamTask[P, T]: ...
    @overload
    def task(self, fn: Callable[P, R], /) -> PlainTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[DeclareOptions]) -> Declare: ...

    def task(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a function as a task: `@q.task`, or `@q.task(queue="mail", retry=3)`.

        `fn` may be `async def`, or a plain `def`, which workers run in a thread; what a generator yields
        is streamed to `job.stream()`.
        """
        checked = TaskOptions().changed(options, DeclareOptions.__annotations__)

        def register(fn: Callable[..., Any]) -> Task[..., Any]:
            task = declare(self, fn, options.get("name"), options.get("executor"), checked)
            present = self._tasks.setdefault(task.name, task)
            if present.fn != task.fn:  # bound methods are made anew at each look
                raise ConfigError(
                    f"two functions want to be the task {task.name!r}; give one of them another name="
                )
            self._tasks[task.name] = task
            return task

        return register if fn is None else register(fn)

    def cron(
        self,
        expr: str,
        *,
        tz: str = "UTC",
        catch_up: CatchUp = "skip",
        overlap: Overlap = "allow",
        jitter: Seconds = 0,
        name: str | None = None,
    ) -> Scheduled:
        """Run a function or a task at these times: `@q.cron("30 2 * * *", tz="Europe/Berlin")`.

        `expr` has 5 fields, or 6 with the seconds in front, or is one of @hourly, @daily and so on.
        `catch_up` says what becomes of times at which the broker was down: "skip", the "last" one, or
        "all"; `overlap` what happens while the job before has no outcome: "allow" both, "skip" this
        one, "queue" it, or "cancel" the other. Each job waits up to `jitter`.

        Workers announce it, and the broker keeps the clock. `name` is the task's unless it has more
        than one schedule. ConfigError when it cannot be, or the function wants arguments.
        """
        return scheduled(
            self,
            name,
            ScheduleOptions(cron=expr, tz=tz, catch_up=catch_up, overlap=overlap, jitter=jitter),
        )

    def every(
        self,
        interval: Seconds,
        *,
        catch_up: CatchUp = "skip",
        overlap: Overlap = "allow",
        jitter: Seconds = 0,
        name: str | None = None,
    ) -> Scheduled:
        """Run a function or a task at a fixed rate: `@q.every("5m")`; the rest as for `cron`."""
        options = ScheduleOptions(every=interval, catch_up=catch_up, overlap=overlap, jitter=jitter)
        return scheduled(self, name, options)

    # -- connecting ---------------------------------------------------------------------------

    async def connect(self, timeout: Seconds = CONNECT_TIMEOUT) -> None:
        """Connect now instead of at first use. ConnectionLost when no broker answers in time."""
        await self._producer().link.wait_connected(millis_of("timeout", timeout) / 1000)

    async def close(self) -> None:
        """Close this event loop's connection. Whoever still waits on it gets ConnectionLost."""
        producer = self._producers.pop(asyncio.get_running_loop(), None)
        self._latest = None
        if producer is not None:
            await producer.close()

    async def _close_all(self) -> None:
        """Close the connections of all event loops that have one, from here."""
        for loop, producer in list(self._producers.items()):
            if loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(producer.close(), loop))

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -- submitting ---------------------------------------------------------------------------

    async def submit_many(
        self,
        calls: Iterable[Call[R]],
        *,
        durability: DurabilityName | None = None,
        confirm_timeout: Seconds = limits.CONFIRM_TIMEOUT_MS / 1000,
    ) -> list[Job[R]]:
        """Submit calls in few messages. Returns their jobs, in order, when all are confirmed.

        Not atomic: when some are refused or not confirmed in time, SubmitErrors holds an error for
        each of those, and in `accepted` the jobs that are there.
        """
        level = None if durability is None else durability_of(durability)
        outbox = outbox_var.get(None)
        if outbox is not None:
            enclosed = [(_task_of(call), call.payload) for call in calls]
            return await outbox.submit_through(self._around_submissions, enclosed, level)
        producer = self._producer()
        new_id = producer.ids.new_id
        specs: list[NewJob] = []
        jobs: list[Job[R]] = []
        outgoing: list[Outgoing] = []
        around = self._around_submissions
        task: Task[..., R] | None = None
        compresses = self.compresses
        for call in calls:
            if getattr(call, "task", None) is not task:  # mostly they are of one task
                task = _task_of(call)
                terms = task.terms if level is None else with_durability(task.terms, level)
                own_id, slot, read = task.settings.id, task.slot, task.read_result
                kind_of_job = task.kind_of_job
                extras = task.settings.extras
                ext = extras.shared(task.name, producer.id)
                own_ext = partial(extras.own, ext, task.name) if extras.is_by_arguments else None
            id = own_id or new_id(slot)
            job_ext = own_ext(call.payload) if own_ext else ext
            spec = (id, terms, call.payload, job_ext, 0)
            specs.append(smaller(spec) if compresses and len(call.payload) > COMPRESS_BYTES_MIN else spec)
            jobs.append(kind_of_job(self, id, read))
            if around:
                outgoing.append(Outgoing(id.hex(), call.task.name, call.task.settings, dict(job_ext or {})))
        seconds = millis_of("confirm_timeout", confirm_timeout) / 1000

        async def submit() -> None:
            all_specs = with_ext(specs, outgoing) if outgoing else specs
            errors = _settle(jobs, await producer.submit(all_specs, seconds), seconds)
            if errors:
                group = SubmitErrors(f"{len(errors)} of {len(jobs)} jobs were not accepted", errors)
                group.accepted = [job for job in jobs if job._is_confirmed]
                raise group

        if outgoing:
            await submit_through(around, outgoing, submit)
        else:
            await submit()
        return jobs

    # -- in this process ----------------------------------------------------------------------

    async def run_worker(
        self,
        *,
        grace: Seconds = limits.GRACE_MS / 1000,
        until: asyncio.Event | None = None,
        ready: asyncio.Event | None = None,
        **worker: Unpack[WorkerOptions],
    ) -> None:
        """Run this app's tasks here, on this event loop, until `until` is set or this is cancelled.

        `concurrency` is how many run at once; `queues` are those to serve, `["high:3", "default"]` with
        weights, or with `strict=True` in strict order; `labels` and `resources` are what jobs may ask for.
        A thread vouches for this process to the broker, so that a task that blocks the loop keeps
        its jobs. `ready` is set once the lifespan has been entered. Raises Refused when the broker does not
        want this worker, ConfigError when the lifespan fails.
        """
        if self._stand_in is not None:
            if ready is not None:
                ready.set()
            await (until or asyncio.Event()).wait()  # it runs what there is to run
            return
        from taskq.embedded import house

        seconds = millis_of("grace", grace) / 1000
        await house.run_worker(self, grace=seconds, until=until, ready=ready, **worker)

    @asynccontextmanager
    async def embedded(
        self, *, journal: str = "memory:", **worker: Unpack[WorkerOptions]
    ) -> AsyncGenerator[Self, None]:
        """A broker and a worker (see `run_worker`) inside this process, for as long as the block runs.

        It is the real broker, on a free port of 127.0.0.1; this app talks to it meanwhile, in all
        threads. With `journal="sqlite:PATH"` what is not done is still there the next time. ConfigError
        when the app is in such a block already, or what is said of the worker cannot be.
        """
        if self._stand_in is not None:
            yield self
            return
        from taskq.embedded import house

        if self._is_embedded:
            raise ConfigError("this app has a broker in this process already; leave that block first")
        self._is_embedded = True
        usual = (self._addresses, self._producers, self._latest)
        try:
            async with house.broker(journal) as url:
                self._addresses, self._producers, self._latest = addresses_of(url), {}, None
                async with self, house.working(self, **worker):
                    yield self
                await self._close_all()
        finally:
            self._addresses, self._producers, self._latest = usual
            self._is_embedded = False

    # -- parts --------------------------------------------------------------------------------

    async def _submit(self, task: Task[..., R], payload: bytes) -> Job[R]:
        options = task.settings
        extras = options.extras
        is_plain = extras is PLAIN and context_var.get(None) is None  # mostly
        if not is_plain and (outbox := outbox_var.get(None)) is not None:
            (enclosed,) = await outbox.submit_through(self._around_submissions, [(task, payload)])
            return enclosed
        producer = self._producer()
        id = options.id or producer.ids.new_id(task.slot)
        job: Job[R] = task.kind_of_job(self, id, task.read_result)
        ext: Ext | None = None
        if not is_plain:
            ext = extras.shared(task.name, producer.id)
            if extras.is_by_arguments:
                ext = extras.own(ext, task.name, payload)
        spec: NewJob = (id, task.terms, payload, ext, 0)
        if len(payload) > COMPRESS_BYTES_MIN and self.compresses:
            spec = smaller(spec)
        seconds = options.confirm_timeout_ms / 1000
        if not self._around_submissions:
            errors = _settle([job], await producer.submit((spec,), seconds), seconds)
            if errors:
                raise _told(errors[0], producer)
            return job
        outgoing = [Outgoing(job.id, task.name, options, dict(ext or {}))]

        async def submit() -> None:
            errors = _settle([job], await producer.submit(with_ext([spec], outgoing), seconds), seconds)
            if errors:
                raise _told(errors[0], producer)

        await submit_through(self._around_submissions, outgoing, submit)
        return job

    # -- waiting ------------------------------------------------------------------------------

    @overload
    async def gather(self, *jobs: Job[R], return_exceptions: Literal[False] = False) -> list[R]: ...
    @overload
    async def gather(self, *jobs: Job[R], return_exceptions: bool) -> list[R | BaseException]: ...

    async def gather(self, *jobs: Job[Any], return_exceptions: bool = False) -> list[Any]:
        """The jobs' results, in their order. The first failure raises, and leaves the other jobs alone
        (see `cancel_all`); with `return_exceptions` it stands in the list instead."""
        await settle_all(self._producer(), jobs, until_failure=not return_exceptions)
        if not return_exceptions:
            for job in jobs:
                if job._outcome is not None and job._outcome.state != "succeeded":
                    job._take()  # raises
            return [job._take() for job in jobs]
        return [_taken(job) for job in jobs]

    def as_completed(
        self, jobs: Iterable[Job[R]], *, timeout: Seconds | None = None
    ) -> AsyncGenerator[Job[R], None]:
        """Each job, as they end: `async for job in q.as_completed(jobs): await job`.

        TimeoutError when they have not all ended within `timeout` seconds.
        """
        seconds = None if timeout is None else millis_of("timeout", timeout) / 1000
        return in_order_of_completion(self._producer(), list(jobs), seconds)

    async def cancel_all(self, jobs: Iterable[Job[Any]], *, reason: str = "") -> int:
        """Cancel those of them that have no outcome, running ones too; for the rest, when one has failed
        or the first result was enough. Returns how many will not complete. Others, and jobs that do not
        exist, are left alone."""
        return await cancel_all(self._producer(), jobs, reason_of(reason))

    def job(self, id: str | UUID) -> Job[Any]:
        """A handle to a job by its id. Asks nobody whether there is such a job."""
        return Job(self, id_of(id))

    async def status(self) -> StatusReport:
        """How the broker is: counts, queues, workers."""
        producer = self._producer()
        report = await producer.ask(producer.session.status, ASK_TIMEOUT)
        assert isinstance(report, StatusReport)
        return report

    @cached_property
    def jobs(self) -> Jobs:
        """Looking for jobs, and doing something to all that are found."""
        return Jobs(self)

    @cached_property
    def dead(self) -> Dead:
        """Dead jobs: list, group, retry, discard, export them."""
        return Dead(self)

    @cached_property
    def schedules(self) -> Schedules:
        """The broker's schedules, and those that `cron` and `every` have declared."""
        return Schedules(self)

    @cached_property
    def queues(self) -> QueuesControl:
        """What may be said of queues while they are in use."""
        return QueuesControl(self)

    def executor(self, **options: Unpack[SubmitOptions]) -> "JobExecutor":
        """A `concurrent.futures.Executor` whose workers are those of the broker.

        `submit` takes a task, its function or its name; functions that are no tasks must be allowed, see
        `allow_functions`. `options` are those of `Task.options`, such as `queue`, for all that it submits.
        Its futures come with CancelledError, or with the errors of `Job.result`: an exception of the task
        is a JobFailed, for exceptions are never made again by the names that came from elsewhere.
        """
        from taskq.client.executor import JobExecutor

        return JobExecutor(self, options)

    def allow_functions(self, *modules: str) -> None:
        """Let executors submit the functions of these modules as they are, without `@q.task`.

        Where the app is made, so that workers know it too. Whoever may submit may then have a worker call
        any function or class of these modules, with any arguments: name modules that were written for
        that, and never such as `builtins`, `os` or `subprocess`. What they import is not in it, nor
        are modules below them. Raises ConfigError for what cannot be a module's name.
        """
        self._functions.allow(modules)

    @cached_property
    def _functions(self) -> "Functions":
        from taskq.client.functions import Functions

        return Functions(self)

    @cached_property
    def workers(self) -> Workers:
        """Who runs the jobs, what runs there now, and telling them to stop."""
        return Workers(self)

    @cached_property
    def sync(self) -> SyncTaskQ:
        """The same verbs for code without asyncio."""
        return SyncTaskQ(self)

    def _stand_aside(self, stand_in: StandIn) -> Callable[[], None]:
        """Until the returned is called, this app speaks with `stand_in`, as if it had been made now."""
        if self._stand_in is not None:
            raise ConfigError("this app is in a test environment already; leave that one first")
        usual = (self._producers, self._latest)
        self._stand_in, self._producers, self._latest = stand_in, {}, None

        def come_back() -> None:
            self._stand_in = None
            self._producers, self._latest = usual

        return come_back

    def _producer(self) -> Producer:
        """The running loop's connection; made when there is none, or the last one was refused for good."""
        latest = self._latest
        # A thread runs one loop at a time. Asking asyncio which costs a system call, before Python
        # 3.12: an eighth of what a submit and its result take.
        if latest is not None and latest.is_here and not latest.is_over:
            return latest
        loop = asyncio.get_running_loop()
        producer = self._producers.get(loop)
        if producer is None or producer.is_over:
            for gone in [each for each in self._producers if each.is_closed()]:
                del self._producers[gone]
            if self._stand_in is not None:
                producer = self._stand_in.producer(self._name, self._role)
            else:
                producer = Producer(self.urls, name=self._name, token=self.token, role=self._role)
            self._producers[loop] = producer
        self._latest = producer
        return producer


def _task_of(call: object) -> Task[..., Any]:
    if not isinstance(call, Call):
        what = type(call).__name__
        raise TypeError(f"submit_many() takes calls, as task.call(...) makes them, not {what}")
    task: Task[..., Any] = call.task
    return task


def _told(error: TaskqError, producer: Producer) -> TaskqError:
    if isinstance(error, ConfirmTimeout):
        error.add_note(producer.link.trouble)
    return error


def _settle(jobs: Sequence[Job[Any]], submissions: list[Submission], seconds: float) -> list[TaskqError]:
    """Give the jobs what the broker said of them. Returns an error for each that may not be there."""
    errors: list[TaskqError] = []
    at = 0
    for submission in submissions:
        part = jobs[at : at + submission.count]
        at += submission.count
        if submission.undecided:
            errors += [ConfirmTimeout(job.id, seconds) for job in part]
            continue
        for job in part:
            job._is_confirmed = True
        errors += _hear(part, submission)
    errors += [ConfirmTimeout(job.id, seconds) for job in jobs[at:]]
    return errors


def _hear(jobs: Sequence[Job[Any]], submission: Submission) -> list[TaskqError]:
    errors: list[TaskqError] = []
    for verdict in submission.verdicts:
        job = jobs[verdict.seq - submission.first]
        if verdict.code == "exists":
            job._id = verdict.id or job._id
            continue
        job._is_confirmed = False
        error = Refused.from_code(verdict.code, verdict.text)
        error.add_note(f"job {job.id}")
        errors.append(error)
    return errors


def _taken(job: Job[Any]) -> Any:
    try:
        return job._take()
    except TaskqError as error:
        return error


_apps: "weakref.WeakSet[TaskQ]" = weakref.WeakSet()
# Connections that a fork copied. The child must not touch them, not even to close them: the parent
# uses them still, and closing would go through an epoll that both share.
_inherited: list[Producer] = []


def _after_fork_in_child() -> None:
    for app in _apps:
        _inherited.extend(app._producers.values())
        app._producers = {}
        app._latest = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
