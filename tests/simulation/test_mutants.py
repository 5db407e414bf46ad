"""Each planted bug must be found: a checker that has never seen its bug is a hope."""

import pytest

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.running import first_failure

# Enough for the rarest, four times over; the suite runs ten times as many seeds.
SEEDS = 600


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        failure = first_failure(range(SEEDS))
    assert failure is not None, f"{SEEDS} seeds did not find {name}"


def test_taking_a_bug_out_leaves_nothing_behind() -> None:
    for name in MUTANTS:
        with planted(name):
            pass
    assert first_failure(range(5)) is None
