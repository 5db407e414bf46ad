"""What is done to many: to all that match, to nobody else, and told when it is on the disk."""

import pytest

from taskq import limits
from taskq.core import records as r
from taskq.protocol.messages import Ack, Fault, Success
from tests.core.world import World, canonical, id_of

MANY = [f"{number}" for number in range(10)]


def dead(*names: str, world: World | None = None, **terms: object) -> World:
    world = (world or World()).worker("w", slots=len(names)).submit(*names, **terms)  # type: ignore[arg-type]
    return world.nack(by="w", fault=Fault("E", "m")).kill("w")


# -- cancel ---------------------------------------------------------------------------------------


def test_cancel_ends_all_that_match_and_nobody_else() -> None:
    world = World().submit(*MANY).submit("other", queue="other").worker("w", slots=2)
    world.watch("0", "5").bulk("cancel", queue="default", reason="not wanted")
    assert world.bulk_report() == (10, 10, {})
    assert world.stops("w") == ["0", "1"]
    assert world.peers["w"].stops[world.leases["0"][0]] == "not wanted"
    assert [(outcome.state, outcome.reason) for outcome in world.outcome_list()] == [
        ("cancelled", "not wanted")
    ] * 2
    assert world.tally() == {"all": 11, "cancelled": 10, "ready": 1}
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_cancel_writes_one_record_a_slice() -> None:
    world = World().submit(*MANY)
    last = world.last_seq
    world.bulk("cancel", task="*")
    (ended,) = [
        record for record in r.decode(last + 1, world.journal[last + 1]) if isinstance(record, r.Ended)
    ]
    assert (len(ended.items), len(ended.terms)) == (10, 1)


def test_jobs_that_have_ended_are_not_meant_unless_they_are_named() -> None:
    world = World().submit("a", "b").cancel("a").bulk("cancel", task="*")
    assert world.bulk_report() == (1, 1, {})
    world.bulk("cancel", ids=["a", "b", "never was"])
    assert world.bulk_report() == (2, 0, {"cancelled": 2, "unknown": 1})


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete", "discard"])
def test_a_dry_run_changes_nothing(verb: str) -> None:
    world = dead("a").submit("b")
    before = canonical(world.broker.state)
    world.bulk(verb, dry_run=True, ids=["a", "b", "c"])  # type: ignore[arg-type]  # one of them
    matched, done, skipped = world.bulk_report()
    assert (matched, done) == (2, 0)
    assert (
        skipped
        == {
            "cancel": {"dead": 1, "unknown": 1},
            "retry": {"ready": 1, "unknown": 1},
            "delete": {"ready": 1, "unknown": 1},
            "discard": {"ready": 1, "unknown": 1},
        }[verb]
    )
    assert canonical(world.broker.state) == before


# -- retry ----------------------------------------------------------------------------------------


def test_a_dead_job_begins_anew() -> None:
    world = dead("a", payload=b"args", ext={"key": b"k"}, attempts=1).watch("a")
    assert world.outcomes() == [("a", "dead")]
    world.tick(5_000).bulk("retry", ids=["a"])
    assert world.bulk_report() == (1, 1, {})
    assert world.state("a") == "ready"
    assert world.count("dead_total") == world.count("revived_total") == 1
    world.watch("a").deliver(to="x")
    (delivery,) = world.peers["x"].holds.values()
    assert (delivery.payload, delivery.ext, delivery.attempt) == (b"args", {"key": b"k"}, 1)
    assert delivery.lease > world.leases["a"][0]
    assert world.ack(by="x", result=b"42").outcomes() == [("a", "succeeded")]


def test_its_attempts_count_anew_and_it_may_die_again() -> None:
    world = dead("a", attempts=1).bulk("retry", states=["dead"]).deliver(to="w").nack(by="w")
    assert world.state("a") == "dead"
    assert [line.failures for line in world.page().items] == [1]
    assert world.bulk("retry", error_type="failed").state("a") == "running"


