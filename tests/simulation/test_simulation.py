"""Thousands of stories of a whole taskq, each from its seed; and that a seed always tells the same one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.running import first_failure, run_seed

SEEDS = 3_000
# Small enough that both cores are busy to the end.
CHUNK = 50
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_all_promises_are_kept(first: int) -> None:
    failure = first_failure(range(first, first + CHUNK))
    assert failure is None, str(failure)


@pytest.mark.parametrize("seed", range(10))
def test_a_seed_always_tells_the_same_story(seed: int) -> None:
    assert run_seed(seed) == run_seed(seed)


def test_the_story_does_not_depend_on_how_python_hashes() -> None:
    """Whoever iterates over a set makes the order of things a matter of luck."""
    told = {_told("1"), _told("2")}
    assert len(told) == 1, told


def _told(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "12"]
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
