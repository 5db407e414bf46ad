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
    12 Secret       the value in it, as a MessagePack array of one; not to be shown to people
    13              a payload that is packed otherwise, see values/serializers.py

MessagePack's own timestamp (-1) is read as an aware datetime in UTC. An Enum goes as its value;
dataclasses, msgspec structs and models with `model_dump` go as maps. They arrive as plain values
and become typed again by the receiver's annotations (see signature.py).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgpack

from taskq.client.conversions import (
    BOX_CODES,
    FROZENSET,
    NATIVE,
    PACKED_OTHERWISE,
    READERS,
    SECRET,
    SET,
    TUPLE,
    big_int,
    conversion,
)
from taskq.client.faults import fault_of
from taskq.client.values.secrets import Secret
from taskq.client.values.serializers import Foreign, too_large
from taskq.errors import DecodeError, EncodeError
from taskq.limits import PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX, PAYLOAD_ITEMS_MAX

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
    if type(call) is Foreign:
        raise call.refusal()
    raise DecodeError("these bytes are not a call: an array of a list of arguments and a map by name")


def pack_value(value: object) -> bytes:
    """The payload of a result. EncodeError names the type and the path of what cannot be sent."""
    return _pack(value, PAYLOAD_DEPTH_MAX)


def unpack_value(data: bytes) -> Any:
    """A result. Raises DecodeError only."""
    value = _unpack(data, PAYLOAD_DEPTH_MAX)
    if type(value) is Foreign:
        raise value.refusal()
    return value


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
        raise too_large(len(data))
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
            code = BOX_CODES.get(kind)
            if code is not None:
                return msgpack.ExtType(code, self._body(value))
            if kind is int:
                return value if -(2**63) <= value < 2**64 else big_int(value)
            if kind in NATIVE:
                return value
            value = conversion(kind)(value)

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
    boxes: dict[int, Callable[[Any], object]] = {
        TUPLE: tuple,
        SET: set,
        FROZENSET: frozenset,
        SECRET: _opened,
    }

    def from_ext(code: int, body: bytes) -> object:
        box = boxes.get(code)
        if box is None:
            read = Foreign if code == PACKED_OTHERWISE else READERS.get(code)
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


def _opened(items: list[Any]) -> Secret[Any]:
    (value,) = items
    return Secret(value)


_HOOKS: Final[list[Callable[[int, bytes], object]]] = []
_HOOKS.extend(_hook(level) for level in range(_CALL_DEPTH_MAX))


def _may_be_deep(data: bytes) -> bool:
    return len(data) - len(data.translate(None, _CONTAINER_BYTES)) > PAYLOAD_DEPTH_MAX


def _is_deeper(value: object, depth_max: int) -> bool:
    """Level by level, so that the depth of the value is never the depth of our own stack."""
    boxes = frozenset({list, dict, tuple, set, frozenset, Secret})
    level: list[Any] = [value] if type(value) in boxes else []
    for _ in range(depth_max):
        level = [item for box in level for item in _inside(box) if type(item) in boxes]
        if not level:
            return False
    return True


def _inside(box: Any) -> Iterable[Any]:
    if type(box) is Secret:
        return (box.reveal(),)
    return box.values() if type(box) is dict else box
