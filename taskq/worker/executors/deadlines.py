"""Timeouts of running attempts: one heap and one timer, whatever their number."""

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from taskq.worker.tree.docket import Docket

# Entries of attempts that are over stay in the heap until they make up half of it and more than this.
_STALE_FREE: Final = 64


class Deadlines:
    """Calls `on_due(lease)` when a lease's time is up. Times are those of the loop, in seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_due: Callable[[int], None], docket: Docket | None = None
    ) -> None:
        """`docket`: where the supervisor sees them, should the loop be blocked when one is due."""
        self._loop = loop
        self._on_due = on_due
        self._docket = docket
        self._due_at: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        # Its time is kept here: uvloop's timers for what is due at once cannot tell theirs.
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def set(self, lease: int, timeout_ms: int) -> None:
        """From now on the lease has this long; replaces what was set before."""
        due_at = self._loop.time() + timeout_ms / 1_000
        self._due_at[lease] = due_at
        heappush(self._heap, (due_at, lease))
        if self._docket is not None:
            self._docket.set(lease, timeout_ms / 1_000)
        if self._timer is None or due_at < self._timer_at:
            self._arm()

    def clear(self, lease: int) -> None:
        """The attempt is over."""
        if self._due_at.pop(lease, None) is not None and self._docket is not None:
            self._docket.clear(lease)
        if len(self._heap) > 2 * len(self._due_at) + _STALE_FREE:
            self._heap = [(due_at, lease) for lease, due_at in self._due_at.items()]
            heapify(self._heap)

    def __len__(self) -> int:
        """Entries kept, those of attempts that are over included."""
        return len(self._heap)

    def left(self, lease: int) -> float | None:
        """Seconds until the lease's time is up; None when it has no end."""
        due_at = self._due_at.get(lease)
        return None if due_at is None else due_at - self._loop.time()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._heap = []
        self._due_at = {}

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._heap:
            self._timer_at = self._heap[0][0]
            self._timer = self._loop.call_at(self._timer_at, self._fire)

    def _fire(self) -> None:
        # Loops keep time in steps of milliseconds and may wake a step early: what is due at the
        # time this timer was set for counts as due.
        now = max(self._loop.time(), self._timer_at)
        self._timer = None
        while self._heap and self._heap[0][0] <= now:
            due_at, lease = heappop(self._heap)
            if self._due_at.get(lease) == due_at:
                self.clear(lease)
                self._on_due(lease)
        if self._timer is None:
            self._arm()
