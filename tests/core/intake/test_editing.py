"""What waits can be changed; what runs or has ended is what it is."""

from typing import Any

import pytest

from taskq import limits
from taskq.protocol.messages import Edited, Refusal
from tests.core.world import World, canonical


def test_a_delay_is_replaced_by_another() -> None:
    world = World().worker("w").submit("a", delay_ms=1_000).edit("a", delay_ms=5_000)
    assert world.last("producer", Edited).state == "scheduled"
    assert world.tick(4_999).holds("w") == []
    assert world.tick(1).holds("w") == ["a"]


def test_now_is_now() -> None:
    world = World().worker("w").submit("a", delay_ms=1_000_000).edit("a", delay_ms=0)
    assert world.last("producer", Edited).state == "ready"
    assert world.holds("w") == ["a"]


def test_what_is_ready_may_have_to_wait() -> None:
    world = World().submit("a").edit("a", at_ms=1_700_000_009_000).worker("w")
    assert world.holds("w") == []
    assert world.tick(8_999).holds("w") == []
    assert world.tick(1).holds("w") == ["a"]


def test_it_moves_to_another_queue_and_back() -> None:
    world = World().submit("a").edit("a", queue="mail").worker("w").worker("m", queues=["mail"])
    assert (world.holds("w"), world.holds("m")) == ([], ["a"])
    world = World().submit("a").edit("a", queue="mail").edit("a", queue="default").worker("w", slots=5)
    assert world.holds("w") == ["a"]
    assert world.broker.state.unfinished == {"default": 1}


def test_arguments_priority_and_expiry() -> None:
    world = World().submit("a", payload=b"old", expires_ms=1_000).tick(500)
    world.edit("a", payload=b"new", flags=1, priority=5, expires_ms=2_000)
    job = world.job("a")
    assert (job.payload, job.flags, job.terms.priority) == (b"new", 1, 5)
    assert world.tick(1_999).state("a") == "ready"
    assert world.tick(1).state("a") == "expired"


def test_an_expiry_is_taken_away() -> None:
    world = World().submit("a", expires_ms=1_000).edit("a", expires_ms=0).tick(100_000)
    assert world.state("a") == "ready"


def test_all_of_it_is_there_after_a_restart() -> None:
    for slack in (0, 1 << 30):
        world = World(slack=slack).submit("a", payload=b"old", expires_ms=1_000)
        world.edit("a", payload=b"new", queue="mail", delay_ms=6_000, expires_ms=0).submit("x").cancel("x")
        assert canonical(world.recovered()) == canonical(world.broker.state)
        world.restart().worker("m", queues=["mail"])
        assert world.holds("m") == []
        assert world.tick(6_000).holds("m") == ["a"]
        assert next(iter(world.peers["m"].holds.values())).payload == b"new"


def test_a_job_in_memory_stays_in_memory() -> None:
    world = World().submit("a", durability=2).edit("a", priority=1)
    assert world.restart().state("a") == "unknown"


def test_a_retry_can_be_brought_forward() -> None:
    world = World().submit("a", attempts=2, backoff_ms=100_000).deliver(to="w").nack(by="w")
    assert world.state("a") == "scheduled"
    assert world.edit("a", delay_ms=0).holds("w") == ["a"]


@pytest.mark.parametrize(
    ("state", "code"), [("running", "running"), ("ended", "finished"), ("unknown", "not_found")]
)
def test_what_does_not_wait_is_refused(state: str, code: str) -> None:
    world = World().worker("w").producer("producer")
    if state != "unknown":
        world.submit("a")
    if state == "ended":
        world.ack(by="w")
    assert world.edit("a", delay_ms=0).refusal()[0] == code


@pytest.mark.parametrize("changes", [{"payload": b"x" * (limits.PAYLOAD_BYTES_MAX + 1)}])
def test_what_no_job_may_be_no_edit_makes(changes: dict[str, Any]) -> None:
    world = World().submit("a").edit("a", **changes)
    assert world.refusal()[0] == "too_large"
    assert world.job("a").payload == b""


def test_a_full_queue_is_not_filled_from_the_side() -> None:
    world = World().bound("mail", max_jobs=1).submit("a", queue="mail").submit("b").edit("b", queue="mail")
    refusal = world.last("producer", Refusal)
    assert (refusal.code, refusal.text) == ("queue_full", "queue 'mail' is full: 1 of at most 1 jobs wait")
    assert world.edit("a", priority=3).job("a").terms.priority == 3
