"""Gates: never one too many, never one too late, and nothing forgotten beside the line."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.lines.gates import Gate, Spot
from taskq.core.timers import Timers
from taskq.protocol.messages import Limit, Steer, Steering
from tests.core.world import World


def a_gate() -> Gate:
    return Gate(Spot("task", "t"), 1, Timers())


# -- a bucket of tokens ---------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 50),
    st.integers(1, 5_000),
    st.integers(0, 20),
    st.lists(st.integers(0, 400), min_size=1, max_size=200),
)
def test_in_no_window_more_start_than_the_burst_and_the_rate_allow(
    count: int, period_ms: int, burst: int, waits: list[int]
) -> None:
    gate, now_ms, starts = a_gate(), 1_000, list[int]()
    gate.pace(count, period_ms, burst, now_ms)
    for wait in waits:
        now_ms += wait
        while gate.is_open(now_ms):
            gate.take()
            starts.append(now_ms)
    bound = burst or count
    for at, first in enumerate(starts):
        for number, last in enumerate(starts[at:], 1):
            assert number * period_ms <= bound * period_ms + (last - first) * count


@given(st.integers(1, 1_000), st.integers(1, 10_000))
def test_it_says_to_the_millisecond_when_the_next_may_start(count: int, period_ms: int) -> None:
    gate = a_gate()
    gate.pace(count, period_ms, 1, 0)
    gate.take()
    next_ms = gate.next_ms(0)
    assert gate.is_open(next_ms)
    gate.take()
    assert next_ms == 0 or not gate.is_open(next_ms - 1)


# -- limits ---------------------------------------------------------------------------------------


def concurrency(count: int, *, scope: Any = "task", name: str = "work", per_key: bool = False) -> Limit:
    return Limit(scope, name, "concurrency", count, per_key)


def rate(count: int, period_ms: int, *, per_key: bool = False, burst: int = 0) -> Limit:
    return Limit("task", "work", "rate", count, per_key, period_ms, burst)


def test_no_more_run_than_the_limit_over_all_workers() -> None:
    world = (
        World()
        .worker("v", slots=9, declared=[concurrency(3)])
        .worker("w", slots=9, declared=[concurrency(3)])
    )
    world.submit(*"abcdef")
    assert len(world.holds("v") + world.holds("w")) == 3
    world.ack("a", by=world.deliveries[0][1])
    assert len(world.deliveries) == 4


def test_what_is_over_its_limit_holds_up_nothing_else() -> None:
    world = World().worker("w", slots=2, tasks=("work", "other"), declared=[concurrency(1)])
    world.submit(*"abc").submit("d", task="other")
    assert world.holds("w") == ["a", "d"]


def test_each_key_has_a_limit_of_its_own() -> None:
    world = World().worker("w", slots=9, declared=[concurrency(1, per_key=True)])
    world.submit("a1", "a2", key="a").submit("b1", "b2", key="b")
    assert world.holds("w") == ["a1", "b1"]
    world.ack("a1", by="w")
    assert world.holds("w") == ["b1", "a2"]


def test_limits_are_composed() -> None:
    world = World().worker("w", slots=9, declared=[concurrency(2), concurrency(1, per_key=True)])
    for key in "abc":
        world.submit(f"{key}1", f"{key}2", key=key)
    assert world.holds("w") == ["a1", "b1"]
    world.ack("b1", by="w")
    assert world.holds("w") == ["a1", "c1"]
    world.ack("a1", "c1", by="w")
    assert len(world.holds("w")) == 2


def test_a_rate_lets_go_when_it_is_time_and_nothing_polls() -> None:
    world = World().worker("w", slots=9, declared=[rate(2, 1_000)]).submit(*"abcde")
    assert world.holds("w") == ["a", "b"]
    deadline_ms = world.broker.next_deadline(world.now)
    assert deadline_ms == world.now.boot_ms + 500
    assert world.tick(499).holds("w") == ["a", "b"]
    assert world.tick(1).holds("w") == ["a", "b", "c"]
    assert world.tick(2_000).holds("w") == ["a", "b", "c", "d", "e"]


def test_a_limit_can_be_changed_while_jobs_wait_at_it() -> None:
    world = World().worker("w", slots=9, declared=[concurrency(1)]).submit(*"abcd")
    assert world.holds("w") == ["a"]
    assert world.steer("task", "work", "concurrency", count=3).holds("w") == ["a", "b", "c"]
    world.steer("task", "work", "concurrency", count=1).ack("a", by="w").ack("b", by="w")
    assert world.holds("w") == ["c"]
    assert world.steer("task", "work", "concurrency", is_set=False).ack("c", by="w").holds("w") == ["d"]


def test_what_ran_when_the_limit_came_counts() -> None:
    world = World().worker("w", slots=9).submit(*"ab")
    assert world.holds("w") == ["a", "b"]
    world.steer("queue", "default", "concurrency", count=2).submit(*"cd")
    assert world.holds("w") == ["a", "b"]
    assert world.ack("a", by="w").holds("w") == ["b", "c"]


def test_limits_hold_over_a_restart() -> None:
    world = World().worker("w", slots=9).steer("task", "work", "concurrency", count=2).submit(*"abcd")
    world.restart().connect("w")
    assert world.holds("w") == ["a", "b"]
    assert world.ack("a", by="w").holds("w") == ["b", "c"]


def test_a_dead_worker_gives_its_room_back() -> None:
    world = World().worker("w", slots=9, declared=[concurrency(1)]).submit(*"ab")
    world.worker("x", slots=9, declared=[concurrency(1)]).lose("w")
    assert len(world.holds("x")) == 1


@pytest.mark.parametrize("leave", ["cancel", "expire"])
def test_who_leaves_while_it_waits_takes_no_room_with_it(leave: str) -> None:
    world = World().worker("w", slots=9, declared=[concurrency(1)])
    world.submit("a", key="a").submit("b", key="b", expires_ms=5_000).submit("c", key="c")
    world.cancel("b") if leave == "cancel" else world.tick(5_000)
    assert world.ack("a", by="w").holds("w") == ["c"]


def test_room_that_one_cannot_use_is_passed_on() -> None:
    limits = [concurrency(2), concurrency(1, per_key=True)]
    world = World().worker("w", slots=9, declared=limits).submit("f1", "f2")
    world.submit("a1", key="a", priority=1).submit("a2", key="a").submit("b", key="b")
    assert world.ack("f1", by="w").holds("w") == ["f2", "a1"]
    assert world.ack("f2", by="w").holds("w") == ["a1", "b"]  # it was the turn of a2, whose key has its one


def test_larger_goes_first_behind_a_limit_too() -> None:
    world = World().steer("task", "work", "concurrency", count=1).worker("w", slots=5)
    world.submit("r").submit(*"abc").submit(*"xyz", priority=10)
    order: list[str] = []
    for _ in range(7):
        order += world.holds("w")
        world.ack(by="w")
    assert "".join(order) == "rxyzabc"


def test_keys_take_turns_when_a_rate_has_saved_up() -> None:
    world = World().steer("task", "work", "rate", count=10, period_ms=1_000).worker("w", slots=10)
    world.submit(*[f"d{number}" for number in range(10)])
    for key in "abc":
        world.submit(*[f"{key}{number}" for number in range(20)], key=key)
    world.tick(100).tick(900)
    before = len(world.deliveries)
    world.ack(by="w")
    assert {name[0] for name, _ in world.deliveries[before : before + 3]} == set("abc")


def test_what_is_cancelled_before_a_gate_does_not_pile_up_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskq.core.lines.queues.LANES_BEFORE_SWEEP", 100)
    world = World().steer("task", "work", "pause").worker("w", slots=5)
    world.broker.queues._sweep_at = 100
    for number in range(1_000):
        world.submit(f"{number}", key=f"k{number}", keep_ms=0).cancel(f"{number}")
    (gate,) = world.broker.registry.gates.values()
    assert gate.waiting <= 300


def test_many_that_wait_for_a_resource_are_not_all_woken_for_one() -> None:
    world = World().worker("w", slots=9, resources={"gpu": 1})
    for number in range(50):
        world.submit(f"{number}", key=f"k{number}", resources=(("gpu", 1),))
    assert len(world.deliveries) == 1
    world.ack(by="w")
    (pool,) = world.broker.roster._pools.values()
    assert sum(map(len, pool._starved.values())) == 48
    while world.holds("w"):
        world.ack(by="w")
    assert len(world.deliveries) == 50


def test_a_limit_of_nought_holds_all() -> None:
    world = World().worker("w", slots=9, declared=[concurrency(0)]).submit(*"ab")
    assert world.holds("w") == []
    assert world.steer("task", "work", "concurrency", count=1).holds("w") == ["a"]


# -- pauses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "name"), [("queue", "default"), ("task", "work")])
@pytest.mark.parametrize("key", ["", "k"])
def test_what_is_paused_does_not_start_until_it_is_resumed(scope: str, name: str, key: str) -> None:
    world = World().worker("w", slots=9).submit("a", key="k").steer(scope, name, "pause", key=key)
    world.submit("b", key="k")
    assert world.holds("w") == ["a"]
    world.restart().connect("w")
    assert world.holds("w") == ["a"]
    assert world.steer(scope, name, "pause", key=key, is_set=False).holds("w") == ["a", "b"]


def test_a_paused_key_does_not_hold_up_the_others() -> None:
    world = World().steer("queue", "default", "pause", key="k").submit("a", key="k").submit("b", key="l")
    assert world.worker("w", slots=9).holds("w") == ["b"]


def test_a_pause_can_end_by_itself_also_after_a_restart() -> None:
    world = World().worker("w", slots=9).steer("queue", "default", "pause", for_ms=5_000).submit("a")
    assert world.tick(4_999).holds("w") == []
    world.restart().connect("w")
    assert world.tick(1).holds("w") == ["a"]
    assert world.broker.state.settings == {}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_is_parked_for_ever(data: st.DataObject) -> None:
    """Any limits, any keys, any order of ends: when all is done, all has run, and no limit was passed."""
    task_limit, key_limit = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 2))
    world = World().worker(
        "w",
        slots=data.draw(st.integers(1, 6)),
        tasks=("work", "free"),
        declared=[concurrency(task_limit), concurrency(key_limit, per_key=True)],
    )
    for number in range(data.draw(st.integers(1, 30))):
        key = data.draw(st.sampled_from(["", "a", "b", "c"]))
        task = data.draw(st.sampled_from(["work", "work", "free"]))
        world.submit(f"j{number}", key=key, task=task, priority=data.draw(st.integers(0, 2)))
    while world.holds("w"):
        held = [world.job(name) for name in world.holds("w")]
        assert sum(job.terms.task == "work" for job in held) <= task_limit
        keys = Counter(job.key for job in held if job.terms.task == "work" and job.key)
        assert all(count <= key_limit for count in keys.values())
        world.ack(data.draw(st.sampled_from(world.holds("w"))), by="w")
    assert world.count("jobs") == 0
    assert all(gate.running == 0 and not gate.waiting for gate in world.broker.registry.gates.values())


def test_what_is_decided_together_holds_for_all_queues() -> None:
    """To look for one queue's gates makes gates of its tasks, which other queues have to hear of, too."""
    world = World().worker("w", slots=9, queues=("default", "slow"))
    world.submit("a", queue="slow").submit("b")
    world.ack("a", "b", by="w")
    items = [Steering("queue", "default", "pause"), Steering("task", "work", "pause")]
    world.connect("ops", "operator").say("ops", Steer(1, items))
    world.submit("c", queue="slow").submit("d")
    assert world.holds("w") == []
    back = [Steering(item.scope, item.name, "pause", is_set=False) for item in items]
    world.say("ops", Steer(2, back))
    assert sorted(world.holds("w")) == ["c", "d"]
