"""Time that stands still until it is moved, and the timers that wait for it."""

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from typing import Any, Final
from weakref import WeakKeyDictionary

from taskq.client.context import Context, context_var
from taskq.core.effects import Now

# Not zero, which means "never" in places, and not so large that microseconds get lost in a float.
_BEGIN_US: Final = 1_000_000_000
# Timers that were cancelled stay in the heap until they make up half of it and more than this.
_STALE_FREE: Final = 64


class Timer(asyncio.TimerHandle):
    """What a virtual `call_later` returns. `owner` is the attempt whose code set it, if any; `is_work`:
    it is the worker's.
    """

    __slots__ = ("clock", "due_us", "is_work", "number", "owner")

    def __init__(
        self,
        clock: "Clock",
        due_us: int,
        number: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        variables: Variables,
    ) -> None:
        super().__init__(due_us / 1e6, callback, args, clock.loop, variables)
        self.clock = clock
        self.due_us = due_us
        self.number = number
        self.is_work = False
        self.owner: Context | None = variables.get(context_var)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Timer):
            return NotImplemented
        return (self.due_us, self.number) < (other.due_us, other.number)

    def cancel(self) -> None:
        if not self.cancelled():
            asyncio.Handle.cancel(self)  # not a TimerHandle's, which tells the loop: it knows no such timer
            self.clock.note_cancelled()

    def fire(self) -> None:
        """Call what it is for, unless it was cancelled on the way."""
        if not self.cancelled():
            self._run()  # of every Handle: it reports what is raised


class Clock:
    """Both clocks of a broker, and a loop's time, in one. In microseconds; they pass only in `move`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: datetime | None = None) -> None:
        self.loop = loop
        self.us = _BEGIN_US
        self.is_over = False
        moment = datetime.now(UTC) if begin is None else begin
        self._wall_ms = round(moment.timestamp() * 1_000) - self.us // 1_000
        self._timers: list[Timer] = []
        self._cancelled = 0
        self._count = 0

    @property
    def now(self) -> Now:
        """As the broker reads it."""
        boot_ms = self.us // 1_000
        return Now(boot_ms, self._wall_ms + boot_ms)

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now.wall_ms / 1_000, UTC)

    def time(self) -> float:
        """As a loop tells it."""
        return self.us / 1e6

    def call_at(
        self, due_us: int, callback: Callable[..., object], args: tuple[Any, ...], variables: Variables | None
    ) -> Timer:
        self._count += 1
        timer = Timer(self, max(due_us, self.us), self._count, callback, args, variables or copy_context())
        heappush(self._timers, timer)
        return timer

    def call_later(
        self, us: int, callback: Callable[..., object], *args: Any, variables: Variables | None = None
    ) -> Timer:
        return self.call_at(self.us + us, callback, args, variables)

    def next_us(self) -> int | None:
        """When the next timer is due."""
        while self._timers and self._timers[0].cancelled():
            heappop(self._timers)
            self._cancelled -= 1
        return self._timers[0].due_us if self._timers else None

    def owners(self) -> set[int]:
        """Whose timers there are: `id` of each attempt that has one."""
        return {id(timer.owner) for timer in self._timers if timer.owner and not timer.cancelled()}

    def is_working(self, within_us: int) -> bool:
        """Is there a timer of the worker's own that is due so soon?"""
        until_us = self.us + within_us
        return any(
            timer.is_work and timer.due_us <= until_us and not timer.cancelled() for timer in self._timers
        )

    def move(self, us: int) -> list[Timer]:
        """Let time pass until then; returns the timers whose time has come, in order."""
        assert us >= self.us, "time does not run backwards"
        self.us = us
        due = []
        while (next_us := self.next_us()) is not None and next_us <= us:
            due.append(heappop(self._timers))
        return due

    def note_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > _STALE_FREE and self._cancelled > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if not timer.cancelled()]
            self._cancelled = 0
            heapify(self._timers)

    def end(self) -> list[Timer]:
        """No virtual time from now on; returns the timers that are left."""
        self.is_over = True
        left, self._timers = self._timers, []
        return [timer for timer in left if not timer.cancelled()]


# The clock of the code that runs, where that belongs to the environment; None: see `clock_here`.
clock_var: Final[ContextVar[Clock | None]] = ContextVar("taskq_testing_clock", default=None)
# The clocks of those who run tasks: a job's code is known by its attempt, and that by its runner.
_clocks: Final[WeakKeyDictionary[object, Clock]] = WeakKeyDictionary()


def live_by(host: object, clock: Clock) -> None:
    """All that `host` runs lives by this clock, whatever other context variables it sees."""
    _clocks[host] = clock


def clock_here() -> Clock | None:
    """The clock of the code that runs; None: the real one."""
    clock = clock_var.get()
    if clock is None and (host := getattr(context_var.get(None), "host", None)) is not None:
        clock = _clocks.get(host)
    return clock if clock is not None and not clock.is_over else None


def microseconds(seconds: float) -> int:
    return max(round(seconds * 1e6), 0)


class ClockLoop:
    """The real loop, to code of ours that must live in virtual time whoever calls it.

    All that is called through it gets the variables that it was made with, unless it brings its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, variables: Variables) -> None:
        self._loop = loop
        self._clock = clock
        self._variables = variables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._clock.time()

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Variables | None = None
    ) -> Timer:
        timer = self._clock.call_at(microseconds(when), callback, args, context or self._variables)
        timer.is_work = True
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Variables | None = None
    ) -> Timer:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Variables | None = None
    ) -> asyncio.Handle:
        return self._loop.call_soon(callback, *args, context=context or self._variables)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Variables | None = None
    ) -> asyncio.Handle:
        return self._loop.call_soon_threadsafe(callback, *args, context=context or self._variables)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Variables | None = None
    ) -> "asyncio.Task[Any]":
        return self._loop.create_task(coro, name=name, context=context or self._variables)
