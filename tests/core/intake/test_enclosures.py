"""What comes of a success is submitted with it: all of it in one batch, once, or nothing."""

from typing import Any

import pytest

from taskq import limits
from taskq.protocol.ext import ACTIVE, QUEUED, SECONDS, Unique
from taskq.protocol.messages import MEMORY, AckAndSubmit, JobSpec, Success
from tests.core.world import World, canonical, id_of, job_terms


def parent(**options: Any) -> World:
    """A worker runs the job `p`."""
    return World(**options).submit("p", attempts=2, backoff_ms=0).deliver(to="w")


def unique(scope: int, digest: bytes = b"one", *, replace: bool = False) -> dict[str, bytes]:
    window_ms = 1_000 if scope == SECONDS else 0
    return {"unique": Unique(scope, digest.ljust(16, b"."), window_ms, replace).pack()}


def test_they_are_submitted_in_the_batch_of_the_success() -> None:
    world = parent()
    before = world.last_seq
    world.ack_with("a", "b", by="w", task="other")
    assert world.last_seq == before + 1
    assert (world.state("p"), world.state("a"), world.state("b")) == ("succeeded", "ready", "ready")
    assert world.odd("w") == []
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_they_run() -> None:
    world = parent().ack_with("a", by="w")
    assert world.holds("w") == ["a"]
    assert world.state("p") == "succeeded"


def test_a_success_that_is_said_again_submits_nothing() -> None:
    world = parent().deafen("w").ack_with("a", by="w", task="other")
    world.cancel("a").bulk("delete", ids=["a"]).lose("w").connect("w")
    assert world.state("a") == "unknown"
    assert world.peers["w"].unconfirmed == []


def test_nor_does_one_that_is_said_to_a_new_broker() -> None:
    world = parent().deafen("w").ack_with("a", by="w", task="other")
    world.cancel("a").bulk("delete", ids=["a", "p"]).restart().connect("w")
    assert world.state("a") == "unknown"
    assert world.odd("w") == ["duplicate"]


def test_of_two_attempts_only_one_submits() -> None:
    world = parent().block("w").lose("w").tick(limits.BEAT_MS * 3).deliver(to="other")
    world.ack_with("a", by="other", task="none").connect("w").ack_with("b", by="w", task="none")
    assert (world.state("a"), world.state("b")) == ("ready", "unknown")


def test_a_late_success_submits_and_the_newer_attempt_is_stopped() -> None:
    world = parent().block("w").lose("w").tick(limits.BEAT_MS * 3).deliver(to="other")
    world.connect("w").ack_with("a", by="w", task="none")
    assert world.state("a") == "ready"
    assert world.stops("other") == ["p"]
    world.ack_with("b", by="other", task="none")
    assert (world.state("b"), world.odd("other")) == ("unknown", ["duplicate"])


def test_a_lease_that_never_was_submits_nothing() -> None:
    world = parent()
    lease = world.leases["p"][-1]
    world.say(
        "w", AckAndSubmit(1, Success(id_of("p"), lease + 1), [job_terms()], [JobSpec(id_of("a"), 0, b"")])
    )
    assert (world.state("p"), world.state("a")) == ("running", "unknown")


# -- one of them is refused -----------------------------------------------------------------------


def test_if_one_is_refused_none_is_submitted_and_the_attempt_has_failed() -> None:
    world = parent().bound("small", max_jobs=1).submit("x", queue="small")
    before = world.last_seq
    world.ack_with_specs(
        [JobSpec(id_of("a"), 0, b""), JobSpec(id_of("b"), 1, b"")],
        [job_terms(), job_terms(queue="small")],
        by="w",
    )
    assert (world.state("a"), world.state("b")) == ("unknown", "unknown")
    assert world.history("p") == [(1, "failed")]
    error = world.inspect("p").history[0].error
    assert "queue 'small' is full" in error
    assert world.last_seq == before + 1
    assert world.count("outboxes_refused_total") == 1
    world.cancel("x").ack_with("a", by="w", queue="small")
    assert (world.state("p"), world.state("a")) == ("succeeded", "ready")


def test_the_refused_success_stays_refused_when_it_is_said_again() -> None:
    world = parent().bound("small", max_jobs=1).submit("x", queue="small").deafen("w")
    world.ack_with("a", by="w", queue="small").cancel("x").connect("w")
    assert world.state("a") == "unknown"
    assert world.history("p") == [(1, "failed")]


def test_but_from_a_worker_that_was_given_up_it_is_a_late_success() -> None:
    """Nobody knows any more what it has heard; the work is done, and now there is room for the rest."""
    world = parent().bound("small", max_jobs=1).submit("x", queue="small").deafen("w")
    world.ack_with("a", by="w", queue="small").cancel("x").lose("w").connect("w")
    assert (world.state("p"), world.state("a")) == ("succeeded", "ready")


