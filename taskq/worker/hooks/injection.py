"""Makes what a task asks for with `Depends`, and ends it again."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from taskq.client.depends import Dependency, Node, node_of

logger = logging.getLogger("taskq.worker")

# Calls a plain function where the task's own code runs: on the loop, or in its thread.
Run = Callable[..., Awaitable[Any]]
Factory = Callable[..., Any]


class Shared(Protocol):
    """Where what is made once for each worker process comes from."""

    async def shared(self, node: Node) -> Any: ...


async def run_here(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The `Run` of those that run on the loop."""
    return fn(*args, **kwargs)


def with_overrides(
    needs: Mapping[str, Node], overrides: Mapping[Factory, Factory], hidden: tuple[Factory, ...] = ()
) -> dict[str, Node]:
    """The same needs, with other factories in place of some. Inside of one that stands for another, that
    other is what it was: an override may build on what it overrides."""
    found = {}
    for name, node in needs.items():
        other = None if node.factory in hidden else overrides.get(node.factory)
        below = hidden if other is None else (*hidden, node.factory)
        chosen = node if other is None else node_of(Dependency(other, node.scope))
        found[name] = Node(
            chosen.factory, chosen.scope, chosen.kind, with_overrides(chosen.needs, overrides, below)
        )
    return found


def is_on_loop(needs: Mapping[str, Node]) -> bool:
    """Must any of these be made on the event loop?"""
    return any(node.is_on_loop or is_on_loop(node.needs) for node in needs.values())


class Injection:
    """The values of one attempt, or one that is shared. Make, then `close` in any case."""

    def __init__(self, shared: Shared, run: Run) -> None:
        self._shared = shared
        self._run = run
        self._made: dict[Factory, Any] = {}
        self._open: list[_Open] = []

    async def arguments(self, needs: Mapping[str, Node]) -> dict[str, Any]:
        """A value for each parameter. Raises what a factory raised; what was made till then is open."""
        return {name: await self._value(node) for name, node in needs.items()}

    async def make(self, node: Node) -> Any:
        """The value of this factory, whatever its scope."""
        given = await self.arguments(node.needs)
        if node.kind == "plain":
            return await self._run(node.factory, **given)
        if node.kind == "coroutine":
            return await node.factory(**given)
        opened = _Open(node, self._run)
        value = await opened.enter(given)
        self._open.append(opened)
        return value

    async def close(self, error: BaseException | None) -> BaseException | None:
        """End all, the youngest first; each sees `error` at its `yield`. Returns why the attempt failed.

        What a factory raises after its `yield` counts as if the task had raised it: a commit that fails
        there must not look like a success. Only a cancelled attempt stays cancelled. A factory that
        swallows the error does not undo it.
        """
        while self._open:
            opened = self._open.pop()
            try:
                await opened.leave(error)
            except BaseException as raised:
                if raised is error:
                    continue
                is_cancelled = isinstance(error, asyncio.CancelledError)
                if error is None or is_cancelled:  # else it made another error of the one that it saw
                    # The type only: its text may quote arguments.
                    logger.warning("%s() failed after its yield: %s", opened.name, type(raised).__qualname__)
                if not is_cancelled:
                    error = raised
        return error

    async def _value(self, node: Node) -> Any:
        if node.scope == "worker":
            return await self._shared.shared(node)
        if node.factory not in self._made:
            self._made[node.factory] = await self.make(node)
        return self._made[node.factory]


class _Open:
    """A factory that yields, on both sides of its `yield`."""

    def __init__(self, node: Node, run: Run) -> None:
        self.name = node.name
        self._factory = node.factory
        self._is_async = node.kind == "async generator"
        self._run = run
        self._manager: Any = None

    async def enter(self, given: dict[str, Any]) -> Any:
        if self._is_async:
            self._manager = _as_manager(self._factory(**given))
            return await self._manager.__aenter__()
        return await self._run(self._enter, given)

    async def leave(self, error: BaseException | None) -> None:
        details = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        if self._is_async:
            await self._manager.__aexit__(*details)
        else:
            await self._run(self._manager.__exit__, *details)

    def _enter(self, given: dict[str, Any]) -> Any:
        self._manager = _as_manager(self._factory(**given))
        return self._manager.__enter__()


def _as_manager(made: Any) -> Any:
    """What a function that yields has returned: a generator, or under @contextmanager a manager already."""
    if inspect.isasyncgen(made):
        return asynccontextmanager(lambda: made)()
    if inspect.isgenerator(made):
        return contextmanager(lambda: made)()
    return made
