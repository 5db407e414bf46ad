"""Fairness inside a queue: keys take turns by weight, priority is a head start, workers choose an order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq import limits
from taskq.core.effects import Received
from taskq.protocol.messages import Ack, Steer, Steering, Success
from tests.core.world import World

MINUTE = limits.PRIORITY_STEP_MS


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def order(world: World) -> list[str]:
    return [job for job, _ in world.deliveries]


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_with_many_jobs_does_not_hold_up_one_with_few() -> None:
    world = World().submit(*names("big", 500), key="big")
    for key in range(10):
        world.submit(*names(f"{key}.", 10), key=f"small{key}")
    world.worker("w", slots=600)
    # Eleven keys, one job each in turn: after eleven rounds the ten are done.
    assert all(name.startswith("big") for name in order(world)[11 * 11 :])
    for at in range(0, 110, 11):
        assert len({world.job(name).key for name in order(world)[at : at + 11]}) == 11


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_over_any_window_keys_differ_by_one(data: st.DataObject) -> None:
    """As long as all of them have jobs, and however they came and the workers' slots free up."""
    keys, each = data.draw(st.integers(2, 5)), 12
    world = World()
    waves = data.draw(st.permutations([(key, half) for key in range(keys) for half in (0, 1)]))
    for key, half in waves:
        world.submit(*names(f"{key}.{half}.", each // 2), key=f"k{key}")
    world.worker("w", slots=data.draw(st.integers(1, 7)))
    while len(world.deliveries) < keys * each:
        held = world.holds("w")
        world.ack(*data.draw(st.lists(st.sampled_from(held), min_size=1, unique=True)), by="w")
    # Each once in any window of as many: so over windows of any length they differ by one at most.
    served = [name.split(".")[0] for name in order(world)]
    for start in range(keys * each - keys + 1):
        assert len(set(served[start : start + keys])) == keys


def test_jobs_of_one_key_go_in_order_also_over_tasks() -> None:
    world = World().submit("a", key="k").submit("b", key="k", task="other").submit("c", key="k")
    assert order(world.worker("w", slots=9, tasks=("work", "other"))) == ["a", "b", "c"]


def test_jobs_without_a_key_are_as_one_key() -> None:
    world = World().submit("a", "b", "c").submit("k1", "k2", key="k").worker("w", slots=9)
    assert order(world) == ["a", "k1", "b", "k2", "c"]


def test_weights_of_keys() -> None:
    world = World().steer("queue", "default", "weight", key="vip", count=3)
    world.submit(*names("v", 6), key="vip").submit(*names("n", 4), key="normal").worker("w", slots=20)
    assert order(world) == ["v0", "v1", "v2", "n0", "v3", "v4", "v5", "n1", "n2", "n3"]


def test_a_delayed_retry_does_not_hold_up_its_key() -> None:
    world = World().worker("w", slots=1).submit("a", "b", key="k", attempts=3).nack("a", by="w")
    assert world.holds("w") == ["b"]


# -- priority -------------------------------------------------------------------------------------


def test_larger_goes_first() -> None:
    world = World().submit("low").submit("high", priority=10).submit("middle", priority=5)
    assert order(world.worker("w", slots=9)) == ["high", "middle", "low"]


@pytest.mark.parametrize(("waited_ms", "first"), [(3 * MINUTE - 1, "high"), (3 * MINUTE + 1, "low")])
def test_a_point_is_worth_a_minute_of_waiting(waited_ms: int, first: str) -> None:
    world = World().submit("low").tick(waited_ms).submit("high", priority=3)
    assert order(world.worker("w", slots=1)) == [first]


def test_waiting_counts_over_a_restart() -> None:
    world = World().submit("low").tick(4 * MINUTE).submit("high", priority=3).restart()
    assert order(world.worker("w", slots=1)) == ["low"]


# -- the queues of a worker -----------------------------------------------------------------------


def test_queues_have_turns_of_their_weights() -> None:
    world = World().submit(*names("h", 6), queue="high").submit(*names("l", 3), queue="low")
    world.worker("w", slots=20, queues=("high", "low"), weights=[3, 1])
    assert order(world) == ["h0", "h1", "h2", "l0", "h3", "h4", "h5", "l1", "l2"]


def test_in_strict_order_a_later_queue_waits() -> None:
    world = World().submit("l1", "l2", queue="low").submit("h1", "h2", queue="high")
    world.worker("w", slots=9, queues=("high", "low"), is_strict=True)
    assert order(world) == ["h1", "h2", "l1", "l2"]


# -- what a job asks of its worker ------------------------------------------------------------------


def test_only_workers_with_the_labels() -> None:
    world = World().submit("a", labels=(("region", "eu"),)).worker("us", labels={"region": "us"})
    assert world.worker("bare").deliveries == []
    assert world.worker("eu", labels={"region": "eu", "x": "y"}).holds("eu") == ["a"]


def test_resources_are_used_and_given_back() -> None:
    world = World().submit(*"abc", resources=(("gpu", 1),)).submit("d")
    world.worker("w", slots=9, resources={"gpu": 2})
    assert sorted(world.holds("w")) == ["a", "b", "d"]
    assert sorted(world.ack("a", by="w").holds("w")) == ["b", "c", "d"]


def test_who_has_the_resources_is_found_behind_those_who_have_not() -> None:
    world = World().worker("x", slots=9, resources={"gpu": 1}).worker("y", slots=9, resources={"gpu": 3})
    world.submit(*"abcd", resources=(("gpu", 1),))
    assert len(world.holds("x")) == 1
    assert len(world.holds("y")) == 3


def test_resources_are_counted_anew_after_a_restart() -> None:
    world = World().submit(*"ab", resources=(("gpu", 1),)).worker("w", slots=9, resources={"gpu": 1})
    world.restart().connect("w")
    assert world.holds("w") == ["a"]
    assert world.ack("a", by="w").holds("w") == ["b"]


def test_a_key_keeps_its_order_through_compaction_and_a_restart() -> None:
    world = World(slack=0).submit("a", key="k")
    for number in range(300):
        world.submit(f"t{number}", task="other", keep_ms=0, payload=b"y" * 50).cancel(f"t{number}")
        if number == 10:
            world.submit("b", key="k")
    world.submit("c", key="k").restart().worker("w")
    assert [world.ack(by="w") and job for job in "abc"] and world.deliveries == [
        ("a", "w"),
        ("b", "w"),
        ("c", "w"),
    ]


def test_who_waited_before_a_restart_is_before_who_came_while_workers_were_expected_back() -> None:
    world = World().worker("gone").submit("running").submit("a", key="k").restart()
    world.submit("b", key="k").tick(3_000).worker("w")
    world.ack(by="w").ack(by="w")
    assert [job for job, worker in world.deliveries if worker == "w"] == ["running", "a", "b"]


def test_the_rates_of_keys_that_are_gone_are_forgotten() -> None:
    world = World().steer("queue", "default", "rate", per_key=True, count=1_000, period_ms=1_000)
    world.worker("w")
    for number in range(25_000):
        world.submit(f"{number}", key=f"{number}", keep_ms=0).ack(by="w")
        if not number % 1_000:
            world.tick(10).beat("w")
    assert len(world.broker.registry.gates) < 15_000


def test_the_room_of_a_task_is_not_kept_for_a_key_that_was_paused_meanwhile() -> None:
    world = World().steer("task", "work", "concurrency", count=1).worker("w", slots=5)
    world.submit("running").submit("a", key="A").submit("b", key="B")
    world.steer("queue", "default", "pause", key="A").ack("running", by="w")
    assert world.holds("w") == ["b"]
    world.ack("b", by="w").steer("queue", "default", "pause", key="A", is_set=False)
    assert world.holds("w") == ["a"]


def test_the_room_of_a_task_is_not_kept_for_a_key_that_is_at_its_own_limit() -> None:
    world = World().steer("task", "work", "concurrency", count=1)
    world.steer("queue", "default", "concurrency", per_key=True, count=1)
    world.worker("w", slots=5, tasks=("work", "other"))
    world.submit("running").submit("a", key="A").submit("b", key="B").submit("other", key="A", task="other")
    world.ack("running", by="w")
    assert world.holds("w") == ["other", "b"]
    world.ack(by="w")
    assert world.holds("w") == ["a"]


def test_the_room_of_a_task_goes_on_when_a_key_comes_to_its_limit_in_the_same_turn() -> None:
    world = World().steer("task", "work", "concurrency", count=1).steer("task", "other", "pause")
    world.steer("queue", "default", "concurrency", per_key=True, count=1)
    world.worker("w", slots=5, tasks=("work", "other"))
    world.submit("o", key="A", task="other").submit("running").submit("a", key="A").submit("b", key="B")
    ack = Ack(1, [Success(held.id, held.lease, b"") for held in world.peers["w"].holds.values()])
    unpause = Steer(1, [Steering("task", "other", "pause", is_set=False)], "")
    world.connect("ops", "operator")
    world.peers["w"].holds.clear()
    world.turn(Received(world.peers["ops"].number, unpause), Received(world.peers["w"].number, ack))
    assert sorted(world.holds("w")) == ["b", "o"]


def test_a_key_keeps_its_order_while_workers_are_expected_back() -> None:
    """What comes meanwhile does not run before what waits for the word of a worker."""
    world = World().steer("queue", "default", "concurrency", per_key=True, count=1)
    world.worker("gone").submit("running").submit("a", key="k").restart()
    world.worker("w", slots=9).submit("b", key="k").submit("c")
    assert world.holds("w") == ["c"]
    world.live(3_000)
    assert world.holds("w") == ["c", "running", "a"]
    assert world.ack("a", by="w").holds("w") == ["c", "running", "b"]
