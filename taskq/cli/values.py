"""Durations, sizes, counts, times and addresses as people write them: `5m`, `64MB`, `100k`."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import click

from taskq import limits

_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES: Final = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_MANY: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
# A comma only groups thousands: `1,5s` must not become fifteen seconds.
_PIECE: Final = re.compile(r"((?:\d{1,3}(?:,\d{3})+|\d[\d_]*)(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)

T = TypeVar("T")


def duration_ms(text: str) -> int:
    """Milliseconds in `250ms`, `30s`, `5m`, `1h30m`; a bare number is seconds, as in Python's API.

    Raises ValueError with what is allowed.
    """
    total = _sum(text, _MS, bare="s", allowed="a duration such as 250ms, 30s, 5m, 1h30m or 2d")
    if total > limits.HORIZON_MS:
        raise ValueError(f"{text!r} is too long; at most {limits.HORIZON_MS // _MS['d']}d")
    return total


def size_bytes(text: str) -> int:
    """Bytes in `64MB` (10**6) or `64MiB` (2**20); a bare number is bytes. Raises ValueError."""
    return _sum(text, _BYTES, bare="b", allowed="a size such as 900B, 64kB, 64MB, 64MiB or 2GB")


def count(text: str) -> int:
    """How many `100k`, `2M`, `1_000` or `1,000` are. Raises ValueError."""
    return _sum(text, _MANY, bare="", allowed="a count such as 500, 100k or 2M")


def wall_ms(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; without an offset it is local time. Raises ValueError."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time such as 2030-01-31T18:00 (local) or 2030-01-31T18:00:00+01:00"
        ) from None
    return int(moment.timestamp() * 1000)


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT` taken apart. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not (colon and host and port.isdecimal() and int(port) <= 65_535):
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:7701")
    return host, int(port)


def unix_address(text: str) -> str:
    """`unix:PATH` as it is, for it is the only such address. Raises ValueError."""
    if not text.startswith("unix:") or text == "unix:":
        raise ValueError(f"{text!r} is not unix:PATH, such as unix:/run/taskq.sock")
    return text


def pairs(text: str) -> dict[str, str]:
    """`region=eu`, or several with commas between. Raises ValueError."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if not (name and equals):
            raise ValueError(f"{part.strip()!r} is not NAME=VALUE, such as region=eu")
        if found.setdefault(name, value) != value:
            raise ValueError(f"{name!r} is there twice: {found[name]!r} and {value!r}")
    return found


def amounts(text: str) -> dict[str, int]:
    """`gpu=2`, or several with commas between. Raises ValueError."""
    found = {}
    for name, value in pairs(text).items():
        if not (value.isascii() and value.isdecimal() and len(value) <= len(str(2**31))):
            raise ValueError(f"{name}={value:.20} is not NAME=COUNT, such as gpu=2")
        found[name] = int(value)
    return found


def joined(flag: str, parts: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """What a flag said each time it was given. Raises click's usage error when that contradicts itself."""
    found: dict[str, T] = {}
    for part in parts:
        for name, value in part.items():
            if found.setdefault(name, value) != value:
                raise click.UsageError(f"{flag}: {name!r} is there twice: {found[name]!r} and {value!r}")
    return found


def _sum(text: str, units: Mapping[str, int], *, bare: str, allowed: str) -> int:
    """Add up `1h30m`. Exact integers: a float of seconds was tried, and ended one rounding step early."""
    pieces = list(_PIECE.finditer(text.strip()))
    if not pieces or "".join(piece.group(0) for piece in pieces) != text.strip():
        raise ValueError(f"{text!r} is not {allowed}")
    total = 0
    for piece in pieces:
        number, unit = piece.group(1).replace("_", "").replace(",", ""), piece.group(2).lower() or bare
        if unit not in units or (len(pieces) > 1 and not piece.group(2)):
            raise ValueError(f"{text!r} is not {allowed}")
        total += _scaled(number, units[unit], text)
    return total


def _scaled(number: str, unit: int, text: str) -> int:
    whole, _, fraction = number.partition(".")
    parts: int = 10 ** len(fraction)
    scaled, rest = divmod(int(whole + fraction) * unit, parts)
    if rest:
        raise ValueError(f"{text!r} is finer than can be counted")
    return scaled


# click made ParamType generic after the oldest version that we accept.
class Value(click.ParamType, Generic[T]):  # type: ignore[type-arg]
    """A parser above as a click type, so that its ValueError becomes a usage error with the flag's name."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, (str, int, float)):
            return value  # a default that is parsed already
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Several(Value[T]):
    """A value that may hold several, separated by commas: also in the environment."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [rv] if rv.strip() else []


DURATION: Final = Value("duration", duration_ms)
SIZE: Final = Value("size", size_bytes)
COUNT: Final = Value("count", count)
TIME: Final = Value("time", wall_ms)
ADDRESS: Final = Value("host:port", address)
UNIX: Final = Value("unix:path", unix_address)
PAIRS: Final = Several("name=text", pairs)
AMOUNTS: Final = Several("name=count", amounts)
