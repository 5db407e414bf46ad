"""`taskq demo` as its users run it: it checks itself, and it leaves nothing behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskq.cli.demo import source_files
from taskq.cli.exits import Exit


def started(text: str) -> list[int]:
    """The processes that the demo says it has started."""
    broker = re.findall(r"^broker (\d+) listens", text, re.MULTILINE)
    workers = re.findall(r"^workers ([\d, ]+) run", text, re.MULTILINE)
    return [int(pid) for pids in broker + workers for pid in pids.split(", ")]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-m", "taskq", "demo"]


def test_it_counts_each_file_once_through_two_kills(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.OK, done.stderr + done.stdout
    assert len(re.findall(r"^killed \d+, a worker's process", done.stdout, re.MULTILINE)) == 1
    assert len(re.findall(r"^killed \d+, the broker", done.stdout, re.MULTILINE)) == 1
    assert "was counted exactly once" in done.stdout.splitlines()[-1]
    pids = started(done.stderr)
    assert len(pids) == 4
    assert not [pid for pid in pids if is_alive(pid)]


def test_an_interrupt_ends_all_that_it_started(command: list[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stderr is not None
            text = ""
            while "workers " not in text and (line := demo.stderr.readline()):
                text += line
            demo.send_signal(signal.SIGINT)
            demo.wait()
        finally:
            demo.kill()
    assert demo.returncode == Exit.INTERRUPTED
    pids = started(text)
    assert len(pids) == 4
    assert not [pid for pid in pids if is_alive(pid)]


def test_only_the_standard_library_is_counted(folder: Path) -> None:
    for name in ("a.py", "pkg/b.py", "site-packages/c.py", "pkg/__pycache__/d.py", "e.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert source_files(folder) == ["a.py", "pkg/b.py"]
