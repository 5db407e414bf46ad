"""When virtual time moves: as far as somebody who waits needs it, and never while there is something to do.

Nothing here runs a job. It looks at the loop until nothing is left to call, and then lets the next timers
fire, or tells those who wait that nothing will come.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from taskq.errors import TaskqError
from taskq.testing.clock import Clock
from taskq.testing.tap import Tap, fire

# Turns of the loop between two looks at the real clock.
_LOOK_EVERY: Final = 256
# A task that waits for a timer of its own waits mostly for that: others are waited for ten times as long.
_SLEEPER_PART: Final = 0.1


class Stuck(TaskqError):
    """What was waited for cannot come: nothing is left to run that could bring it. Says why."""


class Wait:
    """Somebody waits for the broker: for a job's end, mostly. From any thread.

    `is_timed`: there is a timer that ends it. `is_inside`: it is a task that waits, whose own end
    others wait for. `is_far`: it is on another event loop.
    """

    def __init__(
        self,
        future: "asyncio.Future[object]",
        loop: asyncio.AbstractEventLoop,
        *,
        is_timed: bool,
        is_inside: bool,
        is_far: bool,
    ) -> None:
        self.is_timed = is_timed
        self.is_inside = is_inside
        self.is_far = is_far
        self.began = monotonic()
        self._future = future
        self._loop = loop

    def fail(self, error: BaseException) -> None:
        if self._loop is asyncio._get_running_loop():
            self._set(error)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, error)

    def _set(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class Goal:
    """`advance` until `until_us`, or without it `drain`. With `retries` also what waits to be tried again."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, until_us: int | None, *, retries: bool = True
    ) -> None:
        self.until_us = until_us
        self.retries = retries
        self.began = monotonic()
        self.done: asyncio.Future[None] = loop.create_future()


class World(Protocol):
    """What the pacer has to know of those who run."""

    def outside(self) -> dict[object, bool]:
        """What runs and may be waiting for something that is not ours; and whether it only sleeps."""

    def has_threads(self) -> bool:
        """Does any of it run in a thread?"""

    def moves(self, *, retries: bool) -> bool:
        """Is there work in progress that the time alone takes further?"""

    def is_starting(self) -> bool:
        """Is the worker on its way?"""

    def stuck(self) -> str:
        """What there is and cannot go on, for people."""


