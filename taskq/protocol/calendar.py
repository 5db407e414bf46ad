"""When a schedule is due: what cron texts, intervals and zones mean. Reads time-zone data, never a clock.

Part of the protocol, because both ends must agree on it: a client refuses a text before it sends
it, and the broker decides by the same code.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from taskq import limits
from taskq.errors import ConfigError

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ALLOWED: Final = (
    "a cron text has 5 fields (minute, hour, day of the month, month, day of the week), or 6 with the "
    f"seconds in front, or is one of {', '.join(NICKNAMES)}"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
# Whatever is looked for from here is found, or not, before datetime ends.
_LATEST_MS: Final = (datetime(9900, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
# Texts are few and mostly shared; one that was read takes some 10 KB.
_TEXTS_CACHED: Final = 500


class Calendar(Protocol):
    """The times at which a schedule is due, at least a second apart."""

    def after(self, wall_ms: int) -> int:
        """The first one after this time, in ms since 1970; 0: there is none any more."""


class Every:
    """At a fixed rate from a beginning: however late one is, the next is not."""

    def __init__(self, interval_ms: int, since_ms: int) -> None:
        _check_range("an interval", interval_ms, limits.INTERVAL_MIN_MS, limits.HORIZON_MS)
        self._interval_ms = interval_ms
        self._since_ms = since_ms

    def after(self, wall_ms: int) -> int:
        passed = max(wall_ms - self._since_ms, 0) // self._interval_ms
        return self._since_ms + (passed + 1) * self._interval_ms


class Cron:
    """As Debian's cron has it, seconds included.

    A text that names its minutes and hours means the clock on the wall: a time that a clock change
    leaves out is due right after it, one that comes twice is due the first time. One with a `*` in
    front of its minutes or hours counts real time: it is due in both of two equal hours.
    """

    def __init__(self, text: str, zone: str = "UTC") -> None:
        """Raises ConfigError, saying what is allowed."""
        self._text = NICKNAMES.get(text.strip().lower(), text)
        self._zone = zone_of(zone)
        if len(text) > limits.CRON_CHARS_MAX:
            raise ConfigError(f"a cron text has at most {limits.CRON_CHARS_MAX} characters, not {len(text)}")
        _, minutes, hours, *_ = _parsed(self._text).parts
        self._is_by_the_wall = not minutes.startswith("*") and not hours.startswith("*")

    def after(self, wall_ms: int) -> int:
        if wall_ms > _LATEST_MS:
            return 0
        moment = datetime.fromtimestamp(wall_ms // 1000, self._zone)
        found = self._by_the_wall(moment) if self._is_by_the_wall else self._in_real_time(moment)
        return 0 if found is None else (found - _EPOCH) // _MS

    def _in_real_time(self, moment: datetime) -> datetime | None:
        times = _parsed(self._text)
        times.dt = moment
        return next(times, None)

    def _by_the_wall(self, moment: datetime) -> datetime | None:
        times = _parsed(self._text)
        # All times of an hour that comes twice were due in the first one.
        times.dt = _end_of_second(moment) if moment.fold else moment.replace(tzinfo=None)
        local = next(times, None)
        if local is None:
            return None
        found = local.replace(tzinfo=self._zone)
        if not _is_left_out(found):
            return found
        found = found.replace(second=0)
        while _is_left_out(found):
            found += timedelta(minutes=1)
        return found


def calendar_of(cron: str, interval_ms: int, zone: str, since_ms: int) -> Calendar:
    """Of a schedule that has one of a cron text and an interval. Raises ConfigError when it cannot be."""
    if bool(cron) == bool(interval_ms):
        raise ConfigError("a schedule has either a cron text or an interval, and not both")
    if cron:
        return Cron(cron, zone)
    zone_of(zone)
    return Every(interval_ms, since_ms)


def zone_of(name: str) -> tzinfo:
    """Raises ConfigError when there is no such time zone."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name of a file; a folder of zones
        raise ConfigError(
            f"{name[:60]!r} is no time zone; write one as in Europe/Berlin, America/New_York or UTC"
        ) from None


def due(calendar: Calendar, after_ms: int, until_ms: int, most: int) -> list[int]:
    """The newest times in (after, until], at most so many, oldest first.

    Costs about `most` looks at the calendar, also when there are millions of times between.
    """
    times: list[int] = []
    at_ms = calendar.after(after_ms)
    while 0 < at_ms <= until_ms:
        if len(times) == most:
            return _newest(calendar, at_ms, until_ms, most, after_ms)
        times.append(at_ms)
        at_ms = calendar.after(at_ms)
    return times


def _newest(calendar: Calendar, known_ms: int, until_ms: int, most: int, after_ms: int) -> list[int]:
    times = [_last(calendar, known_ms, until_ms)]
    step_ms = limits.INTERVAL_MIN_MS
    while len(times) < most:
        newer_ms = times[-1]
        low_ms = newer_ms - step_ms
        while (at_ms := calendar.after(max(low_ms, after_ms))) >= newer_ms:
            step_ms *= 2
            low_ms = newer_ms - step_ms
        times.append(_last(calendar, at_ms, newer_ms - 1))
        step_ms = newer_ms - times[-1] + limits.INTERVAL_MIN_MS
    return times[::-1]


def _last(calendar: Calendar, known_ms: int, until_ms: int) -> int:
    """The newest time up to `until`; `known` is one that is not after it."""
    while until_ms - known_ms >= limits.INTERVAL_MIN_MS:
        at_ms = calendar.after((known_ms + until_ms) // 2)
        if 0 < at_ms <= until_ms:
            known_ms = at_ms
        else:
            until_ms = (known_ms + until_ms) // 2
    return known_ms


@lru_cache(maxsize=_TEXTS_CACHED)
def _parsed(text: str) -> CronSim:
    """The text, read; whoever uses it sets `dt`, and is done with it before anybody else."""
    shown = repr(text[:60])
    try:
        times = CronSim(text, datetime(2000, 1, 1))
    except CronSimError as error:
        raise ConfigError(f"{shown}: {str(error)[:1].lower()}{str(error)[1:]}; {_ALLOWED}") from None
    if next(times, None) is None:
        raise ConfigError(f"{shown} is never due: there is no such day; {_ALLOWED}")
    return times


def _is_left_out(moment: datetime) -> bool:
    """Is this a local time that a clock change jumps over?"""
    return moment.astimezone(UTC).astimezone(moment.tzinfo).replace(tzinfo=None) != moment.replace(
        tzinfo=None
    )


def _end_of_second(moment: datetime) -> datetime:
    """The last local second of the hour that comes twice, and in whose second coming this is."""
    local = moment.replace(second=0)
    while local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        local += timedelta(minutes=1)
    return local.replace(tzinfo=None, fold=0) - timedelta(seconds=1)


def _check_range(what: str, value_ms: int, least_ms: int, most_ms: int) -> None:
    if not least_ms <= value_ms <= most_ms:
        raise ConfigError(f"{what} is from {least_ms} ms to {most_ms} ms, not {value_ms} ms")
