"""What an annotation makes of a value that arrived: plain data becomes what the function expects.

msgspec does it where it can, pydantic where its models or fields are annotated. What msgspec refuses as
a whole (a union of two dataclasses, an Enum of floats) is taken apart by hand, in parts.py. What nobody
knows is left as it came.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from types import SimpleNamespace
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import msgspec
from msgspec import inspect as types

from taskq.client.values.secrets import Secret, holds_secret, revealed

Convert = Callable[[Any], Any]

# What their text makes again.
OF_TEXT: Final = (
    *(PurePath, ZoneInfo),
    *(IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface),
)
# Subclasses of these arrive as them, and become what they were by being called.
_OF_PLAIN: Final = (str, bytes, int, float)


def hint_of(fn: Callable[..., object], annotation: Any) -> Any:
    """The annotation with the names in it looked up. Raises NameError, and whatever else a look-up can."""
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return get_type_hints(holder, globalns=_names_around(fn), include_extras=True)["it"]


def _names_around(fn: Any) -> dict[str, Any]:
    """The names of the module in which the annotations stand: that of what is wrapped, bound or partial,
    not of the decorator around it."""
    for _ in range(64):  # a chain that is longer, or closed, is nobody's decorator
        inner = getattr(fn, "__wrapped__", None) or getattr(fn, "__func__", None)
        if isinstance(fn, partial):
            inner = fn.func
        if inner is None:
            break
        fn = inner
    if not hasattr(fn, "__globals__"):
        fn = type(fn).__call__
    names: dict[str, Any] = getattr(fn, "__globals__", {})
    return names


def conversion_to(hint: Any, *, is_strict: bool) -> Convert | None:
    """How a value becomes what the hint says; None if there is nothing to do, or nobody knows how.

    Not `is_strict`: what arrives as it was sent is not looked at again. The function that is returned
    raises ValueError or a kind of it; its text says what was expected and what came.
    """
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return None
    if _is_pydantics(hint):
        by_pydantic = _by_pydantic(hint)
        if by_pydantic is not None:
            return by_pydantic
    try:
        nodes = list(_nodes(types.type_info(hint)))
    except Exception:
        nodes = []  # a type that msgspec does not know, or not in this place
    if not nodes or any(_is_strange(node) for node in nodes):
        from taskq.client.values.parts import conversion_by_hand

        return conversion_by_hand(hint)
    changes = any(isinstance(node, _CHANGED) for node in nodes)
    return partial(_by_msgspec, hint, not changes) if is_strict or changes else None


def expected(kind: Any, value: object) -> ValueError:
    """The text of msgspec's own errors."""
    name = getattr(kind, "__name__", None) or str(kind)
    return ValueError(f"Expected `{name}`, got `{type(value).__name__}`")


# -- by msgspec -------------------------------------------------------------------------------


def _by_msgspec(hint: Any, is_plain: bool, value: Any) -> Any:
    try:
        return msgspec.convert(value, hint, dec_hook=_made)
    except msgspec.ValidationError as error:
        # To type checkers a bool is an int; to msgspec it is not.
        if not _holds_bool(value):
            raise
        try:
            converted = msgspec.convert(_without_bools(value), hint, dec_hook=_made)
        except msgspec.ValidationError:
            raise error from None
        return value if is_plain else converted


