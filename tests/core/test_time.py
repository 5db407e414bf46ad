"""Waits run on the clock that never jumps, calendar times on the one that people set."""

import pytest

from taskq import limits
from taskq.protocol.messages import Extend, Extension
from tests.core.world import World, id_of

HOUR = 3_600_000


@pytest.mark.parametrize("jump_ms", [-24 * HOUR, -HOUR, HOUR, 24 * HOUR])
def test_setting_the_wall_clock_moves_no_wait(jump_ms: int) -> None:
    world = World().worker("w", slots=9)
    world.submit("soon", delay_ms=3_000).submit("later", delay_ms=2 * HOUR)
    world.submit("stale", queue="nobody", expires_ms=4_000).submit("again", attempts=2, backoff_ms=5_000)
    world.nack("again", by="w").tick(0, wall_ms=jump_ms)
    assert world.tick(2_999).holds("w") == []
    assert world.tick(1).holds("w") == ["soon"]
    assert (world.tick(999).state("stale"), world.tick(1).state("stale")) == ("ready", "expired")
    assert world.tick(999).holds("w") == ["soon"]
    assert world.tick(1).holds("w") == ["soon", "again"]
    assert world.state("later") == "scheduled"


def test_a_calendar_time_comes_when_the_wall_clock_shows_it() -> None:
    world = World().worker("w")
    at_ms = world.now.wall_ms + HOUR
    world.submit("a", at_ms=at_ms).tick(1_000, wall_ms=-HOUR)
    assert world.tick(1_000, wall_ms=2 * HOUR - 1_001).holds("w") == []
    deadline_ms = world.broker.next_deadline(world.now)
    assert deadline_ms is not None and deadline_ms <= world.now.boot_ms + 1_000
    assert world.tick(1_000, wall_ms=at_ms - world.now.wall_ms).holds("w") == ["a"]


def test_a_suspended_machine_wakes_up_to_what_is_due() -> None:
    world = World()
    world.submit("hours", delay_ms=5 * HOUR).submit("days", delay_ms=50 * HOUR)
    world.tick(49 * HOUR)
    for _ in range(10):  # what was far goes from shelf to shelf, a turn each
        world.turn()
    assert [world.state(name) for name in ("hours", "days")] == ["ready", "scheduled"]
    world.tick(HOUR)
    for _ in range(10):
        world.turn()
    assert world.state("days") == "ready"


@pytest.mark.parametrize("jump_ms", [-HOUR, 0])
def test_waits_go_on_after_a_restart(jump_ms: int) -> None:
    """By the wall clock, for there is no other; but never for longer than they were to take."""
    world = World().submit("a", delay_ms=2 * HOUR).tick(HOUR)
    world.now = world.now._replace(wall_ms=world.now.wall_ms + jump_ms)
    world.restart().tick(HOUR - jump_ms - 1)
    assert world.state("a") == "scheduled"
    assert world.tick(1).state("a") == "ready"


def test_who_waits_for_a_job_that_expired_is_told() -> None:
    world = World().submit("a", expires_ms=4_000).watch("a").tick(4_000)
    assert world.outcomes() == [("a", "expired")]


def test_a_running_attempt_may_ask_for_more_time() -> None:
    world = World().submit("a", timeout_ms=1_000).worker("w").vouch("w", by="boss")
    extension = Extension(id_of("a"), world.leases["a"][0], 20_000)
    world.tick(900).say("w", Extend([extension]))
    world.vouch_for(20_000 + limits.TIMEOUT_BACKSTOP_MS - 1, "w", by="boss")
    assert world.state("a") == "running"
    world.tick(1)
    assert world.state("a") == "dead"
    assert world.stops("w") == ["a"]


def test_an_extension_is_said_again_to_a_broker_that_was_restarted() -> None:
    world = World().submit("a", timeout_ms=1_000).worker("w")
    extension = Extension(id_of("a"), world.leases["a"][0], 20_000)
    world.tick(900).say("w", Extend([extension])).tick(5_000).restart()
    world.connect("w").say("w", Extend([extension])).vouch("w", by="boss")
    world.vouch_for(20_000, "w", by="boss")
    assert world.state("a") == "running"


def test_many_that_are_due_at_once_come_a_few_at_a_time() -> None:
    world, count = World(), 3_000
    for part in range(2):
        world.submit(*(f"{part}.{number}" for number in range(count // 2)), delay_ms=HOUR)
    turns = 0
    world.tick(HOUR)
    while any(job.state == "scheduled" for job in world.broker.state.jobs.values()):
        assert (world.broker.next_deadline(world.now) or 0) <= world.now.boot_ms
        world.turn()
        turns += 1
    assert turns >= 3
