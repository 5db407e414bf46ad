"""Values that MessagePack lacks, and what they go as. The codes of the extensions are in payload.py."""

import dataclasses
import io
import struct
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import BuiltinFunctionType, CoroutineType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, Final
from uuid import UUID

from msgpack import ExtType
from msgspec import Struct

from taskq.client.values.secrets import Sealed, Secret, sealed
from taskq.client.values.typed import OF_TEXT

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
DATETIME: Final = 4
DATE: Final = 5
TIME: Final = 6
TIMEDELTA: Final = 7
DECIMAL: Final = 8
UUID_CODE: Final = 9
INT: Final = 10
COMPLEX: Final = 11
SECRET: Final = 12
PACKED_OTHERWISE: Final = 13

BOX_CODES: Final[dict[type, int]] = {tuple: TUPLE, set: SET, frozenset: FROZENSET, Sealed: SECRET}
NATIVE: Final = frozenset({type(None), bool, float, str, bytes, bytearray, memoryview, list, dict, ExtType})


def big_int(value: int) -> object:
    return ExtType(INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _from_timedelta(value: timedelta) -> object:
    return ExtType(TIMEDELTA, struct.pack(">iii", value.days, value.seconds, value.microseconds))


def _from_complex(value: complex) -> object:
    return ExtType(COMPLEX, struct.pack(">dd", value.real, value.imag))


# The first base that fits; datetime stands before date, and Enum before all that an Enum can be too.
_CONVERSIONS: Final[list[tuple[type, Callable[[Any], object]]]] = [
    (Enum, lambda value: value.value),
    (datetime, lambda value: ExtType(DATETIME, value.isoformat().encode())),
    (date, lambda value: ExtType(DATE, value.isoformat().encode())),
    (time, lambda value: ExtType(TIME, value.isoformat().encode())),
    (timedelta, _from_timedelta),
    (Decimal, lambda value: ExtType(DECIMAL, str(value).encode())),
    (UUID, lambda value: ExtType(UUID_CODE, value.bytes)),
    (complex, _from_complex),
    (Secret, sealed),
    *((kind, str) for kind in OF_TEXT),
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
    (deque, list),
]

# What is sent by mistake, and what to do instead.
_ADVICE: Final[list[tuple[Any, str]]] = [
    (CoroutineType, "await it first, and send what it gives"),
    (GeneratorType, "send a list of what it yields"),
    (AsyncGenerator, "send a list of what it yields"),
    ((FunctionType, MethodType, BuiltinFunctionType, type), "send a name that the task can look up"),
    (ModuleType, "send its name"),
    (io.IOBase, "send what is in it, or a path or address that the worker can open"),
    (Awaitable, "await it first, and send what it gives"),
]


@lru_cache(maxsize=1024)
def conversion(kind: type) -> Callable[[Any], object]:
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
    if hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
        return lambda value: {name: getattr(value, name) for name in names}
    if hasattr(kind, "get_secret_value"):  # pydantic's SecretStr and SecretBytes
        return lambda value: Sealed((value.get_secret_value(),))
    if kind.__module__.partition(".")[0] in ("pydantic", "pydantic_core"):  # its addresses
        return str
    advice = next((text for base, text in _ADVICE if issubclass(kind, base)), _MAKE_IT_DATA)
    raise TypeError(f"{kind.__name__} cannot be sent; {advice}")


_MAKE_IT_DATA: Final = "send plain data, a dataclass, a msgspec Struct or a pydantic model"


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


# How an extension that is no box is read again. Whatever they raise is the fault of the bytes.
READERS: Final[dict[int, Callable[[bytes], object]]] = {
    DATETIME: lambda body: datetime.fromisoformat(body.decode()),
    DATE: lambda body: date.fromisoformat(body.decode()),
    TIME: lambda body: time.fromisoformat(body.decode()),
    TIMEDELTA: lambda body: timedelta(*struct.unpack(">iii", body)),
    DECIMAL: lambda body: Decimal(body.decode()),
    UUID_CODE: lambda body: UUID(bytes=body),
    INT: lambda body: int.from_bytes(body, "big", signed=True),
    COMPLEX: lambda body: complex(*struct.unpack(">dd", body)),
}