def _holds_bool(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_bool(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_holds_bool(item) for item in value)
    return value is True or value is False


def _without_bools(value: Any) -> Any:
    if value is True or value is False:
        return int(value)
    if isinstance(value, dict):
        return {name: _without_bools(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_without_bools(item) for item in value)
    return value


def _made(kind: Any, value: Any) -> Any:
    """One of a class that msgspec does not know."""
    cls: Any = get_origin(kind) or kind
    if cls is Secret:
        return _secret(kind, value)
    if isinstance(value, cls):
        return value
    validate = getattr(cls, "model_validate", None)
    if validate is not None:
        return _validated(validate, value)
    if cls is complex and isinstance(value, int | float):
        return complex(value)
    if issubclass(cls, OF_TEXT) and isinstance(value, str):
        return cls(value)
    for base in _OF_PLAIN:
        if issubclass(cls, base) and isinstance(value, base):
            return cls(value)
    raise expected(cls, value)


def _secret(kind: Any, value: Any) -> Secret[Any]:
    """A plain value becomes one too: a client in another language, or the command line, sent it."""
    plain = value.reveal() if isinstance(value, Secret) else value
    convert = _conversion_inside(kind)
    if convert is not None:
        try:
            plain = convert(plain)
        except Exception:
            # Their own texts may quote the value.
            name = getattr(get_args(kind)[0], "__name__", str(get_args(kind)[0]))
            text = f"Expected a Secret of `{name}`, got one of `{type(plain).__name__}` that is none"
            raise ValueError(text) from None
    return Secret(plain)


@lru_cache(maxsize=256)
def _conversion_inside(kind: Any) -> Convert | None:
    inner = get_args(kind)
    return conversion_to(inner[0], is_strict=True) if inner else None


def _is_strange(node: object) -> bool:
    """A class that neither msgspec nor `_made` can make; or one that msgspec does not ask for: of a key."""
    if isinstance(node, types.DictType):
        return any(isinstance(key, types.CustomType) for key in _nodes(node.key_type))
    if not isinstance(node, types.CustomType):
        return False
    cls = node.cls
    if cls is Secret or cls is complex or hasattr(cls, "model_validate"):
        return False
    return not issubclass(cls, (*OF_TEXT, *_OF_PLAIN))


_CHANGED: Final = (
    # These go as plain values.
    types.EnumType,
    types.StructType,
    types.DataclassType,
    types.NamedTupleType,
    types.CustomType,
    types.ByteArrayType,
    types.MemoryViewType,
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


def _nodes(info: object) -> Iterator[object]:
    """All the types in a type. A class may have itself in it."""
    seen: set[type] = set()
    waiting = [info]
    while waiting:
        node = waiting.pop()
        yield node
        cls = getattr(node, "cls", None)
        if cls in seen:
            continue
        if cls is not None:
            seen.add(cls)
        waiting += _inner(node)


def _inner(node: Any) -> list[object]:
    match node:
        case types.UnionType():
            return list(node.types)
        case types.DictType():
            return [node.key_type, node.value_type]
        case types.Metadata():
            return [node.type]
        case types.TupleType():
            return list(node.item_types)
    fields = getattr(node, "fields", None)
    if fields is not None:
        return [field.type for field in fields]
    item = getattr(node, "item_type", None)
    return [] if item is None else [item]


# -- by pydantic ------------------------------------------------------------------------------


def _is_pydantics(hint: Any) -> bool:
    """A model, one of pydantic's types or fields: anywhere in what the annotation itself says."""
    origin: Any = get_origin(hint)
    if origin is Annotated:
        if any(_library(type(each)) in ("pydantic", "annotated_types") for each in hint.__metadata__):
            return True
        return _is_pydantics(get_args(hint)[0])
    if hasattr(hint, "__pydantic_core_schema__") or _library(hint) in ("pydantic", "pydantic_core"):
        return True
    return any(_is_pydantics(each) for each in get_args(hint))


def _library(cls: Any) -> str:
    return str(getattr(cls, "__module__", "")).partition(".")[0]


def _by_pydantic(hint: Any) -> Convert | None:
    from pydantic import TypeAdapter  # it is here: the user's annotation is of it

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except Exception:
        return None  # one of its models beside what it does not know; the others may

    return partial(_validated, adapter.validate_python)


def _validated(validate: Convert, value: Any) -> Any:
    """By a model of any library that has pydantic's words."""
    try:
        return validate(value)
    except Exception as error:
        if not holds_secret(value):
            raise ValueError(_told(error)) from None
    try:
        return validate(revealed(value))  # pydantic's own SecretStr wants the text
    except Exception as error:
        raise ValueError(_told(error)) from None


def _told(error: Any) -> str:
    """Without the values, which pydantic's own text quotes."""
    if _library(type(error)) not in ("pydantic", "pydantic_core"):
        return f"{type(error).__name__}: {error}"
    texts = []
    for each in error.errors(include_url=False, include_context=False)[:5]:
        place = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in each["loc"])
        came = type(each["input"]).__name__
        texts.append(f"{each['msg']}, got `{came}`" + (f" - at `${place}`" if place else ""))
    return "; ".join(texts)
