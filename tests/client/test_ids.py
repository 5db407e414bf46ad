"""Job ids: UUIDv7 with the slot, rising within a process, whatever the clock does."""

from collections.abc import Iterator
from uuid import UUID

from taskq.client.ids import IdMaker
from taskq.protocol.ids import slot_of


def maker(*times_ms: int, random: bytes = b"\x5a") -> IdMaker:
    times: Iterator[int] = iter(times_ms)
    return IdMaker(lambda: next(times) * 1_000_000, lambda count: (random * count)[:count])


def test_it_is_a_uuid_version_7_with_time_and_slot() -> None:
    id = maker(1_790_000_000_123).new_id(0xABC)
    assert UUID(bytes=id).version == 7
    assert int.from_bytes(id[:6], "big") == 1_790_000_000_123
    assert slot_of(id) == 0xABC


def test_ids_rise_and_differ() -> None:
    ids = IdMaker()
    made = [ids.new_id(7) for _ in range(5_000)]
    assert made == sorted(made)
    assert len(set(made)) == 5_000


def test_ids_of_one_millisecond_rise_without_any_luck() -> None:
    for random in (b"\x00", b"\xff"):
        ids = maker(*[5] * 2_000, random=random)
        made = [ids.new_id(1) for _ in range(2_000)]
        assert made == sorted(set(made))
        assert {UUID(bytes=id).version for id in made} == {7}
        assert {id[:6] for id in made} == {(5).to_bytes(6, "big")}


def test_a_clock_that_goes_back_brings_no_id_back() -> None:
    ids = maker(10, 9, 8, 11)
    made = [ids.new_id(1) for _ in range(4)]
    assert made == sorted(set(made))


def test_two_makers_do_not_make_the_same() -> None:
    assert IdMaker().new_id(1) != IdMaker().new_id(1)
