"""Smaller when it is worth it, and never more than is allowed when it is read."""

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.client.values import compression
from taskq.client.values.compression import (
    compressed,
    inflated,
    smaller_call,
    smaller_result,
    terms_of_compressed,
)
from taskq.errors import DecodeError
from taskq.limits import EXT_ITEMS_MAX, PAYLOAD_BYTES_MAX
from taskq.protocol.messages import BLOB, COMPRESSED, ENCRYPTED, Callback, Terms

TERMS = Terms("t", labels=(("zone", "b"),))
MUCH = b"all work and no play " * 500


@given(st.binary(max_size=5_000) | st.binary(max_size=20).map(lambda part: part * 500))
def test_what_is_compressed_is_read_again(data: bytes) -> None:
    smaller = compressed(data)
    if smaller is not None:
        assert len(smaller) <= len(data) * 0.9
        assert inflated(smaller, COMPRESSED) == data


def test_what_does_not_get_smaller_stays() -> None:
    noise = os.urandom(5_000)
    assert compressed(noise) is None
    assert smaller_call(noise, TERMS) == (noise, TERMS, 0)
    assert smaller_result(noise, COMPRESSED) == (noise, 0)


def test_a_compressed_call_is_for_workers_that_can_read_it() -> None:
    payload, terms, flags = smaller_call(MUCH, TERMS)
    assert (inflated(payload, flags), flags) == (MUCH, COMPRESSED)
    assert terms.labels == (("taskq.zstd", "yes"), ("zone", "b"))
    assert terms_of_compressed(TERMS) is terms
    full = Terms("t", labels=tuple((f"{n:02}", "") for n in range(EXT_ITEMS_MAX)))
    assert smaller_call(MUCH, full) == (MUCH, full, 0)
    for told in (Terms("t", on_dead=Callback("x")), Terms("t", on_failure=Callback("x"))):
        assert smaller_call(MUCH, told) == (MUCH, told, 0)


def test_a_result_is_compressed_for_who_can_read_it() -> None:
    data, flags = smaller_result(MUCH, COMPRESSED | ENCRYPTED)
    assert (inflated(data, flags), flags) == (MUCH, COMPRESSED)
    assert smaller_result(MUCH, 0) == smaller_result(MUCH, ENCRYPTED) == (MUCH, 0)


def test_without_zstd_results_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    assert smaller_result(MUCH, COMPRESSED) == (MUCH, 0)


def test_no_flags_no_change_and_unknown_ones_are_not_guessed() -> None:
    assert inflated(b"x", 0) == b"x"
    for flags in (ENCRYPTED, BLOB, COMPRESSED | ENCRYPTED, 128):
        with pytest.raises(DecodeError, match=f"flags {flags:#x} are not known"):
            inflated(b"x", flags)


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    zstd = compression._zstd()
    bomb = zstd.compress(b"\0" * 100_000_000)
    assert len(bomb) < 20_000
    with pytest.raises(DecodeError, match="more than 1048576 bytes"):
        inflated(bomb, COMPRESSED)
    whole = zstd.compress(b"\0" * PAYLOAD_BYTES_MAX)
    assert len(inflated(whole, COMPRESSED)) == PAYLOAD_BYTES_MAX
    with pytest.raises(DecodeError, match="more than 1048576 bytes"):
        inflated(zstd.compress(b"\0" * (PAYLOAD_BYTES_MAX + 1)), COMPRESSED)


def test_a_window_that_would_take_gigabytes_is_refused() -> None:
    zstd = compression._zstd()
    writer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    data = writer.compress(b"\0" * 1_000) + writer.flush()
    with pytest.raises(DecodeError, match="not what zstd makes"):
        inflated(data, COMPRESSED)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60), st.booleans())
def test_hostile_bytes_raise_nothing_else(noise: bytes, at: int, is_real: bool) -> None:
    data = compressed(MUCH) or b""
    with contextlib.suppress(DecodeError):
        inflated(data[:at] + noise + data[at:] if is_real else noise, COMPRESSED)


def test_a_part_of_a_frame_or_more_than_one_is_refused() -> None:
    data = compressed(MUCH)
    assert data is not None
    for wrong in (data[:-1], data + data, data + b"x", b""):
        with pytest.raises(DecodeError):
            inflated(wrong, COMPRESSED)
