"""Ids are UUIDv7 that any language can make and read: fixed vectors, and the layout as `uuid` sees it."""

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.protocol.ids import RANDOM_BITS, SLOTS, job_slot, make_id, partition_of, slot_of


@given(
    unix_ms=st.integers(0, 2**48 - 1),
    slot=st.integers(0, SLOTS - 1),
    random62=st.integers(0, 2**RANDOM_BITS - 1),
)
def test_an_id_is_a_uuid7_and_keeps_its_parts(unix_ms: int, slot: int, random62: int) -> None:
    id = make_id(unix_ms, slot, random62)
    uuid = UUID(bytes=id)
    assert (uuid.version, uuid.variant) == (7, RFC_4122)
    assert uuid.int >> 80 == unix_ms
    assert slot_of(id) == slot
    assert uuid.int & (2**RANDOM_BITS - 1) == random62


def test_ids_sort_by_time() -> None:
    assert make_id(1, SLOTS - 1, 2**RANDOM_BITS - 1) < make_id(2, 0, 0)


@pytest.mark.parametrize(
    ("words", "slot"),
    [
        # Written down from `b2sum -l 64`: changing them moves every job that exists.
        (("default", "default"), 1297),
        (("default", "mail"), 2744),
        (("shop", "mail"), 4021),
        (("default", "mail", "ann"), 2711),
        (("", "é"), 1413),
    ],
)
def test_slots_never_change(words: tuple[str, ...], slot: int) -> None:
    assert job_slot(*words) == slot


def test_slots_are_spread() -> None:
    used = {job_slot("default", f"queue-{number}") for number in range(20_000)}
    # 4096 slots, 20000 draws: 4065 are expected to be hit.
    assert len(used) > 4_000


@pytest.mark.parametrize("partitions", [1, 2, 3, 64, 4096])
def test_a_partition_is_the_slot_modulo_their_number(partitions: int) -> None:
    ids = [make_id(1_700_000_000_000, slot, 7) for slot in range(0, SLOTS, 37)]
    assert [partition_of(id, partitions) for id in ids] == [slot_of(id) % partitions for id in ids]


@pytest.mark.parametrize(
    ("unix_ms", "slot", "random62"), [(2**48, 0, 0), (0, SLOTS, 0), (0, 0, 2**62), (-1, 0, 0)]
)
def test_parts_that_do_not_fit_are_our_own_mistake(unix_ms: int, slot: int, random62: int) -> None:
    with pytest.raises(AssertionError):
        make_id(unix_ms, slot, random62)
