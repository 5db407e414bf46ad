"""A task's signature: do these arguments fit, which one cannot be sent, and what were they before.

Whether anything needs converting is found out once per task, at its first job.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import inspect as types

from taskq.client.depends import needs_of, without
from taskq.client.faults import fault_of
from taskq.client.payload import pack_call, pack_value, unpack_call, unpack_value
from taskq.errors import DecodeError, EncodeError

Convert = Callable[[Any], Any]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MARKS: Final[dict[object, str]] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


class CallSignature:
    """What a function takes and returns, as the wire sees it. `name` begins every error's text."""

    def __init__(self, fn: Callable[..., object], name: str) -> None:
        self.name = name
        self._fn = fn
        self.needs = needs_of(fn)
        self._signature = without(inspect.signature(fn), self.needs, name)
        parameters = self._signature.parameters.values()
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        self._most = len(positional)
        self._least = sum(each.default is each.empty for each in positional)
        if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
            self._least = self._most + 1  # a name is required: never the short way

    def check(self, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> None:
        """Raises TypeError if the function cannot be called so."""
        if not kwargs and self._least <= len(args) <= self._most:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}{self._hint()}") from None

    def check_plain_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises TypeError when a call here and now lacks what a worker would inject."""
        given = inspect.signature(self._fn).bind_partial(*args, **kwargs).arguments
        missing = [name for name in self.needs if name not in given]
        if missing:
            raise TypeError(
                f"{self.name}(): workers inject {', '.join(missing)}; a call here and now has to give it "
                f"by name: {missing[0]}=..."
            )

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The payload of this call. TypeError if it does not fit, EncodeError naming the argument."""
        if kwargs or not self._least <= len(args) <= self._most:
            self.check(args, kwargs)
        try:
            return pack_call(args, kwargs)
        except EncodeError as error:
            raise EncodeError(f"{self.name}(): {self._culprit(args, kwargs) or error}") from error

    def arguments(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """The arguments in a payload, typed again by the annotations.

        Raises DecodeError if they cannot be read or converted, TypeError if they do not fit.
        """
        args, kwargs = unpack_call(payload)
        if kwargs or not self._least <= len(args) <= self._most:
            self.check(args, kwargs)
        if self._conversions:
            self._convert(args, kwargs)
        return args, kwargs

    def encode_result(self, value: object) -> bytes:
        """The payload of what the function returned. EncodeError says where it cannot be sent."""
        try:
            return pack_value(value)
        except EncodeError as error:
            raise EncodeError(f"{self.name}(): result: {error}") from error

    def result(self, payload: bytes) -> Any:
        """The result in a payload, typed again by the return annotation. Raises DecodeError."""
        value = unpack_value(payload)
        convert = self._result_conversion
        if convert is None or value is None:
            return value
        try:
            return convert(value)
        except Exception as error:
            raise DecodeError(f"{self.name}(): result: {error}") from error

    def _hint(self) -> str:
        if not self.needs:
            return ""
        return f" (workers inject {', '.join(self.needs)}; what follows that is given by name)"

    def _culprit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        for name, value in self._named(args, kwargs):
            fault = fault_of(value)
            if fault is not None:
                where = f" at {fault.path}" if fault.path else ""
                return f"argument {name!r}{where}: {fault.text}"
        return None

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
        positional = self._positional_names
        names = [*positional, *(f"#{number + 1}" for number in range(len(positional), len(args)))]
        return [*zip(names, args, strict=False), *kwargs.items()]

    def _convert(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        conversions = self._conversions
        for index, name in enumerate(self._positions(len(args))):
            convert = conversions.get(name)
            if convert is not None:
                args[index] = self._converted(name, convert, args[index])
        for name, value in kwargs.items():
            convert = conversions.get(name if name in self._signature.parameters else "**")
            if convert is not None:
                kwargs[name] = self._converted(name, convert, value)

    def _positions(self, count: int) -> list[str]:
        return [*self._positional_names[:count], *["*"] * (count - len(self._positional_names))]

    def _converted(self, name: str, convert: Convert, value: Any) -> Any:
        # None stands for "nothing given" far more often than annotations say so.
        if value is None:
            return None
        try:
            return convert(value)
        except Exception as error:
            raise DecodeError(f"{self.name}(): argument {name!r}: {error}") from error

    @cached_property
    def _positional_names(self) -> list[str]:
        return [each.name for each in self._signature.parameters.values() if each.kind in _POSITIONAL]

    @cached_property
    def _conversions(self) -> dict[str, Convert]:
        """By parameter, for those whose values do not arrive as they were; `*` and `**` for the rest."""
        found: dict[str, Convert] = {}
        for parameter in self._signature.parameters.values():
            convert = _conversion(self._fn, parameter.annotation)
            if convert is not None:
                found[_MARKS.get(parameter.kind, parameter.name)] = convert
        return found

    @cached_property
    def _result_conversion(self) -> Convert | None:
        return _conversion(self._fn, self._signature.return_annotation)


def _conversion(fn: Callable[..., object], annotation: Any) -> Convert | None:
    """How a plain value becomes what the annotation says; None if it is that already, or nobody knows."""
    if annotation is inspect.Parameter.empty:
        return None
    try:
        hint = _evaluated(fn, annotation)
        if not _needs_converting(types.type_info(hint)):
            return None
    except Exception:
        # A name that exists for type checkers only, or a type that msgspec does not know: left as it came.
        return None
    return lambda value: msgspec.convert(value, hint, dec_hook=_model)


def _evaluated(fn: Callable[..., object], annotation: Any) -> Any:
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return get_type_hints(holder, globalns=getattr(fn, "__globals__", {}), include_extras=True)["it"]


def _model(kind: type, value: Any) -> Any:
    """What msgspec does not know, models of other libraries do."""
    validate = getattr(kind, "model_validate", None)
    return value if validate is None else validate(value)


def _needs_converting(info: object) -> bool:
    """Whether anything in this type may arrive as something else: from us, or as JSON from elsewhere."""
    seen: set[type] = set()
    waiting = [info]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _CHANGED) or hasattr(getattr(node, "cls", None), "model_validate"):
            return True
        cls = getattr(node, "cls", None)
        if cls in seen:
            continue
        if cls is not None:
            seen.add(cls)
        waiting += _inner(node)
    return False


_CHANGED: Final = (
    # These go as plain values.
    types.EnumType,
    types.StructType,
    types.DataclassType,
    types.NamedTupleType,
    # These arrive as they were, unless a client that has only JSON sent them.
    types.DateTimeType,
    types.DateType,
    types.TimeType,
    types.TimeDeltaType,
    types.UUIDType,
    types.DecimalType,
    types.SetType,
    types.FrozenSetType,
    types.VarTupleType,
    types.TupleType,
)


def _inner(node: Any) -> list[object]:
    match node:
        case types.UnionType():
            return list(node.types)
        case types.DictType():
            return [node.key_type, node.value_type]
        case types.TypedDictType():
            return [field.type for field in node.fields]
        case types.Metadata():
            return [node.type]
    item = getattr(node, "item_type", None)
    return [] if item is None else [item]
