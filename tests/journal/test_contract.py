"""What every journal keeps to, whatever it is made of."""

import asyncio
import os

import pytest

from taskq.errors import JournalError, JournalFailed
from taskq.journal.base import Durability, Journal
from tests.journal.conftest import Store


async def contents(journal: Journal) -> list[tuple[int, bytes]]:
    return [batch async for batch in journal.read()]


async def fill(journal: Journal, count: int, size: int = 100) -> list[tuple[int, bytes]]:
    first = journal.last_seq + 1
    batches = [(seq, seq.to_bytes(4) + os.urandom(size - 4)) for seq in range(first, first + count)]
    for seq, blob in batches:
        await journal.append(seq, blob, Durability.OS)
    return batches


async def test_a_new_journal_is_empty(store: Store) -> None:
    journal = await store.open()
    assert await contents(journal) == []
    assert (journal.last_seq, journal.size_bytes, journal.epoch) == (0, 0, 1)
    assert len(journal.cluster) == 16


async def test_batches_are_read_in_the_order_of_their_appends(store: Store) -> None:
    journal = await store.open()
    batches = await fill(journal, 500)
    assert await contents(journal) == batches
    assert journal.last_seq == 500
    assert journal.size_bytes >= 50_000


@pytest.mark.parametrize("durability", list(Durability))
async def test_opened_again_it_holds_what_was_committed(store: Store, durability: Durability) -> None:
    journal = await store.open()
    await journal.append(1, b"one", durability)
    await journal.append(2, b"", durability)
    await journal.append(3, b"three", durability)
    size = journal.size_bytes
    journal = await store.reopen()
    assert (journal.last_seq, journal.size_bytes) == (3, size)
    assert await contents(journal) == [(1, b"one"), (2, b""), (3, b"three")]
    await journal.append(4, b"four", durability)
    assert (await contents(await store.reopen()))[-1] == (4, b"four")


async def test_each_opening_raises_the_epoch_and_keeps_the_cluster(store: Store) -> None:
    journal = await store.open()
    cluster, epochs = journal.cluster, [journal.epoch]
    for _ in range(2):
        journal = await store.reopen()
        assert journal.cluster == cluster
        epochs.append(journal.epoch)
    assert epochs == [1, 2, 3]


async def test_trimmed_batches_are_gone_and_the_others_stay(store: Store) -> None:
    journal = await store.open()
    batches = await fill(journal, 1_000, size=5_000)
    await journal.trim(701)
    assert await contents(journal) == batches[700:]
    assert 300 * 5_000 <= journal.size_bytes < 400 * 5_000
    journal = await store.reopen()
    assert await contents(journal) == batches[700:]
    assert journal.last_seq == 1_000
    assert 300 * 5_000 <= journal.size_bytes < 400 * 5_000


async def test_numbers_go_on_after_everything_was_trimmed(store: Store) -> None:
    journal = await store.open()
    await fill(journal, 10)
    await journal.trim(11)
    assert await contents(journal) == []
    journal = await store.reopen()
    assert (journal.last_seq, journal.size_bytes) == (10, 0)
    batches = await fill(journal, 1)
    assert batches[0][0] == 11
    assert await contents(journal) == batches


async def test_trimming_never_goes_beyond_what_is_there_and_never_back(store: Store) -> None:
    journal = await store.open()
    batches = await fill(journal, 10)
    await journal.trim(6)
    await journal.trim(3)
    await journal.trim(1)
    assert await contents(journal) == batches[5:]
    await journal.trim(1_000)
    assert await contents(journal) == []
    await fill(journal, 1)
    assert journal.last_seq == 11


async def test_large_batches_come_back_whole(store: Store) -> None:
    journal = await store.open()
    large, larger = os.urandom(20_000_000), os.urandom(20_000_001)
    await journal.append(1, large, Durability.FSYNC)
    await journal.append(2, b"small", Durability.FSYNC)
    await journal.append(3, larger, Durability.FSYNC)
    expected = [(1, large), (2, b"small"), (3, larger)]
    assert await contents(journal) == expected
    assert await contents(await store.reopen()) == expected


async def test_appends_that_are_waited_for_together_stay_in_order(store: Store) -> None:
    journal = await store.open()
    await asyncio.gather(*(journal.append(seq, b"%d" % seq, seq % 2) for seq in range(1, 201)))
    assert await contents(journal) == [(seq, b"%d" % seq) for seq in range(1, 201)]


async def test_appends_pass_a_trim(store: Store) -> None:
    journal = await store.open()
    await fill(journal, 400, size=20_000)
    trim = asyncio.create_task(journal.trim(401))
    batches = await fill(journal, 50)
    await trim
    assert await contents(journal) == batches


@pytest.mark.parametrize("seq", [1, 2, 4, 0])
async def test_a_number_out_of_turn_is_never_written(store: Store, seq: int) -> None:
    journal = await store.open()
    batches = await fill(journal, 2)
    with pytest.raises((AssertionError, JournalFailed)):
        await journal.append(seq, b"wrong", Durability.OS)
    assert await contents(await store.reopen()) == batches


async def test_ownership_is_had_from_opening_to_closing(store: Store) -> None:
    journal = await store.open()
    assert await journal.acquire() == journal.epoch
    assert await journal.renew()
    await journal.release()


async def test_a_closed_journal_does_nothing_more(store: Store) -> None:
    journal = await store.open()
    await journal.append(1, b"one", Durability.FSYNC)
    await journal.close()
    await journal.close()
    with pytest.raises(JournalFailed, match="closed"):
        await journal.append(2, b"two", Durability.FSYNC)
    with pytest.raises(JournalFailed, match="closed"):
        await journal.trim(2)
    with pytest.raises(JournalError, match="closed"):
        await contents(journal)


async def test_reading_may_stop_early(store: Store) -> None:
    journal = await store.open()
    await fill(journal, 100, size=100_000)
    reading = journal.read()
    async for seq, _ in reading:
        if seq == 3:
            break
    await journal.append(101, b"after", Durability.FSYNC)
    await journal.trim(101)
    assert await contents(journal) == [(101, b"after")]