@pytest.mark.parametrize("slack", [0, 1 << 30])
@pytest.mark.parametrize("durability", [0, 1])
def test_a_retry_survives_a_restart(slack: int, durability: int) -> None:
    world = dead("a", world=World(slack=slack), payload=b"args", durability=durability)
    world.bulk("retry", ids=["a"])
    assert canonical(world.recovered()) == canonical(world.broker.state)
    for number in range(20):  # so that there is something to compact
        world.submit(f"filler{number}", keep_ms=0).cancel(f"filler{number}")
    assert canonical(world.recovered()) == canonical(world.broker.state)
    world.restart().tick(limits.RESUME_GRACE_MS).worker("x")
    assert world.holds("x") == ["a"]
    assert world.peers["x"].holds[world.leases["a"][-1]].payload == b"args"


def test_one_in_memory_only_as_well() -> None:
    world = dead("a", durability=2).bulk("retry", ids=["a"])
    assert world.state("a") == "ready"
    assert canonical(world.recovered())["jobs"] == {}


def test_only_dead_jobs_are_run_again() -> None:
    world = World().submit("a", "b").cancel("a").bulk("retry", ids=["a", "b", "c"])
    assert world.bulk_report() == (2, 0, {"cancelled": 1, "ready": 1, "unknown": 1})


def test_it_expires_as_long_after_its_retry_as_after_its_submission() -> None:
    world = dead("a", expires_ms=1_000, queue="default").tick(60_000).bulk("retry", ids=["a"]).watch("a")
    assert world.tick(999).state("a") == "ready"
    assert world.tick(1).outcomes() == [("a", "expired")]
    assert (
        dead("a", expires_ms=1_000).tick(9_000).bulk("retry", ids=["a"]).restart().tick(1_000).state("a")
        == "expired"
    )


def test_a_delay_is_not_waited_for_twice() -> None:
    world = World().submit("a", delay_ms=1_000).tick(1_000).deliver(to="w").nack(by="w")
    assert world.bulk("retry", ids=["a"]).state("a") == "running"


def test_a_worker_that_was_given_up_may_still_have_succeeded() -> None:
    world = World().submit("a", crashes=0).deliver(to="w").lose("w")
    assert world.state("a") == "dead"
    world.bulk("retry", ids=["a"]).connect("w").say(
        "w", Ack(1, [Success(id_of("a"), world.leases["a"][0], b"42")])
    )
    assert world.state("a") == "succeeded"


def test_it_is_still_the_same_job_to_those_who_submit_it_again() -> None:
    world = dead("a", payload=b"x").bulk("retry", ids=["a"])
    assert world.submit("a", payload=b"x", by="other").verdicts("other") == []
    assert world.submit("a", payload=b"y", by="other").verdicts("other") == [(1, "conflict")]
    assert world.count("jobs") == 1


# -- delete and discard -----------------------------------------------------------------------------


def test_delete_forgets_outcomes_for_good() -> None:
    world = World().worker("w", slots=9).submit("a", "b", "c").ack("a", by="w").nack("b", by="w")
    world.bulk("delete", task="*")
    assert world.bulk_report() == (2, 2, {})
    assert [world.state(name) for name in "abc"] == ["unknown", "unknown", "running"]
    assert world.count("outcome_bytes") == world.broker.state.dead_bytes == 0
    assert [world.restart().state(name) for name in "abc"] == ["unknown", "unknown", "running"]


def test_what_was_deleted_does_not_come_back_after_a_power_cut() -> None:
    world = World().worker("w").submit("a", durability=1).ack(by="w")
    world.broker.ledger.cut()
    world.bulk_begins("delete", ids=["a"])
    assert world.last_durability == 0


def test_discard_is_for_dead_jobs() -> None:
    world = dead("a", "b").submit("c").cancel("c").bulk("discard", task="*")
    assert world.bulk_report() == (2, 2, {})
    assert [world.state(name) for name in "abc"] == ["unknown", "unknown", "cancelled"]


def test_lines_of_outcomes_do_not_grow_by_what_was_deleted() -> None:
    world = World().submit("first").cancel("first")
    for number in range(500):
        world.submit(f"{number}").cancel(f"{number}").bulk("delete", ids=[f"{number}"])
        if number % 5 == 0:
            dead(f"dead{number}", world=world).bulk("retry", ids=[f"dead{number}"]).cancel(f"dead{number}")
    retention = world.broker.retention
    assert sum(map(len, retention._lines.values())) < 300
    assert len(retention._dead) < 100
