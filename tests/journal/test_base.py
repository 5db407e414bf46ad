"""Addresses of journals: what opens, and what the refusals say."""

from pathlib import Path

import pytest

from taskq.errors import ConfigError
from taskq.journal.base import Durability, open_journal
from taskq.journal.memory import MemoryJournal
from taskq.protocol import messages


def test_durabilities_are_numbered_as_on_the_wire() -> None:
    assert (Durability.FSYNC, Durability.OS, Durability.MEMORY) == (
        messages.FSYNC,
        messages.OS,
        messages.MEMORY,
    )


async def test_memory_opens_a_journal_that_keeps_nothing() -> None:
    journal = await open_journal("memory:")
    assert isinstance(journal, MemoryJournal)
    assert journal.url == "memory:"
    assert journal.free_bytes() is None


@pytest.mark.parametrize("slashes", ["", "//"])
@pytest.mark.parametrize("inline", [True, False])
async def test_sqlite_opens_a_file(tmp_path: Path, slashes: str, inline: bool) -> None:
    url = f"sqlite:{slashes}{tmp_path}/taskq.db"
    journal = await open_journal(url, inline=inline)
    assert journal.url == url
    assert (tmp_path / "taskq.db").is_file()
    free = journal.free_bytes()
    assert free is not None
    assert free > 0
    await journal.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://u:secret@db/taskq", "not available in this version"),
        ("mysql://u:secret@db/taskq", "mysql://...@db/taskq.*sqlite:PATH.*memory:"),
        ("redis://127.0.0.1", "is not a journal: `sqlite:PATH`"),
        ("taskq.db", "is not a journal: `sqlite:PATH`"),
        ("", "is not a journal"),
        ("memory:x", "is not a journal"),
        ("memory", "is not a journal"),
        ("sqlite:", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite::memory:", "write `memory:`"),
    ],
)
async def test_other_addresses_are_refused_with_what_is_allowed(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as raised:
        await open_journal(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("inline", [True, False])
async def test_the_directory_must_be_there(tmp_path: Path, inline: bool) -> None:
    with pytest.raises(ConfigError, match=f"directory {tmp_path}/none does not exist"):
        await open_journal(f"sqlite:{tmp_path}/none/taskq.db", inline=inline)
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_is_not_a_journal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        await open_journal(f"sqlite:{tmp_path}")
