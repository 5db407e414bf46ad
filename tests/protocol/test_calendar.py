"""Cron texts, zones and intervals: the right moment, also when clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskq import limits
from taskq.errors import ConfigError
from taskq.protocol.calendar import NICKNAMES, Cron, Every, calendar_of, due, zone_of

YEAR_MS = 365 * 24 * 3_600_000


def ms(text: str, zone: str = "UTC") -> int:
    """`2026-03-29T02:30`, in this zone; with `+01:00` as it says."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    return int(moment.timestamp() * 1_000)


def after(text: str, begin: str, count: int, zone: str = "UTC") -> list[str]:
    """The first times after a local one, as local times with their offset."""
    calendar, at_ms, times = Cron(text, zone), ms(begin, zone), []
    for _ in range(count):
        at_ms = calendar.after(at_ms)
        times.append(datetime.fromtimestamp(at_ms / 1_000, ZoneInfo(zone)).isoformat())
    return times


# -- the clock on the wall ------------------------------------------------------------------------


def test_half_past_two_in_berlin_on_the_day_that_has_none() -> None:
    """29 March 2026: at 02:00 it is 03:00. It is due right after, once."""
    assert after("30 2 * * *", "2026-03-28T12:00", 2, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_half_past_two_in_berlin_on_the_day_that_has_two() -> None:
    """25 October 2026: at 03:00 it is 02:00 again. It is due in the first one only."""
    assert after("30 2 * * *", "2026-10-24T12:00", 2, "Europe/Berlin") == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


@pytest.mark.parametrize("text", ["30 2 * * *", "0 30 2 * * *", "15,30,45 2 * * *", "0-59 2 * * *"])
def test_from_within_the_second_of_two_equal_hours_the_next_is_tomorrow(text: str) -> None:
    begin_ms = ms("2026-10-25T02:05:00+01:00")
    found = datetime.fromtimestamp(Cron(text, "Europe/Berlin").after(begin_ms) / 1_000, UTC)
    assert found.astimezone(ZoneInfo("Europe/Berlin")).day == 26


def test_several_times_that_are_left_out_are_one() -> None:
    assert after("0,20,40 2 * * *", "2026-03-28T12:00", 2, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_seconds_have_no_other_rules() -> None:
    assert after("15 30 2 * * *", "2026-03-28T12:00", 1, "Europe/Berlin") == ["2026-03-29T03:00:00+02:00"]
    assert after("15 30 2 * * *", "2026-10-24T12:00", 2, "Europe/Berlin") == [
        "2026-10-25T02:30:15+02:00",
        "2026-10-26T02:30:15+01:00",
    ]


@pytest.mark.parametrize("text", ["*/30 2 * * *", "*/30 * * * *"])
def test_real_time_has_both_hours(text: str) -> None:
    assert after(text, "2026-10-25T01:59", 4, "Europe/Berlin") == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
    ]


def test_real_time_has_nothing_in_an_hour_that_is_left_out() -> None:
    assert after("*/30 2 * * *", "2026-03-29T00:00", 1, "Europe/Berlin") == ["2026-03-30T02:00:00+02:00"]
    assert after("*/30 * * * *", "2026-03-29T01:30", 1, "Europe/Berlin") == ["2026-03-29T03:00:00+02:00"]


def test_midnight_in_zones_that_change_at_midnight() -> None:
    """Santiago: 6 September 2026 begins at 01:00."""
    assert after("@daily", "2026-09-05T12:00", 2, "America/Santiago") == [
        "2026-09-06T01:00:00-03:00",
        "2026-09-07T00:00:00-03:00",
    ]


def test_a_day_that_an_island_leaves_out() -> None:
    """Samoa had no 30 December 2011."""
    assert after("0 12 * * *", "2011-12-28T13:00", 3, "Pacific/Apia") == [
        "2011-12-29T12:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T12:00:00+14:00",
    ]


# -- the calendar ---------------------------------------------------------------------------------


def test_the_29th_of_february() -> None:
    assert after("0 0 29 2 *", "2026-01-01T00:00", 3) == [
        "2028-02-29T00:00:00+00:00",
        "2032-02-29T00:00:00+00:00",
        "2036-02-29T00:00:00+00:00",
    ]
    assert after("0 0 29 2 *", "2096-03-01T00:00", 1) == ["2104-02-29T00:00:00+00:00"], "2100 has none"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("@yearly", "2027-01-01T00:00:00+00:00"),
        ("@annually", "2027-01-01T00:00:00+00:00"),
        ("@monthly", "2026-06-01T00:00:00+00:00"),
        ("@weekly", "2026-05-24T00:00:00+00:00"),
        ("@daily", "2026-05-22T00:00:00+00:00"),
        ("@midnight", "2026-05-22T00:00:00+00:00"),
        ("@hourly", "2026-05-21T13:00:00+00:00"),
        ("@HOURLY ", "2026-05-21T13:00:00+00:00"),
        ("*/15 * * * *", "2026-05-21T12:45:00+00:00"),
        ("*/10 * * * * *", "2026-05-21T12:34:10+00:00"),
        ("0 0 L * *", "2026-05-31T00:00:00+00:00"),
        ("0 0 LW * *", "2026-05-29T00:00:00+00:00"),
        ("0 9 * * MON-FRI", "2026-05-22T09:00:00+00:00"),
        ("0 9 * * mon#1", "2026-06-01T09:00:00+00:00"),
        ("0 9 13 * FRI", "2026-05-22T09:00:00+00:00"),
        ("0 9 13 * *", "2026-06-13T09:00:00+00:00"),
    ],
)
def test_texts(text: str, first: str) -> None:
    """From 21 May 2026, 12:34:00, a Thursday."""
    assert after(text, "2026-05-21T12:34", 1) == [first]


