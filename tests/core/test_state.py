"""State is the fold of its records: nothing else is remembered, and nothing is counted twice."""

import pytest

from taskq import limits
from taskq.core.state import State
from tests.core.world import World, canonical, id_of, job_terms


def a_busy_world(**fields: int) -> World:
    """A little of everything."""
    world = (
        World(**fields)
        .worker("w", slots=20)
        .worker("x", slots=20)
        .submit("old", keep_ms=0)
        .ack("old", by="w")
    )
    world.submit("done", payload=b"args", ext={"key": b"value"}).ack(by="x", result=b"result")
    world.submit("dead", payload=b"args").nack("dead", by="w", ending="discarded")
    world.submit("retry", attempts=5).nack("retry", by="x").submit("gone").cancel("gone", reason="why")
    world.submit("late", expires_ms=1, queue="nobody").submit("soon", delay_ms=2).tick(2)
    world.submit("later", delay_ms=60_000).submit("calendar", at_ms=world.now.wall_ms + 99_000)
    world.submit("runs", timeout_ms=5_000).submit("lost", "lost too").lose("x").connect("x")
    return world.submit("waits", "waits too", queue="nobody", by="q").submit("weak", durability=1)


def test_what_was_lived_is_what_is_read_back() -> None:
    world = a_busy_world()
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_whatever_the_compaction() -> None:
    world = a_busy_world(slack=0)
    assert min(world.journal) > 1
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_reading_it_twice_gives_the_same() -> None:
    world = a_busy_world()
    assert canonical(world.restart().recovered()) == canonical(world.restart().recovered())


def test_after_everything_ended_and_was_forgotten_nothing_is_left() -> None:
    world = World().worker("w", slots=9).submit("a", "b", "c", keep_ms=500, payload=b"x", ext={"k": b"v"})
    world.ack("a", by="w").nack("b", by="w").cancel("c").tick(limits.KEEP_DEAD_MS).turn()
    for _ in range(5):
        world.tick(2_000)
    state = world.broker.state
    assert (state.jobs, state.outcomes, state.unfinished, state.dead) == ({}, {}, {}, {})
    assert (state.live_bytes, state.outcome_bytes) == (0, 0)


def test_names_of_queues_do_not_pile_up() -> None:
    world = World().worker("w")
    for number in range(50):
        world.submit(f"{number}", queue=f"queue of user {number}").cancel(f"{number}")
    assert world.broker.state.unfinished == {}
    assert [queue.name for queue in world.status().queues] == ["default"]


def test_equal_terms_are_one_object() -> None:
    world = World().submit("a", timeout_ms=7).submit("b", timeout_ms=7).submit("c", timeout_ms=8)
    assert world.job("a").terms is world.job("b").terms
    assert world.job("a").terms is not world.job("c").terms


def test_the_table_of_terms_starts_again_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TERMS_CACHE_MAX", 2)
    state = State()
    shared = [state.share(job_terms(timeout_ms=number)) for number in (1, 2, 1, 3, 1)]
    assert shared[0] is shared[2]
    assert [terms.timeout_ms for terms in shared] == [1, 2, 1, 3, 1]


def test_jobs_in_memory_only_leave_no_trace_in_the_journal() -> None:
    world = World().worker("w", slots=9).turn()
    before = dict(world.journal)
    world.submit("a", "b", durability=2).ack("a", by="w")
    assert world.journal == before
    assert (world.state("a"), world.state("b")) == ("succeeded", "running")
    assert id_of("b") not in world.restart().broker.state.jobs
