"""What every journal promises, and how one is opened by its address."""

from collections.abc import AsyncIterator, Awaitable
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

from taskq import limits
from taskq.errors import ConfigError

ALLOWED: Final = "`sqlite:PATH` keeps jobs in a file, `memory:` keeps nothing"


class Durability(IntEnum):
    """What an append waits for, strictest first. The numbers are the wire's."""

    FSYNC = 0  # on the disk: survives a power cut
    OS = 1  # with the operating system: survives a killed process
    # Nobody needs it after a crash. Such jobs are not journaled; a batch that is appended all the
    # same is treated as OS.
    MEMORY = 2


class Journal(Protocol):
    """An ordered, durable log of batches, held by one owner at a time.

    Batches are numbered densely from 1. After JournalFull nothing of that batch is there and the
    journal is still good; after JournalFailed every call raises it again: stop, and start anew.
    """

    @property
    def url(self) -> str:
        """Its address, for people."""

    @property
    def cluster(self) -> bytes:
        """16 random bytes, made when the journal was created and kept for its life."""

    @property
    def epoch(self) -> int:
        """Raised durably each time the journal is opened."""

    @property
    def last_seq(self) -> int:
        """The newest batch that was committed; 0 when there never was one."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all batches held, approximately; costs nothing to ask."""

    def free_bytes(self) -> int | None:
        """Room left on its disk; None when there is no disk."""

    async def acquire(self) -> int:
        """Become the owner and return the epoch. An embedded journal is owned from being opened."""

    async def renew(self) -> bool:
        """Whether this is still the owner."""

    async def release(self) -> None:
        """Give ownership up. An embedded journal gives it up when it is closed."""

    def append(self, seq: int, blob: bytes, durability: int) -> Awaitable[object]:
        """Add batch `seq` = the last one + 1; awaited, it returns when that is as durable as asked.

        Await it once, soon: some begin at the call, some then. Raises JournalFull or JournalFailed.
        Cancelling the wait does not undo the append.
        """

    def read(self) -> AsyncIterator[tuple[int, bytes]]:
        """All batches in order, checked on the way; raises JournalCorrupt at the first bad one."""

    async def trim(self, before_seq: int) -> None:
        """Forget the batches below `before_seq`, in slices that appends can pass between."""

    async def close(self) -> None:
        """Give up the file and the lock. May be called twice; never raises."""


async def open_journal(
    url: str, *, inline: bool = False, lock_wait_ms: int = limits.JOURNAL_LOCK_WAIT_MS
) -> Journal:
    """Open the journal at `url`, creating it when it is not there: `memory:` or `sqlite:PATH`.

    A file is written by a child process, so that a commit never waits for this process's GIL;
    `inline=True` writes it here, on the event loop (tests, tiny set-ups).

    Raises ConfigError, JournalLocked (after `lock_wait_ms`), JournalCorrupt or JournalFailed.
    """
    kind, colon, rest = url.partition(":")
    if colon and kind == "memory" and not rest:
        from taskq.journal.memory import MemoryJournal

        return MemoryJournal()
    if colon and kind == "sqlite":
        return await _open_sqlite(url, rest, inline, lock_wait_ms)
    if colon and kind in ("postgresql", "postgres"):
        raise ConfigError(f"a journal in PostgreSQL is not available in this version: {ALLOWED}")
    raise ConfigError(f"{_without_secrets(url)!r} is not a journal: {ALLOWED}")


async def _open_sqlite(url: str, rest: str, inline: bool, lock_wait_ms: int) -> Journal:
    path = _path(url, rest)
    if inline:
        from taskq.journal.inline import InlineJournal

        return await InlineJournal.open(path, url=url, lock_wait_ms=lock_wait_ms)
    from taskq.journal.process import ProcessJournal

    return await ProcessJournal.open(path, url=url, lock_wait_ms=lock_wait_ms)


def _path(url: str, rest: str) -> Path:
    # `sqlite:///abs` and `sqlite://rel` are how other programs write it.
    name = rest.removeprefix("//")
    if not name:
        raise ConfigError(f"{url!r} names no file; write for example `sqlite:taskq.db`")
    if name == ":memory:":
        raise ConfigError(f"{url!r} would be lost with the process; write `memory:` if that is meant")
    return Path(name).expanduser().absolute()


def _without_secrets(url: str) -> str:
    # A mistyped database address may carry a password, and error texts end up in logs.
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else url
