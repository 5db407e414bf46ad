"""Durations, sizes, counts, times and addresses as people write them."""

import datetime as dt

import pytest

from taskq import limits
from taskq.cli import values


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1h30m", 5_400_000),
        ("1h 30m 5s", 5_405_000),
        ("1.5s", 1_500),
        ("0.1s", 100),
        ("5M", 300_000),
        ("10", 10_000),
        ("0", 0),
    ],
)
def test_a_duration_is_read_exactly(text: str, ms: int) -> None:
    assert values.duration_ms(text) == ms


@pytest.mark.parametrize(
    "text", ["", "m", "5x", "-5s", "5 minutes", "1h30", "1,5s", "1e3s", "s5", "0.0001s", "nan"]
)
def test_what_is_no_duration_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"250ms, 30s, 5m|finer than"):
        values.duration_ms(text)


def test_a_duration_has_a_horizon() -> None:
    days = limits.HORIZON_MS // 86_400_000
    assert values.duration_ms(f"{days}d") == limits.HORIZON_MS
    with pytest.raises(ValueError, match=f"at most {days}d"):
        values.duration_ms(f"{days + 1}d")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MB", 64_000_000),
        ("64MiB", 64 * 2**20),
        ("1.5kB", 1_500),
        ("900B", 900),
        ("900", 900),
        ("2 GB", 2 * 10**9),
    ],
)
def test_a_size_is_read_exactly(text: str, size: int) -> None:
    assert values.size_bytes(text) == size


@pytest.mark.parametrize("text", ["64Mb/s", "MB", "-1", "64m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64MB, 64MiB"):
        values.size_bytes(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("100k", 100_000), ("2M", 2_000_000), ("1.5k", 1_500), ("1_000", 1_000), ("1,000", 1_000)],
)
def test_a_count_is_read_exactly(text: str, number: int) -> None:
    assert values.count(text) == number


@pytest.mark.parametrize("text", ["many", "0.5", "-3", "1,00"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"100k|finer than"):
        values.count(text)


def test_a_time_with_an_offset_is_that_moment() -> None:
    assert values.wall_ms("2030-01-31T18:00:00+01:00") == 1_896_109_200_000


def test_a_time_without_an_offset_is_local() -> None:
    local = dt.datetime(2030, 1, 31, 18).astimezone()
    assert values.wall_ms("2030-01-31T18:00") == int(local.timestamp() * 1000)


def test_what_is_no_time_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match="2030-01-31T18:00"):
        values.wall_ms("tomorrow")


def test_an_address_is_taken_apart() -> None:
    assert values.address("127.0.0.1:7701") == ("127.0.0.1", 7701)
    assert values.address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("text", ["7701", ":7701", "host:", "host:port", "host:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        values.address(text)


def test_a_unix_address_says_that_it_is_one() -> None:
    assert values.unix_address("unix:/run/taskq.sock") == "unix:/run/taskq.sock"
    for text in ("/run/taskq.sock", "unix:"):
        with pytest.raises(ValueError, match="unix:PATH"):
            values.unix_address(text)
