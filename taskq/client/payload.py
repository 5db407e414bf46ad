"""Users' values <-> bytes, in standard MessagePack. Nothing here imports what the bytes name.

A call is the array `[args, kwargs]`; a result is one value. What MessagePack lacks goes as an
extension; a client in another language reads these codes:

    1  tuple        the elements, as a MessagePack array
    2  set          the same
    3  frozenset    the same
    4  datetime     ISO 8601 text; with an offset when aware, without when naive
    5  date         ISO 8601 text
    6  time         ISO 8601 text
    7  timedelta    three signed 32-bit big-endian integers: days, seconds, microseconds
    8  Decimal      its text
    9  UUID         its 16 bytes
    10 int          beyond 64 bits: big-endian two's complement
    11 complex      two big-endian doubles

MessagePack's own timestamp (-1) is read as an aware datetime in UTC. An Enum goes as its value;
dataclasses, msgspec structs and models with `model_dump` go as maps. They arrive as plain values
and become typed again by the receiver's annotations (see signature.py).
"""

import dataclasses
import struct
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgpack
from msgspec import Struct

from taskq.errors import DecodeError, EncodeError, TooLarge
from taskq.limits import PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX, PAYLOAD_ITEMS_MAX

_TUPLE: Final = 1
_SET: Final = 2
_FROZENSET: Final = 3
_DATETIME: Final = 4
_DATE: Final = 5
_TIME: Final = 6
_TIMEDELTA: Final = 7
_DECIMAL: Final = 8
_UUID: Final = 9
_INT: Final = 10
_COMPLEX: Final = 11

# A call is two levels around the user's values.
_CALL_DEPTH_MAX: Final = PAYLOAD_DEPTH_MAX + 2
# Every byte with which a container can begin: fewer of them than levels, and no level is too many.
_CONTAINER_BYTES: Final = bytes(
    [*range(0x80, 0xA0), *range(0xC7, 0xCA), *range(0xD4, 0xD9), *range(0xDC, 0xE0)]
)


def pack_call(args: Iterable[object], kwargs: dict[str, Any]) -> bytes:
    """The payload of a job. EncodeError names the type and the path of what cannot be sent."""
    return _pack([list(args), kwargs], _CALL_DEPTH_MAX)


def unpack_call(data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a job: positional ones, then those by name. Raises DecodeError only."""
    call = _unpack(data, _CALL_DEPTH_MAX)
    # By hand: a `match` on sequences costs five times as much, and this is once per job.
    if type(call) is list and len(call) == 2:
        args, kwargs = call
        if type(args) is list and type(kwargs) is dict and _are_names(kwargs):
            return args, kwargs
    raise DecodeError("these bytes are not a call: an array of a list of arguments and a map by name")


def pack_value(value: object) -> bytes:
    """The payload of a result. EncodeError names the type and the path of what cannot be sent."""
    return _pack(value, PAYLOAD_DEPTH_MAX)


def unpack_value(data: bytes) -> Any:
    """A result. Raises DecodeError only."""
    return _unpack(data, PAYLOAD_DEPTH_MAX)


class Fault(NamedTuple):
    """Why a value cannot be sent, and where in it: `path` reads like Python, `.user.tags[3]`."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"at {self.path}: {self.text}" if self.path else self.text


def fault_of(value: object) -> Fault | None:
    """What in this value cannot be sent; None when nothing is wrong with it."""
    return _find(value, "", frozenset())


def _are_names(kwargs: dict[Any, Any]) -> bool:
    return not kwargs or all(type(name) is str for name in kwargs)


# -- packing ----------------------------------------------------------------------------------


def _pack(value: object, depth_max: int) -> bytes:
    try:
        coder = _coders.pop()
    except IndexError:
        coder = _Coder()
    try:
        data = coder.pack(value)
    except Exception as error:
        fault = fault_of(value)
        raise EncodeError(str(fault) if fault else f"cannot be sent: {error}") from error
    finally:
        _coders.append(coder)
    if len(data) > PAYLOAD_DEPTH_MAX:
        _check(value, data, depth_max)
    return data


def _check(value: object, data: bytes, depth_max: int) -> None:
    """Refuse what the other side would refuse to read."""
    if len(data) > PAYLOAD_BYTES_MAX:
        raise TooLarge(
            f"{len(data)} bytes of payload; the limit is {PAYLOAD_BYTES_MAX}. "
            "Put large data into a file or an object store and send its address"
        )
    if len(data) <= PAYLOAD_ITEMS_MAX and not _may_be_deep(data):
        return
    try:
        _unpack(data, depth_max)
    except DecodeError as error:
        raise EncodeError(str(fault_of(value) or error)) from error


class _Coder:
    """A stack of packers: one packer cannot be used again while it packs, and a tuple's body needs one."""

    __slots__ = ("_depth", "_packers", "pack")

    def __init__(self) -> None:
        self._depth = 0
        self._packers = [self._packer()]
        self.pack: Callable[[object], bytes] = self._packers[0]

    def _packer(self) -> Callable[[object], bytes]:
        pack: Callable[[object], bytes] = msgpack.Packer(
            default=self._default, strict_types=True, buf_size=4096
        ).pack
        return pack

    def _default(self, value: Any) -> object:
        while True:
            kind: Any = type(value)
            code = _BOX_CODES.get(kind)
            if code is not None:
                return msgpack.ExtType(code, self._body(value))
            if kind is int:
                return value if -(2**63) <= value < 2**64 else _from_int(value)
            if kind in _NATIVE:
                return value
            value = _conversion(kind)(value)

    def _body(self, box: Iterable[object]) -> bytes:
        self._depth += 1
        try:
            if self._depth > _CALL_DEPTH_MAX:
                raise ValueError("nested too deeply")
            if self._depth == len(self._packers):
                self._packers.append(self._packer())
            return self._packers[self._depth](list(box))
        finally:
            self._depth -= 1


# Free coders: taken and put back by whoever packs, in any thread.
_coders: list[_Coder] = []

_BOX_CODES: Final[dict[type, int]] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}
_NATIVE: Final = frozenset(
    {type(None), bool, float, str, bytes, bytearray, memoryview, list, dict, msgpack.ExtType}
)


