"""Packing arguments and results otherwise than in MessagePack: pickle, or what a user brings.

Such a payload is one MessagePack extension (13): the serializer's name, a zero byte, and its bytes. So
everybody sees what it is, and nobody reads it who has not asked for just this serializer. Above all,
nothing is ever unpickled by an app that did not say `serializer="pickle"`.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

import msgpack

from taskq.client.conversions import PACKED_OTHERWISE
from taskq.errors import ConfigError, DecodeError, EncodeError, TooLarge
from taskq.limits import PAYLOAD_BYTES_MAX, SERIALIZER_CHARS_MAX

# Every byte with which an extension can begin.
_EXTENSIONS: Final = frozenset([0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)])


@runtime_checkable
class Serializer(Protocol):
    """What `TaskQ(serializer=...)` takes. All who share an app's jobs need one of the same `name`.

    `dumps` gets a result, or a call's `(args, kwargs)`, and raises for what it cannot pack; `loads` gives
    the same back. `keeps_types`: what is loaded has the types that it had, so that annotations change
    nothing in it; otherwise they are applied, as to MessagePack.
    """

    @property
    def name(self) -> str: ...

    @property
    def keeps_types(self) -> bool: ...

    def dumps(self, value: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...


class Pickle:
    """Everything that pickle can send; with the extra `pickle`, lambdas and nested functions too.

    Whoever can submit a job can run any code in a process that unpickles it: only for a broker whose
    producers and workers all trust each other.
    """

    name: Final = "pickle"
    keeps_types: Final = True

    def __init__(self) -> None:
        import pickle

        self.loads: Callable[[bytes], Any] = pickle.loads  # asked for, with the warning above
        try:
            import cloudpickle
        except ImportError:
            self.dumps: Callable[[Any], bytes] = pickle.dumps
        else:
            self.dumps = cloudpickle.dumps


def serializer_of(given: object) -> Serializer | None:
    """None for MessagePack. Raises ConfigError for what is no serializer."""
    if given is None or given == "msgpack":
        return None
    if given == "pickle":
        return Pickle()
    if isinstance(given, str | type) or not isinstance(given, Serializer):
        raise ConfigError(
            f"serializer is 'msgpack', 'pickle', or an object with name, keeps_types, dumps and loads; "
            f"not {given!r:.80}"
        )
    name = given.name
    is_name = isinstance(name, str) and name.isascii() and name.isprintable()
    if not is_name or not 1 <= len(name) <= SERIALIZER_CHARS_MAX or name == "msgpack":
        raise ConfigError(
            f"the name of a serializer is 1 to {SERIALIZER_CHARS_MAX} printable ASCII characters, and not "
            f"'msgpack'; not {name!r:.80}"
        )
    return given


class Foreign:
    """A payload that is packed otherwise, or a part of one: of a callback's arguments."""

    __slots__ = ("data", "name")

    def __init__(self, body: bytes) -> None:
        name, mark, self.data = body.partition(b"\0")
        if not mark:
            raise DecodeError(f"extension {PACKED_OTHERWISE} without the name of a serializer")
        self.name = name[:SERIALIZER_CHARS_MAX].decode("ascii", "backslashreplace")

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes packed with {self.name!r}>"

    def refusal(self, known: str = "msgpack") -> DecodeError:
        more = (
            ": it would run whatever code is in them, so do that only if you trust all who can submit jobs"
            if self.name == Pickle.name
            else ""
        )
        return DecodeError(
            f"these bytes were packed with the serializer {self.name!r}, and this app reads {known!r} only; "
            f"TaskQ(serializer=...) makes it read the other{more}"
        )


def pack_otherwise(serializer: Serializer, value: object) -> bytes:
    """Raises EncodeError when the serializer raises, TooLarge."""
    try:
        body = serializer.dumps(value)
    except Exception as error:
        raise EncodeError(f"{serializer.name} cannot pack it: {type(error).__name__}: {error}") from error
    if not isinstance(body, bytes):
        raise EncodeError(f"{serializer.name}: dumps() gave {type(body).__name__}; bytes are needed")
    data: bytes = msgpack.packb(msgpack.ExtType(PACKED_OTHERWISE, serializer.name.encode() + b"\0" + body))
    if len(data) > PAYLOAD_BYTES_MAX:
        raise too_large(len(data))
    return data


def unpack_otherwise(serializer: Serializer, foreign: Foreign) -> Any:
    """Raises DecodeError only, above all when it was packed with another serializer."""
    if foreign.name != serializer.name:
        raise foreign.refusal(serializer.name)
    try:
        return serializer.loads(foreign.data)
    except Exception as error:
        raise DecodeError(f"{serializer.name} cannot read it: {type(error).__name__}: {error}") from error


def foreign_of(data: bytes) -> Foreign | None:
    """The payload, if it is packed otherwise. Raises DecodeError when it is broken."""
    if not data or data[0] not in _EXTENSIONS:
        return None
    try:
        found = msgpack.unpackb(data, ext_hook=msgpack.ExtType)
    except Exception as error:
        raise DecodeError(f"not a payload: {type(error).__name__}: {error}") from error
    is_foreign = type(found) is msgpack.ExtType and found.code == PACKED_OTHERWISE
    return Foreign(found.data) if is_foreign else None


def too_large(size: int) -> TooLarge:
    return TooLarge(
        f"{size} bytes of payload; the limit is {PAYLOAD_BYTES_MAX}. "
        "Put large data into a file or an object store and send its address"
    )
