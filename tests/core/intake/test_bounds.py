"""A queue may hold so much: the rest is refused, waits for room, or makes some."""

import pytest

from taskq import limits
from taskq.protocol.messages import Bounded, Confirm
from tests.core.world import World, canonical


def codes(world: World, by: str = "producer") -> list[tuple[int, int, list[tuple[int, str]]]]:
    """All confirms heard since the last look."""
    return [
        (each.first, each.count, [(verdict.seq, verdict.code) for verdict in each.verdicts])
        for each in world.heard(by, Confirm)
    ]


def figures(world: World, queue: str = "default") -> tuple[int, int]:
    line = world.broker.state.lines[queue]
    return line.jobs, line.bytes


# -- reject -----------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_the_figures() -> None:
    world = World().bound(max_jobs=2, max_bytes=100).submit("a", payload=b"12345").submit("b", "c", "d")
    verdicts = world.verdict_list()
    assert [(each.seq, each.code) for each in verdicts] == [(2, "queue_full"), (3, "queue_full")]
    assert verdicts[0].text == (
        "queue 'default' is full: 2 of at most 2 jobs wait, they take 5 of at most 100 bytes"
    )
    assert figures(world) == (2, 5)


def test_bytes_are_those_of_arguments_and_ext() -> None:
    world = World().bound(max_bytes=10).submit("a", payload=b"1234").submit("b", ext={"key": b"ann"})
    assert figures(world) == (2, 10)
    assert world.submit("c", payload=b"1").verdicts() == [(2, "queue_full")]
    assert world.submit("d").verdicts() == []


def test_what_can_never_fit_is_too_large() -> None:
    world = World().bound(max_bytes=10, when_full="wait").submit("a", payload=b"x" * 11)
    (verdict,) = world.verdict_list()
    assert (verdict.code, "no job over its bound of 10 bytes" in verdict.text) == ("too_large", True)


def test_running_jobs_do_not_count_and_retries_always_fit() -> None:
    world = World().bound(max_jobs=1).submit("a", attempts=2).deliver(to="w").submit("b")
    assert world.verdicts() == []
    world.nack("a", by="w")
    assert world.state("a") == "scheduled"
    world.submit("c")
    assert figures(world)[0] == 1  # b runs now, and a waits for its next attempt
    assert world.verdicts() == [(2, "queue_full")]


def test_scheduled_jobs_count() -> None:
    world = World().bound(max_jobs=1).submit("a", delay_ms=1_000).submit("b")
    assert world.verdicts() == [(1, "queue_full")]
    assert world.cancel("a").submit("c").verdicts() == []


def test_other_queues_are_not_bounded() -> None:
    world = World().bound("mail", max_jobs=1).submit(*"abc")
    assert world.verdicts() == []


def test_a_bound_counts_what_is_there_and_goes_again() -> None:
    world = World().submit("a", payload=b"123").submit("b", queue="mail").bound(max_jobs=5)
    answer = world.last("producer", Bounded)
    assert (answer.jobs, answer.bytes, answer.max_jobs) == (1, 3, 5)
    assert world.bound().submit(*"cdefghij").verdicts() == []
    assert world.broker.state.lines == {}


def test_it_survives_a_restart_and_a_compaction() -> None:
    for slack in (0, 1 << 30):
        world = World(slack=slack).bound(max_jobs=2).submit("a", "b").submit("x", queue="q").cancel("x")
        world.restart().submit("c")
        assert world.verdicts() == [(3, "queue_full")]
        assert canonical(world.recovered()) == canonical(world.broker.state)


def test_expired_succeeded_and_moved_jobs_leave_room() -> None:
    world = World().bound(max_jobs=1).submit("a", expires_ms=10).tick(10).submit("b")
    assert world.verdicts() == []
    world.deliver(to="w").kill("w").worker("v")  # back, and out again
    assert figures(world) == (0, 0)
    world.ack(by="v").submit("c", "d")
    assert world.holds("v") == ["c"]
    assert figures(world)[0] == 0


def test_ticks_always_fit() -> None:
    world = World().bound(max_jobs=1).submit("a").schedule().tick(10_000)
    assert len(world.made()) == 2


# -- wait -------------------------------------------------------------------------------------


def test_what_waits_for_room_is_confirmed_when_there_is_some() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a", "b", "c")
    assert codes(world) == [(0, 3, [(1, "held"), (2, "held")])]
    assert world.count("held") == 2
    world.worker("w")
    assert codes(world) == [(1, 1, [])]
    world.ack(by="w")
    assert codes(world) == [(2, 1, [])]
    assert world.ack(by="w").ack(by="w").count("held") == 0
    assert [job for job, _ in world.deliveries] == ["a", "b", "c"]


def test_as_many_as_workers_take_are_let_in_at_once() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit(*"abcdef").worker("w", slots=4)
    assert world.holds("w") == ["a", "b", "c", "d"]
    assert (world.count("held"), figures(world)[0]) == (1, 1)


def test_who_comes_later_waits_behind() -> None:
    world = World().bound(max_bytes=10, when_full="wait").submit("a", payload=b"x" * 8)
    world.submit("b", payload=b"y" * 8).submit("c", payload=b"z", by="other")
    assert world.count("held") == 2
    world.worker("w")
    assert [job for job, _ in world.deliveries] == ["a"]
    assert world.count("held") == 0, "b and c fit together"
    assert codes(world, "other") == [(0, 1, [(0, "held")]), (0, 1, [])]


