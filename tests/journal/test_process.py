"""The journal's own process: it outlives signals, not its broker; and what is lost when one is killed."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskq.errors import JournalFailed
from taskq.journal import child
from taskq.journal.base import Durability, open_journal
from taskq.journal.process import ProcessJournal
from taskq.journal.sqlite import FREE_BYTES_MIN, SqliteLog
from tests.journal import appender


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[ProcessJournal]:
    journal = await open_journal(f"sqlite:{tmp_path}/taskq.db")
    assert isinstance(journal, ProcessJournal)
    yield journal
    await journal.close()


@contextmanager
def appending(url: str, *, inline: bool, durability: Durability) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, appender.__file__, url, str(int(inline)), str(int(durability))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


async def test_a_killed_child_fails_what_is_pending_and_all_that_follows(journal: ProcessJournal) -> None:
    os.kill(journal.pid, signal.SIGSTOP)
    pending = [asyncio.ensure_future(journal.append(seq, b"x", Durability.FSYNC)) for seq in (1, 2)]
    trim = asyncio.ensure_future(journal.trim(1))
    os.kill(journal.pid, signal.SIGKILL)
    for waiting in (*pending, trim):
        with pytest.raises(JournalFailed, match=r"pid \d+\) ended: SIGKILL"):
            await waiting
    with pytest.raises(JournalFailed, match="SIGKILL"):
        await journal.append(3, b"x", Durability.FSYNC)
    assert not await journal.renew()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_for_the_broker_do_not_end_the_child(
    journal: ProcessJournal, number: signal.Signals
) -> None:
    os.kill(journal.pid, number)
    await journal.append(1, b"one", Durability.FSYNC)
    assert [batch async for batch in journal.read()] == [(1, b"one")]


async def test_the_child_is_in_a_session_of_its_own(journal: ProcessJournal) -> None:
    assert os.getsid(journal.pid) == journal.pid


async def test_the_child_is_gone_after_close(journal: ProcessJournal) -> None:
    await journal.close()
    with pytest.raises(ProcessLookupError):
        os.kill(journal.pid, 0)


async def test_space_is_given_back_between_requests_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "taskq.db"
    log = SqliteLog(path)
    for seq in range(1, 301):
        log.append(seq, bytes(100_000), Durability.OS)
    while log.trim_slice(301):
        pass
    log.close()
    assert path.stat().st_size > 25_000_000
    journal = await open_journal(f"sqlite:{path}")
    for seq in range(301, 401):
        await journal.append(seq, b"small", Durability.OS)
    await journal.close()
    assert path.stat().st_size < 2 * FREE_BYTES_MIN


def test_what_was_asked_is_done_when_the_broker_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "taskq.db"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", child.__file__, str(path), "0"], stdin=theirs.fileno()
        )
        theirs.close()
        try:
            for seq in range(1, 51):
                ours.sendall(child.REQUEST.pack(child.Ask.APPEND, seq, seq, Durability.OS, 3) + b"abc")
            ours.sendall(child.REQUEST.pack(child.Ask.APPEND, 51, 51, Durability.OS, 300) + b"half of it")
            ours.close()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            process.wait()
    log = SqliteLog(path, lock_wait_ms=0)
    assert log.read_slice(0) == [(seq, b"abc") for seq in range(1, 51)]
    log.close()


def test_the_child_imports_no_asyncio_and_nothing_installed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.close()
        shown = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "importtime", child.__file__, str(tmp_path / "taskq.db"), "0"],
            stdin=theirs.fileno(),
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    assert "taskq.journal.sqlite" in shown
    for name in ("asyncio", "msgspec", "msgpack", "uvloop", "subprocess", "logging"):
        assert f" {name}\n" not in shown


async def test_an_io_error_is_final(journal: ProcessJournal) -> None:
    await journal.append(1, b"one", Durability.FSYNC)
    # The system refuses the child every write beyond this, as a broken disk would.
    resource.prlimit(journal.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    with pytest.raises(JournalFailed, match=r"failed at batch 2 .*SQLITE_IOERR"):
        await journal.append(2, bytes(1_000_000), Durability.FSYNC)
    resource.prlimit(journal.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with pytest.raises(JournalFailed, match="failed at batch 2"):
        await journal.append(2, b"two", Durability.FSYNC)
    with pytest.raises(JournalFailed, match="failed at batch 2"):
        await journal.trim(2)


@pytest.mark.parametrize("durability", [Durability.FSYNC, Durability.OS])
@pytest.mark.parametrize("inline", [True, False])
async def test_a_killed_appender_loses_nothing_it_was_told(
    tmp_path: Path, inline: bool, durability: Durability
) -> None:
    url = f"sqlite:{tmp_path}/taskq.db"
    told = 0
    for kill_at in (7, 150, 333):
        with appending(url, inline=inline, durability=durability) as process:
            assert process.stdout
            for line in process.stdout:
                told = int(line)
                if told >= kill_at:
                    break
            process.kill()
            told = max([told, *(int(line) for line in process.stdout if line.endswith("\n"))])
        # Its journal process may hold the lock for another moment: opening waits for it.
        journal = await open_journal(url)
        batches = [batch async for batch in journal.read()]
        await journal.close()
        numbers = [seq for seq, _ in batches]
        assert told <= numbers[-1] <= told + 1
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert all(held == appender.blob(seq) for seq, held in batches)


async def test_a_file_that_was_deleted_is_noticed(tmp_path: Path) -> None:
    journal = await open_journal(f"sqlite:{tmp_path / 'x.db'}")
    try:
        await journal.append(1, b"one", Durability.FSYNC)
        assert await journal.renew()
        (tmp_path / "x.db").unlink()
        assert not await journal.renew()
    finally:
        await journal.close()
