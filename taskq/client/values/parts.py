"""Annotations that msgspec refuses as a whole, taken apart: each part is converted by whoever knows it."""

import dataclasses
from collections import OrderedDict, abc, deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache, partial
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints, is_typeddict

from msgspec import Struct, structs

from taskq.client.values.typed import Convert, conversion_to, expected

_BOXES: Final[dict[Any, Callable[[Iterable[Any]], Any]]] = {
    **dict.fromkeys([abc.Iterable, abc.Collection, abc.Sequence, abc.MutableSequence], list),
    **dict.fromkeys([abc.Set, abc.MutableSet], set),
    **{cls: cls for cls in (list, set, frozenset, deque)},
}
_MAPS: Final[dict[Any, Callable[[Any], Any]]] = {
    **dict.fromkeys([dict, abc.Mapping, abc.MutableMapping], dict),
    OrderedDict: OrderedDict,
}
_LISTS: Final = (list, tuple, set, frozenset)


def conversion_by_hand(hint: Any) -> Convert | None:
    """As `conversion_to`; None for a class that nobody knows."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return conversion_to(args[0], is_strict=True)
    if origin is Union or origin is UnionType:
        return partial(_one_of, hint, [(each, _part(each)) for each in args])
    cls = hint if origin is None else origin
    if cls in _BOXES:
        return partial(_box, cls, _part(args[0]) if args else _as_it_is)
    if cls in _MAPS:
        return partial(_map, cls, *(map(_part, args) if args else (_as_it_is, _as_it_is)))
    if cls is tuple and args:
        return partial(_tuple, args[:-1] if args[-1] is ... else args, args[-1] is ...)
    if isinstance(cls, type) and issubclass(cls, Enum):
        return partial(_member, cls)
    return partial(_with_fields, cls) if isinstance(cls, type) and _has_fields(cls) else None


def _as_it_is(value: Any) -> Any:
    return value


def _part(hint: Any) -> Convert:
    """The hint may be None, for NoneType."""
    if hint is None or hint is type(None):
        return _nothing
    return conversion_to(hint, is_strict=True) or _as_it_is


def _nothing(value: Any) -> None:
    if value is not None:
        raise expected("None", value)


def _one_of(hint: Any, members: list[tuple[Any, Convert]], value: Any) -> Any:
    """The member that it is already, else the first that can be made of it; of dataclasses, the one that
    has these fields comes before one that has others too."""
    for member, _ in members:
        if type(value) is (get_origin(member) or member) and not get_args(member):
            return value
    for _, convert in sorted(members, key=lambda each: _strangeness(each[0], value)):
        if convert is _as_it_is:
            continue
        try:
            return convert(value)
        except Exception:  # noqa: S112  # as users' classes refuse it; the next one may not
            continue
    if any(convert is _as_it_is for _, convert in members):
        return value
    raise ValueError(f"Expected `{_name(hint)}`, got `{type(value).__name__}`")


def _strangeness(member: Any, value: Any) -> int:
    fields = getattr(member, "__dataclass_fields__", None) or getattr(member, "__struct_fields__", None)
    return len(value.keys() ^ set(fields)) if fields and type(value) is dict else 0


def _name(hint: Any) -> str:
    return " | ".join(getattr(each, "__name__", str(each)) for each in get_args(hint))


def _box(cls: Any, convert: Convert, value: Any) -> Any:
    if not isinstance(value, (*_LISTS, deque)):
        raise expected(cls, value)
    return _BOXES[cls](_placed(convert, item, f"[{place}]") for place, item in enumerate(value))


def _map(cls: Any, key: Convert, item: Convert, value: Any) -> Any:
    if not isinstance(value, dict):
        raise expected(cls, value)
    return _MAPS[cls]((key(name), _placed(item, inner, "[...]")) for name, inner in value.items())


def _tuple(hints: tuple[Any, ...], is_endless: bool, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, _LISTS):
        raise expected(tuple, value)
    converts = [_part(hint) for hint in hints] * (len(value) if is_endless else 1)
    if len(converts) != len(value):
        raise ValueError(f"Expected `tuple` of {len(converts)} items, got {len(value)}")
    pairs = enumerate(zip(converts, value, strict=True))
    return tuple(_placed(convert, item, f"[{place}]") for place, (convert, item) in pairs)


def _member(cls: type[Enum], value: Any) -> Enum:
    try:
        return cls(value)
    except ValueError:
        raise ValueError(
            f"Expected a value of `{cls.__name__}`, got another `{type(value).__name__}`"
        ) from None


def _has_fields(cls: Any) -> bool:
    marks = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__", "_fields")
    return is_typeddict(cls) or any(hasattr(cls, mark) for mark in marks)


def _with_fields(cls: Any, value: Any) -> Any:
    fields = _fields(cls)
    if not is_typeddict(cls) and isinstance(value, cls):
        return value
    if isinstance(value, list | tuple) and len(value) <= len(fields):  # of named tuples and flat structs
        value = dict(zip(fields, value, strict=False))
    if not isinstance(value, dict):
        raise expected(cls, value)
    made = {
        parameter: _placed(convert, value[name], f".{name}")
        for name, (parameter, convert) in fields.items()
        if name in value
    }
    try:
        return cls(**made)
    except TypeError as error:
        raise ValueError(str(error)) from None


@lru_cache(maxsize=1024)
def _fields(cls: Any) -> dict[str, tuple[str, Convert]]:
    """By the name that they travel under. Found when the first one arrives: a class may have itself in it."""
    hints = get_type_hints(cls, include_extras=True)
    if issubclass(cls, Struct):
        names = {each.encode_name: (each.name, each.name) for each in structs.fields(cls)}
    elif hasattr(cls, "__attrs_attrs__"):
        names = {each.name: (each.alias, each.name) for each in cls.__attrs_attrs__ if each.init}
    elif dataclasses.is_dataclass(cls):
        names = {each.name: (each.name, each.name) for each in dataclasses.fields(cls) if each.init}
    else:
        names = {name: (name, name) for name in hints}
    return {name: (parameter, _part(hints[field])) for name, (parameter, field) in names.items()}


def _placed(convert: Convert, item: Any, place: str) -> Any:
    try:
        return convert(item)
    except ValueError as error:
        text, at, inner = str(error).partition(" - at `$")
        raise ValueError(f"{text} - at `${place}{inner if at else '`'}") from None
