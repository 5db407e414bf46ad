"""A line that members may leave from the middle, in O(1) and without a pause, however long it is."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Members that left are looked for when they are one place in so many.
EMPTY_PART = 8
# Places looked at for each that leaves: a pass is over before there could be twice as many empty ones.
PLACES_PER_LEAVER = 2 * EMPTY_PART
# So few empty places are not worth a look.
EMPTY_MIN = 32


class Line(Generic[T]):
    """First in, first out. Whoever left is told apart by `stays`, and is dropped when it comes to the
    head, or by a pass over the line, a few places for each that leaves.

    The line is `_front` and behind it `_back`: a pass takes from the back's head to the front's end.
    """

    def __init__(self, stays: Callable[[T], bool]) -> None:
        self._stays = stays
        self._front: deque[T] = deque()
        self._back: deque[T] = deque()
        self._empty = 0  # places whose member has left, about

    def __len__(self) -> int:
        """Places, also those whose member has left."""
        return len(self._front) + len(self._back)

    def append(self, item: T) -> None:
        self._back.append(item)

    @property
    def tail(self) -> deque[T]:
        """Where `append` puts it, for those who have many: good until somebody leaves."""
        return self._back

    @property
    def first(self) -> deque[T]:
        """The part that begins with the head, for those who take many: good until somebody leaves."""
        return self._front or self._back

    def head(self) -> T | None:
        """Who is first, of those that stay."""
        while self._front or self._back:
            first = (self._front or self._back)[0]
            if self._stays(first):
                return first
            self._drop()
        return None

    def popleft(self) -> T:
        """Take out the first place; that of `head`, if that was asked last."""
        return (self._front or self._back).popleft()

    def left(self, count: int) -> None:
        """So many have left, wherever they stood."""
        self._empty += count
        places = count * PLACES_PER_LEAVER
        # Mostly they leave from the head on, and then nothing else is to be done.
        while places and len(self) and not self._stays((self._front or self._back)[0]):
            self._drop()
            places -= 1
        if self._empty > EMPTY_MIN and self._empty * EMPTY_PART > len(self):
            self._pass(places)

    def _drop(self) -> None:
        self.popleft()
        self._empty = max(self._empty - 1, 0)

    def _pass(self, places: int) -> None:
        for _ in range(min(places, len(self))):
            if not self._back:
                self._front, self._back = self._back, self._front
            item = self._back.popleft()
            if self._stays(item):
                self._front.append(item)
            else:
                self._empty = max(self._empty - 1, 0)
