"""Outcomes are kept as long as asked, within the budget; the oldest go first."""

import pytest

from taskq import limits
from taskq.core import retention
from taskq.core.retention import SWEEP_MS
from taskq.protocol.messages import Fault
from tests.core.world import World


def test_an_outcome_is_kept_as_long_as_asked() -> None:
    world = World().submit("a", keep_ms=5_000).submit("b", keep_ms=60_000).worker("w", slots=2).ack(by="w")
    world.tick(4_999)
    assert (world.state("a"), world.state("b")) == ("succeeded", "succeeded")
    world.tick(SWEEP_MS + 1)
    assert (world.state("a"), world.state("b")) == ("unknown", "succeeded")


def test_after_a_restart_too() -> None:
    world = World().submit("a", keep_ms=5_000).deliver(to="w").ack(by="w").tick(4_000).restart()
    assert world.state("a") == "succeeded"
    assert world.tick(SWEEP_MS + 1).state("a") == "unknown"


def test_what_was_forgotten_stays_forgotten() -> None:
    world = World().submit("a", keep_ms=1_000).deliver(to="w").ack(by="w").tick(3_000).restart()
    assert world.state("a") == "unknown"


@pytest.mark.parametrize("keep_ms", [0, 1_000])
def test_dead_jobs_are_kept_for_people_whatever_was_asked(keep_ms: int) -> None:
    world = (
        World().submit("a", keep_ms=keep_ms).deliver(to="w").nack(by="w").tick(limits.KEEP_DEAD_MS - 2_000)
    )
    assert world.state("a") == "dead"
    assert world.tick(2_000 + SWEEP_MS).tick(SWEEP_MS).state("a") == "unknown"


def test_over_the_budget_the_oldest_go_first() -> None:
    size = 1_000 + limits.OUTCOME_OVERHEAD_BYTES
    world = World(outcome_bytes=3 * size).worker("w")
    for number, name in enumerate("abcde"):
        world.submit(name, keep_ms=60_000 + 1_000 * (number % 2)).ack(by="w", result=b"x" * 1_000).tick(1)
    assert [world.state(name) for name in "abcde"] == ["unknown"] * 2 + ["succeeded"] * 3
    assert world.broker.state.outcome_bytes <= 3 * size


def test_tracebacks_count_against_the_budget() -> None:
    """Dead jobs are kept for a week, and theirs are what they weigh."""
    fault = Fault("E", "m", "t" * 10_000)
    world = World(dead_bytes=50_000).worker("w")
    for number in range(20):
        world.submit(f"{number}").nack(by="w", fault=fault)
    assert world.count("outcomes") <= 5


def test_of_too_many_dead_jobs_the_oldest_go() -> None:
    world = World(dead_jobs=3).worker("w")
    for name in "abcde":
        world.submit(name).nack(by="w").tick(1)
    assert [world.state(name) for name in "abcde"] == ["unknown"] * 2 + ["dead"] * 3
    assert world.restart().state("c") == "dead"


def test_results_do_not_push_dead_jobs_out() -> None:
    world = World(outcome_bytes=0).worker("w").submit("a").nack(by="w").tick(1)
    assert world.submit("b").ack(by="w").state("b") == "unknown"
    assert world.state("a") == "dead"


def test_one_that_died_again_counts_from_its_last_death() -> None:
    world = World(dead_jobs=2).worker("w")
    world.submit("a").nack(by="w").tick(1).submit("b").nack(by="w").tick(1)
    world.bulk("retry", ids=["a"]).tick(1).nack("a", by="w").tick(1).submit("c").nack(by="w").tick(1)
    assert [world.state(name) for name in "abc"] == ["dead", "unknown", "dead"]


def test_a_result_dropped_for_the_budget_was_pushed_to_those_who_wait() -> None:
    world = World(outcome_bytes=0).submit("a").watch("a").deliver(to="w").ack(by="w", result=b"42")
    assert [outcome.result for outcome in world.outcome_list()] == [b"42"]
    assert world.count("outcomes") == 0


def test_one_turn_forgets_no_more_than_its_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SLICE", 3)
    world = (
        World().submit(*(f"{number}" for number in range(10)), keep_ms=500).worker("w", slots=10).ack(by="w")
    )
    world.tick(2_000)
    left = [world.count("outcomes")]
    while world.broker.next_deadline(world.now) == world.now.boot_ms:
        left.append(world.turn().count("outcomes"))
    assert left == [7, 4, 1, 0]


def test_jobs_kept_for_different_times_leave_nothing_behind() -> None:
    world = World().worker("w")
    for number in range(100):
        world.submit(f"{number}", keep_ms=1_000 + number).ack(by="w")
    world.tick(5_000)
    assert world.count("outcomes") == world.count("outcome_bytes") == 0
    assert world.broker.state.live_bytes == 0


def test_sessions_are_forgotten_a_day_after_their_last_word() -> None:
    world = World().submit("a", by="idle").submit("b", by="busy")
    for hour in range(30):
        world.tick(3_600_000).connect("busy", "producer").submit(f"{hour}", by="busy")
    assert world.count("sessions") == 1
    assert world.restart().count("sessions") == 1


def test_too_many_sessions_cost_those_seen_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 3)
    world = World()
    for name in ("old", "p1", "p2"):
        world.submit(f"a{name}", by=name)
    world.submit("again", by="old").submit("ap3", by="p3").tick(2_000)
    assert world.submit("x", by="old", seq=0, keep_ms=0).verdicts("old") == [], "its floor is known"
    assert world.count("sessions") == 3
    assert world.count("jobs") == 5
