"""Real processes: a broker and workers on free ports, ended by pid whatever happens."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from taskq import TaskQ
from taskq.testing.fleet import Fleet
from tests.acceptance import tasks

APP = "tests.acceptance.tasks:q"


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Fleet]:
    with Fleet() as fleet:
        await fleet.start_broker()
        yield fleet


@pytest_asyncio.fixture
async def app(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskQ]:
    """The tasks' own TaskQ, pointed at this test's broker."""
    app = tasks.q
    monkeypatch.setattr(app, "_addresses", TaskQ(fleet.url)._addresses)
    async with app:
        yield app


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], list[list[str]]]:
    """What the tasks noted so far: word, pid, attempt, time."""

    def read() -> list[list[str]]:
        path = tmp_path / "runs"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    return read


@pytest.fixture
def runs_file(tmp_path: Path) -> str:
    return str(tmp_path / "runs")
