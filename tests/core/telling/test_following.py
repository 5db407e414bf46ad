"""Streams, events and logs in the broker: numbered, bounded, told to followers, held back for the slow."""

from collections.abc import Iterable

import pytest
from msgspec import msgpack

from taskq import limits
from taskq.core.telling import feed as feeds
from taskq.core.telling.feed import FeedBounds
from taskq.protocol.messages import (
    Chunk,
    EventItem,
    Fed,
    FeedKind,
    Follow,
    Items,
    Logs,
    Mark,
    Progress,
    ProgressItem,
    Refusal,
    Taken,
    Told,
    Took,
    Unfollow,
)
from tests.core.world import World, id_of


def chunk(first: int, count: int = 1) -> Chunk:
    return Chunk(first, count, msgpack.encode([b"%d" % (first + at) for at in range(count)]))


def running(retry: int = 1) -> World:
    return World().submit("a").deliver(to="w")


def lease(world: World) -> int:
    return world.job("a").lease


def yields(world: World, *chunks: Chunk, by: int = 0) -> World:
    return world.say("w", Items([Told(id_of("a"), by or lease(world), list(chunks))]))


def follows(world: World, kind: FeedKind = "items", by: str = "p", request: int = 1, **fields: int) -> World:
    world.producer(by)
    return world.say(by, Follow(request, id_of("a"), kind, **fields))  # type: ignore[arg-type]  # numbers only


def fed(world: World, name: str = "p") -> list[tuple[int, int]]:
    """The entries that were told: their numbers."""
    return [(each.first, each.count) for one in world.heard(name, Fed) for each in one.chunks]


def took(world: World) -> list[int]:
    return [mark.number for each in world.heard("w", Took) for mark in each.items]


def kinds(told: Iterable[Fed]) -> list[tuple[str, str]]:
    events = [
        event
        for one in told
        for each in one.chunks
        for event in msgpack.decode(each.data, type=list[EventItem])
    ]
    return [(event.kind, event.state) for event in events]


def test_who_comes_late_gets_what_there_was_and_then_what_comes() -> None:
    world = follows(yields(running(), chunk(1, 3), chunk(4)))
    assert fed(world) == [(1, 3), (4, 1)]
    assert fed(yields(world, chunk(5))) == [(5, 1)]
    assert took(world) == [5, 6]


def test_the_end_comes_after_the_last_item_and_tells_nothing_before_the_commit() -> None:
    world = follows(yields(running(), chunk(1)))
    assert [each.end for each in world.heard("p", Fed)] == [False]
    world.ack("a", by="w")
    assert [(each.end, each.position) for each in world.heard("p", Fed)] == [(True, 2)]


def test_what_is_said_again_is_there_once() -> None:
    world = follows(yields(running(), chunk(1, 2)))
    yields(world, chunk(1, 2), chunk(3))
    assert fed(world) == [(1, 2), (3, 1)]
    assert took(world)[-1] == 4


def test_a_retry_is_another_series() -> None:
    world = follows(yields(World().submit("a", attempts=2).deliver(to="w"), chunk(1)))
    first = lease(world)
    world.nack("a", by="w").live(2_000)
    assert world.holds("w") == ["a"]
    assert world.last("p", Fed).series == lease(world) != first
    yields(world, chunk(2), by=first)  # what the old one still says is nobody's
    assert fed(yields(world, chunk(1))) == [(1, 1)]


def test_the_oldest_go_and_the_position_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "BOUNDS", dict.fromkeys(feeds.BOUNDS, FeedBounds(3, 10_000)))
    world = follows(yields(running(), *[chunk(number) for number in range(1, 7)]))
    assert fed(world) == [(4, 1), (5, 1), (6, 1)]


def test_a_slow_consumer_holds_the_attempt_back_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLLOW_ENTRIES_MAX", 2)
    world = yields(follows(running()), chunk(1), chunk(2), chunk(3))
    assert (fed(world), took(world)[-1]) == ([(1, 1), (2, 1)], 3)
    series = lease(world)
    world.say("p", Taken([Mark(series, 2, 1)]))
    assert (fed(world), took(world)) == ([(3, 1)], [4])
    yields(world, chunk(4), chunk(5))
    assert took(world) == []
    for _ in range(limits.STREAM_HOLD_MS // 1_000 + 1):
        world.beat("p", "w").live(1_000)
    assert took(world) == [6]  # the rest is its loss


def test_who_goes_away_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLLOW_ENTRIES_MAX", 1)
    world = yields(follows(follows(running()), by="q"), chunk(1), chunk(2))
    assert took(world)[-1] == 2
    world.say("p", Unfollow([1]))
    assert took(world) == []  # the other one counts as well
    assert took(world.lose("q").turn()) == [3]


def test_after_a_restart_who_follows_goes_on_where_it_was() -> None:
    world = follows(yields(running(), chunk(1, 2)))
    series = lease(world)
    assert fed(world) == [(1, 2)]
    world.restart().connect("w")
    follows(world.connect("p", "producer"), series=series, number=3, taken=3)
    assert fed(yields(world, chunk(1, 2), chunk(3))) == [(3, 1)]


def test_a_job_that_nobody_knows_is_refused() -> None:
    world = follows(World())
    assert world.last("p", Refusal).code == "not_found"


def test_events_begin_with_the_present_state_and_end_with_the_outcome() -> None:
    world = follows(running(), "events")
    world.say("w", Progress([ProgressItem(id_of("a"), lease(world), 1, 2, "half")]))
    world.ack("a", by="w")
    told = world.heard("p", Fed)
    assert kinds(told) == [("state", "running"), ("progress", "running"), ("state", "succeeded")]
    assert told[-1].end


def test_a_failed_attempt_is_an_event() -> None:
    world = follows(World().submit("a", attempts=2).deliver(to="w"), "events")
    world.nack("a", by="w").live(2_000)
    assert kinds(world.heard("p", Fed))[:2] == [("state", "running"), ("failed", "scheduled")]


def test_lines_are_numbered_over_all_attempts_and_gaps_show() -> None:
    world = running()
    world.say("w", Logs([Told(id_of("a"), lease(world), [chunk(1, 2), chunk(4)])]))
    world.ack("a", by="w")
    told = follows(world, "logs").heard("p", Fed)
    assert [(each.first, each.count) for one in told for each in one.chunks] == [(1, 2), (4, 1)]
    assert told[-1].end


def test_nothing_is_kept_for_jobs_that_tell_nothing() -> None:
    world = running()
    assert world.broker.counts()["feeds"] == 0
    yields(world, chunk(1)).ack("a", by="w")
    assert world.broker.counts()["feed_bytes"] > 0
