"""What stands around every submission of an app, and around every attempt of its tasks.

`TaskQ(middleware=[First(), Second()])`: the first is the outermost, on both sides.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from taskq import limits
from taskq.client.context import Context
from taskq.client.extras import meta_of, read_meta
from taskq.errors import ConfigError
from taskq.protocol.ext import META
from taskq.protocol.messages import Ext

if TYPE_CHECKING:
    from taskq.client.options import TaskOptions


@dataclass(slots=True, eq=False)
class Outgoing:
    """A job that is about to be submitted."""

    job_id: str
    task: str
    settings: "TaskOptions"  # as declared, and as `options()` changed them
    # What it carries beside its arguments, by name; change it as you like. `traceparent`, `tracestate` and
    # names that begin with `x-` are yours, the others have meanings: see `ext` in PROTOCOL.md.
    ext: dict[str, bytes] = field(repr=False)
    meta: dict[str, str] = field(init=False)  # a few words for people; change it as you like

    def __post_init__(self) -> None:
        self.meta = read_meta(self.ext)

    @property
    def queue(self) -> str:
        return self.settings.queue

    def packed(self) -> Ext | None:
        """What goes over the wire. ValueError when it is more than a job may carry."""
        ext = {name: data for name, data in self.ext.items() if name != META}
        if self.meta:
            ext[META] = meta_of(self.meta)
        for name, data in ext.items():
            if not isinstance(name, str) or not isinstance(data, bytes):
                raise TypeError(f"ext is a dict of bytes by name, not {name!r}: {type(data).__name__}")
        size = sum(len(name.encode()) + len(data) for name, data in ext.items())
        if len(ext) > limits.EXT_ITEMS_MAX or size > limits.EXT_BYTES_MAX:
            raise ValueError(
                f"a job of {self.task} would carry {len(ext)} things of {size} bytes beside its arguments; "
                f"at most {limits.EXT_ITEMS_MAX} of {limits.EXT_BYTES_MAX} bytes in all can go"
            )
        return ext or None


class Middleware:
    """Inherit, and override what you need; one object serves all jobs, many at once.

    In the producer `submit`; in the worker either `run`, or what `run` calls: `before`, `after`, `error`.
    Context variables that are set on the way in are seen by the task, also when it runs in a thread.
    """

    async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
        """Around one submission: of one job, or of all those of a `submit_many`.

        `await call_next()` submits; it raises what the user is going to see. Raise instead of calling
        it, and nothing is submitted. An error of the submission cannot be swallowed: there is no job.
        """
        await call_next()

    async def run(self, context: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Around one attempt, dependencies and all; `await call_next()` is what the task returns or raises.

        What this returns is the result, and what it raises is why the attempt failed: Retry, Discard and
        their like mean here what they mean in a task. `context` is what `current()` answers there.
        """
        await self.before(context)
        try:
            result = await call_next()
        except BaseException as error:
            await self.error(context, error)
            raise
        await self.after(context, result)
        return result

    async def before(self, context: Context) -> None:
        """The attempt is about to run."""

    async def after(self, context: Context, result: Any) -> None:
        """It returned this."""

    async def error(self, context: Context, error: BaseException) -> None:
        """It raised this; CancelledError when it was cancelled or its time was up. Raise another, and that
        one counts."""


def checked(middleware: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """The middleware of an app. ConfigError when something else is among it."""
    if not isinstance(middleware, Iterable):
        raise ConfigError(f"middleware= is a list of Middleware objects, and {middleware!r} is no list")
    found = []
    for one in middleware:
        if isinstance(one, type):
            raise ConfigError(f"middleware= is a list of Middleware objects; write {one.__name__}()")
        if not isinstance(one, Middleware):
            raise ConfigError(f"middleware= is a list of Middleware objects, and {one!r} is none")
        found.append(one)
    return tuple(found)


def around_submissions(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """Those that have a say in submissions: the others cost nothing there."""
    return tuple(one for one in middleware if type(one).submit is not Middleware.submit)


def around_attempts(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """Those that have a say in attempts."""
    hooks = ("run", "before", "after", "error")
    return tuple(
        one
        for one in middleware
        if any(getattr(type(one), hook) is not getattr(Middleware, hook) for hook in hooks)
    )


async def submit_through(
    chain: Sequence[Middleware], jobs: Sequence[Outgoing], submit: Callable[[], Awaitable[None]]
) -> None:
    """Submit, inside of all of these. Raises what they, or the submission, raised."""
    refusals: list[BaseException] = []
    calls = 0

    async def innermost() -> None:
        nonlocal calls
        calls += 1
        refusals.clear()
        try:
            await submit()
        except BaseException as error:
            refusals.append(error)
            raise

    await _submit(chain, jobs, innermost)
    if refusals:
        raise refusals[0]
    if not calls:
        names = ", ".join(type(one).__qualname__ for one in chain)
        raise RuntimeError(
            f"nothing was submitted: one of {names} neither called call_next() in submit() nor raised"
        )


async def _submit(
    chain: Sequence[Middleware], jobs: Sequence[Outgoing], innermost: Callable[[], Awaitable[None]]
) -> None:
    if not chain:
        await innermost()
        return
    await chain[0].submit(jobs, partial(_submit, chain[1:], jobs, innermost))


async def run_through(
    chain: Sequence[Middleware], context: Context, innermost: Callable[[], Awaitable[Any]]
) -> Any:
    """What the attempt returns, inside of all of these."""
    if not chain:
        return await innermost()
    return await chain[0].run(context, partial(run_through, chain[1:], context, innermost))
