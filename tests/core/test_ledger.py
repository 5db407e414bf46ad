"""The open batch: what is in it, how durable it must be, and where the next one begins."""

from random import Random

import pytest

from taskq.core import records as r
from taskq.core.broker import Broker
from taskq.core.ledger import Ledger
from taskq.core.state import State
from taskq.errors import JournalCorrupt
from taskq.protocol.messages import FSYNC, MEMORY, OS, JobSpec
from tests.core.world import World, id_of, job_terms


def submitted(name: str) -> r.Submitted:
    return r.Submitted(id_of("session"), 1, 0, 1000, [job_terms()], [JobSpec(id_of(name), 0, b"")])


def test_nothing_decided_is_no_batch() -> None:
    ledger = Ledger(State())
    assert ledger.cut() is None
    assert ledger.newest == 0


def test_a_mixed_batch_takes_the_strictest_durability() -> None:
    for durabilities, strictest in [((OS, FSYNC), FSYNC), ((FSYNC, OS), FSYNC), ((OS, MEMORY), OS)]:
        ledger = Ledger(State())
        for durability in durabilities:
            ledger.submit(submitted(f"{durability}"), durability)
        batch = ledger.cut()
        assert batch is not None
        assert batch.durability == strictest


def test_the_durability_of_one_batch_does_not_linger() -> None:
    ledger = Ledger(State())
    ledger.submit(submitted("a"), FSYNC)
    ledger.cut()
    ledger.submit(submitted("b"), OS)
    batch = ledger.cut()
    assert batch is not None
    assert (batch.seq, batch.durability) == (2, OS)


def test_batches_are_numbered_densely() -> None:
    world = World().worker("w")
    for name in "abc":
        world.submit(name).turn().ack(by="w")
    assert sorted(world.journal) == list(range(1, len(world.journal) + 1))


def test_a_broker_goes_on_after_the_newest_batch_even_when_all_were_trimmed() -> None:
    world = World().submit("a")
    world.journal.clear()
    world.last_seq = 41
    world.restart().connect("producer", "producer").submit("b")
    assert list(world.journal) == [42]


def test_a_broken_batch_is_named() -> None:
    world = World().submit("a").submit("b")
    world.journal[2] = world.journal[2][:-1]
    with pytest.raises(JournalCorrupt, match="batch 2 "):
        Broker(Random(0)).recover(world.journal.items())


def test_deliveries_alone_are_written() -> None:
    world = World().submit("a")
    before = world.last_seq
    world.worker("w")
    assert world.last_seq == before + 1
    assert [type(record) for record in r.decode(1, world.journal[world.last_seq])] == [r.Delivered]


def test_what_is_open_is_newest_only_when_there_is_something_in_it() -> None:
    ledger = Ledger(State())
    ledger.submit(submitted("a"), FSYNC)
    assert ledger.newest == 1
    ledger.cut()
    assert ledger.newest == 1
    ledger.submit(submitted("b"), MEMORY)
    assert ledger.newest == 1


def test_deliveries_need_no_fsync_and_outcomes_do() -> None:
    ledger = Ledger(State())
    for record, durability in [(submitted("a"), FSYNC), (None, OS), (None, FSYNC)]:
        if record is not None:
            ledger.submit(record, FSYNC)
        elif durability == OS:
            ledger.deliver(r.Delivered(id_of("w"), 1, []), FSYNC, [])
        else:
            ledger.succeed(r.Succeeded([], []), FSYNC)
        batch = ledger.cut()
        assert batch is not None
        assert batch.durability == durability
