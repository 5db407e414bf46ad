"""Every job ends once, in one way, and those who wait hear of it."""

import pytest

from taskq.protocol.messages import Ack, Success
from tests.core.world import World, id_of


def test_one_report_of_many_ends_them_all() -> None:
    world = World().submit("a", "b", "c").watch("a", "b", "c").worker("w", slots=3).ack(by="w")
    assert world.outcomes() == [("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]
    assert world.count("succeeded_total") == 3


def test_a_job_named_twice_in_one_report_ends_once() -> None:
    world = World().submit("a").watch("a").deliver(to="w")
    twin = Success(id_of("a"), world.leases["a"][0])
    world.say("w", Ack(1, [twin, twin]))
    assert world.odd("w") == ["duplicate"]
    assert world.outcomes() == [("a", "succeeded")]


@pytest.mark.parametrize("state", ["scheduled", "ready", "running"])
def test_cancel_means_that_it_will_not_complete(state: str) -> None:
    world = World().submit("a", delay_ms=10 if state == "scheduled" else 0).watch("a")
    if state == "running":
        world.deliver(to="w")
    assert world.state("a") == state
    world.cancel("a", reason="no longer wanted")
    assert world.receipts() == [("a", "cancelled")]
    (outcome,) = world.outcome_list()
    assert (outcome.state, outcome.reason) == ("cancelled", "no longer wanted")
    assert world.stops("w") == ["a"] if state == "running" else True
    world.tick(10).worker("x", slots=9)
    assert world.holds("x") == []


def test_a_cancel_of_many_says_what_became_of_each() -> None:
    world = World().worker("w").submit("a").ack(by="w").submit("b").submit("c").cancel("c")
    world.cancel("a", "b", "c", "never was")
    assert world.receipts() == [
        ("a", "finished"),
        ("b", "cancelled"),
        ("c", "cancelled"),
        ("never was", "unknown"),
    ]
    assert world.count("cancelled_total") == 2


def test_a_worker_may_end_its_attempt_as_cancelled() -> None:
    world = World().submit("a").deliver(to="w").nack(by="w", ending="cancelled")
    assert world.state("a") == "cancelled"


@pytest.mark.parametrize("delay_ms", [0, 10_000])
def test_a_job_expires_while_it_waits(delay_ms: int) -> None:
    world = World().submit("a", expires_ms=1_000, delay_ms=delay_ms).watch("a").tick(999)
    assert world.outcomes() == []
    assert world.tick(1).outcomes() == [("a", "expired")]
    assert world.tick(10_000).worker("w").holds("w") == []


def test_a_running_job_does_not_expire() -> None:
    world = World().submit("a", expires_ms=1_000).deliver(to="w").tick(2_000)
    assert world.state("a") == "running"
    assert world.ack(by="w").state("a") == "succeeded"


def test_but_its_next_attempt_is_not_wanted_any_more() -> None:
    world = (
        World().submit("a", expires_ms=1_000, attempts=5).watch("a").deliver(to="w").tick(2_000).nack(by="w")
    )
    assert world.outcomes() == [("a", "expired")]


def test_a_job_expires_in_its_backoff() -> None:
    world = World().submit("a", expires_ms=1_000, attempts=5, backoff_ms=400).deliver(to="w").nack(by="w")
    assert world.tick(400).nack(by="w").tick(600).state("a") == "expired"


def test_expiry_goes_on_through_a_restart() -> None:
    world = World().submit("a", expires_ms=1_000).tick(400).restart().tick(599)
    assert world.state("a") == "ready"
    assert world.tick(1).state("a") == "expired"


def test_a_dead_job_keeps_what_it_needs_to_be_run_again() -> None:
    world = World().submit("a", payload=b"args", ext={"trace": b"x"}).deliver(to="w").nack(by="w").restart()
    item = world.broker.state.outcomes[id_of("a")].item
    assert (item.payload, item.ext) == (b"args", {"trace": b"x"})  # type: ignore[union-attr] # a dead one has


@pytest.mark.parametrize("ending", ["discarded", "rejected"])
def test_what_a_task_gives_up_is_dead_at_once(ending: str) -> None:
    world = World().submit("a", attempts=9).watch("a").deliver(to="w").nack(by="w", ending=ending)
    assert [(outcome.state, outcome.ending) for outcome in world.outcome_list()] == [("dead", ending)]


def test_the_counts_add_up() -> None:
    world = World().worker("w", slots=9).submit("a", "b", "c", "d").submit("e", expires_ms=1, queue="nobody")
    world.ack("a", by="w").nack("b", by="w").cancel("c").tick(1)
    ended = ("succeeded_total", "dead_total", "cancelled_total", "expired_total")
    assert [world.count(name) for name in ended] == [1, 1, 1, 1]
    assert world.count("submitted_total") == 5
    assert world.count("jobs") == 1
