"""The SQLite log: what it refuses, what it notices, and what it does when there is no room."""

import os
import random
import re
import sqlite3
import stat
from pathlib import Path

import pytest

from taskq import limits
from taskq.errors import ConfigError, JournalCorrupt, JournalError, JournalFull, JournalLocked
from taskq.journal.base import Durability, open_journal
from taskq.journal.sqlite import FREE_BYTES_MIN, SqliteLog
from taskq.journal.sqlite_open import FORMAT
from taskq.journal.wal import boot_id, wal_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "taskq.db"


def contents(log: SqliteLog) -> list[tuple[int, bytes]]:
    batches: list[tuple[int, bytes]] = []
    while more := log.read_slice(batches[-1][0] if batches else 0):
        batches += more
    return batches


def written(path: Path, count: int = 10, size: int = 3_000) -> list[tuple[int, bytes]]:
    """A closed journal at `path`, and what is in it."""
    log = SqliteLog(path)
    batches = [(seq, random.Random(seq).randbytes(size)) for seq in range(1, count + 1)]
    for seq, blob in batches:
        log.append(seq, blob, Durability.OS)
    log.close()
    return batches


def by_hand(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def read_error(path: Path) -> str:
    log = SqliteLog(path)
    try:
        with pytest.raises(JournalCorrupt) as raised:
            contents(log)
    finally:
        log.close()
    return str(raised.value)


# -- the file -----------------------------------------------------------------------------------


def test_the_files_are_for_their_owner_only(path: Path) -> None:
    mask = os.umask(0)
    try:
        log = SqliteLog(path)
        log.append(1, b"one", Durability.FSYNC)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        log.close()
    finally:
        os.umask(mask)
    # No `-shm`: nobody else can be let in.
    assert modes == {"taskq.db": 0o600, "taskq.db-wal": 0o600}


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    batches = written(path)
    log = SqliteLog(path)
    assert contents(log) == batches
    log.close()


def test_a_newer_format_is_refused_and_left_alone(path: Path) -> None:
    written(path)
    by_hand(path, f"UPDATE meta SET v = {FORMAT + 1} WHERE k = 'format'")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=f"has format {FORMAT + 1}, written by a newer taskq"):
        SqliteLog(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_the_database_of_another_program_is_refused_and_left_alone(path: Path, mode: str) -> None:
    by_hand(path, f"PRAGMA journal_mode = {mode}", "CREATE TABLE log (seq INTEGER PRIMARY KEY)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="database of another program"):
        SqliteLog(path)
    assert path.read_bytes() == before


def test_garbage_is_refused_and_left_alone(path: Path) -> None:
    garbage = random.Random(1).randbytes(100_000)
    path.write_bytes(garbage)
    with pytest.raises(JournalCorrupt, match="is not a journal"):
        SqliteLog(path)
    assert path.read_bytes() == garbage


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_written_is_refused(path: Path) -> None:
    written(path)
    path.chmod(0o400)
    with pytest.raises(ConfigError, match="cannot be written"):
        SqliteLog(path)


# -- the lock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
async def test_a_second_opener_is_refused(path: Path, inline: bool) -> None:
    first = await open_journal(f"sqlite:{path}")
    try:
        with pytest.raises(JournalLocked, match="held by another process"):
            await open_journal(f"sqlite:{path}", inline=inline, lock_wait_ms=50)
        await first.append(1, b"one", Durability.FSYNC)
    finally:
        await first.close()
    second = await open_journal(f"sqlite:{path}", inline=inline, lock_wait_ms=0)
    assert second.last_seq == 1
    await second.close()


def test_a_stray_connection_is_locked_out(path: Path) -> None:
    log = SqliteLog(path)
    db = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        db.execute("SELECT count(*) FROM log")
    db.close()
    log.append(1, b"one", Durability.FSYNC)
    log.close()


# -- damage -------------------------------------------------------------------------------------


def test_a_changed_byte_is_noticed(path: Path) -> None:
    batches = written(path)
    data = path.read_bytes()
    at = data.index(batches[6][1][:64]) + 13
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    text = read_error(path)
    assert "batch 7 (table log, seq = 7) is not what was written" in text
    assert "restore the last backup" in text


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE log SET data = zeroblob(length(data)) WHERE seq = 4", "batch 4 .* checksum is wrong"),
        ("UPDATE log SET data = 'text' WHERE seq = 4", "batch 4 .* checksum is wrong"),
        ("UPDATE log SET crc = crc + 1 WHERE seq = 4", "batch 4 .* checksum is wrong"),
        ("DELETE FROM log WHERE seq = 4", "batch 4 .* is missing: the next one there is 5"),
        ("DELETE FROM log WHERE seq < 3", "batch 1 .* is missing: the next one there is 3"),
        ("UPDATE log SET seq = 12 WHERE seq = 10", "batch 10 .* is missing: the next one there is 12"),
    ],
)
def test_a_changed_row_is_noticed(path: Path, damage: str, found: str) -> None:
    written(path)
    by_hand(path, damage)
    assert re.search(found, read_error(path))


