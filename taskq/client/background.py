"""One background event loop per process, in a daemon thread: where blocking code has its connections."""

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

from taskq import limits

T = TypeVar("T")

_STOP_SECONDS: Final = limits.CLOSE_TIMEOUT_MS / 1000


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

    def post(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = self.post(work)
        try:
            return future.result()
        except CancelledError:
            if _is_exiting and threading.current_thread().daemon:
                # As in any other wait: at the exit it is left where it stands, without a traceback.
                threading.Event().wait()
            raise
        except BaseException:
            # Ctrl-C here must end the waiting there; a result that is there is not harmed.
            future.cancel()
            raise

    def stop(self) -> None:
        if self.is_mine and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            # What swallows its cancellation must not keep the process from ending.
            self._thread.join(_STOP_SECONDS)

    def _main(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._stopping.wait()


_background: _Background | None = None
# Reentrant, because the collector may run a `__del__` in here that wants the loop too.
_starting = threading.RLock()
_before_exit: list[Callable[[], None]] = []
_is_exiting = False


def is_there() -> bool:
    """Has this process used it? A child that was forked has not."""
    return _background is not None and _background.is_mine


def is_exiting() -> bool:
    """Has the interpreter begun to exit, and the background loop ended?"""
    return _is_exiting


def before_exit(call: Callable[[], None]) -> None:
    """Call this when the interpreter exits, while the background loop still runs."""
    _before_exit.append(call)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, and block until it is done.

    Raises RuntimeError where that would block an event loop, and when the interpreter is finalizing.
    In an exit handler that runs after ours it has a loop of its own, for this once.
    """
    if is_in_loop():
        work.close()
        raise RuntimeError("this would block the event loop that runs here; use the async verbs with await")
    if sys.is_finalizing():
        work.close()
        raise RuntimeError("the interpreter is shutting down: there is no asking the broker any more")
    if _is_exiting:
        return asyncio.run(work)
    return _the_background().run(work)


def post(work: Coroutine[Any, Any, T]) -> "Future[T]":
    """Run a coroutine on the background loop without waiting for it. RuntimeError at exit."""
    if _is_exiting:
        work.close()
        raise RuntimeError("the interpreter is shutting down: there is no asking the broker any more")
    return _the_background().post(work)


def tidy(work: Coroutine[Any, Any, object]) -> None:
    """Run what only tidies up: without waiting where that would block a loop, not at all at exit."""
    if _is_exiting or sys.is_finalizing():
        work.close()
    elif is_in_loop():
        post(work)
    else:
        run(work)


def is_in_loop() -> bool:
    """Does an event loop run in this thread?"""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _the_background() -> _Background:
    global _background
    if _background is None or not _background.is_mine:
        with _starting:
            if _background is None or not _background.is_mine:
                _background = _Background()
    return _background


def _at_exit() -> None:
    global _is_exiting
    if is_there():
        for call in _before_exit:
            call()
    # Nothing more is taken from here on: it could not be waited for.
    _is_exiting = True
    if _background is not None:
        _background.stop()


# Once, and with the import: what was registered later runs earlier, and finds everything as it was.
atexit.register(_at_exit)


def _after_fork_in_child() -> None:
    # Another thread may have held it at the fork.
    global _starting
    _starting = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
