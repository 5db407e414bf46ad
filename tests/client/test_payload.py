"""What users send arrives as it was, or is refused with its place; hostile bytes raise DecodeError only."""

import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskq.client.payload import pack_call, pack_value, unpack_call, unpack_value
from taskq.errors import DecodeError, EncodeError, TooLarge
from taskq.limits import PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX, PAYLOAD_ITEMS_MAX

OFFSETS = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
ZONES = st.none() | st.just(UTC) | OFFSETS

HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times(timezones=ZONES)
    | st.datetimes(timezones=ZONES)
    | st.timedeltas(timedelta(days=-1_000_000), timedelta(days=1_000_000))
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
)
KEYS = HASHABLE | st.tuples(HASHABLE, HASHABLE)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
    max_leaves=20,
)


def types_of(value: Any) -> Any:
    """The value with the type of everything in it: 1 == True == 1.0 must not pass for a round trip."""
    if isinstance(value, dict):
        return {key: (type(key), types_of(item)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    return type(value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(VALUES)
@example(2**63)
@example(2**64)
@example(-(2**63) - 1)
@example([(1, (2, {(3,): {4}}))])
def test_a_value_arrives_as_it_was(value: Any) -> None:
    arrived = unpack_value(pack_value(value))
    assert arrived == value
    assert types_of(arrived) == types_of(value)


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(), VALUES, max_size=3))
def test_a_call_arrives_as_it_was(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert unpack_call(pack_call(tuple(args), kwargs)) == (args, kwargs)


def test_an_aware_datetime_keeps_its_offset() -> None:
    there = datetime(2026, 3, 1, 12, 30, 0, 5, timezone(timedelta(hours=5, minutes=30)))
    arrived = unpack_value(pack_value(there))
    assert arrived.utcoffset() == timedelta(hours=5, minutes=30)
    assert unpack_value(pack_value(datetime(2026, 3, 1))).tzinfo is None


def test_nan_is_a_number_like_any_other() -> None:
    assert math.isnan(unpack_value(pack_value(math.nan)))


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


Pair = namedtuple("Pair", "left right")


@dataclass
class Owner:
    name: str
    tags: object = ()


class Tagged(msgspec.Struct, tag="cat"):
    lives: int


class Flat(msgspec.Struct, array_like=True):
    lives: int
    name: str


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class Model:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (Pair(1, [2]), (1, [2])),
        (Owner("ann", {Color.RED}), {"name": "ann", "tags": {"red"}}),
        (Tagged(9), {"type": "cat", "lives": 9}),
        (Flat(9, "tom"), [9, "tom"]),
        (Renamed("tom"), {"firstName": "tom"}),
        (Model(when=date(2026, 1, 1)), {"when": date(2026, 1, 1)}),
        (OrderedDict(a=1), {"a": 1}),
        (bytearray(b"raw"), b"raw"),
        (memoryview(b"raw"), b"raw"),
        ([Owner("ann")], [{"name": "ann", "tags": ()}]),
    ],
)
def test_what_arrives_as_plain_values(sent: object, arrives: object) -> None:
    arrived = unpack_value(pack_value(sent))
    assert arrived == arrives
    assert type(arrived) is type(arrives)


def test_a_timestamp_of_another_client_is_read() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert unpack_value(msgpack.packb(moment, datetime=True)) == moment


# -- what cannot be sent ------------------------------------------------------------------------


class User:
    def __repr__(self) -> str:
        return "User()"


class Broken:
    def model_dump(self) -> dict[str, Any]:
        raise KeyError("gone")


