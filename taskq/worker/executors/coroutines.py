"""Runs attempts of async tasks on the event loop.

An attempt that waits for anything has an asyncio Task of its own. Those that end in their first step,
as many do, share one: making a Task for each took 1.5 of the 4.7 us that the worker spent on a job.
Each runs in a context of its own all the same: a copy of the worker's.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context as Variables
from types import CoroutineType, coroutine
from typing import Any, Final, cast

from taskq.client.context import context_var
from taskq.protocol.messages import Failure
from taskq.worker.attempts import CALLING, PACKING, READING, Attempt, failure, stop_failure
from taskq.worker.hooks.scope import WorkerScope

Outcome = bytes | Failure

# So many attempts in a row that never wait, and the loop gets its turn: to read, and to report.
BREATH: Final = 128
# What a step returns when the attempt has not ended: it waits.
WAITS: Final = None


class Coroutines:
    """`submit` attempts; `on_begin` is told, on the loop, before one with a timeout begins, `on_done` how
    each ended. Each has the scope's context variables to begin with."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_begin: Callable[[Attempt], None],
        on_done: Callable[[Attempt, Outcome], None],
        scope: WorkerScope,
    ) -> None:
        self._loop = loop
        self._scope = scope
        self._on_begin = on_begin
        self._on_done = on_done
        self._next: deque[Attempt] = deque()
        self._servers = 0  # Tasks that will take the next one
        self._hired: asyncio.Task[None] | None = None

    def submit(self, attempt: Attempt) -> None:
        """Run it soon, on the loop."""
        self._next.append(attempt)
        # A task whose latest attempt waited will wait again: it needs a Task of its own anyway.
        if not self._servers or attempt.definition.waits:
            self._hire()

    def _hire(self) -> None:
        self._servers += 1
        # The loop refers to a Task until it has begun; when it waits, its attempt does.
        self._hired = self._loop.create_task(self._serve(), name="taskq jobs")

    async def _serve(self) -> None:
        """One attempt after the other, until one waits: that one keeps this Task, and is its last."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        following, done, fresh = self._next, self._on_done, self._scope.variables.copy
        in_a_row = 0
        while following:
            in_a_row += 1
            if in_a_row % BREATH == 0:
                await asyncio.sleep(0)
                continue
            attempt = following.popleft()
            if attempt.stopped:
                done(attempt, stop_failure(attempt, attempt.stopped))
                continue
            if attempt.terms.timeout_ms:
                self._on_begin(attempt)
            variables = fresh()
            outcome = variables.run(_first_step, attempt)
            if outcome is WAITS:
                attempt.definition.waits = True
                attempt.running = task
                task.set_name(attempt.terms.task)
                self._leave()
                done(attempt, await _rest(attempt, variables))
                return
            attempt.definition.waits = False
            done(attempt, outcome)
            if task.cancelling():  # it cancelled its own Task: no concern of the next one
                break
        self._leave()

    def _leave(self) -> None:
        self._servers -= 1
        if not self._servers:
            for _ in self._next:  # probably these wait as well
                self._hire()


def _first_step(attempt: Attempt) -> Outcome | None:
    """Everything up to the first wait, in the attempt's context."""
    definition = attempt.definition
    step = READING
    try:
        context_var.set(attempt)
        args, kwargs = definition.read(attempt.delivery.payload)
        step = CALLING
        value = definition.function(*args, **kwargs)
        if definition.takes_await:
            run = value if type(value) is CoroutineType else _awaiting(value)
            try:
                attempt.waits_for = run.send(None)
            except StopIteration as stop:
                value = stop.value
            else:
                attempt.coroutine = run
                return WAITS
        step = PACKING
        return definition.pack(value)
    except BaseException as error:
        return failure(attempt, error, step)


def _next_step(attempt: Attempt, go_on: Callable[[Any], Any], value: Any) -> Outcome | None:
    """From one wait to the next or to the end, in the attempt's context."""
    step = CALLING
    try:
        try:
            attempt.waits_for = go_on(value)
        except StopIteration as stop:
            step = PACKING
            return attempt.definition.pack(stop.value)
    except BaseException as error:
        return failure(attempt, error, step)
    return WAITS


@coroutine
def _rest(attempt: Attempt, variables: Variables) -> Generator[Any, Any, Outcome]:
    """Hands what the attempt waits for to the Task around us, and what comes of it back."""
    run = attempt.coroutine
    assert run is not None
    while True:
        go_on: Callable[[Any], Any] = run.send
        try:
            value = yield attempt.waits_for
        except GeneratorExit:  # the loop throws away what it did not finish; nobody is left to tell
            run.close()
            raise
        except BaseException as error:
            go_on, value = run.throw, error
        outcome = variables.run(_next_step, attempt, go_on, value)
        if outcome is not WAITS:
            return outcome


async def _awaiting(value: Awaitable[Any]) -> Any:
    return await value
