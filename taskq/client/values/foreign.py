"""The signature of a task whose payloads another serializer packs."""

from collections.abc import Callable
from typing import Any

from taskq.client.payload import unpack_call
from taskq.client.signature import CallSignature
from taskq.client.values.serializers import (
    Foreign,
    Serializer,
    foreign_of,
    pack_otherwise,
    unpack_otherwise,
)
from taskq.errors import DecodeError, EncodeError, TooLarge


class ForeignSignature(CallSignature):
    """As CallSignature. It reads MessagePack too: the command line sends that, and the broker."""

    def __init__(self, fn: Callable[..., object], name: str, serializer: Serializer) -> None:
        super().__init__(fn, name)
        self._serializer = serializer
        self._pack_call = lambda args, kwargs: pack_otherwise(serializer, (args, kwargs))
        self._pack_value = lambda value: pack_otherwise(serializer, value)
        self._unpack_call = self._unpack_callback
        self._hiding = {}  # there is nobody who could look into it

    def arguments(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        foreign = foreign_of(payload)
        if foreign is None:
            return super().arguments(payload)
        args, kwargs = self._loaded_call(foreign)
        try:
            self.check(args, kwargs)
        except TypeError as error:
            raise TypeError(f"{error}; {self._both(args, kwargs)}") from None
        if not self._serializer.keeps_types:
            self._convert(args, kwargs)
        return args, kwargs

    def result(self, payload: bytes) -> Any:
        foreign = foreign_of(payload)
        if foreign is None:
            return super().result(payload)
        value = unpack_otherwise(self._serializer, foreign)
        convert = self._result_conversion
        if convert is None or value is None or self._serializer.keeps_types:
            return value
        try:
            return convert(value)
        except Exception as error:
            raise DecodeError(f"{self.name}(): result: {error}") from error

    def _culprit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        for name, value in self._named(args, kwargs):
            try:
                self._pack_value(value)
            except EncodeError as error:
                return f"argument {name!r}: {error}"
            except TooLarge:
                continue
        return None

    def _unpack_callback(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """A callback gets the arguments of its job as they were packed, in a call that is not."""
        args, kwargs = unpack_call(payload)
        return [[*self._loaded_call(each)] if type(each) is Foreign else each for each in args], kwargs

    def _loaded_call(self, foreign: Foreign) -> tuple[list[Any], dict[str, Any]]:
        found = unpack_otherwise(self._serializer, foreign)
        match found:
            case [list() | tuple() as args, dict() as kwargs] if all(type(name) is str for name in kwargs):
                return list(args), kwargs
        raise DecodeError(f"{self.name}(): {foreign.name} gave {type(found).__name__}, and no call")


def signature_of(fn: Callable[..., object], name: str, serializer: Serializer | None) -> CallSignature:
    """Raises ValueError for a function, written in C, that does not say what it takes."""
    return CallSignature(fn, name) if serializer is None else ForeignSignature(fn, name, serializer)
