"""Timers: in order, never early, few kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.effects import Now
from taskq.core.shelves import SHELF_MAX, SHIFTS, SLICE, TIMERS_BEFORE_SWEEP
from taskq.core.timers import WALL_LOOK_MS, Timer, Timers
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
    heap.look(Now(0, 9_000))
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


TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 37).flatmap(lambda bits: st.integers(0, 1 << bits)))),
    st.lists(st.integers(0, 36).flatmap(lambda bits: st.integers(1, 1 << bits)), max_size=30),
)
def test_those_far_away_fire_as_exactly_as_the_near(timers: list[tuple[bool, int]], steps: list[int]) -> None:
    """Each once, never early, and the loop is told to look in time."""
    heap, now, fired = Timers(), Now(0, 1_000), []
    heap.look(now)
    for number, (is_wall, in_ms) in enumerate(timers):
        if is_wall:
            heap.at(1_000 + in_ms, "due", number)
        else:
            heap.after(in_ms, "expires", number)
    for step in [*steps, *[TEN_YEARS_MS // 20] * 21]:
        now = Now(now.boot_ms + step, now.wall_ms + step)
        for _ in range(2 * len(SHIFTS)):  # slept through its time, it goes from shelf to shelf
            fired += [key for _, key, _ in heap.due(now, 1_000) if isinstance(key, int)]
        left = [in_ms for in_ms in (in_ms for _, in_ms in timers) if in_ms > now.boot_ms]
        assert sorted(fired) == [n for n, (_, in_ms) in enumerate(timers) if in_ms <= now.boot_ms]
        deadline_ms = heap.next_ms(now)
        assert deadline_ms is None if not left else deadline_ms is not None and deadline_ms <= min(left)
    assert len(heap) == 0


def test_a_million_for_one_moment_are_there_at_that_moment() -> None:
    """A shelf is opened a slice at a time, and early enough."""
    heap, count = Timers(), 100_000
    heap.look(Now(0, 0))
    for number in range(count):
        heap.after(3_600_000, "due", number)
    looks = 0
    while (deadline_ms := heap.next_ms(Now(0, 0))) is not None and deadline_ms < 3_600_000:
        assert heap.due(Now(deadline_ms, 0), 1_000) == []
        looks += 1
    assert looks >= count // SLICE
    assert len(heap.boot.near) == count
    assert len(heap.due(Now(3_600_000, 0), 2 * count)) == count


def test_what_nobody_waits_for_is_dropped_where_it_lies() -> None:
    wanted = {number: number % 10 == 0 for number in range(4 * SHELF_MAX)}

    def is_wanted(timer: Timer) -> bool:
        assert isinstance(timer[1], int)
        return wanted[timer[1]]

    heap = Timers(is_wanted)
    heap.look(Now(0, 0))
    for number in wanted:
        heap.after(3_600_000 + number % 7, "timeout", number, number + 1)
    for _ in range(len(wanted) // SLICE + 10):
        heap.due(Now(1, 1), 1)
    kept = sum(wanted.values())
    assert len(heap) == kept
    while heap.boot.far.next_ms() or heap.boot.far.is_busy:
        heap.due(Now(3_599_999, 0), 1)
    due = heap.due(Now(4_000_000, 0), 10**6)
    assert sorted(mark for _, _, mark in due) == [number + 1 for number, is_one in wanted.items() if is_one]


def test_a_wall_clock_set_back_while_a_shelf_is_opened_fires_nothing_early() -> None:
    heap = Timers()
    heap.look(Now(0, 1_000_000))
    for number in range(3 * SLICE):
        heap.at(2_000_000, "due", number)
    assert heap.due(Now(10, 1_999_000), 10**6) == []  # one slice of it is near now
    for _ in range(10):
        assert heap.due(Now(20, 1_000_000), 10**6) == []
    for _ in range(10):
        heap.due(Now(30, 1_999_999), 10**6)
    assert len(heap.due(Now(40, 2_000_000), 10**6)) == 3 * SLICE


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
