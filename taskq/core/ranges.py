"""Sets of numbers as ranges in one flat list: first, end, first, end, in order; an end is not in it."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def has(ranges: Sequence[int], number: int) -> bool:
    return bisect_right(ranges, number) % 2 == 1


def added(ranges: Sequence[int], first: int, end: int) -> list[int]:
    """With all from `first` up to `end`."""
    if first >= end:
        return list(ranges)
    return _spliced(ranges, first, end, edge=0)


def removed(ranges: Sequence[int], first: int, end: int) -> list[int]:
    """Without all from `first` up to `end`."""
    if first >= end:
        return list(ranges)
    return _spliced(ranges, first, end, edge=1)


def _spliced(ranges: Sequence[int], first: int, end: int, *, edge: int) -> list[int]:
    low, high = bisect_left(ranges, first), bisect_right(ranges, end)
    left = [first] if low % 2 == edge else []
    right = [end] if high % 2 == edge else []
    return [*ranges[:low], *left, *right, *ranges[high:]]
