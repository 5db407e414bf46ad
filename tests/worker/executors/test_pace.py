"""How much more than it has slots for an executor should be given: only when its attempts are tiny."""

import pytest

from taskq.limits import EXTRA_MS, EXTRA_PER_SLOT, PACE_WINDOW_MS, SLOTS_MAX, TINY_JOB_MS
from taskq.worker.executors.pace import Pace

WINDOW_S = PACE_WINDOW_MS / 1_000


def run(pace: Pace, start: float, jobs: int, *, seconds_each: float, slots: int) -> bool:
    """A window in which so many ran, as many at once as there are slots. Whether that changed anything."""
    changed = pace.look(start, 0, 0, slots)
    now = start
    for ended in range(0, jobs, slots):
        pace.taken = slots
        now += seconds_each
        changed |= pace.look(now, slots, ended + slots, slots)
    return pace.look(max(now, start + WINDOW_S), 0, jobs, slots) or changed


def test_nothing_extra_before_anything_was_measured() -> None:
    pace = Pace(0.0)
    assert not pace.look(WINDOW_S / 2, 4, 1_000, 4)
    assert pace.extra == 0


def test_tiny_attempts_get_some_for_each_slot() -> None:
    pace = Pace(0.0)
    assert run(pace, 0.0, 4_000, seconds_each=0.001, slots=4)
    assert pace.extra == 4 * EXTRA_PER_SLOT


def test_no_more_than_runs_in_the_time_that_it_is_for() -> None:
    """500 a second: ten in 20 ms, of which eight have slots."""
    pace = Pace(0.0)
    pace.look(WINDOW_S, 0, 500, 8)
    assert pace.extra == 500 * EXTRA_MS // 1_000 - 8 == 2


@pytest.mark.parametrize("millis", [TINY_JOB_MS, 50, 10_000])
def test_long_attempts_get_nothing(millis: float) -> None:
    pace = Pace(0.0)
    assert not run(pace, 0.0, 100, seconds_each=millis / 1_000, slots=10)
    assert pace.extra == 0


def test_few_attempts_get_nothing_however_tiny() -> None:
    pace = Pace(0.0)
    pace.look(WINDOW_S, 0, 100, 4)
    assert pace.extra == 0


def test_one_that_does_not_end_counts_while_it_runs() -> None:
    pace = Pace(0.0)
    pace.taken = 1
    pace.look(WINDOW_S, 1, 150, 1)
    assert pace.extra == 0


def test_when_they_are_no_longer_tiny_it_is_withdrawn() -> None:
    pace = Pace(0.0)
    run(pace, 0.0, 4_000, seconds_each=0.001, slots=4)
    pace.taken = 4
    assert pace.look(2 * WINDOW_S + 1, 4, 4_400, 4)
    assert pace.extra == 0


def test_about_as_much_as_before_is_not_worth_a_word() -> None:
    pace = Pace(0.0)
    pace.look(WINDOW_S, 0, 1_000, 10)
    assert pace.extra == 10
    assert not pace.look(2 * WINDOW_S, 0, 1_900, 10)
    assert pace.extra == 10


def test_a_withdrawal_begins_another_window() -> None:
    pace = Pace(0.0)
    pace.look(WINDOW_S, 0, 1_000, 10)
    pace.withdraw(WINDOW_S, 1_000)
    assert pace.extra == 0
    assert not pace.look(WINDOW_S * 1.9, 0, 9_000, 10)
    assert pace.look(WINDOW_S * 2, 0, 9_000, 10)


def test_never_more_than_may_be_announced() -> None:
    pace = Pace(0.0)
    pace.look(WINDOW_S, 0, 10**9, SLOTS_MAX - 5)
    assert pace.extra == 5
