"""What lives as long as a worker process: its lifespan, and what dependencies of that scope have made."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextvars import Context as Variables
from contextvars import copy_context
from types import MappingProxyType
from typing import Any, Final

from taskq.client.app import TaskQ
from taskq.client.depends import Node
from taskq.errors import ConfigError, TaskqError
from taskq.limits import LEAVE_MS, LIFESPAN_SLOW_MS
from taskq.worker.faults import fault
from taskq.worker.hooks.injection import Factory, Injection, run_here
from taskq.worker.loading import place_of

logger = logging.getLogger("taskq.worker")

_NO_OVERRIDES: Final[Mapping[Factory, Factory]] = MappingProxyType({})


class WorkerScope:
    """`enter` before the worker says a word, `leave` after its last, in the same asyncio Task.

    `state` is what the lifespan yields, and `variables` are the context variables that it has set: every
    attempt begins with them.
    """

    def __init__(self, app: TaskQ | None = None) -> None:
        self.state: Any = None
        self.variables: Variables = copy_context()
        self.overrides = _NO_OVERRIDES if app is None else app.overrides
        self._app = app
        self._lifespan: Any = None
        self._kept: dict[Factory, _Kept] = {}
        self._has_left = False

    async def enter(self) -> None:
        """Enter the lifespan. ConfigError when it fails, with the place where."""
        if self._app is None or self._app.lifespan is None:
            return
        slow = asyncio.get_running_loop().call_later(LIFESPAN_SLOW_MS / 1_000, _warn_slow)
        try:
            lifespan = self._app.lifespan(self._app)
            if not hasattr(lifespan, "__aenter__"):
                raise TypeError(
                    f"lifespan= is a function that returns an async context manager, as one under "
                    f"@asynccontextmanager does; this returned {type(lifespan).__qualname__}"
                )
            self.state = await lifespan.__aenter__()
        except (Exception, SystemExit) as error:
            told = fault(error)
            raise ConfigError(
                f"the lifespan failed{place_of(error)}: {told.type}: {' '.join(told.message.split())}"
            ) from error
        finally:
            slow.cancel()
        self._lifespan = lifespan
        self.variables = copy_context()

    async def leave(self, seconds: float) -> None:
        """End what was made, the youngest first, then the lifespan. Errors are logged, and nothing raised.

        What takes longer is abandoned: of `seconds`, but at least LEAVE_MS, each of the two gets half.
        """
        self._has_left = True
        half = max(seconds, LEAVE_MS / 1_000) / 2
        if self._kept:
            await _bounded("closing what jobs share", half, self._close())
        if self._lifespan is not None:
            await _bounded("leaving the lifespan", half, self._lifespan.__aexit__(None, None, None))

    async def shared(self, node: Node) -> Any:
        """The value of a factory that is called once here, and again only if it failed."""
        if self._has_left:
            raise TaskqError(f"{node.name}(): this worker has stopped")
        kept = self._kept.get(node.factory)
        if kept is None:
            kept = self._kept[node.factory] = _Kept(self, node)
        try:
            # The making belongs to all who wait: one of them that is cancelled must not end it.
            return await asyncio.shield(kept.made)
        except BaseException:
            if kept.has_failed and self._kept.get(node.factory) is kept:
                del self._kept[node.factory]
            raise

    def note_made(self, node: Node) -> None:
        """The youngest stand last, so that what needs another stands behind it."""
        self._kept[node.factory] = self._kept.pop(node.factory)

    async def _close(self) -> None:
        kept = list(self._kept.values())
        for each in (*(one for one in kept if not one.made.done()), *reversed(kept)):
            await each.close()


class _Kept:
    """One shared value. Made and ended in one Task, as cancel scopes and task groups demand."""

    def __init__(self, scope: WorkerScope, node: Node) -> None:
        loop = asyncio.get_running_loop()
        self.made: asyncio.Future[Any] = loop.create_future()
        self.made.add_done_callback(_take_note)
        self._scope = scope
        self._node = node
        self._closing = asyncio.Event()
        # In the worker's context, not the job's: it outlives the job that was the first to ask.
        self._task: asyncio.Task[None] = scope.variables.copy().run(
            loop.create_task, self._keep(), name=f"taskq {node.name}"
        )

    @property
    def has_failed(self) -> bool:
        return self.made.done() and self.made.exception() is not None

    async def close(self) -> None:
        self._closing.set()
        if not self.made.done():
            self._task.cancel()
        await asyncio.wait([self._task])
        self._fail(None)  # one that was cancelled before it began has said nothing

    async def _keep(self) -> None:
        injection = Injection(self._scope, run_here)
        error: BaseException | None = None
        try:
            self.made.set_result(await injection.make(self._node))
            self._scope.note_made(self._node)
            await self._closing.wait()
        except BaseException as raised:
            error = raised
        await injection.close(error)
        self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        if not self.made.done():
            if error is None or isinstance(error, asyncio.CancelledError):
                error = TaskqError(f"{self._node.name}(): this worker has stopped")
            self.made.set_exception(error)


def _take_note(made: "asyncio.Future[Any]") -> None:
    """Its error is told to those who wait, if anybody still does: asyncio need not complain."""
    made.exception()


async def _bounded(what: str, seconds: float, ending: Coroutine[Any, Any, object]) -> None:
    try:
        async with asyncio.timeout(seconds) as limit:
            await ending
    except Exception:
        if limit.expired():
            logger.error("%s took longer than %g s and was abandoned", what, seconds)
        else:
            logger.exception("%s failed", what)


def _warn_slow() -> None:
    logger.warning(
        "the lifespan has not started within %g s; the worker takes no jobs before it has",
        LIFESPAN_SLOW_MS / 1_000,
    )
