"""The SQLite journal inside this process: every commit blocks the event loop. Tests, tiny set-ups."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from taskq.journal.sqlite import SqliteLog


class InlineJournal:
    """A Journal over a SqliteLog; made by `open_journal(..., inline=True)`."""

    def __init__(self, log: SqliteLog, url: str) -> None:
        self.log = log
        self.url = url
        self.cluster = log.cluster
        self.epoch = log.epoch

    @classmethod
    async def open(cls, path: Path, *, url: str, lock_wait_ms: int) -> "InlineJournal":
        # In a thread, because opening may wait for a lock.
        return cls(await asyncio.to_thread(SqliteLog, path, lock_wait_ms=lock_wait_ms), url)

    @property
    def last_seq(self) -> int:
        return self.log.last_seq

    @property
    def size_bytes(self) -> int:
        return self.log.size_bytes

    def free_bytes(self) -> int | None:
        return disk_free_bytes(self.log.path)

    async def acquire(self) -> int:
        return self.epoch

    async def renew(self) -> bool:
        return self.log.failed is None

    async def release(self) -> None:
        pass

    async def append(self, seq: int, blob: bytes, durability: int) -> None:
        self.log.append(seq, blob, durability)
        self.log.checkpoint_when_large()

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        seq = 0
        while batches := self.log.read_slice(seq):
            for seq, blob in batches:
                yield seq, blob

    async def trim(self, before_seq: int) -> None:
        while self.log.trim_slice(before_seq):  # noqa: ASYNC110 - gives way between slices, polls nothing
            await asyncio.sleep(0)
        while self.log.give_back_slice():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)
        self.log.checkpoint_when_large()

    async def close(self) -> None:
        self.log.close()


def disk_free_bytes(path: Path) -> int | None:
    """Room for an ordinary user on the disk that holds `path`; None when it cannot be told."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
