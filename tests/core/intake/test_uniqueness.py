"""A job may be alone with what it is called with: while it waits, until it has ended, or for a time."""

from typing import Any

import pytest

from taskq import limits
from taskq.protocol.ext import ACTIVE, QUEUED, SECONDS, Unique
from taskq.protocol.messages import Confirm, JobSpec, Submit
from tests.core.world import World, canonical, id_of, job_terms, name_of


def alone(scope: int, digest: str = "d", window_ms: int = 0, *, replace: bool = False) -> dict[str, bytes]:
    return {"unique": Unique(scope, digest.encode().ljust(16, b"."), window_ms, replace).pack()}


def exists(world: World, by: str = "producer") -> list[tuple[int, str, str]]:
    """The verdicts of the last confirm."""
    return [(each.seq, each.code, name_of(each.id)) for each in world.last(by, Confirm).verdicts]


QUEUED_EXT = alone(QUEUED)
ACTIVE_EXT = alone(ACTIVE)


def test_who_comes_second_is_told_of_the_first() -> None:
    world = World().submit("a", ext=QUEUED_EXT).submit("b", ext=QUEUED_EXT)
    assert exists(world) == [(1, "exists", "a")]
    assert world.count("jobs") == 1


def test_also_within_one_message() -> None:
    world = World().submit("a", "b", "c", ext=QUEUED_EXT)
    assert exists(world) == [(1, "exists", "a"), (2, "exists", "a")]
    assert world.count("jobs") == 1


def test_other_digests_are_others() -> None:
    world = World().submit("a", ext=alone(QUEUED, "one")).submit("b", ext=alone(QUEUED, "other"))
    assert exists(world) == []


def test_queued_ends_when_the_job_starts_and_active_when_it_has_an_outcome() -> None:
    world = World().submit("a", ext=QUEUED_EXT).deliver(to="w").submit("b", ext=QUEUED_EXT)
    assert exists(world) == []
    world = World().submit("a", ext=ACTIVE_EXT).deliver(to="w").submit("b", ext=ACTIVE_EXT)
    assert exists(world) == [(1, "exists", "a")]
    world.ack(by="w").submit("c", ext=ACTIVE_EXT)
    assert exists(world) == []


def test_a_time_is_a_time_whatever_becomes_of_the_job() -> None:
    ext = alone(SECONDS, window_ms=5_000)
    world = World().worker("w").submit("a", ext=ext, keep_ms=0).ack(by="w")
    assert world.state("a") == "unknown"
    world.tick(4_999).submit("b", ext=ext)
    assert exists(world) == [(1, "exists", "a")]
    world.tick(1).submit("c", ext=ext)
    assert exists(world) == []


@pytest.mark.parametrize("slack", [0, 1 << 30])
def test_a_time_goes_on_over_a_restart_and_a_compaction(slack: int) -> None:
    ext = alone(SECONDS, window_ms=5_000)
    world = World(slack=slack).worker("w").submit("a", ext=ext, keep_ms=0).ack(by="w")
    for name in "xyz":
        world.submit(name, keep_ms=0).ack(by="w")
    world.tick(3_000).restart().submit("b", ext=ext)
    assert exists(world) == [(4, "exists", "a")]
    world.tick(1_999).submit("c", ext=ext)
    assert exists(world) == [(5, "exists", "a")]
    world.tick(1).submit("d", ext=ext)
    assert exists(world) == []


def test_setting_the_clock_neither_shortens_nor_lengthens_it() -> None:
    ext = alone(SECONDS, window_ms=5_000)
    world = World().submit("a", ext=ext).tick(1_000, wall_ms=10_000_000).submit("b", ext=ext)
    assert exists(world) == [(1, "exists", "a")]
    world.tick(4_000, wall_ms=-20_000_000).submit("c", ext=ext)
    assert exists(world) == []


@pytest.mark.parametrize("ext", [QUEUED_EXT, ACTIVE_EXT])
@pytest.mark.parametrize("slack", [0, 1 << 30])
def test_what_waits_keeps_others_out_after_a_restart(ext: dict[str, bytes], slack: int) -> None:
    world = World(slack=slack).submit("a", ext=ext).submit("x").cancel("x").restart().submit("b", ext=ext)
    assert exists(world) == [(2, "exists", "a")]
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_who_goes_back_to_waiting_gives_way_to_who_waits_already() -> None:
    world = World().submit("a", ext=QUEUED_EXT, attempts=3).deliver(to="w").submit("b", ext=QUEUED_EXT)
    world.watch("a").nack("a", by="w")
    (outcome,) = world.outcome_list()
    assert outcome.state == "cancelled"
    assert id_of("b").hex() in outcome.reason
    assert world.holds("w") == ["b"]


