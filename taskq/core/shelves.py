"""Timers that are far away, on shelves: each holds those of one kind and one span of time, in no order.

26 bytes each, where an entry of a heap and its numbers take 130: ten million jobs may wait for a time.
A shelf is opened a little before its span begins, and what it holds is put where it belongs then: on
shelves of shorter spans, at last in the heap of the near ones.
"""

from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from taskq.core.timers import Key, Kind, Timer

# Spans of 2**shift ms: 4 s, 4 min, 5 h, 12 days, 2 years. Each holds 64 of the next shorter ones, so
# that a timer is moved five times in ten years, and there are few shelves however far times lie apart.
SHIFTS: Final = (12, 18, 24, 30, 36)
# How long before its span a shelf is opened: emptying a large one takes many turns.
LEAD_MS: Final = 4_096
# Timers looked at in one turn: 2 ms.
SLICE: Final = 2_000
# A full shelf is followed by another one: columns that grow for ever leave holes in memory as large as
# themselves when they move.
SHELF_MAX: Final = 8_192
# An hour's timeout at 10,000 jobs a second would be 36 million timers of jobs that have ended.
TIMERS_BEFORE_SWEEP: Final = 20_000


class Shelf(Struct, gc=False):
    """Timers of one kind, each in the same place of three columns."""

    kind: "Kind"
    first_ms: int
    end_ms: int
    times: "array[int]"
    keys: "list[Key]"
    marks: "array[int]"


class Shelves:
    """All shelves of one clock. What nobody waits for any more is dropped when it is looked at: when
    its shelf is opened, or when there may be twice as many timers as are wanted."""

    def __init__(
        self, put: "Callable[[int, Kind, Key, int], None]", is_wanted: "Callable[[Timer], bool]"
    ) -> None:
        self._put = put  # where a timer belongs that comes off its shelf
        self._is_wanted = is_wanted
        self._shelves: dict[tuple[int, int, Kind], list[Shelf]] = {}  # by span; the last one is filled
        self._order: list[tuple[int, int, int, Kind]] = []  # when to open, and which
        self._open: list[Shelf] = []
        self._latest: Shelf | None = None
        self._count = 0
        self._sweep_at = TIMERS_BEFORE_SWEEP
        self._to_sweep: list[tuple[Shelf, int]] = []  # up to where

    def __len__(self) -> int:
        return self._count

    def put(self, at_ms: int, kind: "Kind", key: "Key", mark: int, near_ms: int) -> None:
        """Keep this one on the shelf of the longest span that begins after `near_ms`."""
        shelf = self._latest  # those that are set together are mostly for about the same time
        if shelf is None or not shelf.first_ms <= at_ms < shelf.end_ms or shelf.kind != kind:
            shelf = self._latest = self._find(at_ms, kind, near_ms)
        shelf.times.append(at_ms)
        shelf.keys.append(key)
        shelf.marks.append(mark)
        self._count += 1
        if len(shelf.keys) >= SHELF_MAX:
            self._latest = None

    def step(self, now_ms: int) -> None:
        """Go on with what is to be opened, or swept: one slice."""
        order = self._order
        while order and order[0][0] <= now_ms:
            _, shift, span, kind = heappop(order)
            self._open += self._shelves.pop((shift, span, kind))
            self._latest = None
        if self._open:
            self._unload()
        elif self._to_sweep:
            self._sweep()
        elif self._count >= self._sweep_at:
            shelves = [shelf for row in self._shelves.values() for shelf in row]
            self._to_sweep = [(shelf, len(shelf.keys)) for shelf in shelves]

    @property
    def is_busy(self) -> bool:
        """Does the next step have something to do at any time?"""
        return bool(self._open or self._to_sweep)

    def next_ms(self) -> int | None:
        """When the next shelf is to be opened."""
        return self._order[0][0] if self._order else None

    # -- parts --------------------------------------------------------------------------------

    def _find(self, at_ms: int, kind: "Kind", near_ms: int) -> Shelf:
        shift = SHIFTS[0]
        for longer in SHIFTS[1:]:
            if at_ms >> longer <= near_ms >> longer:
                break
            shift = longer
        span = at_ms >> shift
        first_ms = span << shift
        row = self._shelves.get((shift, span, kind))
        if row is None:
            row = self._shelves[shift, span, kind] = []
            heappush(self._order, (first_ms - LEAD_MS, shift, span, kind))
        if not row or len(row[-1].keys) >= SHELF_MAX:
            row.append(Shelf(kind, first_ms, first_ms + (1 << shift), array("q"), [], array("q")))
        return row[-1]

    def _unload(self) -> None:
        """Take a slice off the shelf that was to be opened first."""
        shelf = min(self._open, key=_first_ms) if len(self._open) > 1 else self._open[0]
        kind, put, is_wanted = shelf.kind, self._put, self._is_wanted
        times, keys, marks = shelf.times[-SLICE:], shelf.keys[-SLICE:], shelf.marks[-SLICE:]
        del shelf.times[-SLICE:], shelf.keys[-SLICE:], shelf.marks[-SLICE:]
        if not shelf.keys:
            self._open.remove(shelf)
        self._count -= len(keys)
        for at_ms, key, mark in zip(times, keys, marks, strict=True):
            if is_wanted((kind, key, mark)):
                put(at_ms, kind, key, mark)

    def _sweep(self) -> None:
        """Look through a slice of one shelf, from its end to its beginning: what is added meanwhile
        stands behind, and what is opened meanwhile was taken from there."""
        shelf, end = self._to_sweep.pop()
        end = min(end, len(shelf.keys))
        start = max(end - SLICE, 0)
        kind, marks = shelf.kind, shelf.marks[start:end]
        places = [
            place
            for place, (key, mark) in enumerate(zip(shelf.keys[start:end], marks, strict=True), start)
            if self._is_wanted((kind, key, mark))
        ]
        if len(places) < end - start:
            self._count -= end - start - len(places)
            shelf.times[start:end] = array("q", [shelf.times[place] for place in places])
            shelf.marks[start:end] = array("q", [shelf.marks[place] for place in places])
            shelf.keys[start:end] = [shelf.keys[place] for place in places]
        if start:
            self._to_sweep.append((shelf, start))
        elif not self._to_sweep:
            # Twice what is left: a look costs O(1) for each timer set since the last one.
            self._sweep_at = max(2 * self._count, TIMERS_BEFORE_SWEEP)


def _first_ms(shelf: Shelf) -> int:
    return shelf.first_ms
