"""A journal in memory, for `memory:`, for tests and for the simulator. Its coroutines never wait."""

import os
from collections.abc import AsyncIterator, Callable

from taskq.errors import JournalCorrupt, JournalError, JournalFailed
from taskq.journal.base import Durability


class MemoryDisk:
    """What a MemoryJournal leaves behind: a new journal on the same disk sees what was committed."""

    def __init__(self, cluster: bytes | None = None) -> None:
        self.cluster = os.urandom(16) if cluster is None else cluster
        self.epoch = 0
        self.first_seq = 1
        self.last_seq = 0
        self.synced_seq = 0
        self.batches: dict[int, bytes] = {}
        self.size_bytes = 0

    def write(self, seq: int, blob: bytes, *, synced: bool) -> None:
        self.batches[seq] = bytes(blob)
        self.size_bytes += len(blob)
        self.last_seq = seq
        if synced:
            self.synced_seq = seq

    def forget(self, before_seq: int) -> None:
        for seq in range(self.first_seq, before_seq):
            self.size_bytes -= len(self.batches.pop(seq))
        self.first_seq = max(self.first_seq, before_seq)
        # A trim lies behind the appends that made it possible, and is as safe as they are.
        self.synced_seq = max(self.synced_seq, self.first_seq - 1)

    def power_cut(self) -> None:
        """Lose what was committed after the last batch that asked for FSYNC, as a real disk may."""
        for seq in range(max(self.first_seq, self.synced_seq + 1), self.last_seq + 1):
            self.size_bytes -= len(self.batches.pop(seq))
        self.last_seq = min(self.last_seq, self.synced_seq)


class MemoryJournal:
    """The Journal that forgets. With no `disk` it keeps only counts, so that it cannot grow.

    `fail(seq)` is asked before each append and may return the error to raise instead: JournalFull
    leaves the journal good, JournalFailed ends it. A second journal on the same disk takes it over.
    """

    url = "memory:"

    def __init__(
        self, disk: MemoryDisk | None = None, *, fail: Callable[[int], JournalError | None] | None = None
    ) -> None:
        self._keeps = disk is not None
        self._disk = MemoryDisk() if disk is None else disk
        self._fail = fail
        self._failed: JournalFailed | None = None
        self._disk.epoch += 1
        self.epoch = self._disk.epoch
        self.cluster = self._disk.cluster

    @property
    def last_seq(self) -> int:
        return self._disk.last_seq

    @property
    def size_bytes(self) -> int:
        return self._disk.size_bytes

    def free_bytes(self) -> int | None:
        return None

    async def acquire(self) -> int:
        self._check()
        return self.epoch

    async def renew(self) -> bool:
        return self._disk.epoch == self.epoch

    async def release(self) -> None:
        pass

    async def append(self, seq: int, blob: bytes, durability: int) -> None:
        self._check()
        assert seq == self._disk.last_seq + 1, f"batch {seq} after {self._disk.last_seq}"
        error = self._fail(seq) if self._fail else None
        if isinstance(error, JournalFailed):
            self._failed = error
        if error is not None:
            raise error
        if self._keeps:
            self._disk.write(seq, blob, synced=durability == Durability.FSYNC)
        else:
            self._disk.last_seq = seq

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        self._check()
        if not self._keeps:
            return
        for seq in range(self._disk.first_seq, self._disk.last_seq + 1):
            if seq not in self._disk.batches:
                raise JournalCorrupt(f"{self.url} batch {seq} is missing")
            yield seq, self._disk.batches[seq]

    async def trim(self, before_seq: int) -> None:
        self._check()
        if self._keeps:
            self._disk.forget(min(before_seq, self._disk.last_seq + 1))

    async def close(self) -> None:
        self._failed = self._failed or JournalFailed(f"{self.url} is closed")

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._disk.epoch != self.epoch:
            raise JournalFailed(f"{self.url} was taken over by epoch {self._disk.epoch}")
