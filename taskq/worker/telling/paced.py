"""Something that is to be done often, done at most every so many seconds, and always once more at the end."""

import asyncio
import contextlib
from collections.abc import Callable
from threading import get_ident


class Paced:
    """Calls `do` on the loop soon after `poke`, but not more often than every `seconds`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, do: Callable[[], None]) -> None:
        self._loop = loop
        self._thread = get_ident()
        self._seconds = seconds
        self._do = do
        self._is_poked = False
        self._not_before = 0.0
        self._handle: asyncio.Handle | None = None

    def poke(self) -> None:
        """From any thread; costs nothing while the last one is still to be done."""
        if self._is_poked:
            return
        self._is_poked = True
        if get_ident() == self._thread:
            self._wait()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                self._loop.call_soon_threadsafe(self._wait)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _wait(self) -> None:
        wait = self._not_before - self._loop.time()
        self._handle = self._loop.call_later(wait, self._run) if wait > 0 else self._loop.call_soon(self._run)

    def _run(self) -> None:
        # First the flag: what is noted from now on by another thread asks for another round.
        self._is_poked = False
        self._not_before = self._loop.time() + self._seconds
        self._do()