class Pacer:
    """Looks at the loop while anybody waits. `patience_s` and `guard_s` are real time."""

    def __init__(self, tap: Tap, clock: Clock, world: World, *, patience_s: float, guard_s: float) -> None:
        self.failure: BaseException | None = None
        self._tap = tap
        self._clock = clock
        self._world = world
        self._patience_s = patience_s
        self._guard_s = guard_s
        self._goals: list[Goal] = []
        self._waits: dict[Wait, None] = {}
        self._is_spinning = False
        self._seen = -1
        self._spins = 0
        self._waited_for: dict[object, None] = {}  # outside: patience was had with these
        self._patience: asyncio.TimerHandle | None = None
        self._moved_us = clock.us
        self._moved_at = monotonic()
        tap.listeners.append(self._on_activity)

    # -- who waits ----------------------------------------------------------------------------

    async def reach(self, goal: Goal) -> None:
        """Raises Stuck when it cannot be reached, or what the broker or the worker died of."""
        self._goals.append(goal)
        self.wake()
        try:
            await goal.done
        finally:
            if goal in self._goals:
                self._goals.remove(goal)

    def enter(self, wait: Wait) -> None:
        if self.failure is not None:
            wait.fail(self.failure)
            return
        self._waits[wait] = None
        self.wake()

    def leave(self, wait: Wait) -> None:
        self._waits.pop(wait, None)

    def wake(self) -> None:
        """There may be something to do: look from now on until there is not."""
        self._stop_waiting()
        if not self._is_spinning:
            self._is_spinning = True
            self._seen = -1
            self._tap.call_soon(self._spin)

    def fail(self, error: BaseException) -> None:
        """The broker or the worker is broken: nobody gets anything any more."""
        self.failure = self.failure or error
        self.wake()

    def close(self) -> None:
        self._tap.listeners.remove(self._on_activity)
        self._stop_waiting()
        self._goals = []
        self._waits = {}

    def _on_activity(self) -> None:
        if not self._is_spinning and (self._patience is not None):
            self.wake()

    # -- looking ------------------------------------------------------------------------------

    def _spin(self) -> None:
        """Everything that stood before us in the loop's line has been called. Was anything added?"""
        if not self._goals and not self._waits:
            self._is_spinning = False
            return
        self._spins += 1
        if self._spins % _LOOK_EVERY == 0 and self._is_overdue():
            self._give_up(f"it went on and on for {self._guard_s:g} s")
        if self._tap.count != self._seen:
            self._seen = self._tap.count
            self._tap.call_soon(self._spin)
            return
        self._is_spinning = False
        self._on_idle()

    def _on_idle(self) -> None:
        if self.failure is not None:
            self._fail_all(self.failure)
        elif self._world.is_starting():
            self._wait_outside(f"the worker has not started in {self._guard_s:g} s")
        elif self._goals:
            self._work_on_goals()
        elif outer := [wait for wait in self._waits if not wait.is_inside]:
            self._work_on_waits(outer)

    def _work_on_goals(self) -> None:
        timed = [goal for goal in self._goals if goal.until_us is not None]
        if timed:
            target = min(goal.until_us or 0 for goal in timed)
            next_us = self._clock.next_us()
            is_to_move = target > self._clock.us or (next_us is not None and next_us <= target)
            if is_to_move and self._is_patient():
                return
            if next_us is not None and next_us <= target:
                self._move(next_us)
                return
            self._clock.move(max(target, self._clock.us))
            for goal in timed:
                if goal.until_us == target:
                    self._reached(goal)
            return
        retries = all(goal.retries for goal in self._goals)
        if self._world.moves(retries=retries):
            if not self._is_patient():
                self._move(self._clock.next_us())
        elif self._is_patient():
            pass
        elif not self._world.outside():
            for goal in list(self._goals):
                self._reached(goal)
        elif self._is_alone():
            self._give_up("nothing is left that could wake what runs")
        else:
            self._wait_outside(f"what runs has not ended in {self._guard_s:g} s")

    def _work_on_waits(self, waits: list[Wait]) -> None:
        if any(wait.is_timed for wait in waits) or self._world.moves(retries=True):
            if not self._is_patient():
                self._move(self._clock.next_us())
        elif self._world.outside() and not self._is_alone():
            self._wait_outside(f"what runs has not ended in {self._guard_s:g} s")
        elif not self._is_patient():
            self._fail_waits("nothing is left to run")

    # -- moving -------------------------------------------------------------------------------

    def _move(self, us: int | None) -> None:
        if us is None:
            self._wait_outside("there is work, and nothing that could take it further")
            return
        if us > self._moved_us:
            self._moved_us = us
            self._moved_at = monotonic()
        fire(self._clock.move(us), self._tap)
        self.wake()

    def _reached(self, goal: Goal) -> None:
        self._goals.remove(goal)
        if not goal.done.done():
            goal.done.set_result(None)
        self.wake()  # others may be waiting still, after what comes of this

    # -- the world outside --------------------------------------------------------------------

    def _is_patient(self) -> bool:
        """May something outside still bring news? Then time must not run away from it.

        A task that waits for an answer over a socket with a timeout of its own must not time out
        because we let time pass. But a task that waits for nothing that comes has to.
        """
        outside = self._world.outside()
        outside.update({wait: True for wait in self._waits if wait.is_far})
        self._waited_for = {each: None for each in self._waited_for if each in outside}
        fresh = {each: sleeps for each, sleeps in outside.items() if each not in self._waited_for}
        if not fresh or self._is_alone():
            return False
        if self._is_overdue():
            self._give_up(f"it went on and on for {self._guard_s:g} s")
            return True
        part = _SLEEPER_PART if all(fresh.values()) else 1.0
        self._wait(self._patience_s * part, lambda: self._waited_for.update(dict.fromkeys(fresh)))
        return True

    def _is_alone(self) -> bool:
        """Can surely nothing but a timer of ours bring news?"""
        if any(wait.is_far for wait in self._waits):  # its answer may be on its way
            return False
        return not self._world.has_threads() and self._tap.is_alone()

    def _wait_outside(self, why: str) -> None:
        """Only something outside can take us further: until the guard."""
        if self._is_overdue():
            self._give_up(why)
            return
        self._wait(self._guard_s / 10, lambda: None)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        def is_over() -> None:
            self._patience = None
            then()
            self.wake()

        self._patience = self._tap.after(seconds, is_over)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # -- giving up ----------------------------------------------------------------------------

    def _is_overdue(self) -> bool:
        now = monotonic()
        timed = any(goal.until_us is not None for goal in self._goals)
        since = [goal.began for goal in self._goals] or [wait.began for wait in self._waits]
        # A year of schedules may take its time, as long as it goes on.
        began = max(min(since), self._moved_at) if timed else min(since)
        return now - began > self._guard_s

    def _give_up(self, why: str) -> None:
        if self._goals:
            goals, self._goals = self._goals, []
            for goal in goals:
                if not goal.done.done():
                    goal.done.set_exception(Stuck(f"{why}: {self._world.stuck()}"))
            self.wake()
        else:
            self._fail_waits(why)

    def _fail_waits(self, why: str) -> None:
        text = f"{why}: {self._world.stuck()}"
        for wait in list(self._waits):
            if not wait.is_inside:
                self.leave(wait)
                wait.fail(Stuck(text))

    def _fail_all(self, error: BaseException) -> None:
        for goal in list(self._goals):
            self._goals.remove(goal)
            if not goal.done.done():
                goal.done.set_exception(error)
        for wait in list(self._waits):
            self.leave(wait)
            wait.fail(error)