def test_or_waits_again_and_keeps_others_out() -> None:
    world = World().submit("a", ext=QUEUED_EXT, attempts=3).deliver(to="w").nack("a", by="w")
    assert world.state("a") == "scheduled"
    world.submit("b", ext=QUEUED_EXT)
    assert exists(world) == [(1, "exists", "a")]


def test_of_two_that_run_the_first_to_fail_waits() -> None:
    world = World().worker("w", slots=2).submit("a", ext=QUEUED_EXT, attempts=3)
    world.submit("b", ext=QUEUED_EXT, attempts=3)
    assert world.holds("w") == ["a", "b"]
    world.nack("b", by="w").nack("a", by="w")
    assert (world.state("a"), world.state("b")) == ("cancelled", "scheduled")


def test_a_runner_that_was_written_again_does_not_take_the_place_of_who_waits() -> None:
    world = World(slack=0).worker("w").submit("a", ext=QUEUED_EXT).submit("b", ext=QUEUED_EXT)
    world.submit("x").submit("y").restart().submit("c", ext=QUEUED_EXT)
    assert exists(world) == [(4, "exists", "b")]


def test_the_second_replaces_what_waits() -> None:
    ext = alone(QUEUED, replace=True)
    world = World().submit("a", ext=ext, payload=b"old", delay_ms=1_000).tick(900)
    world.submit("b", ext=ext, payload=b"new", delay_ms=1_000)
    assert exists(world) == [(1, "exists", "a")]
    assert world.job("a").payload == b"new"
    world.worker("w").tick(999)
    assert world.holds("w") == []
    assert world.tick(1).holds("w") == ["a"]
    assert next(iter(world.peers["w"].holds.values())).payload == b"new"


def test_within_one_message_the_last_is_what_runs() -> None:
    ext = alone(QUEUED, replace=True)
    world = World().producer("producer")
    specs = [JobSpec(id_of(name), 0, name.encode(), 0, ext) for name in "abc"]
    world.say("producer", Submit(0, [job_terms()], specs))
    assert exists(world) == [(1, "exists", "a"), (2, "exists", "a")]
    assert world.job("a").payload == b"c"


def test_what_runs_is_not_replaced() -> None:
    ext = alone(ACTIVE, replace=True)
    world = World().submit("a", ext=ext, payload=b"old").deliver(to="w").submit("b", ext=ext, payload=b"new")
    assert exists(world) == [(1, "exists", "a")]
    assert world.job("a").payload == b"old"


def test_a_replaced_job_that_is_sent_again_is_the_same_job() -> None:
    """Its confirm was lost, and meanwhile somebody replaced its arguments."""
    ext = alone(QUEUED, replace=True)
    world = World().submit("a", ext=ext, payload=b"old").submit("b", by="other", ext=ext, payload=b"new")
    assert world.submit("a", seq=0, ext=ext, payload=b"old").verdicts() == []


def test_other_ways_in_are_asked_too() -> None:
    world = World().submit("a", ext=ACTIVE_EXT)
    intake = world.broker.intake
    verdict = intake.admits(id_of("b"), ACTIVE_EXT)
    assert verdict is not None
    assert (verdict.code, verdict.id) == ("exists", id_of("a"))
    assert intake.admits(id_of("a"), ACTIVE_EXT) is None
    assert intake.admits(id_of("b"), None) is None


def test_two_that_fail_together_do_not_wait_together() -> None:
    world = World().worker("w", slots=2).submit("a", ext=QUEUED_EXT, attempts=3)
    world.submit("b", ext=QUEUED_EXT, attempts=3).nack(by="w")
    assert sorted((world.state("a"), world.state("b"))) == ["cancelled", "scheduled"]