def itself() -> list[Any]:
    box: list[Any] = []
    box.append((1, box))
    return box


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (User(), "User cannot be sent"),
        ({"a": [1, User()]}, "at ['a'][1]: User cannot be sent"),
        ([Owner("x", {"deep": (User(),)})], "at [0].tags['deep'][0]: User cannot be sent"),
        ({User()}, "at {User()}: User cannot be sent"),
        ({(User(),): 1}, "at key (User(),)[0]: User cannot be sent"),
        (lambda: 1, "function cannot be sent"),
        (User, "type cannot be sent"),
        (Broken(), "Broken cannot be sent: KeyError: 'gone'"),
        (["\ud800"], "at [0]: str with a lone surrogate cannot be sent"),
        ({"\udfff": 1}, "at key '\\udfff': str with a lone surrogate cannot be sent"),
        (itself(), "at [0][1]: list contains itself"),
        ([0] * (PAYLOAD_ITEMS_MAX + 1), f"list of {PAYLOAD_ITEMS_MAX + 1} items; at most"),
    ],
)
def test_what_cannot_be_sent_is_named(value: object, text: str) -> None:
    with pytest.raises(EncodeError) as caught:
        pack_value(value)
    assert text in str(caught.value)


def test_a_failure_leaves_the_packer_good() -> None:
    for _ in range(3):
        with pytest.raises(EncodeError):
            pack_value([1, (2, User())])
        assert unpack_value(pack_value([(1, {2})])) == [(1, {2})]


def nested(depth: int, box: Any = list) -> Any:
    value: Any = box()
    for _ in range(depth - 1):
        value = {"in": value} if box is dict else box([value])
    return value


@pytest.mark.parametrize("box", [list, dict, tuple])
def test_depth_has_a_limit_on_both_sides(box: Any) -> None:
    at_limit = nested(PAYLOAD_DEPTH_MAX, box)
    assert unpack_value(pack_value(at_limit)) == at_limit
    assert unpack_call(pack_call((at_limit,), {})) == ([at_limit], {})
    for depth in (PAYLOAD_DEPTH_MAX + 1, 400, 5_000):
        with pytest.raises(EncodeError, match="levels deep"):
            pack_value(nested(depth, box))


def test_too_large_says_the_limit() -> None:
    with pytest.raises(TooLarge, match=str(PAYLOAD_BYTES_MAX)):
        pack_value("x" * PAYLOAD_BYTES_MAX)


# -- hostile bytes ------------------------------------------------------------------------------


def in_extension(code: int, body: bytes) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(code, body))
    return packed


def deep_tuples(depth: int) -> bytes:
    body = b"\x90"
    for _ in range(depth):
        body = in_extension(1, b"\x91" + body)
    return body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x01\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\x00\x02\x00\x01" + bytes(0x20001),
        b"\xa1\xff",
        b"\x91" * 100 + b"\x90",
        b"\x91" * 5_000 + b"\x90",
        deep_tuples(200),
        b"\x81\x90\x01",
        in_extension(99, b""),
        in_extension(1, b"\x01"),
        in_extension(2, b"\x91\x90"),
        in_extension(4, b"yesterday"),
        in_extension(7, b"\x00"),
        in_extension(7, b"\x7f" * 12),
        in_extension(8, b"x"),
        in_extension(9, b"short"),
    ],
)
def test_bytes_that_are_no_payload(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack_value(data)


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for unpack in (unpack_value, unpack_call):
        try:
            unpack(data)
        except DecodeError:
            continue


@pytest.mark.parametrize("value", [1, [], [[], {}, 1], [{}, {}], [[], {1: 2}], [(), {}]])
def test_a_call_has_its_shape(value: object) -> None:
    with pytest.raises(DecodeError, match="not a call"):
        unpack_call(pack_value(value))


def test_the_codes_are_those_of_the_manual() -> None:
    """Another language reads these; a change here breaks what is stored."""
    samples: list[tuple[object, int, bytes]] = [
        ((), 1, b"\x90"),
        (set(), 2, b"\x90"),
        (frozenset(), 3, b"\x90"),
        (datetime(2026, 1, 2, 3, 4), 4, b"2026-01-02T03:04:00"),
        (date(2026, 1, 2), 5, b"2026-01-02"),
        (time(3, 4), 6, b"03:04:00"),
        (timedelta(1, 2, 3), 7, bytes([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3])),
        (Decimal("1.50"), 8, b"1.50"),
        (UUID(int=7), 9, bytes(15) + b"\x07"),
        (2**64, 10, b"\x01" + bytes(8)),
        (1j, 11, bytes(8) + b"\x3f\xf0" + bytes(6)),
    ]
    for value, code, body in samples:
        assert pack_value(value) == in_extension(code, body)
