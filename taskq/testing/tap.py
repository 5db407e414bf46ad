"""What is seen and changed of the user's own event loop while a test environment lives on it.

Code in virtual time gets its timers from its clock; all other code goes on in real time. And all that
is called is counted, so that it can be told when there is nothing left to call.
"""

import asyncio
import threading
from collections.abc import Callable, Collection
from contextvars import Context as Variables
from typing import Any, Final

from taskq.testing.clock import Timer, clock_here, microseconds

_PLACE: Final = "_taskq_tap"
# Threads that wait for us alone.
_OURS: Final = "taskq"


class Tap:
    """One for each loop, however many environments live on it. Use `on` and `release`.

    The loop's own methods are replaced on this one object: `time`, `call_later` and `call_at` look at
    the context to know whose time is asked for, `call_soon` and its sister count. This works for every
    loop that looks its methods up when they are called, as asyncio's Tasks and Futures do: asyncio's and
    uvloop's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.count = 0  # of what was asked to be called
        self.listeners: list[Callable[[], None]] = []  # called when something is asked to be called
        self.call_soon = loop.call_soon
        self.call_soon_threadsafe = loop.call_soon_threadsafe
        self._call_later = loop.call_later
        self._time = loop.time
        self._call_at = loop.call_at
        self._uses = 0

    @classmethod
    def on(cls, loop: asyncio.AbstractEventLoop) -> "Tap":
        tap = vars(loop).get(_PLACE)
        if tap is None:
            tap = cls(loop)
            tap._install()
        assert isinstance(tap, Tap)
        tap._uses += 1
        return tap

    def release(self) -> None:
        self._uses -= 1
        if not self._uses:
            for name in (_PLACE, "time", "call_later", "call_at", "call_soon", "call_soon_threadsafe"):
                vars(self.loop).pop(name, None)

    def is_alone(self) -> bool:
        """Is there surely nothing outside that could wake this loop: no socket, no other thread?

        False when that cannot be told, as with uvloop.
        """
        selector = getattr(self.loop, "_selector", None)
        if selector is None:
            return False
        sockets = len(selector.get_map() or ())
        idle = _idle_threads(getattr(self.loop, "_default_executor", None))
        others = [
            thread
            for thread in threading.enumerate()
            if thread is not threading.current_thread()
            and not thread.name.startswith(_OURS)
            and thread not in idle
        ]
        # One is the pipe by which threads and signals wake it.
        return sockets <= 1 and not others

    def after(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call this in real time, whoever asks."""
        # The loops' own methods call each other, and would come back to ours.
        return Variables().run(self._call_later, seconds, callback)

    def _install(self) -> None:
        def time() -> float:
            clock = clock_here()
            return self._time() if clock is None else clock.time()

        def call_later(
            delay: float, callback: Callable[..., object], *args: Any, context: Variables | None = None
        ) -> asyncio.TimerHandle:
            clock = clock_here()
            if clock is None:
                return self._call_later(delay, callback, *args, context=context)
            return clock.call_later(microseconds(delay), callback, *args, variables=context)

        def call_at(
            when: float, callback: Callable[..., object], *args: Any, context: Variables | None = None
        ) -> asyncio.TimerHandle:
            clock = clock_here()
            if clock is None:
                return self._call_at(when, callback, *args, context=context)
            return clock.call_at(microseconds(when), callback, args, context)

        def call_soon(
            callback: Callable[..., object], *args: Any, context: Variables | None = None
        ) -> asyncio.Handle:
            self.count += 1
            for listener in self.listeners:
                listener()
            return self.call_soon(callback, *args, context=context)

        def call_soon_threadsafe(
            callback: Callable[..., object], *args: Any, context: Variables | None = None
        ) -> asyncio.Handle:
            self.count += 1
            handle = self.call_soon_threadsafe(callback, *args, context=context)
            for listener in self.listeners:
                self.call_soon_threadsafe(listener)
            return handle

        vars(self.loop).update(
            {
                _PLACE: self,
                "time": time,
                "call_later": call_later,
                "call_at": call_at,
                "call_soon": call_soon,
                "call_soon_threadsafe": call_soon_threadsafe,
            }
        )


def _idle_threads(executor: object) -> Collection[threading.Thread]:
    """Those of `asyncio.to_thread`, when none of them has anything to do. They stay for good."""
    threads: Collection[threading.Thread] = getattr(executor, "_threads", ())
    idle = getattr(executor, "_idle_semaphore", None)
    return threads if getattr(idle, "_value", -1) == len(threads) else ()


def fire(timers: list[Timer], tap: Tap) -> None:
    """Their time has come: each in a turn of its own, in this order."""
    for timer in timers:
        tap.count += 1
        tap.call_soon(timer.fire)