def test_a_dead_job_is_not_run_again_beside_who_is_to_be_alone() -> None:
    world = World().submit("a", ext=ACTIVE_EXT).deliver(to="w").nack(by="w").submit("b", ext=ACTIVE_EXT)
    world.bulk("retry", ids=["a"])
    assert world.bulk_report() == (1, 0, {"exists": 1})
    assert world.state("a") == "dead"
    world.ack("b", by="w").bulk("retry", ids=["a"])
    assert (world.bulk_report(), world.holds("w")) == ((1, 1, {}), ["a"])


def test_of_two_dead_ones_one_is_run_again() -> None:
    world = World().worker("w")
    for name in "ab":
        world.submit(name, ext=ACTIVE_EXT).nack(by="w")
    world.kill("w").bulk("retry", task="*")
    assert world.bulk_report() == (2, 1, {"exists": 1})
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_who_is_run_again_is_bound_to_nobody() -> None:
    world = World().submit("a", ext={"bind": id_of("producer")}).deliver(to="w").nack(by="w").kill("w")
    world.kill("producer").producer("other").tick(limits.BIND_GRACE_MS)
    world.bulk("retry", ids=["a"]).tick(limits.BIND_GRACE_MS)
    assert world.state("a") == "ready"


def test_a_tick_gives_way_to_who_is_to_be_alone() -> None:
    world = World().schedule(ext=ACTIVE_EXT, overlap="allow").tick(10_000)
    assert len(world.made()) == 1
    world.tick(10_000)
    assert len(world.made()) == 1
    world.worker("w").ack(by="w").tick(10_000)
    assert len(world.made()) == 2


def test_a_tick_that_is_alone_for_a_time_has_that_time() -> None:
    world = World().schedule(ext=alone(SECONDS, window_ms=15_000), overlap="allow").tick(10_000)
    world.submit("a", ext=alone(SECONDS, window_ms=15_000))
    assert [code for _, code, _ in exists(world)] == ["exists"]
    assert len(world.tick(10_000).made()) == 1
    assert len(world.tick(10_000).made()) == 2


@pytest.mark.parametrize(
    ("ext", "code", "text"),
    [
        ({"unique": b"x"}, "invalid", "unique is 26 bytes, not 1"),
        (alone(7), "invalid", "the scope of unique is 0, 1 or 2, not 7"),
        (alone(SECONDS), "invalid", "the window of unique"),
        (alone(QUEUED, window_ms=5), "invalid", "the window of unique"),
        (alone(SECONDS, window_ms=limits.HORIZON_MS + 1), "invalid", "the window of unique"),
        ({"key": b""}, "invalid", "key is UTF-8, of 1 to 200 printable characters"),
        ({"key": b"x" * 201}, "invalid", "key is UTF-8"),
        ({"key": b"\xff"}, "invalid", "key is UTF-8"),
        ({"key": b"a\x00"}, "invalid", "key is UTF-8"),
        ({"key": b"x" * 1_000_000}, "too_large", "ext is over its limit of 4096 bytes"),
        ({"parent": b"x"}, "invalid", "parent is 16 bytes, not 1"),
        ({"parent": bytes(16), "ancestors": b"x"}, "invalid", "ancestors are at most 15 ids of 16 bytes"),
        ({"bind": b"x"}, "invalid", "bind is 16 bytes, not 1"),
        ({"bind": bytes(16)}, "invalid", "a job can be bound to the session that submits it"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(ext: Any, code: str, text: str) -> None:
    world = World().submit("a", ext=ext)
    (verdict,) = world.verdict_list()
    assert (verdict.code, text in verdict.text) == (code, True), verdict
    assert world.count("jobs") == 0


def test_keys_stay_on_the_quick_path() -> None:
    world = World().submit("a", ext={"key": "Zürich".encode()})
    world.broker.intake._sift = None  # type: ignore[assignment, method-assign]  # it is not asked
    world.submit("b", "c", ext={"key": b"ann"}).submit("d", ext={"parent": id_of("a"), "meta": b"\x80"})
    assert world.count("jobs") == 4


def test_nothing_is_left_when_all_has_ended() -> None:
    world = World().worker("w", slots=9).submit("a", ext=QUEUED_EXT).submit("b", ext=alone(ACTIVE, "e"))
    world.submit("c", ext=alone(SECONDS, "f", 1_000)).ack(by="w").tick(1_000)
    uniques = world.broker.state.uniques
    assert (uniques.holders, uniques.claims) == ({}, {})
    assert canonical(world.recovered()) == canonical(world.broker.state)
