"""The journal in memory: what it forgets, and the faults that it plays."""

import pytest

from taskq.errors import JournalError, JournalFailed, JournalFull
from taskq.journal.base import Durability
from taskq.journal.memory import MemoryDisk, MemoryJournal


async def test_without_a_disk_it_keeps_only_counts() -> None:
    journal = MemoryJournal()
    for seq in range(1, 101):
        await journal.append(seq, bytes(1_000), Durability.FSYNC)
    await journal.trim(50)
    assert (journal.last_seq, journal.size_bytes) == (100, 0)
    assert [batch async for batch in journal.read()] == []


async def test_a_crashed_owner_is_fenced_by_the_next_one() -> None:
    disk = MemoryDisk()
    crashed = MemoryJournal(disk)
    await crashed.append(1, b"one", Durability.OS)
    journal = MemoryJournal(disk)
    with pytest.raises(JournalFailed, match="taken over"):
        await crashed.append(2, b"late", Durability.OS)
    assert not await crashed.renew()
    assert [batch async for batch in journal.read()] == [(1, b"one")]


async def test_a_power_cut_takes_what_was_not_synced() -> None:
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    await journal.append(1, b"one", Durability.FSYNC)
    await journal.append(2, b"two", Durability.OS)
    await journal.append(3, b"three", Durability.FSYNC)
    await journal.append(4, b"four", Durability.OS)
    disk.power_cut()
    journal = MemoryJournal(disk)
    assert [seq async for seq, _ in journal.read()] == [1, 2, 3]
    assert (journal.last_seq, journal.size_bytes) == (3, 11)
    await journal.append(4, b"again", Durability.FSYNC)


async def test_a_power_cut_after_a_trim_of_everything_leaves_an_empty_journal() -> None:
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    await journal.append(1, b"one", Durability.OS)
    await journal.trim(2)
    disk.power_cut()
    journal = MemoryJournal(disk)
    assert [batch async for batch in journal.read()] == []
    assert (journal.last_seq, journal.size_bytes) == (1, 0)


async def test_an_injected_full_disk_leaves_the_journal_good() -> None:
    errors: list[JournalError] = [JournalFull("no room")]
    journal = MemoryJournal(MemoryDisk(), fail=lambda seq: errors.pop() if seq == 2 and errors else None)
    await journal.append(1, b"one", Durability.FSYNC)
    with pytest.raises(JournalFull):
        await journal.append(2, b"two", Durability.FSYNC)
    await journal.append(2, b"two again", Durability.FSYNC)
    assert [batch async for batch in journal.read()] == [(1, b"one"), (2, b"two again")]


async def test_an_injected_failure_is_for_good() -> None:
    disk = MemoryDisk()
    journal = MemoryJournal(disk, fail=lambda seq: JournalFailed("I/O error") if seq == 2 else None)
    await journal.append(1, b"one", Durability.FSYNC)
    for _ in range(2):
        with pytest.raises(JournalFailed, match="I/O error"):
            await journal.append(2, b"two", Durability.FSYNC)
    with pytest.raises(JournalFailed, match="I/O error"):
        await journal.trim(1)
    assert [seq async for seq, _ in MemoryJournal(disk).read()] == [1]
