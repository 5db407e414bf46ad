"""A broker and a worker for blocking tests: on a loop of their own, in another thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskq.client.app import TaskQ


@contextmanager
def serving(q: TaskQ, **worker: Any) -> Iterator[TaskQ]:
    """As long as the block runs, q talks to a broker of its own, and its tasks run."""
    over: list[Any] = []
    up = threading.Event()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        over.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with q.embedded(**worker):
            up.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="the test's broker and worker")
    thread.start()
    try:
        assert up.wait(30), "the broker did not start"
        yield q
    finally:
        q.sync.close()
        over[0]()
        thread.join()
