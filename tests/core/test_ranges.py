"""Sets of numbers as ranges: the same as a set, said shorter."""

from random import Random

from taskq.core.ranges import added, has, removed


def test_they_hold_what_a_set_would_hold() -> None:
    rng = Random(1)
    for _ in range(200):
        ranges: list[int] = []
        numbers: set[int] = set()
        for _ in range(20):
            first = rng.randrange(30)
            end = first + rng.randrange(6)
            if rng.random() < 0.6:
                ranges, numbers = added(ranges, first, end), numbers | set(range(first, end))
            else:
                ranges, numbers = removed(ranges, first, end), numbers - set(range(first, end))
            assert [number for number in range(40) if has(ranges, number)] == sorted(numbers)
            assert ranges == sorted(ranges)


def test_neighbours_are_one_range() -> None:
    ranges: list[int] = []
    for number in range(1000):
        ranges = added(ranges, number, number + 1)
    assert ranges == [0, 1000]
    assert removed(ranges, 0, 1) == [1, 1000]
