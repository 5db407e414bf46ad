"""Spans of time as users write them: seconds, a timedelta, or text like `5m`; inside, milliseconds."""

import math
import re
from datetime import timedelta
from typing import Final

from taskq.limits import HORIZON_MS

Seconds = float | timedelta | str

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SPAN: Final = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*(?:ms|s|m|h|d|w))+\s*")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_PLAIN: Final = re.compile(r"\s*\d+(?:\.\d+)?\s*")
_TEXT_CHARS_MAX: Final = 100


def millis_of(name: str, value: Seconds) -> int:
    """The span in milliseconds, rounded up so that a wait is never cut to none.

    Raises ValueError or TypeError, whose text begins with `name` and says what can be written.
    """
    millis = _millis(name, value)
    if not 0 <= millis <= HORIZON_MS:
        raise ValueError(f"{name} is from 0 to ten years, not {value!r}")
    return math.ceil(millis)


def _millis(name: str, value: Seconds) -> float:
    if isinstance(value, timedelta):
        return value / timedelta(milliseconds=1)
    if isinstance(value, str):
        return _parse(name, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is seconds, a timedelta or text like '5m', not {value!r}")
    if math.isnan(value):
        raise ValueError(f"{name} is from 0 to ten years, not nan")
    # To the microsecond: 0.07 s is 70 ms, though 0.07 * 1000 is a little more.
    return round(value * 1000, 3)


def _parse(name: str, text: str) -> float:
    if len(text) <= _TEXT_CHARS_MAX:
        if _PLAIN.fullmatch(text):
            return float(text) * 1000
        if _SPAN.fullmatch(text):
            return sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
    raise ValueError(f"{name}: {text[:40]!r} is no span of time; write '250ms', '30s', '5m', '1h30m', '2d'")
