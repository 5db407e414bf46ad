"""Secret: a value that people never see by accident. It hides from logs and lists, not from programs."""

from contextlib import suppress
from types import UnionType
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

T_co = TypeVar("T_co", covariant=True)

HIDDEN: Final = "***"


class Secret(Generic[T_co]):
    """A value that shows itself to nobody who does not ask: `Secret("hunter2")` prints as `***`.

    As an argument it stays one on its way: `async def login(token: Secret[str])` is submitted with
    `Secret(token)` and gets a Secret; `reveal()` gives the value. Whoever shows arguments shows `***`.
    It is not encrypted: who can read the payload or the journal can read it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: "T_co | Secret[T_co]") -> None:
        self._value: T_co = value.reveal() if isinstance(value, Secret) else value

    def reveal(self) -> T_co:
        """The value itself. What is done with it from here on is the caller's care."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """How pydantic makes one for a field `token: Secret[str]`. Only pydantic calls this."""
        from pydantic_core import core_schema

        inner = handler(*get_args(source)) if get_args(source) else core_schema.any_schema()
        return core_schema.chain_schema(
            [
                core_schema.no_info_plain_validator_function(revealed),
                inner,
                core_schema.no_info_plain_validator_function(Secret),
            ]
        )


def is_secret(hint: Any) -> bool:
    """Whether an annotation is `Secret[...]`, or that or None."""
    origin = get_origin(hint)
    if hint is Secret or origin is Secret:
        return True
    if origin is Annotated:
        return is_secret(get_args(hint)[0])
    inner = [each for each in get_args(hint) if each is not type(None)]
    return origin in (Union, UnionType) and len(inner) == 1 and is_secret(inner[0])


def has_secret(hint: Any) -> bool:
    """Whether there is one anywhere in an annotation: in a list, a field of a class, a model's SecretStr."""
    seen: list[Any] = []
    waiting = [hint]
    while waiting:
        each = waiting.pop()
        if each is Secret or get_origin(each) is Secret or hasattr(each, "get_secret_value"):
            return True
        waiting += get_args(each)
        if isinstance(each, type) and each not in seen and each.__module__ != "builtins":
            seen.append(each)
            with suppress(Exception):  # a name in it that nobody can look up here
                waiting += get_type_hints(each, include_extras=True).values()
    return False


class Sealed(tuple[Any]):
    """A secret on its way into bytes: a box of its own kind, around one value."""

    __slots__ = ()


def sealed(secret: Secret[Any]) -> Sealed:
    return Sealed((secret.reveal(),))


def revealed(value: Any) -> Any:
    """The same value with nothing hidden in it, for those who know no Secret."""
    if isinstance(value, Secret):
        return revealed(value.reveal())
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(revealed(item) for item in value)
    if type(value) is dict:
        return {name: revealed(item) for name, item in value.items()}
    return value


def holds_secret(value: Any) -> bool:
    """Whether there is a Secret anywhere in a value that was unpacked."""
    if isinstance(value, Secret):
        return True
    if isinstance(value, dict):
        return any(holds_secret(item) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple | set | frozenset) and any(map(holds_secret, value))
