"""One background event loop per process, in a daemon thread: where `q.sync` has its connections."""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Background:
    """One thread with an event loop that runs until `stop`."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._thread = threading.Thread(target=self._main, name="taskq background loop", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def is_mine(self) -> bool:
        """Threads do not survive a fork: the child needs its own."""
        return self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C here must end the waiting there; a result that is there is not harmed.
            future.cancel()
            raise

    def stop(self) -> None:
        if self.is_mine and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _main(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._stopping.wait()


_background: _Background | None = None
_starting = threading.Lock()


def is_there() -> bool:
    """Has this process used it? A child that was forked has not."""
    return _background is not None and _background.is_mine


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, and block until it is done."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _the_background().run(work)
    work.close()
    raise RuntimeError("this would block the event loop that runs here; use the async verbs with await")


def _the_background() -> _Background:
    global _background
    if _background is None or not _background.is_mine:
        with _starting:
            if _background is None or not _background.is_mine:
                _background = _Background()
                atexit.register(_background.stop)
    return _background


def _after_fork_in_child() -> None:
    # Another thread may have held it at the fork.
    global _starting
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
