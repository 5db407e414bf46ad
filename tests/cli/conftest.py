"""What the tests of the command share: an environment without TASKQ_*, and a folder of their own."""

import os
import sys
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
