"""What supervisor and child say to each other survives the way."""

import pytest

from taskq.worker.control import (
    Begin,
    Failed,
    FromChild,
    Ready,
    Told,
    decode_begin,
    decode_from_child,
    encode_line,
)
from taskq.worker.settings import WorkerSettings


def test_a_child_is_told_all_that_the_supervisor_was_told() -> None:
    settings = WorkerSettings(app="tasks:q", urls=("taskq://h:1",), token="t", queues=("a",), burst=True)
    begin = Begin(settings, b"s" * 16, 7)
    assert decode_begin(encode_line(begin)) == begin


@pytest.mark.parametrize(
    "said",
    [Ready(["taskq://h:1"], None), Failed("config", "line one\nline two"), Told(7, "line one\nline two")],
)
def test_what_a_child_says_is_one_line(said: FromChild) -> None:
    line = encode_line(said)
    assert line.count(b"\n") == 1
    assert decode_from_child(line) == said
