"""To know that a checkpoint is recorded: what `current().checkpoint(value)` returns."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

from taskq.client.seconds import Seconds, millis_of
from taskq.errors import Busy, Refused

# Called with "" when it is recorded; else with why not.
OnSaved = Callable[[str], None]
WhenSaved = Callable[[OnSaved], None]


class Saving:
    """`await` it, or `wait()` in a thread: returns when this checkpoint, or a later one of the same
    attempt, is recorded. Need not be used at all.

    Raises Refused (code `stale`) when the attempt is over, Busy when the broker takes nothing new.
    """

    __slots__ = ("_when_saved",)

    def __init__(self, when_saved: WhenSaved) -> None:
        self._when_saved = when_saved

    def __await__(self) -> Generator[Any, None, None]:
        return self._recorded().__await__()

    def wait(self, timeout: Seconds | None = None) -> None:
        """The same, blocking. TimeoutError when it takes longer: it may be recorded yet."""
        seconds = None if timeout is None else millis_of("timeout", timeout) / 1000
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("wait() would block the event loop that runs here; await it instead")
        codes: list[str] = []
        told = threading.Event()

        def on_saved(code: str) -> None:
            codes.append(code)
            told.set()

        self._when_saved(on_saved)
        if not told.wait(seconds):
            raise TimeoutError(f"the checkpoint was not recorded within {seconds:g} s; it may be yet")
        _raise(codes[0])

    async def _recorded(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()

        def on_saved(code: str) -> None:
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, future, code)

        self._when_saved(on_saved)
        _raise(await future)


def _resolve(future: "asyncio.Future[str]", code: str) -> None:
    if not future.done():
        future.set_result(code)


def _raise(code: str) -> None:
    if code == "busy":
        raise Busy("the checkpoint is not recorded: the broker takes nothing new now")
    if code:
        raise Refused("the checkpoint is not recorded: this attempt is over", code="stale")
