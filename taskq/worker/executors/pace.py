"""How fast an executor's attempts go, and how much more than it has slots for a worker should be given.
Pure: the caller says what time it is.
"""

from typing import Final

from taskq.limits import EXTRA_MS, EXTRA_PER_SLOT, PACE_WINDOW_MS, SLOTS_MAX, TINY_JOB_MS

_WINDOW_S: Final = PACE_WINDOW_MS / 1_000
_TINY_S: Final = TINY_JOB_MS / 1_000
_EXTRA_S: Final = EXTRA_MS / 1_000


class Pace:
    """Looked at where many attempts come or go at once: two clock readings for each would cost a tenth of
    what a tiny one costs. By Little's law the mean time in a slot is the sum of the times that slots were
    taken, divided by how many attempts ended.
    """

    __slots__ = ("_at", "_began", "_ended", "_taken_s", "extra", "taken")

    def __init__(self, now: float) -> None:
        self.extra = 0  # as decided last
        self.taken = 0  # slots, at the last look
        self._at = now
        self._began = now  # of the window
        self._ended = 0  # when it began
        self._taken_s = 0.0

    def look(self, now: float, taken: int, ended: int, slots: int) -> bool:
        """So many slots are taken, and so many attempts have ended in all. Whether `extra` has changed."""
        self._taken_s += (now - self._at) * (self.taken + taken) / 2
        self._at = now
        self.taken = taken
        if now - self._began < _WINDOW_S:
            return False
        before, self.extra = self.extra, self._decide(now - self._began, ended - self._ended, slots)
        self._begin(now, ended)
        return self.extra != before

    def withdraw(self, now: float, ended: int) -> None:
        """No extra, and none before another window has been measured."""
        self.extra = 0
        self._begin(now, ended)

    def _begin(self, now: float, ended: int) -> None:
        self._began = now
        self._ended = ended
        self._taken_s = 0.0

    def _decide(self, seconds: float, ended: int, slots: int) -> int:
        if not ended or self._taken_s / ended >= _TINY_S:
            return 0
        most = min(slots * EXTRA_PER_SLOT, SLOTS_MAX - slots)
        extra = max(min(int(ended / seconds * _EXTRA_S) - slots, most), 0)
        # About as much as before: not worth an announcement.
        if self.extra // 2 < extra <= self.extra * 2 and self.extra <= most:
            return self.extra
        return extra
