"""One timer for many timeouts. The clock is the test's."""

import asyncio
from collections.abc import Iterator

import pytest

from taskq.worker.executors.deadlines import Deadlines


class Clock(asyncio.SelectorEventLoop):
    """An event loop's time and timers, moved by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        # Timers run in the turn after the one that finds them due.
        for _ in range(3):
            self.call_soon(lambda: None)
            self.stop()
            self.run_forever()


@pytest.fixture
def clock() -> Iterator[Clock]:
    loop = Clock()
    yield loop
    loop.close()


def test_leases_are_due_in_order_of_their_time(clock: Clock) -> None:
    due: list[int] = []
    deadlines = Deadlines(clock, due.append)
    for lease, timeout_ms in ((1, 3_000), (2, 1_000), (3, 2_000)):
        deadlines.set(lease, timeout_ms)
    clock.pass_time(0.5)
    assert due == []
    clock.pass_time(2.0)
    assert due == [2, 3]
    clock.pass_time(1.0)
    assert due == [2, 3, 1]


def test_what_is_cleared_or_moved_is_not_due(clock: Clock) -> None:
    due: list[int] = []
    deadlines = Deadlines(clock, due.append)
    deadlines.set(1, 1_000)
    deadlines.set(2, 1_000)
    deadlines.set(2, 5_000)
    deadlines.clear(1)
    clock.pass_time(1.5)
    assert due == []
    clock.pass_time(4.0)
    assert due == [2]


def test_one_that_is_due_may_set_another(clock: Clock) -> None:
    due: list[int] = []

    def on_due(lease: int) -> None:
        due.append(lease)
        if lease < 3:
            deadlines.set(lease + 1, 1_000)

    deadlines = Deadlines(clock, on_due)
    deadlines.set(1, 1_000)
    for _ in range(3):
        clock.pass_time(1.0)
    assert due == [1, 2, 3]


def test_what_is_over_does_not_pile_up(clock: Clock) -> None:
    deadlines = Deadlines(clock, lambda lease: None)
    for lease in range(10_000):
        deadlines.set(lease, 60_000)
        deadlines.clear(lease)
    assert len(deadlines) < 200
