"""A checkpoint outlives its attempt, its worker and its broker, and ends with its job."""

import pytest

from taskq import limits
from taskq.protocol.messages import MEMORY, OS, Checkpoint, Checkpointed, CheckpointItem, Saved, Unsaved
from tests.core.world import World, canonical, id_of


def test_the_next_attempt_begins_with_it() -> None:
    world = World().submit("a", attempts=2, backoff_ms=0).deliver(to="w")
    assert world.checkpointed("w") == {}
    world.checkpoint(b"one", by="w").checkpoint(b"two", by="w").nack(by="w")
    assert world.checkpointed("w") == {"a": b"two"}


def test_it_survives_the_worker() -> None:
    world = World().submit("a").deliver(to="w").checkpoint(b"page 7", by="w").kill("w")
    world.tick(limits.CRASH_BACKOFF_MAX_MS).deliver(to="other")
    assert world.checkpointed("other") == {"a": b"page 7"}


def test_it_survives_the_broker() -> None:
    world = World().submit("a").deliver(to="w").checkpoint(b"page 7", by="w")
    world.restart().tick(limits.RESUME_GRACE_MS).tick(limits.CRASH_BACKOFF_MAX_MS).deliver(to="other")
    assert world.checkpointed("other") == {"a": b"page 7"}


def test_it_is_answered_when_it_is_durable() -> None:
    world = World().submit("a").deliver(to="w")
    before = world.last_seq
    world.checkpoint(b"x", by="w")
    (send,) = [each for each in world.sends() if isinstance(each.message, Checkpointed)]
    assert send.after == world.last_seq == before + 1
    assert send.message == Checkpointed(1)


@pytest.mark.parametrize("durability", [OS, MEMORY])
def test_it_is_as_durable_as_its_job(durability: int) -> None:
    world = World().submit("a", durability=durability, attempts=2, backoff_ms=0).deliver(to="w")
    before = world.last_seq
    world.checkpoint(b"x", by="w")
    assert world.last_seq == before + (durability != MEMORY)
    assert world.nack(by="w").checkpointed("w") == {"a": b"x"}


def test_a_stale_lease_leaves_none() -> None:
    world = World().submit("a").deliver(to="slow")
    lease = world.leases["a"][-1]
    world.kill("slow").tick(limits.CRASH_BACKOFF_MAX_MS).deliver(to="other")
    world.checkpoint(b"new", by="other").worker("slow")
    late = [CheckpointItem(id_of("a"), lease, Saved(b"old")), CheckpointItem(id_of("b"), 1, Saved(b"none"))]
    world.say("slow", Checkpoint(4, late))
    assert world.last("slow", Checkpointed) == Checkpointed(4, [Unsaved(lease, "stale"), Unsaved(1, "stale")])
    assert world.job("a").before.checkpoint == Saved(b"new")


def test_another_job_of_the_same_worker_cannot_be_meant() -> None:
    world = World().submit("a", "b").worker("w", slots=2)
    world.say("w", Checkpoint(1, [CheckpointItem(id_of("a"), world.leases["b"][-1], Saved(b"x"))]))
    assert world.last("w", Checkpointed).items == [Unsaved(world.leases["b"][-1], "stale")]


def test_a_worker_that_was_given_up_may_say_it_when_it_has_resumed() -> None:
    world = World().submit("a").deliver(to="w").lose("w").connect("w")
    assert world.holds("w") == ["a"]
    assert world.checkpoint(b"x", by="w").last("w", Checkpointed).items == []


@pytest.mark.parametrize("why", ["disk", "memory"])
def test_none_is_taken_when_nothing_new_is(why: str) -> None:
    world = World(memory_bytes=2_000 if why == "memory" else 0).submit("a").deliver(to="w")
    if why == "memory":
        world.submit("b", payload=bytes(2_000 - world.broker.memory.taken_bytes - limits.JOB_OVERHEAD_BYTES))
    else:
        world.broker.intake.closed_because = "the disk is full"
    world.checkpoint(b"x", by="w")
    assert world.last("w", Checkpointed).items == [Unsaved(world.leases["a"][-1], "busy")]
    assert world.job("a").before.checkpoint is None


def test_it_counts_as_memory_of_the_broker() -> None:
    world = World().submit("a", attempts=2).deliver(to="w")
    before = world.count("memory_bytes")
    world.checkpoint(bytes(5_000), by="w").checkpoint(bytes(4_000), by="w")
    assert world.count("memory_bytes") == before + 4_000
    world.nack(by="w").tick(2_000)
    assert world.holds("w") == ["a"]
    assert world.ack(by="w").broker.state.job_bytes == 0


def test_it_ends_with_its_job() -> None:
    world = World().submit("a").deliver(to="w").checkpoint(bytes(100), by="w").ack(by="w")
    assert world.recovered().live_bytes == world.broker.state.live_bytes < 500


def test_a_dead_job_keeps_it_and_goes_on_from_it() -> None:
    world = World().submit("a").deliver(to="w").checkpoint(b"page 7", by="w").nack(by="w")
    assert world.state("a") == "dead"
    world.bulk("retry", ids=["a"])
    assert world.checkpointed("w") == {"a": b"page 7"}
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_other_arguments_begin_at_the_beginning() -> None:
    world = World().submit("a", "b", attempts=2, backoff_ms=60_000).worker("w", slots=2)
    world.checkpoint(b"x", by="w").nack(by="w")
    world.edit("a", payload=b"\x92\x90\x80").edit("b", delay_ms=0).edit("a", delay_ms=0)
    assert world.checkpointed("w") == {"b": b"x"}
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_compaction_keeps_the_latest_and_drops_the_rest() -> None:
    world = World(slack=10_000).submit("a").deliver(to="w")
    for page in range(300):
        world.checkpoint(page.to_bytes(2, "big") * 500, by="w")
    assert world.broker.ledger.journal_bytes < 20_000
    assert canonical(world.recovered()) == canonical(world.broker.state)
    world.restart().tick(limits.RESUME_GRACE_MS).tick(limits.CRASH_BACKOFF_MAX_MS).deliver(to="other")
    assert world.checkpointed("other") == {"a": (299).to_bytes(2, "big") * 500}


def test_deliveries_are_split_by_what_their_checkpoints_weigh() -> None:
    names = [f"job-{n}" for n in range(40)]
    world = World().submit(*names, attempts=2, backoff_ms=0).worker("w", slots=40)
    world.checkpoint(bytes(limits.CHECKPOINT_BYTES_MAX), by="w").nack(by="w")
    assert len(world.checkpointed("w")) == 40
    assert len([send for send in world.sends() if type(send.message).__name__ == "Deliver"]) > 1