async def test_damage_is_told_through_the_child_process_as_well(path: Path) -> None:
    written(path)
    by_hand(path, "DELETE FROM log WHERE seq = 4")
    journal = await open_journal(f"sqlite:{path}")
    with pytest.raises(JournalCorrupt, match=r"batch 4 .* is missing"):
        assert [batch async for batch in journal.read()]
    await journal.close()


def test_a_file_cut_anywhere_never_reads_as_less(path: Path) -> None:
    batches = written(path, count=40)
    whole = path.read_bytes()
    for size in range(1, len(whole), 4_099):
        path.write_bytes(whole[:size])
        with pytest.raises((JournalCorrupt, ConfigError)):
            log = SqliteLog(path)
            try:
                contents(log)
            finally:
                log.close()
    path.write_bytes(whole)
    log = SqliteLog(path)
    assert contents(log) == batches
    log.close()


def test_a_file_cut_to_nothing_beside_its_wal_is_not_a_new_journal(path: Path) -> None:
    log = SqliteLog(path)
    log.append(1, b"one", Durability.FSYNC)
    wal = path.with_name("taskq.db-wal")
    kept = wal.read_bytes()
    log.close()
    wal.write_bytes(kept)
    path.write_bytes(b"")
    with pytest.raises(JournalCorrupt, match="cut to 0 bytes"):
        SqliteLog(path)
    assert wal.read_bytes() == kept


# -- no room, no disk ---------------------------------------------------------------------------


@pytest.mark.parametrize("durability", [Durability.FSYNC, Durability.OS])
def test_a_full_disk_refuses_the_batch_and_leaves_the_journal_good(
    path: Path, durability: Durability
) -> None:
    log = SqliteLog(path)
    log.append(1, b"one", durability)
    pages = log.db.execute("PRAGMA page_count").fetchone()[0]
    log.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(2):
        with pytest.raises(JournalFull, match="no room for batch 2"):
            log.append(2, bytes(1_000_000), durability)
    log.append(2, b"two", durability)
    log.db.execute("PRAGMA max_page_count = 1000000")
    log.append(3, bytes(1_000_000), durability)
    log.close()
    log = SqliteLog(path)
    assert contents(log) == [(1, b"one"), (2, b"two"), (3, bytes(1_000_000))]
    log.close()


def test_durability_switches_what_sqlite_syncs(path: Path) -> None:
    log = SqliteLog(path)

    def mode_after(seq: int, durability: Durability) -> int:
        log.append(seq, b"x", durability)
        mode: int = log.db.execute("PRAGMA synchronous").fetchone()[0]
        return mode

    normal, full = 1, 2
    asked = [
        Durability.FSYNC,
        Durability.OS,
        Durability.OS,
        Durability.FSYNC,
        Durability.MEMORY,
        Durability.FSYNC,
    ]
    assert [mode_after(seq, durability) for seq, durability in enumerate(asked, 1)] == [
        full, normal, normal, full, normal, full,
    ]  # fmt: skip
    log.trim_slice(3)
    assert mode_after(7, Durability.FSYNC) == full
    log.close()


# -- space --------------------------------------------------------------------------------------


def trim(log: SqliteLog, before_seq: int) -> None:
    while log.trim_slice(before_seq):
        pass
    while log.give_back_slice():
        pass
    log.checkpoint_when_large()


def test_a_journal_of_steady_size_does_not_grow(path: Path) -> None:
    log = SqliteLog(path)
    sizes = []
    for seq in range(1, 4_001):
        log.append(seq, bytes(30_000), Durability.OS)
        if seq % 100 == 0:
            trim(log, seq - 99)
            log.checkpoint()
            sizes.append(path.stat().st_size)
    log.close()
    assert log.size_bytes == 100 * 30_000
    assert max(sizes) < 3 * 200 * 30_000


