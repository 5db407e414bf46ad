"""What jobs wait for goes on over a restart, whatever became of the clocks."""

import pytest

from tests.core.world import World

HOUR = 3_600_000


@pytest.mark.parametrize("before_ms", [0, HOUR, -HOUR])
@pytest.mark.parametrize("after_ms", [0, HOUR, -HOUR])
def test_a_backoff_takes_no_longer_than_was_asked_however_the_clock_was_set(
    before_ms: int, after_ms: int
) -> None:
    world = World().submit("a").deliver(to="w").tick(1_000, wall_ms=1_000 + before_ms)
    world.nack(by="w", ending="snoozed", after_ms=2_000)
    world.tick(10, wall_ms=10 + after_ms).restart()
    if after_ms <= 0:
        assert world.state("a") == "scheduled"
    assert world.tick(2_000).state("a") == "ready"


@pytest.mark.parametrize("after_ms", [0, -HOUR])
def test_a_delay_takes_no_longer_than_was_asked(after_ms: int) -> None:
    world = World().submit("a", delay_ms=5_000).tick(10, wall_ms=10 + after_ms).restart()
    assert world.tick(4_980).state("a") == "scheduled"
    assert world.tick(20).state("a") == "ready"


def test_a_calendar_time_is_what_the_clock_says() -> None:
    world = World()
    world.submit("a", at_ms=world.now.wall_ms + 5_000).restart()
    assert world.tick(10, wall_ms=4_000).state("a") == "scheduled"
    assert world.tick(10, wall_ms=1_000).state("a") == "ready"