def _from_int(value: int) -> object:
    return msgpack.ExtType(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _from_timedelta(value: timedelta) -> object:
    return msgpack.ExtType(_TIMEDELTA, struct.pack(">iii", value.days, value.seconds, value.microseconds))


def _from_complex(value: complex) -> object:
    return msgpack.ExtType(_COMPLEX, struct.pack(">dd", value.real, value.imag))


# The first base that fits; datetime stands before date, and Enum before all that an Enum can be too.
_CONVERSIONS: Final[list[tuple[type, Callable[[Any], object]]]] = [
    (Enum, lambda value: value.value),
    (datetime, lambda value: msgpack.ExtType(_DATETIME, value.isoformat().encode())),
    (date, lambda value: msgpack.ExtType(_DATE, value.isoformat().encode())),
    (time, lambda value: msgpack.ExtType(_TIME, value.isoformat().encode())),
    (timedelta, _from_timedelta),
    (Decimal, lambda value: msgpack.ExtType(_DECIMAL, str(value).encode())),
    (UUID, lambda value: msgpack.ExtType(_UUID, value.bytes)),
    (complex, _from_complex),
    # Subclasses of what is native go as what they extend.
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes),
    (bytearray, bytes),
    (dict, dict),
    (list, list),
    (tuple, tuple),
    (set, set),
    (frozenset, frozenset),
]


@lru_cache(maxsize=1024)
def _conversion(kind: type) -> Callable[[Any], object]:
    """How a value of this type becomes one that is nearer to MessagePack. TypeError when it cannot."""
    if issubclass(kind, Struct):
        return _struct_fields
    for base, convert in _CONVERSIONS:
        if issubclass(kind, base):
            return convert
    if hasattr(kind, "model_dump"):
        return _model_fields
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda value: {name: getattr(value, name) for name in names}
    raise TypeError(f"{kind.__name__} cannot be sent")


def _struct_fields(value: Struct) -> object:
    config = value.__struct_config__
    fields = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        return fields if config.tag_field is None else [config.tag, *fields]
    named = dict(zip(value.__struct_encode_fields__, fields, strict=True))
    return named if config.tag_field is None else {config.tag_field: config.tag, **named}


def _model_fields(value: Any) -> object:
    # A model reads its aliases back; `by_alias` is pydantic's, others need not know it.
    return value.model_dump(by_alias=True) if hasattr(type(value), "model_fields") else value.model_dump()


# -- why not ----------------------------------------------------------------------------------


def _find(value: Any, path: str, inside: frozenset[int]) -> Fault | None:
    """The slow way, once something is known to be wrong: where is it?"""
    if id(value) in inside:
        return Fault(path, f"{type(value).__name__} contains itself")
    if len(inside) > PAYLOAD_DEPTH_MAX:
        return Fault(path[:80], f"nested more than {PAYLOAD_DEPTH_MAX} levels deep")
    kind: Any = type(value)
    try:
        if kind in (list, tuple, set, frozenset, dict):
            return _find_inside(value, path, inside | {id(value)})
        if kind not in _NATIVE and kind is not int:
            value = _conversion(kind)(value)
    except Exception as error:
        why = "" if str(error).endswith("cannot be sent") else f": {type(error).__name__}: {error}"
        return Fault(path, f"{kind.__name__} cannot be sent{why}")
    if type(value) is str and not _is_utf8(value):
        return Fault(path, "str with a lone surrogate cannot be sent")
    if type(value) is dict and not issubclass(kind, dict):
        return _find_fields(value, path, inside | {id(value)})
    if type(value) in (list, tuple, set, frozenset, dict):
        return _find(value, path, inside | {id(value)} if type(value) is not kind else inside)
    return None


