"""Type checkers catch wrong arguments of `submit` and know what `result()` is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import taskq

SAMPLES = Path(__file__).with_name("typing_samples.py")
ROOT = Path(taskq.__file__).parents[1]


def marked() -> set[int]:
    lines = SAMPLES.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# E")}


def reported(command: list[str], pattern: str) -> tuple[set[int], str]:
    """The lines of the samples with an error, and all that was said."""
    ran = subprocess.run(
        [sys.executable, "-m", *command, str(SAMPLES)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found = re.findall(rf"{SAMPLES.name}:(\d+){pattern}", ran.stdout)
    return {int(number) for number in found}, ran.stdout


def test_mypy_finds_each_planted_mistake_and_nothing_else() -> None:
    lines, said = reported(["mypy", "--strict", "--no-error-summary"], ": error")
    assert len(marked()) > 20
    assert lines == marked(), said


def test_basedpyright_finds_each_planted_mistake_and_nothing_else() -> None:
    pytest.importorskip("basedpyright")
    lines, said = reported(
        ["basedpyright", "--pythonpath", sys.executable, "--level", "error"], r":\d+ - error"
    )
    assert lines == marked(), said
