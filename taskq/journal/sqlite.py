"""SQLite used as a log: one row per batch, one connection, blocking. Imports no asyncio.

Exactly one connection, in exclusive locking mode before the file is a WAL: SQLite before 3.51.3 can
corrupt a WAL that two connections share, and most systems ship one of those. The lock also refuses a
second broker and a stray `sqlite3`, and vanishes with the process that held it.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from taskq import limits
from taskq.errors import JournalCorrupt, JournalError, JournalFailed, JournalFull, TaskqError
from taskq.journal.base import Durability
from taskq.journal.sqlite_open import (
    ADVICE,
    FORMAT,
    MIGRATIONS,
    PAGE_BYTES,
    connect,
    create,
    error_code,
    error_name,
    format_of,
    opening_error,
)
from taskq.journal.wal import boot_id, commits_behind, wal_path

# One slice of trimming or of giving space back: what an append may have to wait for.
SLICE_BYTES: Final = 1024 * 1024
SLICE_ROWS: Final = 256
# What is read in one go: large enough that the round trip does not count.
READ_BYTES: Final = 4 * 1024 * 1024
# Free pages are kept for coming appends up to a quarter of what is held, and at least this much.
FREE_BYTES_MIN: Final = 4 * 1024 * 1024


class SqliteLog:
    """The blocking half of the SQLite journal; see Journal for what the methods promise."""

    def __init__(self, path: Path, *, lock_wait_ms: int = limits.JOURNAL_LOCK_WAIT_MS) -> None:
        self.path = path
        self.failed: JournalFailed | None = None
        self.cluster = b""
        self.epoch = 0
        self.first_seq = 1
        self.last_seq = 0
        self.size_bytes = 0
        self._wal = wal_path(path)
        self._mode = ""
        self._page_bytes = PAGE_BYTES
        self._damaged_wal = path.with_name(path.name + "-wal-damaged")
        create(path)
        self.db = connect(path, lock_wait_ms)
        try:
            self._take_over()
        except sqlite3.Error as error:
            self.db.close()
            raise opening_error(path, error) from error
        except TaskqError:
            self.db.close()
            raise

    @property
    def wal_bytes(self) -> int:
        """What is committed and not yet copied into the main file."""
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, seq: int, blob: bytes | bytearray, durability: int) -> None:
        self._check()
        assert seq == self.last_seq + 1, f"batch {seq} after {self.last_seq}"
        try:
            self._synchronous("FULL" if durability == Durability.FSYNC else "NORMAL")
            self.db.execute("INSERT INTO log VALUES (?, ?, ?)", (seq, crc32(blob), blob))
        except sqlite3.Error as error:
            raise self._error(error, f"batch {seq} ({len(blob)} bytes)") from error
        self.last_seq = seq
        self.size_bytes += len(blob)

    def read_slice(self, after_seq: int) -> list[tuple[int, bytes]]:
        """The next few MB of batches above `after_seq`, in order and checked; empty at the end."""
        self._check()
        expected = max(after_seq + 1, self.first_seq)
        batches: list[tuple[int, bytes]] = []
        size = 0
        try:
            # An open statement would lock out the checkpoint, so none outlives the call.
            with closing(
                self.db.execute("SELECT seq, crc, data FROM log WHERE seq > ? ORDER BY seq", (after_seq,))
            ) as rows:
                for seq, crc, data in rows:
                    if seq != expected:
                        raise self._corrupt(expected, f"is missing: the next one there is {seq}")
                    if not isinstance(data, bytes) or crc32(data) != crc:
                        raise self._corrupt(seq, "is not what was written: its checksum is wrong")
                    batches.append((seq, data))
                    expected += 1
                    size += len(data)
                    if size >= READ_BYTES:
                        return batches
        except sqlite3.Error as error:
            if error_code(error) == sqlite3.SQLITE_IOERR:
                raise self._error(error, f"reading batch {expected}") from error
            raise self._corrupt(expected, f"cannot be read ({error})") from error
        if expected <= self.last_seq:
            raise self._corrupt(expected, f"is missing: the journal should go on to {self.last_seq}")
        return batches

    def trim_slice(self, before_seq: int) -> bool:
        """Forget some of the batches below `before_seq`; whether there are more of them."""
        self._check()
        before_seq = min(before_seq, self.last_seq + 1)
        try:
            upto, size = self._slice(before_seq)
            if upto < self.first_seq:
                return False
            # Nobody waits for a trim to be durable: a power cut brings the batches back, and that
            # changes nothing, since all they say is said again by later ones.
            self._synchronous("NORMAL")
            self.db.execute("BEGIN")
            self.db.execute("DELETE FROM log WHERE seq <= ?", (upto,))
            self._save_meta(upto + 1)
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._error(error, f"trimming below {before_seq}") from error
        self.first_seq = upto + 1
        self.size_bytes -= size
        return self.first_seq < before_seq

    def give_back_slice(self) -> bool:
        """Return some free pages to the file system; whether there are more to return.

        Free pages are reused by appends, so that a journal of steady size moves nothing. Only when
        they pass a quarter of what is held (a backlog was drained) do pages move and the file shrink.
        """
        self._check()
        try:
            free = self._free_pages()
            if free * self._page_bytes <= max(self.size_bytes // 4, FREE_BYTES_MIN):
                return False
            self._synchronous("NORMAL")
            # `execute` would stop after the first page: this statement has steps, but no columns.
            self.db.executescript(f"PRAGMA incremental_vacuum({SLICE_BYTES // self._page_bytes})")
            return self._free_pages() < free
        except sqlite3.Error as error:
            raise self._error(error, "giving space back") from error

    def checkpoint(self) -> None:
        """Copy the WAL into the main file and empty it. A full disk leaves it for later."""
        self._check()
        try:
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            failure = self._error(error, "the checkpoint")
            if not isinstance(failure, JournalFull):
                raise failure from error

    def checkpoint_when_large(self) -> None:
        if self.wal_bytes > limits.WAL_BYTES_MAX:
            self.checkpoint()

    def close(self) -> None:
        self.failed = self.failed or JournalFailed(f"the journal {self.path} is closed")
        with suppress(sqlite3.Error):
            self.db.close()

    def _take_over(self) -> None:
        self._page_bytes = self.db.execute("PRAGMA page_size").fetchone()[0]
        self._refuse_damaged_wal()
        self._synchronous("FULL")
        self.db.execute("BEGIN")
        self._migrate()
        self._read_meta()
        self.epoch += 1
        self._save_meta(self.first_seq)
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (boot_id(),))
        self.db.execute("COMMIT")
        # What a killed broker left in the WAL may be in the page cache only (`os`, or an fsync that
        # failed). A new owner confirms repeated submissions on the strength of it: make it durable.
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        _sync_directory(self.path.parent)
        last, size = self.db.execute("SELECT max(seq), coalesce(sum(length(data)), 0) FROM log").fetchone()
        self.last_seq = self.first_seq - 1 if last is None else last
        self.size_bytes = size

    def _refuse_damaged_wal(self) -> None:
        if not self._damaged_wal.exists():
            # A passive checkpoint leaves the WAL's bytes where they are; closing would delete them.
            _, frames, _ = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            commits = commits_behind(self._wal, max(frames, 0), self._page_bytes)
            if not commits or not self._is_same_boot():
                return
            _copy(self._wal, self._damaged_wal)
        raise JournalCorrupt(
            f"the journal {self.path} has lost its newest batches: bytes of its WAL were changed, and "
            f"commits behind them cannot be read. {self._damaged_wal} is a copy of the WAL. Restore the last "
            "backup; or, to go on without those batches, move that copy away and start again."
        )

    def _is_same_boot(self) -> bool:
        # Since the last owner opened the file; if not, the power may have been cut.
        row = None
        if format_of(self.db, self.path):
            row = self.db.execute("SELECT v FROM meta WHERE k = 'boot'").fetchone()
        boot = boot_id()
        return bool(boot) and row == (boot,)

    def _migrate(self) -> None:
        found = format_of(self.db, self.path)
        for step in MIGRATIONS[found:]:
            for statement in step:
                self.db.execute(statement)
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
        if not found:
            self.cluster = os.urandom(16)
            self._save_meta(self.first_seq)

    def _read_meta(self) -> None:
        meta: dict[str, Any] = dict(self.db.execute("SELECT k, v FROM meta"))
        held = (meta.get("cluster"), meta.get("epoch"), meta.get("first"))
        if meta.get("check") != _check_of(held):
            raise JournalCorrupt(f"the journal {self.path}: its table meta is not what was written. {ADVICE}")
        self.cluster, self.epoch, self.first_seq = meta["cluster"], meta["epoch"], meta["first"]

    def _save_meta(self, first_seq: int) -> None:
        held = (self.cluster, self.epoch, first_seq)
        self.db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('cluster', ?), ('epoch', ?), ('first', ?), ('check', ?)",
            (*held, _check_of(held)),
        )

    def _synchronous(self, mode: str) -> None:
        if mode == self._mode:
            return
        self.db.execute(f"PRAGMA synchronous = {mode}")
        self._mode = mode

    def _slice(self, before_seq: int) -> tuple[int, int]:
        upto, size = self.first_seq - 1, 0
        rows = self.db.execute(
            "SELECT seq, length(data) FROM log WHERE seq < ? ORDER BY seq LIMIT ?", (before_seq, SLICE_ROWS)
        )
        for seq, length in rows.fetchall():
            if size and size + length > SLICE_BYTES:
                break
            upto, size = seq, size + length
        return upto, size

    def _free_pages(self) -> int:
        count: int = self.db.execute("PRAGMA freelist_count").fetchone()[0]
        return count

    def _check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def _error(self, error: sqlite3.Error, what: str) -> JournalError:
        if error_code(error) == sqlite3.SQLITE_FULL:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            return JournalFull(f"the journal {self.path} has no room for {what}: {error}")
        # Never again after an I/O error: a second fsync may say yes about pages that were dropped.
        self.failed = JournalFailed(
            f"the journal {self.path} failed at {what}: {error} ({error_name(error)})"
        )
        return self.failed

    def _corrupt(self, seq: int, what: str) -> JournalCorrupt:
        return JournalCorrupt(
            f"the journal {self.path}: batch {seq} (table log, seq = {seq}) {what}. {ADVICE}"
        )


def _sync_directory(path: Path) -> None:
    # A file whose name is not on the disk is lost, however well it was synced itself.
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check_of(held: tuple[object, ...]) -> int:
    return crc32(repr(held).encode())


def _copy(source: Path, target: Path) -> None:
    with os.fdopen(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(target.parent)
