"""Frames: cut the same however the bytes arrive, and refused at the header."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.limits import FRAME_BYTES_MAX
from taskq.protocol.frames import FrameReader, FrameTooLong, ProtocolError, encode
from taskq.protocol.messages import Ack, Ping, Success
from tests.protocol.samples import ID


def framed(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def test_a_message_is_its_length_and_its_array() -> None:
    assert encode(Ping(5)) == bytes.fromhex("00000003 92 06 05")
    assert encode(Ping(5), Ping(6)) == encode(Ping(5)) + encode(Ping(6))
    assert encode() == b""


def test_what_is_too_long_is_not_encoded() -> None:
    with pytest.raises(FrameTooLong, match=str(FRAME_BYTES_MAX)):
        encode(Ack(1, [Success(ID, 1, bytes(FRAME_BYTES_MAX))]))


@given(st.lists(st.binary(min_size=1, max_size=40)), st.data())
def test_cuts_do_not_matter(bodies: list[bytes], data: st.DataObject) -> None:
    stream = framed(*bodies)
    reader = FrameReader(40)
    got: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert got == bodies
    assert reader.buffered == 0
    reader.feed_eof()


def test_a_large_frame_in_chunks_with_neighbours() -> None:
    large = bytes(range(256)) * 8_000
    stream = framed(b"before", large, b"after", b"last")
    for size in (1_000, 65_536, 262_144, len(stream)):
        reader = FrameReader(FRAME_BYTES_MAX)
        got = [frame for at in range(0, len(stream), size) for frame in reader.feed(stream[at : at + size])]
        assert got == [b"before", large, b"after", b"last"]


def test_a_frame_at_the_limit_and_one_above() -> None:
    assert FrameReader(10).feed(framed(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameTooLong, match="a frame of 11 bytes; the limit here is 10"):
        FrameReader(10).feed(framed(b"x" * 11))


def test_it_is_refused_at_the_header_and_nothing_is_kept() -> None:
    reader = FrameReader(10)
    assert reader.feed(b"\x00\x00\x00") == []
    with pytest.raises(FrameTooLong) as caught:
        reader.feed(b"\x0b")
    assert caught.value.code == "too_large"
    assert caught.value.header == b"\x00\x00\x00\x0b"
    assert reader.buffered == 0


def test_frames_before_a_bad_header_are_not_lost() -> None:
    with pytest.raises(FrameTooLong) as caught:
        FrameReader(10).feed(framed(b"one", b"two") + b"\xff\xff\xff\xff")
    assert caught.value.frames == [b"one", b"two"]


def test_a_frame_of_nothing_is_refused() -> None:
    with pytest.raises(ProtocolError, match="0 bytes") as caught:
        FrameReader(10).feed(framed(b"one", b""))
    assert caught.value.code == "malformed"
    assert caught.value.frames == [b"one"]


def test_a_raised_limit_holds_from_the_next_header_on() -> None:
    reader = FrameReader(10)
    assert reader.feed(framed(b"one")) == [b"one"]
    reader.raise_limit(100)
    assert reader.feed(framed(b"x" * 100)) == [b"x" * 100]


@pytest.mark.parametrize(("sent", "had"), [(b"\x00\x00", "2 of 4"), (b"\x00\x00\x00\x05abc", "7 of 9")])
def test_the_end_inside_a_frame_is_an_error(sent: bytes, had: str) -> None:
    reader = FrameReader(10)
    assert reader.feed(sent) == []
    with pytest.raises(ProtocolError, match=had):
        reader.feed_eof()


def test_a_frame_that_trickles_in_costs_its_size_and_not_more() -> None:
    stream = framed(bytes(400_000))
    reader = FrameReader(FRAME_BYTES_MAX)
    tracemalloc.start()
    try:
        for at in range(0, len(stream) - 2, 2):
            assert reader.feed(stream[at : at + 2]) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(stream)
    assert reader.feed(stream[-2:]) == [bytes(400_000)]
