"""`raise Throttle(key, seconds)`: the jobs of a key wait, because one of them was told to."""

import pytest

from taskq import limits
from taskq.protocol.messages import Fault
from tests.core.world import World

BUSY = Fault("taskq.errors.Throttle", "429 from the api")


def throttled(**terms: int) -> World:
    """One job of the key has run into it; another waits."""
    world = World().submit("a", key="api", **terms).worker("w")
    world.nack(by="w", ending="snoozed", fault=BUSY, after_ms=5_000, hold_key="api", hold_ms=5_000)
    return world.submit("b", key="api")


def test_no_job_of_the_key_starts_until_the_time_is_over() -> None:
    world = throttled()
    assert world.tick(4_999).holds("w") == []
    assert "429 from the api" in world.inspect("b").why
    world.tick(1).ack(by="w").ack(by="w")
    assert (world.state("a"), world.state("b")) == ("succeeded", "succeeded")
    assert world.inspect("a").failures == 0


def test_other_keys_and_other_queues_go_on() -> None:
    world = throttled().submit("c", key="other").ack("c", by="w").submit("d").ack("d", by="w")
    world.worker("x", queues=["mail"]).submit("e", key="api", queue="mail")
    assert world.holds("x") == ["e"]


def test_another_key_than_its_own_may_be_held() -> None:
    world = World().submit("a", key="ann").worker("w")
    world.nack(by="w", ending="snoozed", hold_key="bob", hold_ms=1_000)
    assert world.submit("b", key="bob").submit("c", key="ann").tick(999).holds("w") == ["c"]


def test_the_hold_survives_a_restart() -> None:
    world = throttled().restart().worker("w")
    assert world.tick(4_000).holds("w") == []
    assert world.tick(1_000).holds("w") != []


def test_a_hold_never_shortens_a_pause() -> None:
    world = World().submit("a", key="api").worker("w")
    world.steer("queue", "default", "pause", key="api", reason="maintenance")
    world.nack(by="w", ending="snoozed", hold_key="api", hold_ms=1_000)
    assert world.tick(2_000).holds("w") == []
    world.steer("queue", "default", "pause", key="api", is_set=False)
    assert world.holds("w") == ["a"]


def test_a_longer_hold_takes_the_place_of_a_shorter() -> None:
    world = World().submit("a", key="api").submit("b", key="api").worker("w", slots=2)
    world.nack("a", by="w", ending="snoozed", hold_key="api", hold_ms=3_000)
    world.nack("b", by="w", ending="snoozed", hold_key="api", hold_ms=1_000)
    assert world.tick(2_999).holds("w") == []
    assert len(world.tick(1).holds("w")) == 2


def test_a_hold_of_no_time_holds_nothing() -> None:
    world = World().submit("a", key="api").worker("w")
    world.nack(by="w", ending="snoozed", hold_key="api")
    assert world.holds("w") == ["a"]
    assert world.broker.state.settings == {}


def test_keys_that_tasks_make_up_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SETTINGS_MAX", 3)
    world = World().worker("w")
    for number in range(6):
        world.submit(f"job {number}", key=f"key {number}")
        world.nack(by="w", ending="snoozed", hold_key=f"key {number}", hold_ms=1_000)
    assert len(world.broker.state.settings) == 3
    assert world.tick(999).holds("w") == []  # its own job waits all the same
    world.tick(1)
    assert world.broker.state.settings == {}


def test_the_end_of_a_pause_does_not_end_the_one_that_was_decided_after_it() -> None:
    world = World().worker("w").submit("first").ack(by="w")
    world.steer("queue", "default", "pause", for_ms=10_000).steer("queue", "default", "pause", for_ms=60_000)
    world.submit("a").live(15_000)
    assert world.holds("w") == []
    world.live(50_000)
    assert world.holds("w") == ["a"]
