"""What the tests of the command share: an environment without TASKQ_*, and a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current directory: empty, so that no settings file of the checkout is read."""
    for name in [name for name in os.environ if name.startswith("TASKQ_") or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    # Processes that a test starts import what the test itself imports, installed or not.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


Guarded = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def guarded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """Starts a broker that knows one token, of the role that is asked for; from then on both are ours."""
    started: list[subprocess.Popen[str]] = []

    def start(role: str) -> "subprocess.Popen[str]":
        made = [sys.executable, "-m", "taskq", "token", "create", "--role", role]
        line = subprocess.run(made, check=True, capture_output=True, text=True).stdout
        (folder / "tokens").write_text(line)
        (folder / "token").write_text(line.split()[1])
        flags = ["--port", "0", "--journal", "memory:", "--tokens-file", str(folder / "tokens")]
        broker = subprocess.Popen(
            [sys.executable, "-m", "taskq", "broker", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(broker)
        assert broker.stdout is not None
        monkeypatch.setenv("TASKQ_URL", broker.stdout.readline().split()[-1])
        monkeypatch.setenv("TASKQ_TOKEN_FILE", str(folder / "token"))
        return broker

    yield start
    for broker in started:
        broker.terminate()
        broker.communicate()
