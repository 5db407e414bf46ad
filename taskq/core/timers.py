"""All that waits for a time, on either clock; nothing is polled. The near ones are in a heap, the others
on shelves.

Timers are not cancelled. Who is woken looks at what it finds: a timer whose reason has gone does nothing.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Literal

from taskq.core.effects import Now
from taskq.core.shelves import LEAD_MS, SHIFTS, Shelves

Kind = Literal[
    "due",
    "expires",
    "timeout",
    "silent",
    "word",
    "resume",
    "unread",
    "retention",
    "gate",
    "pause",
    "tick",
    "claim",
    "bound",
    "again",
    "hold",
    "instruction",
]
Key = bytes | int
WALL_LOOK_MS = 1_000
# kind, key, and what makes a timer of the same key a different one (a lease)
Timer = tuple[Kind, Key, int]
# When, and the timer. Those of one time go by their keys: the ids of jobs are in the order of their
# making, and keys of one kind are of one type.
Entry = tuple[int, Kind, Key, int]


def _always(timer: Timer) -> bool:
    return True


class Timers:
    """`after` is for waits, on the boot clock; `at` for calendar times, on the wall clock.

    `is_wanted` says whether a timer could still do something; asked of those that are far away.
    """

    def __init__(self, is_wanted: Callable[[Timer], bool] = _always) -> None:
        self.boot = Line(is_wanted)
        self.wall = Line(is_wanted)

    def after(self, boot_ms: int, kind: Kind, key: Key, mark: int = 0) -> None:
        self.boot.put(boot_ms, kind, key, mark)

    def at(self, wall_ms: int, kind: Kind, key: Key, mark: int = 0) -> None:
        self.wall.put(wall_ms, kind, key, mark)

    def __len__(self) -> int:
        return len(self.boot) + len(self.wall)

    def look(self, now: Now) -> None:
        """What is near is told from these times."""
        self.boot.look(now.boot_ms)
        self.wall.look(now.wall_ms)

    def due(self, now: Now, limit: int) -> list[Timer]:
        """At most `limit` timers whose time has come, taken out, the oldest of each clock first."""
        self.look(now)
        timers: list[Timer] = []
        self.boot.take(now.boot_ms, limit, timers)
        self.wall.take(now.wall_ms, limit, timers)
        return timers

    def next_ms(self, now: Now) -> int | None:
        """The boot time of the next timer, if both clocks went on as they do now."""
        times = []
        boot_ms, wall_ms = self.boot.next_ms(now.boot_ms), self.wall.next_ms(now.wall_ms)
        if boot_ms is not None:
            times.append(boot_ms)
        if wall_ms is not None:
            # People may set the wall clock while we sleep: look at it at least this often.
            times.append(now.boot_ms + min(wall_ms - now.wall_ms, WALL_LOOK_MS))
        return min(times, default=None)


class Line:
    """The timers of one clock."""

    def __init__(self, is_wanted: Callable[[Timer], bool]) -> None:
        self.near: list[Entry] = []
        self.far = Shelves(self.put, is_wanted)
        self._near_ms = 0  # a span that begins by then is near
        self._far_from_ms = 0  # where the first span begins that is not

    def __len__(self) -> int:
        return len(self.near) + len(self.far)

    def look(self, now_ms: int) -> None:
        shift = SHIFTS[0]
        self._near_ms = now_ms + LEAD_MS
        self._far_from_ms = (self._near_ms >> shift) + 1 << shift

    def put(self, at_ms: int, kind: Kind, key: Key, mark: int) -> None:
        if at_ms < self._far_from_ms:
            heappush(self.near, (at_ms, kind, key, mark))
        else:
            self.far.put(at_ms, kind, key, mark, self._near_ms)

    def take(self, now_ms: int, limit: int, timers: list[Timer]) -> None:
        """Add those whose time has come, as long as there are fewer than `limit`."""
        self.far.step(now_ms)
        near = self.near
        while near and near[0][0] <= now_ms and len(timers) < limit:
            timers.append(heappop(near)[1:])

    def next_ms(self, now_ms: int) -> int | None:
        if self.far.is_busy:
            return now_ms
        opens_ms = self.far.next_ms()
        if not self.near:
            return opens_ms
        return self.near[0][0] if opens_ms is None else min(self.near[0][0], opens_ms)
