"""The slots of executors, and the lines of those that wait for one, first come first served. Pure.

The hot paths of their user read and write `free`, `ended` and `waiting` themselves: a call for each would
cost 2% of a tiny job.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Generic, Protocol, TypeVar

from taskq.limits import EXTRA_PER_SLOT
from taskq.protocol.messages import Delivery
from taskq.worker.executors.pace import Pace


class Waiting(Protocol):
    """An attempt, as far as its line knows it."""

    delivery: Delivery
    is_waiting: bool


A = TypeVar("A", bound=Waiting)


class Line(Generic[A]):
    """One executor. `start` is called with an attempt that has a slot."""

    __slots__ = ("_newest", "ended", "extra", "free", "name", "pace", "slots", "start", "waiting")

    def __init__(self, name: str, slots: int, start: Callable[[A], None], now: float) -> None:
        self.name = name
        self.slots = slots  # as announced: less than there are while threads are stuck
        self.extra = 0  # as announced: so many more may come, and wait
        self.free = slots
        self.ended = 0  # slots given back, ever
        self.start = start
        # Also those that came when the broker took slots for free that stopped attempts still had.
        self.waiting: deque[A] = deque()
        self.pace = Pace(now)
        self._newest: A | None = None

    def resize(self, change: int) -> None:
        """So many slots come or go, that nobody has; also below none, until somebody gives his back."""
        self.slots += change
        self.free += change
        self.extra = min(self.extra, max(self.slots, 0) * EXTRA_PER_SLOT)
        while self.free > 0 and self.waiting:
            self.free -= 1
            attempt = self.waiting.popleft()
            attempt.is_waiting = False
            self.start(attempt)

    def take_out(self, leases: Container[int]) -> list[A]:
        """Those of them that have no slot yet leave the line."""
        out = [attempt for attempt in self.waiting if attempt.delivery.lease in leases]
        if out:
            self.waiting = deque(one for one in self.waiting if one.delivery.lease not in leases)
            _leave(out)
        return out

    def take_stale(self) -> list[A]:
        """Those that waited at the last call, and still do, leave the line."""
        out: list[A] = []
        waiting, last = self.waiting, self._newest
        while last is not None and last.is_waiting and waiting:
            out.append(waiting.popleft())
            if out[-1] is last:
                break
        _leave(out)
        self._newest = waiting[-1] if waiting else None
        return out


class Lines(Generic[A]):
    """All of a worker's executors, by name."""

    def __init__(self, lines: Iterable[Line[A]]) -> None:
        self.by_name = {line.name: line for line in lines}
        # For the hot paths: an executor without slots has nothing to look at.
        self._all = [line for line in self.by_name.values() if line.slots]

    @property
    def waiting(self) -> list[A]:
        return [attempt for line in self._all for attempt in line.waiting]

    def look(self, now: float) -> list[Line[A]]:
        """Measure how fast it goes. Those that should be given more or less than before, as `extra` says."""
        changed = []
        for line in self._all:
            if line.pace.look(now, line.slots - line.free, line.ended, line.slots):
                line.extra = line.pace.extra
                changed.append(line)
        return changed

    def note_taken(self) -> None:
        """Slots were taken since the look a moment ago."""
        for line in self._all:
            line.pace.taken = line.slots - line.free

    def take_out(self, leases: Container[int]) -> list[A]:
        """Those of them that have no slot yet leave their lines."""
        return [attempt for line in self._all for attempt in line.take_out(leases)]

    def take_stale(self) -> list[A]:
        """To be called every so often while anybody waits: those that waited at the last call, too."""
        return [attempt for line in self._all for attempt in line.take_stale()]

    def withdraw(self, now: float) -> list[Line[A]]:
        """No extra until the pace was measured again. Those that had any."""
        had = [line for line in self._all if line.extra]
        for line in self._all:
            line.extra = 0
            line.pace.withdraw(now, line.ended)
        return had


def _leave(attempts: list[A]) -> None:
    for attempt in attempts:
        attempt.is_waiting = False
