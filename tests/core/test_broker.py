"""The whole of it: the same events give the same effects, and the broker holds its promises over a day."""

from itertools import pairwise
from random import Random

from taskq.core.broker import TIMERS_PER_TURN
from taskq.core.effects import Blocked, Heard, Lost, Received, Unblocked
from taskq.protocol.messages import Ping
from tests.core.world import World, canonical


def test_a_late_ack_changes_nothing() -> None:
    world = World().submit("a").watch("a").deliver(to="slow").lose("slow").deliver(to="other").ack(by="other")
    before = canonical(world.broker.state)
    world.connect("slow").ack("a", by="slow")
    assert canonical(world.broker.state) == before
    assert world.outcomes() == [("a", "succeeded")]


def test_who_is_not_there_cannot_disturb() -> None:
    world = World()
    for event in (Received(99, Ping(1)), Heard(99), Blocked(99), Unblocked(99), Lost(99)):
        assert world.turn(event).effects == []


def test_the_same_events_give_the_same_effects() -> None:
    """Chance comes in by its seed, time by its clock, and no order comes out of a set."""
    assert a_day(seed=7) == a_day(seed=7)
    assert a_day(seed=7) != a_day(seed=8)


def a_day(seed: int) -> tuple[list[tuple[str, str]], dict[int, bytes]]:
    rng, world = Random(seed), World(seed=seed, slack=10_000)
    for number in range(150):
        names = [f"{number}.{each}" for each in range(rng.randrange(1, 5))]
        world.submit(*names, attempts=3, task=rng.choice(("work", "other")), jitter=True)
        name = f"w{rng.randrange(4)}"
        if name not in world.peers:
            world.worker(name, slots=3, tasks=("work", "other"))
        elif rng.random() < 0.1:
            world.kill(name)
        elif world.holds(name):
            job = rng.choice(world.holds(name))
            world.ack(job, by=name) if rng.random() < 0.7 else world.nack(job, by=name)
        world.tick(rng.randrange(2_000))
        for peer in world.peers:
            world.beat(peer)
    return world.deliveries, world.journal


def test_a_day_leaves_nothing_behind() -> None:
    world = World(slack=50_000).worker("w", slots=50)
    for number in range(300):
        names = [f"{number}.{each}" for each in range(20)]
        world.submit(*names, keep_ms=60_000, timeout_ms=60_000, expires_ms=60_000).watch(*names)
        world.ack(by="w").tick(288_000, wall_ms=288_000).connect("w").connect("producer", "producer")
    world.tick(3_600_000)
    counts = world.broker.counts()
    assert {
        name: counts[name] for name in ("jobs", "outcomes", "outcome_bytes", "watched", "peers")
    } == dict.fromkeys(("jobs", "outcomes", "outcome_bytes", "watched", "peers"), 0)
    assert counts["timers"] <= 10
    assert world.broker.ledger.journal_bytes < 100_000


def test_a_million_timers_at_once_do_not_hold_up_a_turn() -> None:
    count = 2 * TIMERS_PER_TURN + 1
    world = World()
    for start in range(0, count, 1_000):
        names = [f"{n}" for n in range(start, min(start + 1_000, count))]
        world.submit(*names, delay_ms=1_000)
    ready = []
    world.tick(1_000)
    for _ in range(4):
        ready.append(sum(len(lane) for lane in world.broker.queues.lanes.values()))
        world.turn()
    assert max(more - before for before, more in pairwise([0, *ready])) <= TIMERS_PER_TURN
    assert ready[2:] == [count, count]
    assert world.broker.next_deadline(world.now) != world.now.boot_ms


def test_after_a_restart_everything_goes_on() -> None:
    world = (
        World().worker("w", slots=2).submit("a", "b", "c", "d", attempts=2).ack("a", by="w").nack("b", by="w")
    )
    world.restart().connect("w").connect("producer", "producer").watch("a", "b", "c", "d")
    while any(world.state(name) in ("ready", "running", "scheduled") for name in "abcd"):
        world.ack(by="w") if world.holds("w") else world.tick(500)
    assert sorted(world.outcomes()) == [(name, "succeeded") for name in "abcd"]
    assert [job for job, _ in world.deliveries].count("b") == 2
    assert len(world.deliveries) == 5
