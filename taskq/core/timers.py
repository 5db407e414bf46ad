"""All that waits for a time: one heap per clock, nothing is polled.

Timers are not cancelled. Who is woken looks at what it finds: a timer whose reason has gone does
nothing. When there are twice as many as were wanted at the last look, the others are taken out.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Literal

from taskq.core.effects import Now

Kind = Literal[
    "due", "expires", "timeout", "silent", "word", "resume", "unread", "retention", "gate", "pause", "tick"
]
WALL_LOOK_MS = 1_000
# An hour's timeout at 10,000 jobs a second would be 36 million timers of jobs that have ended.
TIMERS_BEFORE_SWEEP = 20_000
# kind, key, and what makes a timer of the same key a different one (a lease)
Timer = tuple[Kind, bytes | int, int]
# When, and the timer: one tuple each, for there may be millions. Those of one time go by their keys:
# the ids of jobs are in the order of their making, and keys of one kind are of one type.
Entry = tuple[int, Kind, bytes | int, int]


class Timers:
    """Two heaps: `boot` for waits, `wall` for calendar times."""

    def __init__(self) -> None:
        self._boot: list[Entry] = []
        self._wall: list[Entry] = []
        self._sweep_at = TIMERS_BEFORE_SWEEP

    def __len__(self) -> int:
        return len(self._boot) + len(self._wall)

    def after(self, boot_ms: int, kind: Kind, key: bytes | int, mark: int = 0) -> None:
        heappush(self._boot, (boot_ms, kind, key, mark))

    def at(self, wall_ms: int, kind: Kind, key: bytes | int, mark: int = 0) -> None:
        heappush(self._wall, (wall_ms, kind, key, mark))

    def due(self, now: Now, limit: int) -> list[Timer]:
        """At most `limit` timers whose time has come, taken out, the oldest first."""
        timers: list[Timer] = []
        for heap, clock_ms in ((self._boot, now.boot_ms), (self._wall, now.wall_ms)):
            while heap and heap[0][0] <= clock_ms and len(timers) < limit:
                timers.append(heappop(heap)[1:])
        return timers

    def sweep(self, is_wanted: Callable[[Timer], bool]) -> None:
        """Take out what nobody waits for any more, if it may be half of all: O(1) a timer set."""
        if len(self) < self._sweep_at:
            return
        for heap in (self._boot, self._wall):
            heap[:] = [entry for entry in heap if is_wanted(entry[1:])]
            heapify(heap)
        self._sweep_at = max(2 * len(self), TIMERS_BEFORE_SWEEP)

    def next_ms(self, now: Now) -> int | None:
        """The boot time of the next timer, if both clocks went on as they do now."""
        times = []
        if self._boot:
            times.append(self._boot[0][0])
        if self._wall:
            # People may set the wall clock while we sleep: look at it at least this often.
            times.append(now.boot_ms + min(self._wall[0][0] - now.wall_ms, WALL_LOOK_MS))
        return min(times, default=None)
