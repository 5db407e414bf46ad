"""What stands around a task's function: middleware, and the values that it asks for with `Depends`.

A task that has neither is its function, as before.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

from taskq.client.context import context_var
from taskq.client.depends import Node
from taskq.client.middleware import Middleware, around_attempts, run_through
from taskq.client.task import Task
from taskq.worker.hooks.injection import Injection, Run, is_on_loop, run_here, with_overrides

if TYPE_CHECKING:
    from taskq.worker.attempts import Attempt


def surrounded(task: Task[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    """What an executor calls for one attempt: `fn`, with all that stands around it; mostly `fn` itself."""
    chain = around_attempts(task.app.middleware)
    needs = task.signature.needs
    if not chain and not needs:
        return fn
    kind = _OnLoop if task.executor == "async" else _InThread
    return kind(fn, chain, needs)


# What a call returned, or what it raised.
Ended = tuple[Any, BaseException | None]
_NOTHING: Final = object()


class _Surrounded:
    def __init__(self, fn: Callable[..., Any], chain: Sequence[Middleware], needs: "dict[str, Node]") -> None:
        self.__qualname__: str = fn.__qualname__  # for people, who know it by that
        self._fn = fn
        self._chain = chain
        self._needs = needs

    def _needed(self, attempt: "Attempt") -> "dict[str, Node]":
        overrides = attempt.host.scope.overrides
        return with_overrides(self._needs, overrides) if overrides else self._needs

    async def _called(
        self, attempt: "Attempt", needs: "dict[str, Node]", run: Run, call: Callable[..., Any]
    ) -> Any:
        """What `call` returns, given what the task needs; all of that is ended afterwards."""
        if not needs:
            return await call()
        injection = Injection(attempt.host.scope, run)
        result: Any = None
        error: BaseException | None = None
        try:
            given = await injection.arguments(needs)
            if attempt.stopped:  # in a thread, while it was made: another worker may have the job by now
                raise asyncio.CancelledError(attempt.reason)
            result = await call(**given)
        except BaseException as raised:
            error = raised
        error = await injection.close(error)
        if error is not None:
            raise error
        return result


class _OnLoop(_Surrounded):
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        attempt = cast("Attempt", context_var.get())
        needs = self._needed(attempt)
        call = partial(self._fn, *args, **kwargs)
        return await run_through(self._chain, attempt, partial(self._called, attempt, needs, run_here, call))


class _InThread(_Surrounded):
    """The function runs in its thread, and so does every plain factory; the rest goes to the loop."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        attempt = cast("Attempt", context_var.get())
        needs = self._needed(attempt)
        if not self._chain and not is_on_loop(needs):
            # Nothing in it waits, so it needs no loop either.
            return _run_at_once(
                self._called(attempt, needs, run_here, partial(run_here, self._fn, *args, **kwargs))
            )
        lent = _LentThread(attempt)
        call = partial(lent.run, self._fn, *args, **kwargs)
        return lent.serve(
            run_through(self._chain, attempt, partial(self._called, attempt, needs, lent.run, call))
        )


class _LentThread:
    """A thread that a coroutine on the loop borrows for what is not to run there."""

    def __init__(self, attempt: "Attempt") -> None:
        self._attempt = attempt
        self._loop = attempt.host.loop
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._task: asyncio.Task[Ended]

    def serve(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """In the thread: what the coroutine returns or raises, doing its work meanwhile."""
        # With the context of this thread, where the attempt is the current one.
        self._loop.call_soon_threadsafe(self._start, coroutine)
        while (work := self._work.get()) is not None:
            work()
        result, error = self._task.result()
        if error is not None:
            raise error
        return result

    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """On the loop: what the function returns or raises, in the thread. It sees our context variables,
        and we those that it has set."""
        attempt = self._attempt
        attempt.running = None  # a thread cannot be cancelled
        variables = copy_context()
        done: asyncio.Future[Ended] = self._loop.create_future()
        self._work.put(partial(self._do, done, partial(variables.run, fn, *args, **kwargs)))
        try:
            result, error = await done
        finally:
            attempt.running = self._task
        for variable, value in variables.items():
            if variable.get(_NOTHING) is not value:
                variable.set(value)
        if error is not None:
            raise error
        return result

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(self._ended(coroutine), name=self._attempt.terms.task)
        task.add_done_callback(lambda _: self._work.put(None))

    async def _ended(self, coroutine: Coroutine[Any, Any, Any]) -> Ended:
        """Never raises: a SystemExit that leaves a Task ends the loop, and a task's own must not."""
        self._task = self._attempt.running = cast("asyncio.Task[Ended]", asyncio.current_task())
        if self._attempt.stopped:
            coroutine.close()
            return None, asyncio.CancelledError(self._attempt.reason)
        try:
            return await coroutine, None
        except BaseException as error:
            return None, error

    def _do(self, done: "asyncio.Future[Ended]", call: Callable[[], Any]) -> None:
        ended: Ended
        try:
            ended = call(), None
        except BaseException as error:
            ended = None, error
        self._loop.call_soon_threadsafe(_tell, done, ended)


def _tell(done: "asyncio.Future[Ended]", ended: Ended) -> None:
    if not done.done():
        done.set_result(ended)


def _run_at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("this coroutine was to wait for nothing")
