"""One journal of each kind, opened and opened again on the same store, and closed at the end."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskq.journal.base import Journal, open_journal
from taskq.journal.memory import MemoryDisk, MemoryJournal


class Store:
    """Where a journal of one kind lives."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self._disk = MemoryDisk()
        self._opened: list[Journal] = []

    async def open(self) -> Journal:
        journal: Journal
        if self.kind == "memory":
            journal = MemoryJournal(self._disk)
        else:
            journal = await open_journal(f"sqlite:{self.path}", inline=self.kind == "inline")
        self._opened.append(journal)
        return journal

    async def reopen(self) -> Journal:
        await self.close()
        return await self.open()

    async def close(self) -> None:
        while self._opened:
            await self._opened.pop().close()


@pytest.fixture(params=["memory", "inline", "process"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(request.param, tmp_path / "taskq.db")
    yield store
    await store.close()
