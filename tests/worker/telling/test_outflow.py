"""What attempts yield is said once, again after a reconnect, and no further ahead than there is room for."""

from msgspec import msgpack

from taskq import limits
from taskq.protocol.messages import Items, LogItem, Logs, Mark, Message, Told
from taskq.worker.telling.outflow import Lines, Outflow

ID = b"i" * 16


def numbers(said: list[Message]) -> list[tuple[int, int]]:
    parts = [told for each in said if isinstance(each, Items | Logs) for told in each.items]
    return [(chunk.first, chunk.count) for told in parts for chunk in told.chunks]


def test_what_comes_together_goes_together() -> None:
    outflow = Outflow()
    stream = outflow.open(ID, 7)
    assert [stream.put(b"x") for _ in range(300)] == [True] + [False] * 299
    outflow.is_due(stream)
    said = outflow.outgoing()
    assert len(said) == 1
    assert numbers(said) == [(1, 128), (129, 128), (257, 44)]
    (told,) = said[0].items  # type: ignore[attr-defined]  # numbers() has looked
    assert msgpack.decode(told.chunks[2].data) == [b"x"] * 44
    assert outflow.outgoing() == []
    assert stream.put(b"y")


def test_what_was_not_taken_is_said_again() -> None:
    outflow = Outflow()
    stream = outflow.open(ID, 7)
    for _ in range(200):
        stream.put(b"x")
    outflow.is_due(stream)
    outflow.outgoing()
    outflow.on_took([Mark(7, 129), Mark(8, 5)])
    outflow.on_welcome()
    assert numbers(outflow.outgoing()) == [(129, 72)]
    stream.is_over = True
    outflow.on_took([Mark(7, 201)])
    assert not outflow.streams


def test_an_attempt_has_room_again_when_something_is_taken() -> None:
    outflow = Outflow()
    stream = outflow.open(ID, 7)
    rang: list[int] = []
    stream.on_room = lambda: rang.append(1)
    while stream.has_room:
        stream.put(b"x")
    assert stream.count == limits.STREAM_AHEAD_ENTRIES
    stream.cut()
    outflow.on_took([Mark(7, 129)])
    assert stream.has_room and rang


def test_without_a_broker_the_oldest_half_is_given_up() -> None:
    stream = Outflow().open(ID, 7)
    while stream.has_room:
        stream.put(b"x" * 1_000)
    stream.give_up()
    assert stream.has_room
    assert stream.cut()[0].first > 500


def test_lines_that_are_too_many_leave_a_gap() -> None:
    lines = Lines(ID)
    for number in range(limits.LOG_LINES_AHEAD + 5):
        lines.put(LogItem(0, 20, "x", str(number)))
    first = lines.cut()[0]
    assert first.first == 6
    outflow = Outflow()
    outflow.log(Told(ID, 7, [first]))
    assert outflow
    assert numbers(outflow.outgoing()) == [(6, 128)]
    assert not outflow
