"""What a child writes, its supervisor reads; nobody is called more often than needed."""

import os
from collections.abc import Iterator
from time import monotonic

import pytest

from taskq.worker.tree.docket import Docket, DocketView, make_docket


class Pair:
    def __init__(self, entries: int = 8) -> None:
        self.fd = make_docket(entries)
        self.view = DocketView(self.fd)
        self.calls: list[float] = []
        self.docket = Docket(self.fd, self.calls.append)

    def leases(self) -> list[int]:
        return [due.lease for due in self.view.look()]


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    os.close(pair.fd)


def test_what_is_set_is_seen_in_order_of_time(pair: Pair) -> None:
    before = monotonic()
    pair.docket.set(7, 5.0)
    pair.docket.set(8, 1.0)
    pair.docket.set(2**62, 3.0)
    assert pair.leases() == [8, 2**62, 7]
    assert before + 1.0 <= pair.view.look()[0].at <= monotonic() + 1.0


def test_what_is_cleared_or_moved_is_not_seen_where_it_was(pair: Pair) -> None:
    pair.docket.set(1, 1.0)
    pair.docket.set(2, 2.0)
    pair.docket.set(1, 9.0)
    assert pair.leases() == [2, 1]
    pair.docket.clear(2)
    pair.docket.clear(5)
    assert pair.leases() == [1]


def test_the_supervisor_is_called_only_for_what_is_due_before_it_looks(pair: Pair) -> None:
    pair.docket.set(1, 5.0)
    assert len(pair.calls) == 1, "nobody was looking"
    pair.view.arm(pair.calls[0])
    for lease in range(2, 6):
        pair.docket.set(lease, 6.0)
        pair.docket.clear(lease)
    assert len(pair.calls) == 1
    pair.docket.set(9, 1.0)
    assert len(pair.calls) == 2


def test_after_a_look_everything_is_called_for_until_it_is_armed_again(pair: Pair) -> None:
    pair.docket.set(1, 5.0)
    pair.view.arm(pair.calls[0])
    pair.docket.clear(1)
    assert pair.view.look() == []
    pair.docket.set(2, 3600.0)
    assert len(pair.calls) == 2


def test_places_are_used_again_and_one_too_many_is_let_be(pair: Pair) -> None:
    for lease in range(100):
        pair.docket.set(lease, 1.0)
        pair.docket.clear(lease)
    for lease in range(20):
        pair.docket.set(lease, 1.0)
    assert pair.leases() == list(range(8))
