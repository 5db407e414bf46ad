"""What is said at the end of a turn: joined, in order, waiting for the right batch, in frames that fit."""

from typing import Any

import pytest

from taskq import limits
from taskq.core.effects import Received, Send
from taskq.core.job import Job
from taskq.core.outbox import Outbox, split
from taskq.protocol.frames import encode
from taskq.protocol.messages import (
    Ack,
    Acked,
    Confirm,
    Deliver,
    Fault,
    Held,
    JobSpec,
    Message,
    Outcomes,
    Ping,
    Pong,
    Recall,
    Revoke,
    Submit,
    Success,
)
from tests.core.world import World, id_of, job_terms


def waits(world: World, kind: type[Message]) -> list[int]:
    return [send.after for send in world.sends() if isinstance(send.message, kind)]


# -- commit before speaking ---------------------------------------------------------------------


def test_a_confirm_waits_for_the_batch_of_its_jobs() -> None:
    world = World().submit("a")
    assert waits(world, Confirm) == [world.last_seq]


def test_a_repeated_submission_waits_for_whatever_was_decided_before_it() -> None:
    """It made no record itself; but the first one may not be durable yet."""
    world = World().producer("producer")
    number = world.peers["producer"].number
    submit = Submit(0, [job_terms()], [JobSpec(id_of("a"), 0, b"")])
    world.broker.handle(Received(number, submit), world.now)
    first = world.broker.settle(world.now)
    world.broker.handle(Received(number, submit), world.now)
    again = world.broker.settle(world.now)
    assert [effect.after for effect in (*first, *again) if isinstance(effect, Send)] == [1, 1]
    assert world.broker.ledger.newest == 1


def test_outcomes_and_acks_wait_for_their_batch() -> None:
    world = World().submit("a").watch("a").deliver(to="w").ack(by="w")
    assert waits(world, Outcomes) == waits(world, Acked) == [world.last_seq]


def test_a_delivery_waits_for_its_jobs_submission_only() -> None:
    world = World().worker("w", slots=2).submit("a")
    assert waits(world, Deliver) == [world.last_seq], "not before the job is durable"
    world.submit("b", queue="nobody").worker("x").submit("c")
    submission = world.job("b").seq
    world.worker("y", queues=("nobody",))
    assert waits(world, Deliver) == [submission]
    assert submission < world.last_seq


def test_a_job_in_memory_waits_for_nothing() -> None:
    world = World().worker("w").submit("a", durability=2)
    assert waits(world, Deliver) == [0]


def test_a_pong_waits_for_nothing() -> None:
    world = World().submit("a").say("producer", Ping(1))
    assert waits(world, Pong) == [0]


# -- joined and in order ------------------------------------------------------------------------


def test_a_turn_is_one_message_of_a_kind_for_a_peer() -> None:
    world = World().submit(*(f"{n}" for n in range(100))).watch(*(f"{n}" for n in range(100)))
    world.worker("w", slots=100)
    assert len(world.heard("w", Deliver)) == 1
    world.ack(by="w")
    assert len(world.heard("producer", Outcomes)) == 1


def test_a_revoke_comes_after_the_delivery_that_it_revokes() -> None:
    world = World().worker("w").producer("producer")
    number = world.peers["producer"].number
    submit = Submit(0, [job_terms()], [JobSpec(id_of("a"), 0, b"")])
    world.turn(Received(number, submit)).cancel("a")
    kinds = [type(message) for message in world.peers["w"].heard]
    assert kinds.index(Deliver) < kinds.index(Revoke)


# -- in frames that fit -------------------------------------------------------------------------


def fits(world: World) -> None:
    """Each message is one that a peer accepts: the world decodes all; here, by its size."""
    for send in world.sends():
        assert len(encode(send.message)) <= limits.FRAME_BYTES_MAX


def test_large_results_are_split() -> None:
    names = [f"{n}" for n in range(30)]
    world = World().submit(*names).watch(*names).worker("w", slots=30)
    for name in names:
        world.ack(name, by="w", result=b"x" * limits.PAYLOAD_BYTES_MAX)
    world.outcomes()
    world.watch(*names)
    fits(world)
    assert len(world.outcomes()) == 30


@pytest.mark.parametrize("letter", ["t", "\N{SNOWMAN}", "\N{SNAKE}"])
def test_long_tracebacks_are_split(letter: str) -> None:
    names = [f"{n}" for n in range(600)]
    fault = Fault("E", letter * limits.TEXT_CHARS_MAX, letter * limits.TRACEBACK_CHARS_MAX)
    world = World().submit(*names).worker("w", slots=600).nack(by="w", fault=fault).watch(*names)
    fits(world)
    assert len(world.outcomes()) == 600


def test_long_reasons_are_split() -> None:
    names = [f"{n}" for n in range(2_000)]
    world = World().submit(*names).worker("w", slots=2_000)
    world.cancel(*names, reason="\N{SNAKE}" * limits.TEXT_CHARS_MAX)
    fits(world)
    assert len(world.stops("w")) == 2_000


def test_large_jobs_are_split() -> None:
    world = World()
    for number in range(20):
        world.submit(f"{number}", payload=b"x" * limits.PAYLOAD_BYTES_MAX)
    world.worker("w", slots=100)
    fits(world)
    assert len(world.holds("w")) == 20


def test_terms_that_all_differ_are_split_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of terms beyond BATCH_MAX is refused by the wire, however many a turn may give."""
    monkeypatch.setattr(limits, "DELIVERIES_PER_TURN", 2 * limits.BATCH_MAX)
    world = World().producer("producer")
    count = limits.BATCH_MAX
    for part in range(2):
        terms = [job_terms(timeout_ms=1 + part * count + n) for n in range(count)]
        specs = [JobSpec(id_of(f"{part}.{n}"), n, b"") for n in range(count)]
        world.broker.handle(
            Received(world.peers["producer"].number, Submit(part * count, terms, specs)), world.now
        )
    world.turn().worker("w", slots=10_000)
    peer = world.peers["w"]
    assert len(peer.holds) == 2 * count
    timeouts = {job.id: peer.terms[lease].timeout_ms for lease, job in peer.holds.items()}
    assert timeouts[id_of("1.7")] == 1 + count + 7
    assert len(set(timeouts.values())) == 2 * count


def test_many_odd_reports_are_split() -> None:
    world = World().worker("w")
    number = world.peers["w"].number
    items: list[Any] = [Success(id_of("never"), lease) for lease in range(1, limits.BATCH_MAX + 1)]
    world.turn(*(Received(number, Ack(seq, items)) for seq in range(1, 4)))
    acks = world.heard("w", Acked)
    assert sum(len(ack.items) for ack in acks) == 3 * limits.BATCH_MAX
    assert acks[-1].seq == 3


def test_split_loses_nothing_and_keeps_the_order() -> None:
    items = list(range(5_000))
    parts = split(items, lambda _: 0)
    assert [len(part) for part in parts] == [2_000, 2_000, 1_000]
    assert [item for part in parts for item in part] == items
    assert split(items, lambda _: limits.BATCH_BYTES_TARGET)[0] != items
    assert split([], lambda _: 0) == [[]]


def test_what_is_about_deliveries_of_this_turn_comes_behind_them() -> None:
    out = Outbox()
    out.say_after_deliveries(1, Recall([Held(id_of("a"), 7)]))
    job = Job(id=id_of("a"), terms=job_terms(), payload=b"", submitted_ms=0, seq=3)
    out.parcel(1, 3).add(job, 7)
    assert [type(effect.message) for effect in out.take(3) if isinstance(effect, Send)] == [Deliver, Recall]