def _find_inside(box: Any, path: str, inside: frozenset[int]) -> Fault | None:
    if isinstance(box, Sized) and len(box) > PAYLOAD_ITEMS_MAX:
        return Fault(
            path, f"{type(box).__name__} of {len(box)} items; at most {PAYLOAD_ITEMS_MAX} can be sent"
        )
    faults = (_find(item, place, inside) for place, item in _places(box, path))
    return next((fault for fault in faults if fault), None)


def _find_fields(fields: dict[str, object], path: str, inside: frozenset[int]) -> Fault | None:
    faults = (_find(item, f"{path}.{name}", inside) for name, item in fields.items())
    return next((fault for fault in faults if fault), None)


def _places(box: Any, path: str) -> Iterator[tuple[str, object]]:
    if type(box) is dict:
        for key, item in box.items():
            yield f"{path} key {_short(key)}".lstrip(), key
            yield f"{path}[{_short(key)}]", item
    elif type(box) in (list, tuple):
        for index, item in enumerate(box):
            yield f"{path}[{index}]", item
    else:
        for item in box:
            yield f"{path}{{{_short(item)}}}", item


def _short(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- unpacking --------------------------------------------------------------------------------


def _unpack(data: bytes, depth_max: int) -> Any:
    try:
        value = _read(data, 0)
    except DecodeError:
        raise
    except Exception as error:
        # Whatever hostile bytes make a parser do, the caller has one error to answer.
        raise DecodeError(f"not a payload: {type(error).__name__}: {error}") from error
    if len(data) > PAYLOAD_DEPTH_MAX and _may_be_deep(data) and _is_deeper(value, depth_max):
        raise DecodeError(f"nested more than {PAYLOAD_DEPTH_MAX} levels deep")
    return value


def _read(data: bytes, level: int) -> Any:
    # Without a bound on items, a few bytes that promise a long list make the parser allocate it.
    items_max = min(len(data), PAYLOAD_ITEMS_MAX)
    return msgpack.unpackb(
        data,
        strict_map_key=False,
        timestamp=3,
        ext_hook=_HOOKS[level],
        max_array_len=items_max,
        max_map_len=items_max,
    )


def _hook(level: int) -> Callable[[int, bytes], object]:
    boxes: dict[int, Callable[[Any], object]] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}

    def from_ext(code: int, body: bytes) -> object:
        box = boxes.get(code)
        if box is None:
            read = _READERS.get(code)
            if read is None:
                raise DecodeError(f"extension {code} is not known to this version of taskq")
            return read(body)
        if level + 1 == len(_HOOKS):
            raise DecodeError(f"nested more than {PAYLOAD_DEPTH_MAX} levels deep")
        items = _read(body, level + 1)
        if type(items) is not list:
            raise DecodeError(f"extension {code} holds a list, not {type(items).__name__}")
        return box(items)

    return from_ext


_HOOKS: Final[list[Callable[[int, bytes], object]]] = []
_HOOKS.extend(_hook(level) for level in range(_CALL_DEPTH_MAX))

_READERS: Final[dict[int, Callable[[bytes], object]]] = {
    _DATETIME: lambda body: datetime.fromisoformat(body.decode()),
    _DATE: lambda body: date.fromisoformat(body.decode()),
    _TIME: lambda body: time.fromisoformat(body.decode()),
    _TIMEDELTA: lambda body: timedelta(*struct.unpack(">iii", body)),
    _DECIMAL: lambda body: Decimal(body.decode()),
    _UUID: lambda body: UUID(bytes=body),
    _INT: lambda body: int.from_bytes(body, "big", signed=True),
    _COMPLEX: lambda body: complex(*struct.unpack(">dd", body)),
}


def _may_be_deep(data: bytes) -> bool:
    return len(data) - len(data.translate(None, _CONTAINER_BYTES)) > PAYLOAD_DEPTH_MAX


def _is_deeper(value: object, depth_max: int) -> bool:
    """Level by level, so that the depth of the value is never the depth of our own stack."""
    boxes = frozenset({list, dict, tuple, set, frozenset})
    level: list[Any] = [value] if type(value) in boxes else []
    for _ in range(depth_max):
        level = [
            item
            for box in level
            for item in (box.values() if type(box) is dict else box)
            if type(item) in boxes
        ]
        if not level:
            return False
    return True
