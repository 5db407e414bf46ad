"""The worker that starts anew on each save: real files, real processes, and a worker that is none."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from taskq.errors import ConfigError
from taskq.worker.reloading import Reloader, syntax_errors
from taskq.worker.settings import WorkerSettings

PATIENCE = 60.0


class Terminal:
    """What was said by the worker and about it, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Condition()

    def say(self, text: str) -> None:
        self.lines.append(text)
        self._noting = asyncio.ensure_future(self._note())

    def on_line(self, line: str, is_error: bool) -> None:
        """From other threads."""
        self._loop.call_soon_threadsafe(self.say, f"error: {line}" if is_error else line)

    async def until(self, is_so: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: is_so(self.lines))

    async def hear(self, line: str, count: int = 1) -> None:
        await self.until(lambda lines: sum(line in each for each in lines) >= count)

    async def _note(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def reloading(source: Path, grace_ms: int = 60_000) -> AsyncIterator[tuple[Reloader, Terminal]]:
    terminal = Terminal()
    path = os.pathsep.join(filter(None, sys.path))
    reloader = Reloader(
        WorkerSettings(app=str(source), grace_ms=grace_ms),
        "tests.worker.reloaded_main",
        folders=[source.parent],
        say=terminal.say,
        on_line=terminal.on_line,
        environment={**os.environ, "PYTHONPATH": path},
    )
    running = asyncio.create_task(reloader.run())
    try:
        yield reloader, terminal
    finally:
        for _ in range(3):
            reloader.stop()
        await asyncio.wait_for(running, PATIENCE)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tasks.py"
    path.write_text("'one'")
    return path


async def save(path: Path, text: str, terminal: Terminal, line: str) -> None:
    """Save until it was noticed: the watch begins some time after the worker."""
    while not any(line in each for each in terminal.lines):
        path.write_text(text)
        try:
            async with asyncio.timeout(2):
                await terminal.hear(line)
        except TimeoutError:
            continue


async def test_a_save_starts_the_worker_anew(source: Path) -> None:
    async with reloading(source) as (_, terminal):
        await terminal.hear("runs 'one'")
        await save(source, "'two'", terminal, "runs 'two'")
        assert any("tasks.py changed: the worker starts anew" in line for line in terminal.lines)
        other = source.parent / "other.py"
        await save(other, "1", terminal, "other.py changed")
        await terminal.hear("runs 'two'", 2)
        (source.parent / "notes.txt").write_text("no source")
        assert not any("notes.txt" in line for line in terminal.lines)


async def test_a_source_that_cannot_be_read_changes_nothing(source: Path) -> None:
    async with reloading(source) as (_, terminal):
        await terminal.hear("runs 'one'")
        await save(source, "def broken(:", terminal, "SyntaxError")
        assert any("tasks.py:1: SyntaxError: " in line for line in terminal.lines)
        other = source.parent / "other.py"
        # The first is still broken, though it was not saved.
        seen = len(terminal.lines)
        other.write_text("1")
        await terminal.until(lambda lines: any("SyntaxError" in line for line in lines[seen:]))
        assert not any("anew" in line for line in terminal.lines)
        source.write_text("'mended'")
        await terminal.hear("runs 'mended'")


async def test_a_worker_that_ends_by_itself_waits_for_the_next_save(source: Path) -> None:
    source.write_text("'broken'")
    async with reloading(source) as (_, terminal):
        await terminal.hear("error: cannot be imported")
        await terminal.hear("the worker has ended (exit code 1); it starts at the next save")
        await save(source, "'whole'", terminal, "runs 'whole'")


async def test_a_worker_that_is_killed_is_told_by_its_signal(source: Path) -> None:
    async with reloading(source) as (reloader, terminal):
        await terminal.hear("runs 'one'")
        assert reloader._process is not None
        os.kill(reloader._process.pid, signal.SIGKILL)
        await terminal.hear("the worker has ended (signal SIGKILL)")


async def test_the_second_stop_is_passed_on(source: Path) -> None:
    source.write_text("'stubborn'")
    async with reloading(source) as (reloader, terminal):
        await terminal.hear("runs 'stubborn'")
        process = reloader._process
        assert process is not None
        reloader.stop()
        await terminal.hear("told to stop")
        reloader.stop()
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0


async def test_a_worker_that_never_ends_is_killed_by_the_third(source: Path) -> None:
    async with reloading(source) as (reloader, terminal):
        await terminal.hear("runs 'one'")
        process = reloader._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        for _ in range(3):
            reloader.stop()
        assert await asyncio.to_thread(process.wait, PATIENCE) == -signal.SIGKILL


async def test_without_watchfiles_it_says_what_to_install(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError, match=r"pip install 'taskqd\[dev\]'"):
        Reloader(WorkerSettings(app="tasks:q"), "tests.worker.reloaded_main", folders=[], say=print)


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    reloader = Reloader(
        WorkerSettings(app=str(tmp_path / "tasks.py")),
        "tests.worker.reloaded_main",
        folders=[tmp_path / "missing"],
        say=lambda text: None,
        on_line=lambda line, is_error: None,
        environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with pytest.raises(ConfigError, match=r"cannot watch .*missing"):
        await asyncio.wait_for(reloader.run(), PATIENCE)


def test_which_sources_are_wrong(tmp_path: Path) -> None:
    texts = {"good.py": b"x = 1", "bad.py": b"x = (", "null.py": b"x = 1\0", "code.py": b"x = '\xff'"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    wrong = syntax_errors([*(tmp_path / name for name in texts), tmp_path / "gone.py"])
    assert sorted(path.name for path in wrong) == ["bad.py", "code.py", "null.py"]
    assert "bad.py:1: SyntaxError: '(' was never closed" in wrong[tmp_path / "bad.py"]