def test_the_peer_is_gone_and_sends_it_again() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a").submit("b", "c").lose("producer")
    assert world.count("held") == 0
    world.connect("producer", "producer").submit("b", "c", seq=1)
    assert codes(world)[-1] == (1, 2, [(1, "held"), (2, "held")])
    world.worker("w", slots=9)
    assert codes(world) == [(1, 1, []), (2, 1, [])]
    assert world.holds("w") == ["a", "b", "c"]


def test_the_peer_is_back_before_its_old_connection_is_known_to_be_lost() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a").submit("b")
    world.connect("producer", "producer")
    world.broker.intake.closed_because = "the disk is full"
    world.submit("b", seq=1)
    assert codes(world)[-1] == (1, 1, [(1, "busy")])
    world.broker.intake.closed_because = ""
    world.worker("w", slots=9)
    assert world.holds("w") == ["a"], "it was refused, and does not come all the same"


def test_what_was_held_is_not_taken_for_accepted_after_a_restart() -> None:
    for slack in (0, 1 << 30):
        world = World(slack=slack).bound(max_jobs=1, when_full="wait").submit("a", "b", "c")
        world.submit("d", queue="other").restart().connect("producer", "producer").submit(
            "a", "b", "c", seq=0
        )
        assert codes(world)[-1] == (0, 3, [(1, "held"), (2, "held")])
        world.worker("w", slots=9)
        assert world.holds("w") == ["a", "b", "c"]


def test_who_waits_for_room_can_be_cancelled() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a", "b", "c").watch("b").cancel("b")
    assert codes(world)[-1] == (1, 1, [])
    assert world.receipts() == [("b", "cancelled")]
    assert world.outcomes() == [("b", "cancelled")]
    assert (world.state("b"), world.count("held"), figures(world)[0]) == ("cancelled", 1, 1)


def test_who_watches_what_waits_for_room_hears_of_it_in_time() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a", "b").watch("b").watch("b", by="other")
    assert world.outcomes() == []
    world.worker("w").ack(by="w").ack(by="w")
    assert world.outcomes() == world.outcomes("other") == [("b", "succeeded")]


def test_or_that_it_never_was() -> None:
    world = (
        World().bound(max_jobs=1, when_full="wait").submit("a", "b").watch("b", by="other").kill("producer")
    )
    assert world.outcomes("other") == [("b", "unknown")]
    world = World().bound(max_jobs=1, when_full="wait").submit("a", "b").watch("b").bound(max_jobs=1)
    assert world.outcomes() == [("b", "unknown")]


def test_the_bound_is_taken_away() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit(*"abc").bound(by="operator")
    assert codes(world)[-2:] == [(1, 1, []), (2, 1, [])]
    assert world.count("jobs") == 3


def test_or_refuses_from_now_on() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit(*"abc").bound(max_jobs=1)
    assert codes(world)[-2:] == [(1, 1, [(1, "queue_full")]), (2, 1, [(2, "queue_full")])]


def test_who_will_never_fit_any_more_is_told_so() -> None:
    world = World().bound(max_bytes=10, when_full="wait").submit("a", payload=b"x" * 9)
    world.submit("b", payload=b"y" * 8).bound(max_bytes=7, when_full="wait")
    assert codes(world)[-1] == (1, 1, [(1, "too_large")])


def test_there_is_a_bound_on_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a")
    monkeypatch.setattr(limits, "HELD_JOBS_MAX", 2)
    world.submit("b", "c", "d")
    assert world.verdicts() == [(1, "held"), (2, "held"), (3, "queue_full")]


def test_a_disk_without_room_keeps_them_waiting() -> None:
    world = World().bound(max_jobs=1, when_full="wait").submit("a", "b")
    world.broker.intake.closed_because = "the disk is full"
    world.cancel("a")
    assert world.count("held") == 1
    world.broker.intake.closed_because = ""
    assert world.turn().state("b") == "ready"


# -- drop_oldest ------------------------------------------------------------------------------


def test_the_oldest_makes_room() -> None:
    world = World().bound(max_jobs=2, when_full="drop_oldest").submit("a", "b").watch("a").submit("c")
    assert world.verdicts() == []
    (outcome,) = world.outcome_list()
    assert (outcome.state, outcome.reason) == (
        "cancelled",
        "dropped for a newer job: queue 'default' is full: 3 of at most 2 jobs wait",
    )
    assert [world.state(name) for name in "abc"] == ["cancelled", "ready", "ready"]
    assert world.count("dropped_total") == 1


def test_of_one_message_the_newest_stay() -> None:
    world = World().bound(max_jobs=2, when_full="drop_oldest").submit(*"abcde")
    assert [world.state(name) for name in "abcde"] == ["cancelled"] * 3 + ["ready"] * 2


def test_what_runs_is_not_dropped_and_workers_come_first() -> None:
    world = World().bound(max_jobs=1, when_full="drop_oldest").worker("w", slots=2).submit(*"abcd")
    assert [world.state(name) for name in "abcd"] == ["running", "running", "cancelled", "ready"]


def test_a_smaller_bound_drops_what_is_over_it_in_slices() -> None:
    world = World().submit(*(f"job-{number}" for number in range(1_500)))
    world.bound(max_jobs=10, when_full="drop_oldest")
    assert figures(world)[0] == 500
    assert figures(world.tick())[0] == 10
    assert world.state("job-1499") == "ready"
