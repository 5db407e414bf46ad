"""Which attempts' time is limited, and until when: in memory that a child shares with its supervisor, so
that the supervisor can read it when the child's loop is blocked and says nothing.

The child writes an entry when such an attempt begins and clears it when that ends: 0.3 us, and nothing for
attempts without a timeout. The supervisor looks only when something may be due. It says in `armed` when that
is; the child calls for it when an entry is due earlier.
"""

import mmap
import os
import tempfile
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final, NamedTuple

# Two 8-byte words of header, two for each entry. Times are `monotonic()`, which a machine's processes share.
_WORD: Final = 8
_ARMED: Final = 0  # when the supervisor looks next
_USED: Final = 1  # entries beyond this number were never used
_HEADER: Final = 2


class Due(NamedTuple):
    """An attempt whose time is limited."""

    lease: int
    at: float


def make_docket(entries: int) -> int:
    """Memory for so many attempts at once, as a file descriptor to be inherited. Pages that are not used
    take no memory."""
    size = (_HEADER + 2 * entries) * _WORD
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("taskq-docket")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class Docket:
    """The child's end."""

    def __init__(self, fd: int, call: Callable[[float], None]) -> None:
        """`call` tells the supervisor that something is due at this time, earlier than it looks."""
        memory = memoryview(mmap.mmap(fd, 0))
        self._times = memory.cast("d")
        self._numbers = memory.cast("Q")
        self._call = call
        # Taken from the front: while few are used, few need to be looked at.
        self._free = list(range(len(self._times) - 2, _HEADER - 1, -2))
        self._places: dict[int, int] = {}
        self._used = _HEADER

    def set(self, lease: int, seconds: float) -> None:
        """The attempt is to be over so many seconds from now; replaces what was set before."""
        place = self._places.get(lease)
        if place is None:
            if not self._free:  # it holds as many as there are slots
                return
            place = self._places[lease] = self._free.pop()
            if place >= self._used:
                self._used = place + 2
                self._numbers[_USED] = self._used
            self._numbers[place] = lease
        times = self._times
        times[place + 1] = at = monotonic() + seconds
        if at < times[_ARMED]:
            self._call(at)

    def clear(self, lease: int) -> None:
        """It is over, or may take any time."""
        place = self._places.pop(lease, None)
        if place is not None:
            self._times[place + 1] = 0.0
            self._free.append(place)


class DocketView:
    """The supervisor's end."""

    def __init__(self, fd: int) -> None:
        memory = memoryview(mmap.mmap(fd, 0))
        self._times = memory.cast("d")
        self._numbers = memory.cast("Q")
        self._times[_ARMED] = inf

    def arm(self, at: float) -> None:
        """We look then: the child need not call for what is due later."""
        self._times[_ARMED] = at

    def look(self) -> list[Due]:
        """All entries, the earliest first. From now on the child calls for everything, until we `arm`."""
        # First disarmed: what comes in while we read is called for, and read again.
        self._times[_ARMED] = inf
        entries = []
        for place in range(_HEADER, self._numbers[_USED], 2):
            # First the lease: a place that changes hands meanwhile has a time that is far from due.
            lease = self._numbers[place]
            if at := self._times[place + 1]:
                entries.append(Due(lease, at))
        entries.sort(key=lambda due: due.at)
        return entries
