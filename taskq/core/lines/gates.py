"""Gates: what must be open for a job to start. Each belongs to a queue, a task, or one key of either,
counts what runs and what started, and is paused or not.

What finds a gate closed is parked at it: it stands in no line, holds no slot and no timer. When there
is room, so many are woken as there is room for.
"""

from collections import deque
from collections.abc import Hashable
from typing import Final, Literal, NamedTuple, Protocol

from taskq import limits
from taskq.core.timers import Timers

Scope = Literal["queue", "task"]
# Those alike to every worker. One of each group is woken for each room: another may have no worker.
Group = Hashable
NO_LIMIT: Final = 2**62


class Spot(NamedTuple):
    """What a gate belongs to; the key is empty for the whole queue or task."""

    scope: Scope
    name: str
    key: str = ""

    def covers(self, queue: str, task: str, key: str) -> bool:
        """Does what is decided about this spot concern such a job?"""
        return self.name == (queue if self.scope == "queue" else task) and self.key in ("", key)

    def __str__(self) -> str:
        return f"{self.scope} {self.name!r}" + (f", key {self.key!r}" if self.key else "")


class Parkable(Protocol):
    """What can wait at a gate: a lane, a key, a whole queue as some workers see it."""

    @property
    def group(self) -> Group: ...

    parked: "Gate | None"

    @property
    def is_spent(self) -> bool:
        """Has it nothing to stand for any more?"""
        ...

    def unpark(self) -> bool:
        """Stand in line again; False: there is nothing to stand for."""
        ...


class Gate:
    """Concurrency, rate and pause of one spot. All in whole numbers: no rounding lets one too many through.

    The rate is a token bucket: a start costs `rate_ms` units, `rate_count` of them come back each
    millisecond, and at most `burst * rate_ms` are there.
    """

    def __init__(self, spot: Spot, number: int, timers: Timers) -> None:
        self.spot = spot
        self.number = number
        self.running = 0
        self.running_max = NO_LIMIT
        self.rate_count = 0  # 0: no rate
        self.rate_ms = 0
        self.is_paused = False
        self._timers = timers
        self._burst = 0
        self._level = 0
        self._level_ms = 0  # when it was at that level
        self._wake_ms = 0  # when its timer fires; 0: it has none
        self._parked: dict[Group, deque[Parkable]] = {}

    # -- what it allows -----------------------------------------------------------------------

    def limit(self, running_max: int | None) -> None:
        self.running_max = NO_LIMIT if running_max is None else running_max

    def pace(self, count: int, period_ms: int, burst: int, now_ms: int) -> None:
        """At most `count` starts a period; 0: as many as there are. A new pace begins with a full bucket,
        a changed one with what there was."""
        was_paced = self.rate_count
        if was_paced:
            self._refill(now_ms)
        before = (self._level, self.rate_ms)
        self.rate_count, self.rate_ms, self._burst = count, period_ms, burst or count
        full = self._burst * period_ms
        self._level = min(before[0] * period_ms // before[1], full) if was_paced and before[1] else full
        self._level_ms = now_ms
        self._wake_ms = 0

    # -- going through ------------------------------------------------------------------------

    def is_open(self, now_ms: int) -> bool:
        return self.room(now_ms) > 0

    def room(self, now_ms: int) -> int:
        """How many may start now."""
        if self.is_paused:
            return 0
        room = self.running_max - self.running
        if self.rate_count and room > 0:
            self._refill(now_ms)
            room = min(room, self._level // self.rate_ms)
        return room

    def take(self) -> None:
        """One starts."""
        self.running += 1
        if self.rate_count:
            self._level -= self.rate_ms

    def give_back(self, now_ms: int) -> None:
        """One has ended."""
        self.running -= 1
        if self._parked:
            self.wake(now_ms)

    # -- waiting ------------------------------------------------------------------------------

    def park(self, one: Parkable, now_ms: int) -> None:
        one.parked = self
        self._parked.setdefault(one.group, deque()).append(one)
        self._set_timer(now_ms)

    def wake(self, now_ms: int) -> None:
        """Of each group as many as there is room for, in the order in which they came."""
        room = min(self.room(now_ms), limits.WAKES_PER_TURN)
        if room <= 0:
            self._set_timer(now_ms)
            return
        is_cut = room == limits.WAKES_PER_TURN
        for group, waiting in list(self._parked.items()):
            woken = looks = 0
            while waiting and woken < room and looks < limits.WAKES_PER_TURN:
                one = waiting.popleft()
                woken += one.parked is self and one.unpark()  # else it has left meanwhile
                looks += 1
            is_cut = is_cut or (woken < room and looks == limits.WAKES_PER_TURN)
            if not waiting:
                del self._parked[group]
        if self._parked and is_cut:
            self._arm(now_ms)
        elif self._parked and self.rate_count and room < self._burst:
            # Those that were woken may have no worker: with the next token the next one comes.
            self._arm(self.next_ms(now_ms, room + 1))

    def on_timer(self, now_ms: int) -> None:
        self._wake_ms = 0
        if self._parked:
            self.wake(now_ms)

    def forget(self, one: Parkable) -> None:
        """It is no longer there to be woken. Its place is taken out when it comes up."""
        one.parked = None

    def prune(self) -> None:
        """Take out the places of those that have left, or have nothing to stand for."""
        for group, waiting in list(self._parked.items()):
            here = deque(one for one in waiting if one.parked is self and not one.is_spent)
            for one in waiting:
                if one.parked is self and one.is_spent:
                    one.parked = None
            if here:
                self._parked[group] = here
            else:
                del self._parked[group]

    @property
    def has_waiting(self) -> bool:
        """Quick; some of them may have left."""
        return bool(self._parked)

    @property
    def waiting(self) -> int:
        return sum(one.parked is self for group in self._parked.values() for one in group)

    def is_idle(self, now_ms: int) -> bool:
        """Would a gate made anew be the same?"""
        if self.running or self._parked:
            return False
        if self.rate_count:
            self._refill(now_ms)
        return self._level >= self._burst * self.rate_ms

    def next_ms(self, now_ms: int, starts: int = 1) -> int:
        """When its rate lets so many start, boot ms."""
        self._refill(now_ms)
        missing = max(starts * self.rate_ms - self._level, 0)
        return now_ms + -(-missing // self.rate_count)

    def _refill(self, now_ms: int) -> None:
        passed_ms = now_ms - self._level_ms
        if passed_ms > 0:
            self._level = min(self._level + passed_ms * self.rate_count, self._burst * self.rate_ms)
            self._level_ms = now_ms

    def _set_timer(self, now_ms: int) -> None:
        """Only a rate opens by itself; what else closes a gate is opened by an event."""
        if self.rate_count and self._parked and not self.is_paused and self.running < self.running_max:
            self._arm(self.next_ms(now_ms))

    def _arm(self, boot_ms: int) -> None:
        if not self._wake_ms or boot_ms < self._wake_ms:
            self._wake_ms = boot_ms
            self._timers.after(boot_ms, "gate", self.number, boot_ms)
