"""Old batches go when what lives in them was written again; nobody can tell the difference."""

import pytest

from taskq import limits
from taskq.core.ledger import fold
from taskq.protocol.messages import Fault
from tests.core.world import World, canonical


def test_the_journal_stays_within_twice_its_live_bytes() -> None:
    slack = 20_000
    world = World(slack=slack).worker("w", slots=10)
    for number in range(300):
        world.submit(f"{number}", payload=b"x" * 200, keep_ms=60_000).ack(by="w").tick(1_000)
    held = sum(map(len, world.journal.values()))
    assert held == world.broker.ledger.journal_bytes
    assert held <= 2 * world.broker.state.live_bytes + slack + 10_000
    assert min(world.journal) > 100


def test_what_lives_for_long_is_written_again_and_survives() -> None:
    world = World(slack=2_000).submit(
        "long", payload=b"args", delay_ms=10**9, ext={"key": b"value"}, by="other"
    )
    world.worker("w")
    for number in range(100):
        world.submit(f"{number}", keep_ms=0).ack(by="w")
    assert min(world.journal) > 50
    assert canonical(world.recovered()) == canonical(world.broker.state)
    world.restart()
    assert world.job("long").payload == b"args"
    assert world.job("long").ext == {"key": b"value"}
    world.connect("other", "producer").submit("long too", by="other", seq=0)
    assert world.verdicts("other") == []
    assert world.state("long too") == "unknown", "the floor of its session is known"


def test_outcomes_and_running_jobs_survive_too() -> None:
    world = World(slack=500).worker("w", slots=3).submit("runs", "lost", "done", attempts=3)
    world.ack("done", by="w", result=b"42").nack("lost", by="w", ending="failed", after_ms=10**6)
    for number in range(100):
        world.submit(f"{number}", keep_ms=0).ack(f"{number}", by="w")
    assert canonical(world.recovered()) == canonical(world.broker.state)
    world.restart().connect("w")
    assert world.ack("runs", by="w").state("runs") == "succeeded"
    assert world.job("lost").failures == 1
    assert world.connect("producer", "producer").watch("done").outcome_list()[0].result == b"42"


def test_a_batch_goes_only_when_what_replaces_it_is_durable() -> None:
    broker = (world := World().submit("a")).broker
    broker.compaction._slack_bytes = -(10**9)  # from now on the journal is always too large
    broker.settle(world.now)
    batch = broker.cut()
    assert batch is not None
    assert batch.seq == 2
    assert broker.compaction.trim_before(1) is None
    assert broker.compaction.trim_before(2) == 2
    assert canonical(fold([(2, batch.blob)])) == canonical(broker.state)


def test_one_turn_writes_again_no_more_than_its_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPACT_SLICE", 10)
    world = World(slack=1 << 30).submit(
        *(f"{number}" for number in range(100)), queue="nobody", delay_ms=10**6
    )
    world.broker.compaction._slack_bytes = -(10**9)  # from now on it is always too large
    sizes = []
    for _ in range(9):
        before = world.last_seq
        world.turn()
        sizes.append(sum(len(blob) for seq, blob in world.journal.items() if seq > before))
    assert max(sizes) < 10 * 150
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_a_journal_of_nothing_but_live_things_is_left_alone() -> None:
    """Else it would be written again for ever: live bytes must count what is really written."""
    world = World(slack=0).worker("w", slots=10)
    long_text = Fault("E", "m", "traceback " * 1_000)
    for number in range(30):
        world.submit(f"dead{number}", payload=b"x" * 100).nack(by="w", fault=long_text)
        world.submit(f"done{number}", payload=b"x").ack(by="w", result=b"y" * 500)
        world.submit(f"waits{number}", ext={"trace": b"x" * 500}, delay_ms=10**8)
    for _ in range(100):
        world.turn()
    settled = world.last_seq
    for _ in range(100):
        world.turn()
    assert world.last_seq == settled
