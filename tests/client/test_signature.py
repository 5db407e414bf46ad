"""Do the arguments fit, which one cannot be sent, and do they arrive typed as annotated."""

import inspect
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.client.payload import pack_call, pack_value
from taskq.client.signature import CallSignature
from taskq.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # exists for annotations only


class Color(Enum):
    RED = "red"


@dataclass
class User:
    name: str
    born: date
    friends: "list[User] | None" = None


class Point(NamedTuple):
    x: int
    y: int


class Order(msgspec.Struct, tag=True):
    total: Decimal


class Filters(TypedDict):
    color: Color


class Model:
    """As pydantic's are, to us."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.size == self.size

    __hash__ = None  # type: ignore[assignment]  # a mutable value

    def model_dump(self) -> dict[str, Any]:
        return {"size": self.size}

    @classmethod
    def model_validate(cls, value: dict[str, Any]) -> "Model":
        return cls(value["size"])


class Weird:
    """Nobody knows how to send or make one."""


def plain(a: int, b: str = "", *, c: float = 0.0) -> None: ...
def positional(a: int, /, b: int) -> None: ...
def named(a: int, *, b: int) -> None: ...
def anything(*args: object, **kwargs: object) -> None: ...


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (plain, (1,), {}),
        (plain, (1, "x"), {"c": 1.0}),
        (plain, (), {"a": 1}),
        (positional, (1,), {"b": 2}),
        (named, (1,), {"b": 2}),
        (anything, (1, 2, 3), {"x": 4}),
        (anything, (), {}),
    ],
)
def test_what_fits_is_encoded(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signature = CallSignature(fn, "t")
    assert signature.arguments(signature.encode(args, kwargs)) == ([*args], kwargs)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "text"),
    [
        (plain, (), {}, "missing a required argument: 'a'"),
        (plain, (1, "", 2.0), {}, "too many positional arguments"),
        (plain, (1,), {"a": 1}, "multiple values for argument 'a'"),
        (plain, (1,), {"d": 1}, "unexpected keyword argument 'd'"),
        (named, (1,), {}, "missing a required"),
        (positional, (), {"a": 1, "b": 2}, "a"),
    ],
)
def test_what_does_not_fit_is_refused_on_both_sides(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    signature = CallSignature(fn, "tasks.send")
    with pytest.raises(TypeError, match=rf"^tasks\.send\(\): .*{text}"):
        signature.encode(args, kwargs)
    with pytest.raises(TypeError, match=r"^tasks\.send\(\): "):
        signature.arguments(pack_call(args, kwargs))


def test_the_argument_that_cannot_be_sent_is_named() -> None:
    def send(user: object, *rest: object, **more: object) -> None: ...

    signature = CallSignature(send, "send")
    for args, kwargs, text in [
        ((Weird(),), {}, r"send\(\): argument 'user': Weird cannot be sent"),
        ((1, 2, Weird()), {}, r"send\(\): argument '#3': Weird cannot be sent"),
        ((1,), {"x": [Weird()]}, r"send\(\): argument 'x' at \[0\]: Weird cannot be sent"),
    ]:
        with pytest.raises(EncodeError, match=text):
            signature.encode(args, kwargs)


def test_arguments_arrive_as_annotated() -> None:
    def task(
        user: User,
        color: Color | None,
        point: Point,
        model: Model,
        orders: list[Order],
        filters: Filters,
        maybe: Optional[list[Model]] = None,  # noqa: UP045  # the old spelling is annotated too
        *rest: Color,
        **more: User,
    ) -> None: ...

    signature = CallSignature(task, "task")
    ann = User("ann", date(2000, 1, 1), [User("bob", date(2001, 1, 1))])
    args = [
        ann,
        Color.RED,
        Point(1, 2),
        Model(3),
        [Order(Decimal("1.5"))],
        {"color": Color.RED},
        [Model(4)],
        Color.RED,
    ]
    arrived, kwargs = signature.arguments(signature.encode(tuple(args), {"other": ann}))
    assert arrived == args
    assert kwargs == {"other": ann}
    assert type(arrived[2]) is Point


def test_json_from_elsewhere_becomes_typed() -> None:
    def task(when: datetime, id: UUID, wait: timedelta, tags: set[str], pair: tuple[int, int]) -> None: ...

    payload = pack_call(["2026-01-02T03:04:05", str(UUID(int=1)), "PT5S", ["a"], [1, 2]], {})
    args, _ = CallSignature(task, "task").arguments(payload)
    assert args == [datetime(2026, 1, 2, 3, 4, 5), UUID(int=1), timedelta(seconds=5), {"a"}, (1, 2)]


def test_what_nobody_knows_is_left_as_it_came() -> None:
    def task(a: Weird, b: "list[Weird]", c: "Unknown", d: "Weird | User", e, f: list = []) -> None: ...  # type: ignore[no-untyped-def,type-arg]  # noqa: B006  # as users write

    args, _ = CallSignature(task, "task").arguments(pack_call([1, [2], {"c": 3}, {"name": 4}, 5, [6]], {}))
    assert args == [1, [2], {"c": 3}, {"name": 4}, 5, [6]]


def test_a_none_stays_none() -> None:
    def task(user: User = None) -> User: ...  # type: ignore[empty-body,assignment]  # as users write

    signature = CallSignature(task, "task")
    assert signature.arguments(pack_call([None], {})) == ([None], {})
    assert signature.result(pack_value(None)) is None


def test_plain_results_are_not_looked_at() -> None:
    def task(a: int, b: str, c: list[int], d: dict[str, float], e: Any, f: bytes, g: object) -> list[str]: ...  # type: ignore[empty-body]  # only annotations matter

    signature = CallSignature(task, "task")
    assert signature._result_conversion is None


def test_a_value_that_is_not_what_is_annotated() -> None:
    def task(user: User) -> User: ...  # type: ignore[empty-body]  # only annotations matter

    signature = CallSignature(task, "task")
    with pytest.raises(
        DecodeError, match=r"task\(\): argument 'user': Expected `str`, got `int` - at `\$\.name`"
    ):
        signature.arguments(pack_call([{"name": 5, "born": date(2000, 1, 1)}], {}))
    with pytest.raises(DecodeError, match=r"task\(\): result: "):
        signature.result(pack_value({"name": 5}))


def test_results_arrive_as_annotated() -> None:
    async def task() -> dict[str, User]: ...  # type: ignore[empty-body]  # only annotations matter

    signature = CallSignature(task, "task")
    result = {"a": User("ann", date(2000, 1, 1))}
    assert signature.result(signature.encode_result(result)) == result


def test_a_result_that_cannot_be_sent() -> None:
    with pytest.raises(EncodeError, match=r"^t\(\): result: at \[0\]: Weird cannot be sent"):
        CallSignature(plain, "t").encode_result([Weird()])


def spread(a: int, b: int = 0, /, c: int = 0, *rest: int, d: int, e: int = 0, **more: int) -> None: ...
def closed(a: int, /, b: int, c: int = 0, *, d: int, e: int = 0) -> None: ...
def bare() -> None: ...


@given(
    st.sampled_from([plain, positional, named, anything, spread, closed, bare]),
    st.integers(0, 5),
    st.sets(st.sampled_from(["a", "b", "c", "d", "e", "rest", "more", "x"])),
)
def test_what_fits_is_what_python_says(fn: Any, count: int, names: set[str]) -> None:
    args, kwargs = tuple(range(count)), dict.fromkeys(sorted(names), 0)
    signature = CallSignature(fn, "t")
    try:
        inspect.signature(fn).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match=r"^t\(\): "):
            signature.check(args, kwargs)
        assert not signature._is_fitting(count, kwargs)
    else:
        signature.check(args, kwargs)