def test_every_nickname_is_a_text() -> None:
    assert all(Cron(name).after(0) == Cron(text).after(0) for name, text in NICKNAMES.items())


def test_an_interval_has_its_own_beginning() -> None:
    calendar = Every(1_500, since_ms=10_200)
    assert [calendar.after(at_ms) for at_ms in (0, 10_199, 10_200, 11_699, 11_700, 11_701)] == [
        *(11_700, 11_700, 11_700, 11_700, 13_200, 13_200)
    ]


texts = st.sampled_from(
    ["* * * * *", "30 2 * * *", "0,30 1-3 * * *", "*/7 * * * * *", "15 */2 * * *", "0 0 * * SUN", "5 5 L * *"]
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])


@settings(deadline=None)
@given(texts, zones, st.integers(ms("2026-01-01"), ms("2027-01-01")))
@example("0,30 1-3 * * *", "Europe/Berlin", ms("2026-10-25T00:59:59+00:00"))
@example("30 2 * * *", "Australia/Lord_Howe", ms("2026-04-04T00:00"))
def test_the_next_is_the_next_wherever_one_begins(text: str, zone: str, begin_ms: int) -> None:
    calendar = Cron(text, zone)
    found_ms = calendar.after(begin_ms)
    assert found_ms > begin_ms
    assert found_ms % 1_000 == 0
    for at_ms in (begin_ms, (begin_ms + found_ms) // 2, found_ms - 1_000, found_ms - 1):
        if at_ms >= begin_ms:
            assert calendar.after(at_ms) == found_ms
    assert calendar.after(found_ms) > found_ms


# -- what is missed -------------------------------------------------------------------------------


@settings(deadline=None)
@given(texts, zones, st.integers(0, 3 * 24 * 3_600_000), st.integers(1, 40))
def test_the_newest_are_those_that_walking_finds(text: str, zone: str, span_ms: int, most: int) -> None:
    calendar, begin_ms = Cron(text, zone), ms("2026-10-24T00:00")
    walked, at_ms = [], begin_ms
    while (at_ms := calendar.after(at_ms)) <= begin_ms + min(span_ms, 20_000_000):
        walked.append(at_ms)
    assert due(calendar, begin_ms, begin_ms + min(span_ms, 20_000_000), most) == walked[-most:]


def test_the_newest_of_millions_are_found_at_once() -> None:
    march = Cron("* * * 3 *")
    begin_ms, end_ms = ms("2020-01-01"), ms("2026-12-01")
    assert due(march, begin_ms, end_ms, 1) == [ms("2026-03-31T23:59")]
    newest = due(march, begin_ms, end_ms, 1_000)
    assert {b - a for a, b in pairwise(newest)} == {60_000}
    assert (len(newest), newest[-1]) == (1_000, ms("2026-03-31T23:59"))
    assert due(Every(1_000, 0), 0, 10 * YEAR_MS, 2) == [10 * YEAR_MS - 1_000, 10 * YEAR_MS]


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "wrong number of fields"),
        ("* * * *", "wrong number of fields"),
        ("* * * * * * *", "wrong number of fields"),
        ("@reboot", "wrong number of fields"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day-of-month"),
        ("* * * 13 *", "bad month"),
        ("* * * * 8", "bad day-of-week"),
        ("* * * * MON#6", "bad day-of-week"),
        ("5-1 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("every day", "wrong number of fields"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 30,31 2 *", "bad day-of-month"),
        ("0 0 31 4,6,9,11 *", "bad day-of-month"),
        ("\0 * * * *", "bad minute"),
        ("² * * * *", "bad minute"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        Cron(text)
    assert "5 fields (minute, hour, day of the month" in str(caught.value)


def test_a_text_that_is_too_long() -> None:
    with pytest.raises(ConfigError, match="at most 200 characters, not 201"):
        Cron("*" * 201)


@settings(deadline=None, max_examples=500)
@given(st.text("0123456789*/,-#LWmonFEB@ ", max_size=30) | st.text(max_size=50))
@example("1,2#3/4 * * * *")
@example("* * L/2 * 5L")
@example("* * * * 1#2/3")
@example("* * W * LL")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        calendar = Cron(text)
    except ConfigError:
        return
    assert calendar.after(0) > 0


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "Europe", "", "../../etc/passwd", "/etc/passwd", "a\0b", "x" * 200, "berlin"]
)
def test_an_unknown_zone(zone: str) -> None:
    with pytest.raises(ConfigError, match="is no time zone; write one as in Europe/Berlin"):
        zone_of(zone)
    with pytest.raises(ConfigError, match="is no time zone"):
        calendar_of("", 1_000, zone, 0)


@pytest.mark.parametrize("interval_ms", [-1, 1, 999, limits.HORIZON_MS + 1])
def test_an_interval_that_cannot_be(interval_ms: int) -> None:
    with pytest.raises(ConfigError, match="an interval is from 1000 ms"):
        calendar_of("", interval_ms, "UTC", 0)


@pytest.mark.parametrize(("cron", "interval_ms"), [("", 0), ("* * * * *", 1_000)])
def test_it_is_one_of_both(cron: str, interval_ms: int) -> None:
    with pytest.raises(ConfigError, match="either a cron text or an interval"):
        calendar_of(cron, interval_ms, "UTC", 0)


def test_a_clock_that_is_out_of_its_mind_finds_nothing() -> None:
    calendar = Cron("* * * * *", "Europe/Berlin")
    assert calendar.after(2**53) == 0
    assert due(calendar, 2**53 - 10**9, 2**53, 10) == []
    last = datetime(9899, 12, 31, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert calendar.after(last // timedelta(milliseconds=1)) > 0
