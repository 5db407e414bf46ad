"""The gate: nothing is said before what it rests on is committed, and every peer hears in order."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.broker import Broker
from taskq.core.effects import Connected, Effect, Now, Received, Send
from taskq.protocol.messages import (
    Ack,
    Acked,
    Announce,
    Command,
    Confirm,
    Deliver,
    Hello,
    JobSpec,
    Outcomes,
    Ping,
    Pong,
    Resume,
    Submit,
    Success,
    Terms,
    Watch,
)
from taskq.server.engine import Engine

NOW = Now(1_000_000, 1_700_000_000_000)
A, B = b"a" * 16, b"b" * 16
PRODUCER, WORKER = 1, 2


def an_engine() -> Engine:
    broker = Broker(Random(0))
    broker.begin(1, NOW)
    engine = Engine(broker)
    engine.turn(
        [
            Connected(PRODUCER, Hello(1, b"p" * 16, "producer")),
            Connected(WORKER, Hello(1, b"w" * 16, "worker")),
            Received(WORKER, Announce({"work": "async"}, ["default"], {"async": 9})),
            Received(WORKER, Resume([])),
        ],
        NOW,
    )
    return engine


def turn(engine: Engine, peer: int, *commands: Command) -> list[type]:
    return kinds(engine.turn([Received(peer, command) for command in commands], NOW))


def kinds(effects: list[Effect] | list[Send]) -> list[type]:
    return [type(effect.message) for effect in effects if isinstance(effect, Send)]


def submit(*ids: bytes, first: int = 0, task: str = "work") -> Submit:
    return Submit(first, [Terms(task)], [JobSpec(id, 0, b"") for id in ids])


def test_nothing_is_said_of_a_submission_before_its_commit() -> None:
    engine = an_engine()
    assert turn(engine, PRODUCER, submit(A)) == []
    assert engine.next_batch() is not None
    assert turn(engine, PRODUCER, Ping(1)) == [Pong]
    assert kinds(engine.on_committed()) == [Confirm, Deliver]


def test_while_a_commit_runs_deciding_goes_on_and_the_next_batch_fills() -> None:
    engine = an_engine()
    turn(engine, PRODUCER, submit(A))
    first = engine.next_batch()
    turn(engine, PRODUCER, submit(B, first=1))
    assert engine.next_batch() is None, "one at a time"
    assert kinds(engine.on_committed()) == [Confirm, Deliver]
    second = engine.next_batch()
    assert first is not None
    assert second is not None
    assert second.seq == first.seq + 1
    assert kinds(engine.on_committed()) == [Confirm, Deliver]
    assert engine.next_batch() is None


def test_a_command_without_records_waits_for_those_before_it() -> None:
    """What it is told may rest on them."""
    engine = an_engine()
    turn(engine, PRODUCER, submit(A, task="nobody's"))
    engine.next_batch()
    assert turn(engine, PRODUCER, submit(A, task="nobody's")) == []
    assert kinds(engine.on_committed()) == [Confirm, Confirm]


def test_without_anything_to_commit_answers_are_said_at_once() -> None:
    engine = an_engine()
    assert turn(engine, PRODUCER, Watch([A])) == [Outcomes]


def test_a_delivery_waits_for_its_jobs_commit_only() -> None:
    engine = an_engine()
    turn(engine, PRODUCER, submit(A, B))
    engine.next_batch()
    (delivery,) = [send.message for send in engine.on_committed() if isinstance(send.message, Deliver)]
    # Both are done; the ack's answer waits, a new delivery of an old job would not.
    success = Success(A, delivery.jobs[0].lease)
    assert turn(engine, WORKER, Ack(1, [success])) == []
    engine.next_batch()
    assert kinds(engine.on_committed()) == [Acked]


def test_a_commit_that_never_ends_lets_nothing_out() -> None:
    engine = an_engine()
    turn(engine, PRODUCER, submit(A))
    engine.next_batch()
    for number in range(20):
        assert turn(engine, PRODUCER, submit(bytes([number]) * 16, first=1 + number)) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["submit", "ping", "watch", "begin", "end"]), max_size=60))
def test_each_peer_hears_answers_in_the_order_of_its_questions(steps: list[str]) -> None:
    engine, heard, asked, promised = an_engine(), list[int](), 0, 0
    said: list[Send] = []
    for step in [*steps, "end", "begin", "end", "begin", "end"]:
        match step:
            case "submit":
                effects = engine.turn([Received(PRODUCER, submit(asked.to_bytes(16), first=asked))], NOW)
                asked += 1
                said += [effect for effect in effects if isinstance(effect, Send)]
            case "ping":
                turn(engine, PRODUCER, Ping(1))
            case "watch":
                turn(engine, PRODUCER, Watch([b"?" * 16]))
            case "begin":
                batch = engine.next_batch()
                promised = batch.seq if batch else promised
            case "end" if engine.committing is not None:
                said += engine.on_committed()
        for send in said:
            assert send.after <= engine.committed, "said before its commit"
            if isinstance(send.message, Confirm):
                heard.append(send.message.first)
        said = []
    assert heard == list(range(asked))
