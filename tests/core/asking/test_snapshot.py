"""A snapshot gives what was put in, in order, whatever the parts."""

import pytest

from taskq.core.asking import snapshot
from taskq.core.asking.snapshot import Snapshot
from tests.core.world import id_of


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25])
@pytest.mark.parametrize("slice", [1, 4, 100])
def test_all_are_taken_in_order(count: int, slice: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PACKED_PER_TURN", 10)
    ids = [id_of(f"{number}") for number in range(count)]
    taken: list[bytes] = []
    shot = Snapshot(list(ids))
    while not shot.is_packed:
        shot.pack()
    while not shot.is_over():
        part = shot.take(slice)
        assert 0 < len(part) <= slice
        if len(part) > 1:  # the last one is not looked at this time
            shot.put_back(1)
            part.pop()
        taken += part
    assert taken == ids
    assert shot.take(5) == []
