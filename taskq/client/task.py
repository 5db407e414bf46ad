"""A registered function: called here and now, or submitted to run wherever there is a worker."""

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from msgspec import Struct
from msgspec.structs import replace

from taskq.client.callables import check_importable, default_name, described, function_of, is_async_function
from taskq.client.job import Job
from taskq.client.options import NO_TERMS, ExecutorName, SubmitOptions, TaskOptions, checked_name
from taskq.client.signature import CallSignature
from taskq.client.sync import SyncJob, SyncStreamJob, submit_sync
from taskq.client.values.foreign import signature_of
from taskq.errors import ConfigError
from taskq.protocol.ids import job_slot
from taskq.protocol.messages import COMPRESSED, Terms

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.telling import StreamJob

P = ParamSpec("P")
R = TypeVar("R")
A_contra = TypeVar("A_contra", contravariant=True)
T = TypeVar("T")

# How the names of tasks begin that no user has declared.
OURS: Final = "taskq."


class Task(Generic[P, R]):
    """A function that can be submitted. `R` is what a worker sends back: for `async def`, what is awaited."""

    is_stream = False  # a generator function, whose items are streamed
    kind_of_job: type[Job[Any]] = Job

    def __init__(
        self,
        app: "TaskQ",
        fn: Callable[P, Any],
        *,
        name: str,
        options: TaskOptions,
        executor: ExecutorName,
        signature: CallSignature | None = None,
    ) -> None:
        # Of an object that can be called, `__dict__` is its own affair.
        functools.update_wrapper(self, fn, updated=["__dict__"] if inspect.isroutine(fn) else [])
        self.app = app
        self.fn = fn
        self.name = name
        self.settings = options
        self.executor: ExecutorName = executor
        self.signature = signature or signature_of(fn, name, app.serializer)
        self.read_result = self.signature.result  # bound once: jobs in their thousands refer to it

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run the function here and now, as if it were no task."""
        if self.signature.needs:
            self.signature.check_plain_call(args, kwargs)
        return self.fn(*args, **kwargs)

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Hand the call to the broker. Returns when the broker has confirmed it.

        Raises TypeError when the arguments do not fit, EncodeError when one cannot be sent, TooLarge
        when they are too large; Refused and its kinds when the broker says no; ConfirmTimeout when
        it does not answer, and the job may or may not be there.
        """
        return await self.app._submit(self, self.signature.encode(args, kwargs))

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncJob[R]:
        """`submit` for code without asyncio; see `TaskQ.sync`."""
        return submit_sync(self, self.signature.encode(args, kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> "Call[R]":
        """The call, unsent, for `submit_many`. Arguments are packed now: changing them changes nothing."""
        return Call(self, self.signature.encode(args, kwargs))

    @overload
    def map(
        self: "Mappable[A_contra, R]",
        items: "Iterable[A_contra] | AsyncIterable[A_contra]",
        *,
        concurrency: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> "AsyncGenerator[R, None]": ...
    @overload
    def map(
        self: "Mappable[A_contra, R]",
        items: "Iterable[A_contra] | AsyncIterable[A_contra]",
        *,
        concurrency: int | None = None,
        return_exceptions: bool,
    ) -> "AsyncGenerator[R | BaseException, None]": ...

    def map(
        self: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """A job for each item, which is its one argument; the results, in the order of the items.

        For any number of items: at most `concurrency` jobs (1000) are without outcome, and at most twice
        as many were submitted whose results nobody has taken. Items are taken when there is room.

        What goes wrong with a job, an item or its submission is raised at its place, which ends this;
        with `return_exceptions` it stands there instead. When this ends before its items do (an
        error, `break`, a timeout) the broker is asked to cancel the jobs that are on their way, running
        ones too: nobody can have their results any more. Use `contextlib.aclosing` to end it for certain
        where you `break`; use `submit_many` for jobs that are to go on.
        """
        from taskq.client.mapping import in_order

        return in_order(self, items, concurrency, return_exceptions=return_exceptions)

    @overload
    def map_sync(
        self: "Mappable[A_contra, R]",
        items: "Iterable[A_contra]",
        *,
        concurrency: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> "Generator[R, None, None]": ...
    @overload
    def map_sync(
        self: "Mappable[A_contra, R]",
        items: "Iterable[A_contra]",
        *,
        concurrency: int | None = None,
        return_exceptions: bool,
    ) -> "Generator[R | BaseException, None, None]": ...

    def map_sync(
        self: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Generator[Any, None, None]:
        """`map` for code without asyncio. Items are taken in the thread that takes the results."""
        from taskq.client.mapping import in_order_sync

        return in_order_sync(self, items, concurrency, return_exceptions=return_exceptions)

    def options(self, **options: Unpack[SubmitOptions]) -> Self:
        """The same task with other options, for what is submitted through it."""
        changed = self.settings.changed(options, SubmitOptions.__annotations__)
        task = type(self)(
            self.app,
            self.fn,
            name=self.name,
            options=changed,
            executor=self.executor,
            signature=self.signature,
        )
        if options.keys() <= NO_TERMS:
            # One object for all: with a thousand keys, comparing terms would take longer than the rest.
            task.terms = self.terms
        return task

    @cached_property
    def terms(self) -> Terms:
        """The options, as jobs carry them. One object for all jobs, so that they share it on the wire."""
        terms = self.settings.terms(self.name, self.app.tasks)
        return replace(terms, reads=COMPRESSED) if self.app.compresses else terms

    @cached_property
    def slot(self) -> int:
        return job_slot(self.app.namespace, self.settings.queue)


class AsyncTask(Task[P, R]):
    """A task whose function is `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here and now, as if it were no task."""
        if self.signature.needs:
            self.signature.check_plain_call(args, kwargs)
        coroutine: Coroutine[Any, Any, R] = self.fn(*args, **kwargs)
        return coroutine


class PlainTask(Task[P, R]):
    """A task whose function is a plain `def`; workers run it in a thread, or in a process of its own."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, as if it were no task."""
        if self.signature.needs:
            self.signature.check_plain_call(args, kwargs)
        result: R = self.fn(*args, **kwargs)
        return result


class StreamTask(Task[P, int], Generic[P, T]):
    """A task whose function is a generator: what it yields is streamed to `job.stream()`.

    A plain one runs in a thread. The job's result is how many items there were.
    """

    is_stream = True

    def __init__(self, *args: Any, **options: Any) -> None:
        from taskq.client.telling import StreamJob

        super().__init__(*args, **options)
        self.kind_of_job = StreamJob
        self.read_result = self.signature.item

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> "StreamJob[T]":
        """Hand the call to the broker, as `Task.submit` does. The job has a `stream()`."""
        job: Any = await super().submit(*args, **kwargs)
        stream: StreamJob[T] = job
        return stream

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncStreamJob[T]:
        """`submit` for code without asyncio; see `TaskQ.sync`."""
        return SyncStreamJob(super().submit_sync(*args, **kwargs)._job)


class AsyncStreamTask(StreamTask[P, T]):
    """A task whose function is an async generator."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        """Run the function here and now, as if it were no task."""
        items: AsyncIterator[T] = self.fn(*args, **kwargs)
        return items


class PlainStreamTask(StreamTask[P, T]):
    """A task whose function is a plain generator; workers run it in a thread."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        """Run the function here and now, as if it were no task."""
        items: Iterator[T] = self.fn(*args, **kwargs)
        return items


class Declare(Protocol):
    """What `q.task(...)` with options returns: the decorator."""

    @overload  # the first that fits is meant: a plain `def` may return a coroutine too, but nobody's does
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, AsyncIterator[T]], /
    ) -> AsyncStreamTask[P, T]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, Iterator[T]], /
    ) -> PlainStreamTask[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> PlainTask[P, R]: ...


class Mappable(Protocol[A_contra, R]):
    """A task that can be called with one argument."""

    app: "TaskQ"

    def call(self, item: A_contra, /) -> "Call[R]": ...


class Call(Struct, Generic[R], frozen=True, gc=False, eq=False):
    """One call of a task, unsent and immutable."""

    task: Task[..., R]
    payload: bytes

    def __repr__(self) -> str:
        return f"<Call of {self.task.name}, {len(self.payload)} bytes>"


def declare(
    app: "TaskQ", fn: Callable[..., Any], name: str | None, executor: str | None, options: TaskOptions
) -> Task[..., Any]:
    """The task that a decorated function becomes. ConfigError when it cannot be one."""
    if isinstance(fn, Task):
        raise TypeError(f"@task decorates a function, not {fn!r}")
    fn = function_of(fn, name)
    is_async_stream = inspect.isasyncgenfunction(fn)
    is_async = is_async_stream or is_async_function(fn, executor)
    kind_of_task: type[Task[..., Any]] = AsyncTask if is_async else PlainTask
    if is_async_stream:
        kind_of_task = AsyncStreamTask
    elif inspect.isgeneratorfunction(fn):
        kind_of_task = PlainStreamTask
    checked = checked_name("the name of the task", default_name(fn) if name is None else name)
    fitting = _executor_of(fn, is_async, executor)
    try:
        return kind_of_task(app, fn, name=checked, options=options, executor=fitting)
    except ValueError as error:  # of some that are written in C
        raise ConfigError(
            f"{checked} does not say which arguments it takes ({error}); decorate a def that calls it"
        ) from None


def _executor_of(fn: Callable[..., Any], is_async: bool, wanted: str | None) -> ExecutorName:
    allowed: tuple[ExecutorName, ...] = ("async",) if is_async else ("thread", "process")
    is_stream = inspect.isgeneratorfunction(fn)
    if is_stream:  # what it yields goes out from where the worker's connection is
        allowed = ("thread",)
    for executor in allowed:
        if wanted in (None, executor):
            if executor == "process":
                check_importable(fn)
            return executor
    kind = "a generator" if is_stream else "an async def" if is_async else "a plain def"
    names = " or ".join(map(repr, allowed))
    raise ConfigError(f"{described(fn)} is {kind}: its executor is {names}, not {wanted!r}")
