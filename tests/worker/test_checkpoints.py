"""What attempts have come to is said once for each commit, before their reports, and again if need be."""

import pytest

from taskq.limits import BATCH_BYTES_TARGET, BATCH_MAX, CHECKPOINT_BYTES_MAX
from taskq.protocol.messages import Checkpoint, Checkpointed, CheckpointItem, Saved, Unsaved
from taskq.worker.checkpoints import Checkpoints


def item(lease: int, value: bytes = b"x") -> CheckpointItem:
    return CheckpointItem(lease.to_bytes(16, "big"), lease, Saved(value))


def said(checkpoints: Checkpoints) -> list[Checkpoint]:
    return checkpoints.messages() if checkpoints.is_due else []


class Waiter:
    def __init__(self, checkpoints: Checkpoints, lease: int) -> None:
        self.codes: list[str] = []
        checkpoints.when_saved(lease, self.codes.append)


def test_of_many_in_a_turn_the_last_is_said() -> None:
    checkpoints = Checkpoints()
    for page in range(100):
        checkpoints.put(item(1, bytes([page])))
    assert said(checkpoints) == [Checkpoint(1, [item(1, bytes([99]))])]
    assert said(checkpoints) == []


def test_the_next_round_waits_for_the_broker() -> None:
    checkpoints = Checkpoints()
    checkpoints.put(item(1, b"one"))
    said(checkpoints)
    checkpoints.put(item(1, b"two"))
    checkpoints.put(item(2, b"other"))
    assert said(checkpoints) == []
    checkpoints.on_checkpointed(Checkpointed(1))
    assert said(checkpoints) == [Checkpoint(2, [item(1, b"two"), item(2, b"other")])]


def test_but_not_if_a_report_would_overtake_it() -> None:
    checkpoints = Checkpoints()
    checkpoints.put(item(1, b"one"))
    said(checkpoints)
    checkpoints.put(item(1, b"two"))
    checkpoints.hurry(1)
    assert said(checkpoints) == [Checkpoint(2, [item(1, b"two")])]


def test_who_waits_hears_when_what_was_said_by_then_is_recorded() -> None:
    checkpoints = Checkpoints()
    assert Waiter(checkpoints, 1).codes == [""]
    checkpoints.put(item(1, b"one"))
    early = Waiter(checkpoints, 1)
    said(checkpoints)
    on_its_way = Waiter(checkpoints, 1)
    checkpoints.put(item(1, b"two"))
    late = Waiter(checkpoints, 1)
    checkpoints.on_checkpointed(Checkpointed(1))
    assert (early.codes, on_its_way.codes, late.codes) == ([""], [""], [])
    said(checkpoints)
    checkpoints.on_checkpointed(Checkpointed(2))
    assert late.codes == [""] == Waiter(checkpoints, 1).codes


def test_a_refusal_is_told_until_there_is_another_or_the_attempt_ends() -> None:
    checkpoints = Checkpoints()
    checkpoints.put(item(1))
    checkpoints.put(item(2))
    first, second = Waiter(checkpoints, 1), Waiter(checkpoints, 2)
    said(checkpoints)
    checkpoints.on_checkpointed(Checkpointed(1, [Unsaved(1, "busy")]))
    assert (first.codes, second.codes) == (["busy"], [""])
    assert Waiter(checkpoints, 1).codes == ["busy"]
    checkpoints.put(item(1))
    assert Waiter(checkpoints, 1).codes == []
    checkpoints.hurry(1)
    said(checkpoints)
    checkpoints.on_checkpointed(Checkpointed(2, [Unsaved(1, "stale")]))
    assert Waiter(checkpoints, 1).codes == [""], "nothing is remembered of an attempt that is over"


def test_after_a_reconnect_the_latest_is_said_again() -> None:
    checkpoints = Checkpoints()
    checkpoints.put(item(1, b"one"))
    checkpoints.put(item(2, b"one"))
    waiter = Waiter(checkpoints, 1)
    said(checkpoints)
    checkpoints.put(item(1, b"two"))
    assert checkpoints.again() == [Checkpoint(2, [item(1, b"two"), item(2, b"one")])]
    assert waiter.codes == []
    checkpoints.on_checkpointed(Checkpointed(2))
    assert waiter.codes == [""]
    assert checkpoints.again() == []


def test_with_a_success_there_is_nothing_left_to_say() -> None:
    checkpoints = Checkpoints()
    checkpoints.put(item(1))
    waiter = Waiter(checkpoints, 1)
    checkpoints.drop(1)
    assert (said(checkpoints), waiter.codes) == ([], ["over"])


@pytest.mark.parametrize(
    ("count", "size", "parts"), [(BATCH_MAX + 1, 1, 2), (40, CHECKPOINT_BYTES_MAX, 3), (16, 1, 1)]
)
def test_messages_are_not_larger_than_the_broker_accepts(count: int, size: int, parts: int) -> None:
    checkpoints = Checkpoints()
    for lease in range(count):
        checkpoints.put(item(lease, bytes(size)))
    waiter = Waiter(checkpoints, 0)
    messages = said(checkpoints)
    assert len(messages) == parts
    for message in messages:
        sizes = [len(each.saved.value) for each in message.items]
        assert len(sizes) <= BATCH_MAX
        assert sum(sizes) <= BATCH_BYTES_TARGET + CHECKPOINT_BYTES_MAX
        assert waiter.codes == []
        checkpoints.on_checkpointed(Checkpointed(message.seq))
    assert waiter.codes == [""]


def test_when_it_is_closed_everybody_is_told() -> None:
    checkpoints = Checkpoints()
    checkpoints.put(item(1))
    said(checkpoints)
    checkpoints.put(item(2))
    waiters = [Waiter(checkpoints, 1), Waiter(checkpoints, 2)]
    checkpoints.close()
    assert [waiter.codes for waiter in waiters] == [["over"], ["over"]]
