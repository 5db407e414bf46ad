"""`taskq dev` as a person has it: a real terminal's worth of processes, saves, and Ctrl-C."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.client.app import TaskQ
from taskq.errors import ConnectionLost

PATIENCE = 60.0
SOURCE = """
import asyncio, os
from taskq import TaskQ

q = TaskQ()

@q.task
def version() -> str:
    print("in version VERSION")
    return "VERSION"

@q.task
async def place() -> list[str]:
    return [*q.urls, os.environ.get("TASKQ_TOKEN", "")]

@q.task
async def nap() -> int:
    await asyncio.sleep(600)
"""


class Dev:
    """One `taskq dev` in the current folder, and what it has printed."""

    def __init__(self, *words: str, environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taskq", "dev", "tasks:q", "--port", "0", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._reading = Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end, "\n".join(self.lines)
            assert self.process.poll() is None or is_so(), "\n".join(self.lines)
            self._reading.join(0.02)

    def hear(self, text: str, count: int = 1) -> None:
        self.until(lambda: sum(text in line for line in self.lines) >= count)

    @property
    def url(self) -> str:
        self.hear("listening on ")
        found = re.search(r"listening on (\S+);", "\n".join(self.lines))
        assert found is not None
        return found[1]

    def end(self) -> int:
        """All its lines are there afterwards, so nobody holds its terminal any more."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        assert not self._reading.is_alive(), "something that it started has outlived it"
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reading.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def source(folder: Path) -> Path:
    path = folder / "tasks.py"
    path.write_text(SOURCE.replace("VERSION", "one"))
    return path


@pytest.fixture
def start(source: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def start(*words: str, environment: dict[str, str] | None = None) -> Dev:
        started.append(Dev(*words, environment=environment))
        return started[-1]

    yield start
    for dev in started:
        dev.close()


def result(url: str, task: str) -> object:
    q = TaskQ(url)

    def named() -> None: ...

    try:
        return q.task(name=f"tasks.{task}")(named).submit_sync().result(PATIENCE)
    finally:
        q.sync.close()


def test_tasks_run_and_run_anew_when_they_are_saved(source: Path, start: Callable[..., Dev]) -> None:
    dev = start("--grace", "100ms")
    dev.hear("ready: 1 worker process")
    assert result(dev.url, "version") == "one"
    dev.hear("worker | in version one")
    q = TaskQ(dev.url)
    nap = q.task(name="tasks.nap")(lambda: None).submit_sync()
    dev.until(lambda: nap.status() == "running")
    while not any("tasks.py changed" in line for line in dev.lines):  # the watch begins after the worker
        source.write_text(SOURCE.replace("VERSION", "two"))
        dev._reading.join(1)
    dev.hear("ready: 1 worker process", 2)
    assert result(dev.url, "version") == "two"
    # It was handed back, and nobody counts that.
    dev.until(lambda: nap.status() == "running")
    assert nap.info().failures == nap.info().crashes == 0
    q.sync.close()
    assert dev.end() == Exit.OK
    with pytest.raises(ConnectionLost):
        TaskQ(dev.url).sync.connect(0.2)


def test_the_workers_use_this_broker_and_no_other(start: Callable[..., Dev]) -> None:
    dev = start(environment={"TASKQ_URL": "taskq://192.0.2.1:7700", "TASKQ_TOKEN": "tq_" + "x" * 40})
    dev.hear("TASKQ_URL (taskq://192.0.2.1:7700) is not used here")
    assert result(dev.url, "place") == [dev.url, ""]
    assert dev.end() == Exit.OK


def test_what_was_submitted_is_there_the_next_time(folder: Path, start: Callable[..., Dev]) -> None:
    first = start()
    q = TaskQ(first.url)
    job = q.task(name="tasks.version")(lambda: None).options(delay=600).submit_sync()
    q.sync.close()
    assert first.end() == Exit.OK
    assert (folder / ".taskq" / ".gitignore").read_text() == "*\n"
    second = start()
    again = TaskQ(second.url)
    assert again.sync.job(job.id).status() == "scheduled"
    again.sync.close()
    assert second.end() == Exit.OK


def test_when_it_is_killed_nothing_is_left(start: Callable[..., Dev]) -> None:
    dev = start("--journal", "memory:", "-w", "2")
    dev.hear("ready: 2 worker processes")
    dev.process.kill()
    dev.process.wait()
    dev._reading.join(PATIENCE)
    assert not dev._reading.is_alive(), "something that it started has outlived it"


def test_a_port_that_is_taken(start: Callable[..., Dev], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["dev", "tasks:q", "--port", str(taken.getsockname()[1])]) == Exit.CONFIG
    assert "is taken by another program" in capsys.readouterr().err


def test_without_watchfiles(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    for words in (["dev", "tasks:q"], ["worker", "tasks:q", "--reload"]):
        assert run(words) == Exit.CONFIG
        assert "pip install 'taskqd[dev]'" in capsys.readouterr().err
