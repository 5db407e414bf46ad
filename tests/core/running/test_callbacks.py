"""Callbacks are made by the broker: once, with what they are about, durable together with it."""

from typing import Any

import msgpack
import pytest

from taskq import limits
from taskq.core.job import Job
from taskq.core.running.callbacks import callback_id
from taskq.protocol.messages import MEMORY, Callback, Deliver, Fault, RetryTerms
from tests.core.world import World, canonical, id_of

MOURN = Callback("mourn", "alerts", 7, 5_000, RetryTerms(3))
CALL = bytes.fromhex("92 92 02 03 80")


def callbacks(world: World) -> list[Job]:
    return [job for job in world.broker.state.jobs.values() if job.terms.task in ("mourn", "note")]


def call_of(job: Job) -> Any:
    return msgpack.unpackb(job.payload)


def test_a_dead_job_has_its_callback_submitted() -> None:
    world = World().submit("a", payload=CALL, on_dead=MOURN).deliver(to="w")
    world.nack(by="w", fault=Fault("ValueError", "bad"))
    (job,) = callbacks(world)
    assert call_of(job) == [[id_of("a").hex(), [[2, 3], {}], "ValueError: bad"], {}]
    terms = job.terms
    assert (terms.task, terms.queue, terms.priority, terms.timeout_ms, terms.retry) == (
        "mourn",
        "alerts",
        7,
        5_000,
        RetryTerms(3),
    )
    world.worker("undertaker", tasks=["mourn"], queues=["alerts"])
    assert world.last("undertaker", Deliver).jobs[0].id == job.id
    assert world.count("callbacks_total") == 1


def test_it_is_made_only_when_the_job_is_dead() -> None:
    world = World().submit("a", attempts=2, backoff_ms=0, on_dead=MOURN).worker("w")
    assert callbacks(world.nack(by="w")) == []
    assert len(callbacks(world.nack(by="w"))) == 1


def test_each_failed_attempt_may_have_one_too() -> None:
    note = Callback("note")
    terms = {"attempts": 3, "backoff_ms": 0, "on_failure": note, "on_dead": MOURN}
    world = World().submit("a", payload=CALL, **terms).worker("w")
    world.nack(by="w").nack(by="w", ending="snoozed", after_ms=0).nack(by="w", ending="returned")
    assert [job.terms.task for job in callbacks(world)] == ["note"]
    world.kill("w").worker("w").nack(by="w")
    assert [job.terms.task for job in callbacks(world)] == ["note"] * 3
    world.nack(by="w")
    assert [job.terms.task for job in callbacks(world)] == ["note"] * 4 + ["mourn"]


@pytest.mark.parametrize("end", ["ack", "cancel", "expire"])
def test_none_is_made_for_what_did_not_die(end: str) -> None:
    world = World().submit("a", on_dead=MOURN, expires_ms=1_000)
    if end == "ack":
        world.worker("w").ack(by="w")
    elif end == "cancel":
        world.cancel("a")
    else:
        world.tick(1_000)
    assert callbacks(world) == []


def test_it_is_in_the_batch_of_the_death() -> None:
    world = World().submit("a", on_dead=MOURN).deliver(to="w")
    before = world.last_seq
    world.nack(by="w")
    assert world.last_seq == before + 1
    recovered = world.recovered()
    assert [job.terms.task for job in recovered.jobs.values()] == ["mourn"]
    assert canonical(recovered) == canonical(world.broker.state)
    assert len(callbacks(world.restart())) == 1


def test_it_survives_compaction_and_is_not_made_again() -> None:
    world = World(slack=0).submit("a", on_dead=MOURN).deliver(to="w").nack(by="w")
    made = world.last_seq
    for number in range(40):
        world.submit(f"other {number}").cancel(f"other {number}")
    assert min(world.journal) > made
    assert len(callbacks(world.restart())) == 1
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_it_is_as_durable_as_the_job() -> None:
    world = World().submit("a", on_dead=MOURN, durability=MEMORY).deliver(to="w").nack(by="w")
    (job,) = callbacks(world)
    assert job.seq == 0
    assert callbacks(world.restart()) == []


def test_its_id_follows_from_the_attempt() -> None:
    job_id = bytes(range(16))
    ids = {
        callback_id(job_id, 1, 1, "death"),
        callback_id(job_id, 2, 1, "death"),
        callback_id(job_id, 1, 2, "death"),
        callback_id(job_id, 1, 1, "failure"),
    }
    assert len(ids) == 4
    assert callback_id(job_id, 1, 1, "death") in ids
    assert all(id[:8] == job_id[:8] and len(id) == 16 and id[8] >> 6 == 2 for id in ids)


def test_an_attempt_that_is_taken_up_again_and_lost_again_failed_twice() -> None:
    world = World().submit("a", on_failure=Callback("note")).deliver(to="w").lose("w").connect("w")
    assert world.holds("w") == ["a"] and len(world.leases["a"]) == 1
    assert len(callbacks(world.lose("w"))) == 2


def test_an_id_that_is_taken_is_left_alone() -> None:
    world = World().submit("a", on_dead=MOURN).deliver(to="w")
    lease = world.leases["a"][0]
    taken = callback_id(id_of("a"), lease, 1, "death")
    world.broker.state.jobs[taken] = world.job("a")
    world.nack(by="w")
    assert callbacks(world) == []


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\x91" * 5_000 + b"\x01"])
def test_what_is_no_messagepack_does_not_spoil_the_call(payload: bytes) -> None:
    world = (
        World().submit("a", on_dead=MOURN, payload=payload).deliver(to="w").nack(by="w", ending="rejected")
    )
    (job,) = callbacks(world)
    assert call_of(job) == [[id_of("a").hex(), None, "rejected"], {}]


def test_arguments_that_leave_no_room_are_left_out() -> None:
    payload = msgpack.packb([[b"x" * (limits.PAYLOAD_BYTES_MAX - 20)], {}])
    world = World().submit("a", on_dead=MOURN, payload=payload).deliver(to="w").nack(by="w")
    (job,) = callbacks(world)
    assert call_of(job)[0][1] is None
    assert len(job.payload) < limits.PAYLOAD_BYTES_MAX
