"""FastAPI and Starlette: a lifespan that connects the queue, and the queue as a dependency.

    q = TaskQ()
    app = FastAPI(lifespan=taskq_lifespan(q))

    @app.post("/mails")
    async def mail(to: str, queue: QueueDep) -> str:
        return (await send.submit(to)).id

With plain Starlette, `queue_of(request)` is the queue.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, TypeAlias, TypeVar, Unpack

from taskq.client.app import TaskQ
from taskq.client.options import WorkerOptions
from taskq.errors import ConfigError

try:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ImportError("this needs starlette: pip install fastapi, or starlette") from error

logger = logging.getLogger("taskq.contrib")

App = TypeVar("App", bound=Starlette)
State: TypeAlias = Mapping[str, Any] | None


def taskq_lifespan(
    q: TaskQ,
    lifespan: Callable[[App], AbstractAsyncContextManager[State]] | None = None,
    *,
    worker: bool = False,
    **options: Unpack[WorkerOptions],
) -> Callable[[App], AbstractAsyncContextManager[State]]:
    """What to give an app as `lifespan=`. Connects q at startup, and closes it at shutdown.

    `lifespan` is your own: it runs inside, so that it may submit, and what it yields is yielded.
    With `worker` q's tasks run in this process too; the options are those of `TaskQ.run_worker`.
    ConnectionLost when no broker answers at startup.
    """
    if options and not worker:
        raise ConfigError(f"{', '.join(options)} is said of a worker, and there is none without worker=True")

    @asynccontextmanager
    async def both(app: App) -> AsyncGenerator[State, None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(q)
            app.state.taskq = q
            if worker:
                await stack.enter_async_context(_working(q, options))
            yield None if lifespan is None else await stack.enter_async_context(lifespan(app))

    return both


def queue_of(connection: HTTPConnection) -> TaskQ:
    """The queue of the app that this request or websocket belongs to."""
    found = getattr(connection.app.state, "taskq", None)
    if not isinstance(found, TaskQ):
        raise ConfigError("this app has no queue; make it with lifespan=taskq_lifespan(q)")
    return found


@asynccontextmanager
async def _working(q: TaskQ, options: WorkerOptions) -> AsyncGenerator[None, None]:
    until, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(q.run_worker(until=until, ready=ready, **options), name="taskq worker")
    running.add_done_callback(_complain)
    is_ready = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait([running, is_ready], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            yield
    finally:
        is_ready.cancel()
        until.set()
        await running


def _complain(worker: "asyncio.Task[None]") -> None:
    """The app goes on without its worker, and somebody should know before it ends."""
    if not worker.cancelled() and worker.exception() is not None:
        logger.error("the worker in this app has ended: %s", worker.exception())


try:
    from fastapi import Depends
except ImportError:  # plain Starlette: `queue_of` does
    pass
else:
    QueueDep: TypeAlias = Annotated[TaskQ, Depends(queue_of)]
