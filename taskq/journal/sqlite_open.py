"""Opening the SQLite file: made when it is not there, locked, refused when it is not a journal of ours."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from taskq.errors import (
    ConfigError,
    JournalCorrupt,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    TaskqError,
)
from taskq.journal.wal import wal_path

# "tskq" in the file's header: tells our files from those of other programs.
APPLICATION_ID: Final = int.from_bytes(b"tskq")
# Step n leads from format n to format n + 1; an empty file is format 0. Steps are only ever added.
MIGRATIONS: Final = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE log (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL)",
        # cluster, epoch, first (the lowest batch that was not trimmed: without it a lost beginning
        # looks like a trim), check (a checksum of these three), boot, format.
        "CREATE TABLE meta (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
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
# 8192 and 16384 were tried: no faster, and small commits fill the WAL up to twice as fast.
PAGE_BYTES: Final = 4096
# What SQLite reads first; no database is smaller.
HEADER_BYTES: Final = 512
LOCK_RETRY_S: Final = 0.02
ADVICE: Final = "Keep a copy of the file, then restore the last backup."


def create(path: Path) -> None:
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
    has_wal = wal_path(path).exists()
    size = path.stat().st_size
    if 0 < size < HEADER_BYTES or (size == 0 and has_wal):
        raise JournalCorrupt(f"the journal {path} was cut to {size} bytes. {ADVICE}")


def connect(path: Path, lock_wait_ms: int) -> sqlite3.Connection:
    deadline = time.monotonic() + lock_wait_ms / 1000
    while True:
        # Opened in one thread and used in another, never in two at once.
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            _lock(db, path)
        except sqlite3.Error as error:
            db.close()
            if error_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise opening_error(path, error) from error
            if time.monotonic() >= deadline:
                raise JournalLocked(
                    f"the journal {path} is held by another process (tried for {lock_wait_ms / 1000:g} s): "
                    "stop the other broker, or give this one another journal"
                ) from error
            time.sleep(LOCK_RETRY_S)  # no event loop here, and a killed broker's lock may outlive it a moment
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
    if format_of(db, path) == 0:
        # Only for an empty file; on any other this would already write to its WAL.
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


def opening_error(path: Path, error: sqlite3.Error) -> TaskqError:
    match error_code(error):
        case sqlite3.SQLITE_NOTADB:
            return JournalCorrupt(
                f"{path} is not a journal: it is another kind of file, or its beginning was overwritten. "
                f"{ADVICE}"
            )
        # ERROR: the names of its tables were changed; 0: Python cannot make a text of a value.
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR | 0:
            return JournalCorrupt(f"the journal {path} is damaged ({error}). {ADVICE}")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return ConfigError(f"the journal {path} cannot be written ({error}): check its owner and mode")
        case sqlite3.SQLITE_FULL:
            return JournalFull(f"the journal {path} cannot be opened: {error}")
    return JournalFailed(f"the journal {path} cannot be opened: {error} ({error_name(error)})")


def error_code(error: sqlite3.Error) -> int:
    # The low byte is the kind, the rest says where.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def error_name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def format_of(db: sqlite3.Connection, path: Path) -> int:
    """The format of the file; 0 when it is empty. A newer one than ours is refused."""
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return 0
    row = db.execute("SELECT v FROM meta WHERE k = 'format'").fetchone()
    if row is None or not isinstance(row[0], int):
        raise JournalCorrupt(f"the journal {path} does not say which format it has. {ADVICE}")
    found: int = row[0]
    if found > FORMAT:
        raise JournalError(
            f"the journal {path} has format {found}, written by a newer taskq; this one reads formats "
            f"up to {FORMAT}: start the newer version, or restore a backup made before it"
        )
    return found
