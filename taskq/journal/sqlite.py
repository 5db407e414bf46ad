"""SQLite used as a log: one row per batch, one connection, blocking. Imports no asyncio.

Exactly one connection, in exclusive locking mode before the file is a WAL: SQLite before 3.51.3 can
corrupt a WAL that two connections share, and most systems ship one of those. The lock also refuses a
second broker and a stray `sqlite3`, and vanishes with the process that held it.
"""

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from taskq import limits
from taskq.errors import (
    ConfigError,
    JournalCorrupt,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    TaskqError,
)
from taskq.journal.base import Durability

# "tskq" in the file's header: tells our files from those of other programs.
APPLICATION_ID: Final = int.from_bytes(b"tskq")
# Step n leads from format n to format n + 1; an empty file is format 0. Steps are only ever added.
MIGRATIONS: Final = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE log (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE TABLE meta (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
        # `first` is the lowest batch that was not trimmed: without it a lost beginning looks like a trim.
        "INSERT INTO meta VALUES ('cluster', randomblob(16)), ('epoch', 0), ('first', 1)",
    ),
)
FORMAT: Final = len(MIGRATIONS)
PRAGMAS: Final = (
    # Checkpoints are ours to time (see `checkpoint`), never in the middle of a commit.
    "PRAGMA wal_autocheckpoint = 0",
    # Some systems build SQLite to overwrite what is deleted: every trim would be written twice.
    "PRAGMA secure_delete = OFF",
    # A mapped file turns an I/O error into a signal.
    "PRAGMA mmap_size = 0",
    # Batches are written once and read once; a cache would only hold what nobody asks for again.
    "PRAGMA cache_size = -4000",
    # On macOS fsync alone does not reach the disk; elsewhere these change nothing.
    "PRAGMA fullfsync = 1",
    "PRAGMA checkpoint_fullfsync = 1",
)
PAGE_BYTES: Final = 8192
# What SQLite reads first; no database is smaller.
HEADER_BYTES: Final = 512
LOCK_RETRY_S: Final = 0.02
# One slice of trimming or of giving space back: what an append may have to wait for.
SLICE_BYTES: Final = 1024 * 1024
SLICE_ROWS: Final = 256
# What is read in one go: large enough that the round trip does not count.
READ_BYTES: Final = 4 * 1024 * 1024
# Free pages are kept for coming appends up to a quarter of what is held, and at least this much.
FREE_BYTES_MIN: Final = 4 * 1024 * 1024
ADVICE: Final = "Keep a copy of the file, then restore the last backup."


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
        self._wal = _wal_path(path)
        self._mode = ""
        self._page_bytes = PAGE_BYTES
        _create(path)
        self.db = _connect(path, lock_wait_ms)
        try:
            self._take_over()
        except sqlite3.Error as error:
            self.db.close()
            raise _opening_error(path, error) from error
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
        except sqlite3.DatabaseError as error:
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
            self.db.execute("UPDATE meta SET v = ? WHERE k = 'first'", (upto + 1,))
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
        free = self._free_pages()
        if free * self._page_bytes <= max(self.size_bytes // 4, FREE_BYTES_MIN):
            return False
        try:
            self._synchronous("NORMAL")
            self.db.execute(f"PRAGMA incremental_vacuum({SLICE_BYTES // self._page_bytes})").fetchall()
        except sqlite3.Error as error:
            raise self._error(error, "giving space back") from error
        return self._free_pages() < free

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
        self._migrate()
        # What a killed broker left in the WAL may be in the page cache only (`os`, or an fsync that
        # failed). A new owner confirms repeated submissions on the strength of it: make it durable.
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._synchronous("FULL")
        self.db.execute("UPDATE meta SET v = v + 1 WHERE k = 'epoch'")
        _sync_directory(self.path.parent)
        meta = dict(self.db.execute("SELECT k, v FROM meta"))
        self.cluster, self.epoch, self.first_seq = meta["cluster"], meta["epoch"], meta["first"]
        last, size = self.db.execute("SELECT max(seq), coalesce(sum(length(data)), 0) FROM log").fetchone()
        self.last_seq = self.first_seq - 1 if last is None else last
        self.size_bytes = size
        self._page_bytes = self.db.execute("PRAGMA page_size").fetchone()[0]

    def _migrate(self) -> None:
        found = _format(self.db)
        if found == FORMAT:
            return
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("BEGIN IMMEDIATE")
        for step in MIGRATIONS[found:]:
            for statement in step:
                self.db.execute(statement)
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
        self.db.execute("COMMIT")

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
        if _code(error) == sqlite3.SQLITE_FULL:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            return JournalFull(f"the journal {self.path} has no room for {what}: {error}")
        # Never again after an I/O error: a second fsync may say yes about pages that were dropped.
        self.failed = JournalFailed(f"the journal {self.path} failed at {what}: {error} ({_name(error)})")
        return self.failed

    def _corrupt(self, seq: int, what: str) -> JournalCorrupt:
        return JournalCorrupt(
            f"the journal {self.path}: batch {seq} (table log, seq = {seq}) {what}. {ADVICE}"
        )


def _create(path: Path) -> None:
    if not path.parent.is_dir():
        raise ConfigError(f"the journal's directory {path.parent} does not exist: create it first")
    if path.is_dir():
        raise ConfigError(f"the journal {path} is a directory; it must be a file")
    try:
        # Payloads are nobody else's business. SQLite gives the WAL the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        _refuse_cut(path)
    except OSError as error:
        raise ConfigError(f"the journal {path} cannot be created: {error.strerror}") from error


def _refuse_cut(path: Path) -> None:
    # SQLite would take these for new databases, and throw the WAL away. An empty file alone is what
    # a broker leaves that was killed while it made its journal. The WAL comes into being last.
    has_wal = _wal_path(path).exists()
    size = path.stat().st_size
    if 0 < size < HEADER_BYTES or (size == 0 and has_wal):
        raise JournalCorrupt(f"the journal {path} was cut to {size} bytes. {ADVICE}")


def _wal_path(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _connect(path: Path, lock_wait_ms: int) -> sqlite3.Connection:
    deadline = time.monotonic() + lock_wait_ms / 1000
    while True:
        # Opened in one thread and used in another, never in two at once.
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            _lock(db, path)
        except sqlite3.Error as error:
            db.close()
            if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _opening_error(path, error) from error
            if time.monotonic() >= deadline:
                raise JournalLocked(
                    f"the journal {path} is held by another process (tried for {lock_wait_ms / 1000:g} s): "
                    "stop the other broker, or give this one another journal"
                ) from error
            time.sleep(LOCK_RETRY_S)
        except TaskqError:
            db.close()
            raise
        else:
            return db


def _lock(db: sqlite3.Connection, path: Path) -> None:
    # Before the first look at the file: a WAL that is read in normal locking mode gets a shared
    # index beside it, and stays open to others.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    _refuse_foreign(db, path)
    _refuse_newer(db, path)
    # Both count only while the file is empty.
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise ConfigError(f"the journal {path} is on a file system that cannot hold an SQLite WAL")
    for pragma in PRAGMAS:
        db.execute(pragma)
    db.execute("BEGIN EXCLUSIVE")
    db.execute("COMMIT")


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    if owner == APPLICATION_ID:
        return
    if owner or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise ConfigError(
            f"{path} is an SQLite database of another program, not a journal: choose another file"
        )


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    found = _format(db)
    if found > FORMAT:
        raise JournalError(
            f"the journal {path} has format {found}, written by a newer taskq; this one reads formats "
            f"up to {FORMAT}: start the newer version, or restore a backup made before it"
        )


def _format(db: sqlite3.Connection) -> int:
    if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]:
        return 0
    found: int = db.execute("SELECT v FROM meta WHERE k = 'format'").fetchone()[0]
    return found


def _sync_directory(path: Path) -> None:
    # A file whose name is not on the disk is lost, however well it was synced itself.
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _opening_error(path: Path, error: sqlite3.Error) -> TaskqError:
    match _code(error):
        case sqlite3.SQLITE_NOTADB:
            return JournalCorrupt(
                f"{path} is not a journal: it is another kind of file, or its beginning was overwritten. "
                f"{ADVICE}"
            )
        case sqlite3.SQLITE_CORRUPT:
            return JournalCorrupt(f"the journal {path} is damaged ({error}). {ADVICE}")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return ConfigError(f"the journal {path} cannot be written ({error}): check its owner and mode")
        case sqlite3.SQLITE_FULL:
            return JournalFull(f"the journal {path} cannot be opened: {error}")
    return JournalFailed(f"the journal {path} cannot be opened: {error} ({_name(error)})")


def _code(error: sqlite3.Error) -> int:
    # The low byte is the kind, the rest says where.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))
