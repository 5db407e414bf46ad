"""The ids of all jobs at one moment, to be looked at in slices later."""

from collections.abc import Iterator
from typing import Final

ID_BYTES: Final = 16
# Ids packed in one turn: a few milliseconds.
PACKED_PER_TURN: Final = 100_000


def unpacked(ids: bytes) -> Iterator[bytes]:
    """The ids that were joined."""
    return (ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))


class Snapshot:
    """Ids, packed into bytes a part at a time. As a list of a million objects, whatever they are, they
    would be looked at by the garbage collector, which then held up the loop for 75 ms."""

    def __init__(self, ids: list[bytes]) -> None:
        self._ids = ids
        self._packed: list[bytes] = []  # the last part first
        self._part = b""
        self._at = 0

    @property
    def is_packed(self) -> bool:
        return not self._ids

    def pack(self) -> None:
        """Pack a part of what is not packed yet, from the end on."""
        self._packed.append(b"".join(self._ids[-PACKED_PER_TURN:]))
        del self._ids[-PACKED_PER_TURN:]

    def is_over(self) -> bool:
        """Everything was taken."""
        return self._at >= len(self._part) and not self._packed

    def take(self, count: int) -> list[bytes]:
        """At most so many of the next, in the order in which they were; none only at the end."""
        if self._at >= len(self._part) and self._packed:
            self._part, self._at = self._packed.pop(), 0
        end = min(self._at + count * ID_BYTES, len(self._part))
        ids = [self._part[at : at + ID_BYTES] for at in range(self._at, end, ID_BYTES)]
        self._at = end
        return ids

    def put_back(self, count: int) -> None:
        """The last so many that were taken were not looked at."""
        self._at -= count * ID_BYTES
