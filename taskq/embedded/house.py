"""A broker, a worker, or both, on the user's own event loop.

The broker is the real one, on a free port of 127.0.0.1: what works here works with the daemon.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Unpack

from taskq.client.app import TaskQ
from taskq.client.options import WorkerOptions
from taskq.errors import TaskqError
from taskq.server.daemon import Daemon
from taskq.server.settings import BrokerSettings
from taskq.worker.executors.processes import check_outside
from taskq.worker.inline import run_worker

__all__ = ["broker", "run_worker", "working"]


@asynccontextmanager
async def broker(journal: str = "memory:") -> AsyncGenerator[str, None]:
    """A broker for as long as the block runs; yields its address.

    `journal` is as for `taskq broker`; with `memory:` nothing outlives the block.
    """
    daemon = Daemon(BrokerSettings(port=0, journal=journal))
    serving = asyncio.create_task(daemon.run(), name="taskq embedded broker")
    started = asyncio.create_task(daemon.serving.wait())
    try:
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()  # raises why it did not start
            raise TaskqError("the embedded broker ended before it served")
        host, port = daemon.address
        yield f"taskq://{host}:{port}"
    finally:
        started.cancel()
        daemon.stop()
        await serving


@asynccontextmanager
async def working(q: TaskQ, **options: Unpack[WorkerOptions]) -> AsyncGenerator[None, None]:
    """A worker for q's tasks for as long as the block runs; the block ends when the worker fails."""
    check_outside()
    until, ready = asyncio.Event(), asyncio.Event()
    worker = asyncio.create_task(
        run_worker(q, until=until, ready=ready, **options), name="taskq embedded worker"
    )
    is_ready = asyncio.create_task(ready.wait())
    block = asyncio.current_task()
    failures: list[BaseException] = []

    def on_end(worker: "asyncio.Task[None]") -> None:
        error = None if worker.cancelled() else worker.exception()
        if error is not None and not until.is_set() and block is not None:
            # Else it would wait for results that nobody can bring.
            failures.append(error)
            block.cancel()

    try:
        # Whoever submits to a worker whose lifespan has failed would wait for ever.
        await asyncio.wait([worker, is_ready], return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            worker.add_done_callback(on_end)
            yield
    except BaseException as error:
        worker.cancel()  # what runs has no grace: nobody wants it any more
        was_us = bool(failures) and isinstance(error, asyncio.CancelledError)
        if was_us and block is not None and block.uncancel() == 0:
            raise failures[0] from None
        raise
    finally:
        is_ready.cancel()
        until.set()
        await asyncio.wait([worker])
    await worker  # raises what it ended with