def test_a_drained_backlog_gives_its_space_back(path: Path) -> None:
    log = SqliteLog(path)
    for seq in range(1, 1_001):
        log.append(seq, bytes(60_000), Durability.OS)
    log.checkpoint()
    assert path.stat().st_size > 60_000_000
    trim(log, 991)
    log.checkpoint()
    assert path.stat().st_size < 2 * FREE_BYTES_MIN
    assert [seq for seq, _ in contents(log)] == list(range(991, 1_001))
    log.close()


def test_the_wal_is_emptied_when_it_is_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAL_BYTES_MAX", 500_000)
    log = SqliteLog(path)
    largest = 0
    for seq in range(1, 201):
        log.append(seq, bytes(10_000), Durability.OS)
        largest = max(largest, log.wal_bytes)
        log.checkpoint_when_large()
        assert log.wal_bytes <= 500_000
    assert largest > 500_000
    log.close()
    assert not path.with_name("taskq.db-wal").exists()


# -- the write-ahead log ------------------------------------------------------------------------


@pytest.fixture
def killed(path: Path) -> list[tuple[int, bytes]]:
    """What a killed broker leaves: a file, a WAL with most of the batches, and no lock."""
    log = SqliteLog(path)
    batches = [(seq, random.Random(seq).randbytes(seq * 500)) for seq in range(1, 31)]
    for seq, blob in batches[:10]:
        log.append(seq, blob, Durability.FSYNC)
    log.checkpoint()
    for seq, blob in batches[10:]:
        log.append(seq, blob, Durability.FSYNC)
    files = [(file, file.read_bytes()) for file in path.parent.iterdir()]
    log.close()
    for file, data in files:
        file.write_bytes(data)
    return batches


def test_what_a_killed_broker_left_is_all_there(path: Path, killed: list[tuple[int, bytes]]) -> None:
    log = SqliteLog(path)
    assert contents(log) == killed
    log.close()


@pytest.mark.skipif(not boot_id(), reason="the system does not say when it was started")
@pytest.mark.parametrize("seed", range(40))
def test_a_changed_bit_in_the_wal_never_reads_as_less(
    path: Path, killed: list[tuple[int, bytes]], seed: int
) -> None:
    rng = random.Random(seed)
    wal = wal_path(path)
    damaged = bytearray(wal.read_bytes())
    # The first ones hit the header, whose loss makes SQLite drop the file as a whole.
    damaged[rng.randrange(32 if seed < 10 else len(damaged))] ^= 1 << rng.randrange(8)
    wal.write_bytes(damaged)
    with pytest.raises(JournalCorrupt, match="lost its newest batches") as raised:
        SqliteLog(path)
    kept = path.with_name("taskq.db-wal-damaged")
    assert str(kept) in str(raised.value)
    assert kept.read_bytes() == damaged
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with pytest.raises(JournalCorrupt, match="lost its newest batches"):
        SqliteLog(path)
    kept.unlink()
    log = SqliteLog(path)
    assert contents(log) == killed[: log.last_seq]
    log.close()


def test_the_torn_end_of_a_wal_is_dropped(path: Path, killed: list[tuple[int, bytes]]) -> None:
    wal = wal_path(path)
    files = [(file, file.read_bytes()) for file in (path, wal)]
    whole = files[1][1]
    read = set()
    for size in range(len(whole) - 60_000, len(whole), 997):
        for file, data in files:
            file.write_bytes(data)
        wal.write_bytes(whole[:size])
        log = SqliteLog(path)
        assert contents(log) == killed[: log.last_seq]
        read.add(log.last_seq)
        log.close()
    assert max(read) == 29
    assert min(read) >= 25


def test_holes_after_a_power_cut_are_dropped(
    path: Path, killed: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With `os` durability a disk may have written the later of two batches only.
    wal = wal_path(path)
    torn = bytearray(wal.read_bytes())
    torn[len(torn) // 2] ^= 1
    wal.write_bytes(torn)
    monkeypatch.setattr("taskq.journal.sqlite.boot_id", lambda: "another boot")
    log = SqliteLog(path)
    assert contents(log) == killed[: log.last_seq]
    assert 10 <= log.last_seq < 30
    log.close()


def test_a_changed_epoch_is_noticed(path: Path) -> None:
    written(path)
    by_hand(path, "UPDATE meta SET v = v - 1 WHERE k = 'epoch'")
    with pytest.raises(JournalCorrupt, match="its table meta"):
        SqliteLog(path)
