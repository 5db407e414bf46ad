"""Timers: in order, never early, few kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.effects import Now
from taskq.core.timers import TIMERS_BEFORE_SWEEP, WALL_LOOK_MS, Timers
from tests.core.world import World


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50))), st.lists(st.integers(1, 20)))
def test_each_fires_once_in_order_and_never_early(timers: list[tuple[bool, int]], steps: list[int]) -> None:
    heap, now, fired = Timers(), Now(0, 1_000), []
    for number, (is_wall, at_ms) in enumerate(timers):
        if is_wall:
            heap.at(1_000 + at_ms, "due", number)
        else:
            heap.after(at_ms, "due", number)
    for step in [*steps, 100]:
        now = Now(now.boot_ms + step, now.wall_ms + step)
        due = [key for _, key, _ in heap.due(now, 1_000) if isinstance(key, int)]
        assert all(timers[number][1] <= now.boot_ms for number in due)
        for kind in (False, True):
            times = [timers[number][1] for number in due if timers[number][0] is kind]
            assert times == sorted(times)
        fired += due
    assert sorted(fired) == list(range(len(timers)))
    assert heap.next_ms(now) is None


def test_the_deadline_is_that_of_the_first() -> None:
    heap = Timers()
    heap.after(300, "due", 1)
    heap.at(10_100, "due", 2)
    assert heap.next_ms(Now(0, 10_000)) == 100
    assert heap.next_ms(Now(0, 9_700)) == 300


def test_the_wall_clock_is_looked_at_in_time_though_people_may_set_it() -> None:
    heap = Timers()
    heap.at(10**12, "due", 1)
    assert heap.next_ms(Now(5, 0)) == 5 + WALL_LOOK_MS


def test_no_more_than_the_limit_at_once_and_none_is_lost() -> None:
    heap = Timers()
    for number in range(10):
        heap.after(number, "due", number)
    now = Now(100, 0)
    assert [len(heap.due(now, 4)) for _ in range(4)] == [4, 4, 2, 0]


def test_timers_of_jobs_that_have_ended_are_not_kept() -> None:
    world = World().worker("w", slots=1_000)
    for turn in range(3 * TIMERS_BEFORE_SWEEP // 1_000):
        names = [f"{turn}.{number}" for number in range(500)]
        world.submit(*names, timeout_ms=3_600_000, expires_ms=3_600_000, keep_ms=0).ack(by="w")
    assert world.count("jobs") == 0
    assert world.count("timers") <= TIMERS_BEFORE_SWEEP + 1_000


def test_a_sweep_takes_no_timer_that_is_wanted() -> None:
    world = World().worker("w", slots=1_000)
    world.submit("late", delay_ms=50_000).submit("old", expires_ms=60_000, queue="nobody")
    world.submit("stuck", timeout_ms=70_000, attempts=2)
    for turn in range(2 * TIMERS_BEFORE_SWEEP // 500):
        names = [f"{turn}.{number}" for number in range(500)]
        world.submit(*names, timeout_ms=3_600_000).ack(*names, by="w")
    assert world.count("timers") < TIMERS_BEFORE_SWEEP + 1_000
    for _ in range(20):
        world.connect("w").tick(5_000)
    assert "late" in world.holds("w")
    assert world.state("old") == "expired"
    assert world.job("stuck").failures == 1