def test_a_late_success_that_is_refused_changes_nothing() -> None:
    world = parent().block("w").lose("w").tick(limits.BEAT_MS * 3).deliver(to="other")
    world.broker.intake.closed_because = "the disk is full"
    world.connect("w").ack_with("a", by="w")
    assert (world.state("p"), world.holds("other"), world.odd("w")) == ("running", ["p"], ["stale"])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (JobSpec(id_of("a"), 7, b""), "terms 7 of 1"),
        (JobSpec(id_of("x"), 0, b"other"), "exists with other arguments"),
        (JobSpec(id_of("a"), 0, bytes(limits.PAYLOAD_BYTES_MAX + 1)), "bytes of arguments"),
        (JobSpec(id_of("a"), 0, b"", 0, {"bind": id_of("w")}), "can be bound to the session"),
        (JobSpec(id_of("a"), 0, b"", 0, {"unique": b"?"}), "unique is 26 bytes"),
    ],
)
def test_what_is_wrong_with_a_job_is_why_the_attempt_failed(spec: JobSpec, why: str) -> None:
    world = parent().submit("x", task="none")
    world.ack_with_specs([JobSpec(id_of("good"), 0, b""), spec], [job_terms()], by="w")
    assert why in world.inspect("p").history[0].error
    assert world.state("good") == "unknown"


def test_what_is_closed_or_full_refuses_them() -> None:
    world = parent(memory_bytes=3_000)
    world.ack_with("a", by="w", payload=bytes(3_000))
    assert "memory is full" in world.inspect("p").history[0].error
    world.steer("queue", "shut", "closed").ack_with("a", by="w", queue="shut")
    assert world.state("p") == "dead"
    assert "is drained" in world.inspect("p").history[1].error


def test_in_a_queue_where_others_wait_for_room_they_do_not() -> None:
    world = parent().bound("small", max_jobs=1, when_full="wait").submit("x", "y", queue="small")
    assert world.verdicts() == [(2, "held")]
    world.ack_with("a", "b", by="w", queue="small")
    assert [world.state(name) for name in "pxyab"] == ["succeeded", "ready", "unknown", "ready", "ready"]


def test_where_the_oldest_goes_it_goes() -> None:
    world = parent().bound("small", max_jobs=1, when_full="drop_oldest").submit("x", queue="small")
    world.ack_with("a", by="w", queue="small")
    assert (world.state("x"), world.state("a")) == ("cancelled", "ready")


# -- with all that a submission may say -----------------------------------------------------------


def test_they_may_wait_for_their_time_and_expire() -> None:
    world = parent().ack_with("a", by="w", delay_ms=5_000)
    assert world.state("a") == "scheduled"
    world.live(5_000)
    assert world.holds("w") == ["a"]
    world.ack_with("b", by="w", queue="none", expires_ms=2_000).live(2_000)
    assert world.state("b") == "expired"


def test_one_that_is_to_be_alone_is_there_already() -> None:
    world = parent().submit("x", task="none", ext=unique(ACTIVE))
    world.ack_with("a", "b", by="w", ext=unique(ACTIVE), task="none")
    assert [world.state(name) for name in "pxab"] == ["succeeded", "ready", "unknown", "unknown"]


@pytest.mark.parametrize("scope", [QUEUED, ACTIVE])
def test_a_job_that_is_alone_may_submit_its_successor(scope: int) -> None:
    world = World().submit("p", ext=unique(scope)).deliver(to="w")
    world.ack_with("a", by="w", ext=unique(scope), task="none")
    assert (world.state("p"), world.state("a")) == ("succeeded", "ready")
    assert world.submit("b", ext=unique(scope), task="none").verdicts() == [(1, "exists")]
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_but_not_while_it_is_alone_for_a_time() -> None:
    world = World().submit("p", ext=unique(SECONDS)).deliver(to="w")
    world.ack_with("a", by="w", ext=unique(SECONDS), task="none")
    assert (world.state("p"), world.state("a")) == ("succeeded", "unknown")


def test_claims_are_made_and_lapse() -> None:
    world = parent().ack_with("a", by="w", ext=unique(SECONDS), task="none")
    assert world.submit("b", ext=unique(SECONDS), task="none").verdicts() == [(1, "exists")]
    assert canonical(world.recovered()) == canonical(world.broker.state)
    assert world.live(1_100).submit("c", ext=unique(SECONDS), task="none").verdicts() == []


def test_what_is_to_be_replaced_is_replaced_only_if_all_is_well() -> None:
    world = parent().submit("x", task="none", payload=b"old", ext=unique(ACTIVE)).bound("small", max_bytes=1)
    replacing = JobSpec(id_of("a"), 0, b"new", 0, unique(ACTIVE, replace=True))
    terms = [job_terms("none"), job_terms(queue="small")]
    world.ack_with_specs([replacing, JobSpec(id_of("b"), 1, b"large")], terms, by="w")
    assert (world.job("x").payload, world.holds("w")) == (b"old", ["p"])
    world.ack_with_specs([replacing], terms, by="w")
    assert (world.job("x").payload, world.state("a"), world.state("p")) == (b"new", "unknown", "succeeded")


def test_what_is_in_memory_only_stays_there() -> None:
    world = parent().ack_with("a", by="w", task="none", durability=MEMORY)
    assert world.state("a") == "ready"
    assert id_of("a") not in world.recovered().jobs


def test_below_a_tree_that_was_cancelled_nothing_is_submitted() -> None:
    world = parent().cancel("p", tree=True)
    world.ack_with("a", by="w", ext={"parent": id_of("p")})
    assert (world.state("p"), world.state("a")) == ("cancelled", "unknown")
