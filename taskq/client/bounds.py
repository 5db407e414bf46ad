"""Bounds of a task over all workers: how many of its jobs run at once, and how many start in a while."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from taskq.limits import HORIZON_MS, RATE_PER_S_MAX
from taskq.protocol.messages import Limit

Per = Literal["key"]

COUNT_MAX: Final = 2**31  # as on the wire
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE: Final = re.compile(r"\s*(\d{1,12})\s*/\s*(\d{1,12})?\s*(s|min|m|h|d)\s*", re.ASCII)
_ALLOWED: Final = "a rate is written '10/s', '5/10s', '100/min', '1000/h' or '1/d'"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `n` jobs of the task run at once, over all workers; with `per="key"`, of each key."""

    n: int
    per: Per | None = None

    def __post_init__(self) -> None:
        _check_whole("concurrency", self.n)
        _check_per("concurrency", self.per)

    def limit(self, task: str) -> Limit:
        return Limit("task", task, "concurrency", self.n, self.per == "key")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many jobs of the task start in a while, over all workers; with `per="key"`, of each key.

    "10/s", "5/10s", "100/min", "1000/h", "1/d". After a while without any, `burst` may start at once; by
    default as many as the rate names.
    """

    text: str
    per: Per | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        parse_rate(self.text)
        _check_per("rate_limit", self.per)
        if self.burst is not None:
            _check_whole("rate_limit: burst", self.burst)

    def limit(self, task: str) -> Limit:
        count, period_ms = parse_rate(self.text)
        return Limit("task", task, "rate", count, self.per == "key", period_ms, self.burst or 0)


def parse_rate(text: object) -> tuple[int, int]:
    """How many in how many ms. TypeError and ValueError say what can be written."""
    if not isinstance(text, str):
        raise TypeError(f"rate_limit: {_ALLOWED}, not {text!r:.80}")
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"rate_limit: {text[:40]!r} is no rate; {_ALLOWED}")
    count, period_ms = int(found[1]), int(found[2] or 1) * _UNITS_MS[found[3]]
    if not count:
        raise ValueError(
            f"rate_limit: {text!r} lets no job start, ever; the least is 1 in a while, as in '1/d'"
        )
    if count > COUNT_MAX:
        raise ValueError(f"rate_limit: {text!r}: at most {COUNT_MAX} in a while")
    if not 0 < period_ms <= HORIZON_MS:
        raise ValueError(f"rate_limit: {text!r}: the while is more than nothing, and at most ten years")
    if count * 1_000 > RATE_PER_S_MAX * period_ms:
        raise ValueError(
            f"rate_limit: {text!r} is over {RATE_PER_S_MAX:,} a second, which bounds nothing; leave it out"
        )
    return count, period_ms


def concurrency_of(value: object) -> Concurrency:
    """What `concurrency=` means: a number, or a Concurrency."""
    if isinstance(value, Concurrency):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"concurrency is a whole number or Concurrency(n, per='key'), not {value!r:.80}")
    return Concurrency(value)


def rate_of(value: object) -> Rate:
    """What `rate_limit=` means: a text, or a Rate."""
    if isinstance(value, Rate):
        return value
    if not isinstance(value, str):
        raise TypeError(f"rate_limit is a text such as '10/s' or Rate('10/s', per='key'), not {value!r:.80}")
    return Rate(value)


def _check_whole(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number, not {value!r:.80}")
    if not 1 <= value <= COUNT_MAX:
        raise ValueError(f"{what} is from 1 to {COUNT_MAX}, not {value}")


def _check_per(what: str, value: object) -> None:
    if value not in (None, "key"):
        raise ValueError(
            f"{what}: per is 'key', so that each key has a bound of its own, or None, not {value!r:.80}"
        )
