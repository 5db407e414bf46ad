"""Whatever the annotation says, a value arrives as it was; what is something else is refused by place."""

import contextlib
import functools
import string
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from ipaddress import IPv4Address, IPv6Network, ip_network
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskq.client.payload import pack_call
from taskq.client.signature import CallSignature
from taskq.client.values.secrets import Secret
from taskq.errors import DecodeError, EncodeError
from tests.client.values.decorated import logged

T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = auto()


class Right(Flag):
    READ = 1
    WRITE = 2


class Size(Enum):
    """Neither all numbers nor all texts: beyond msgspec."""

    SMALL = 0.5
    ODD = "odd"
    PAIR = (1, 2)


class Point(NamedTuple):
    x: int
    y: float


class Filters(TypedDict, total=False):
    color: Color
    since: date


class Email(str):
    __slots__ = ()


class Order(msgspec.Struct):
    total: Decimal
    at: datetime


class Box(msgspec.Struct, Generic[T]):
    content: T


@dataclass
class User:
    name: str
    born: date
    level: Level = Level.LOW
    friends: "list[User]" = field(default_factory=list)


@dataclass
class Admin:
    name: str
    rights: Right


@dataclass
class Sized:
    """Has what msgspec refuses, and itself."""

    size: Size
    inner: "Sized | None" = None


@attrs.define
class Part:
    number: int
    made: date


class SizedStruct(msgspec.Struct, rename="camel"):
    how_large: Size
    who: User | Admin
    more: "SizedStruct | None" = None


class SizedRow(msgspec.Struct, array_like=True):
    size: Size
    count: int = 0


class SizedPair(NamedTuple):
    size: Size
    number: int = 0


class SizedDict(TypedDict, total=False):
    size: Size
    who: User | Admin


@attrs.define
class SizedPart:
    _size: Size
    count: int = 0


class Model(pydantic.BaseModel):
    id: int
    when: datetime
    tags: set[str] = set()
    email: pydantic.SecretStr | None = None
    site: pydantic.HttpUrl | None = None
    token: Secret[str] | None = None


def arrived(hint: Any, value: Any) -> Any:
    """What becomes of an argument with this annotation; the same becomes of a result."""

    def task(value): ...  # type: ignore[no-untyped-def]  # they follow

    task.__annotations__ = {"value": hint, "return": hint}
    signature = CallSignature(task, "task")
    [argument], _ = signature.arguments(signature.encode((value,), {}))
    result = signature.result(signature.encode_result(value))
    assert result == argument and type(result) is type(argument)
    return argument


ADA = User("ada", date(1815, 12, 10), Level.HIGH, [User("bob", date(2000, 1, 1))])
ROOT = Admin("root", Right.READ | Right.WRITE)
MODEL = Model(
    id=1,
    when=datetime(2026, 1, 2, tzinfo=UTC),
    tags={"a"},
    email=pydantic.SecretStr("x"),
    site=pydantic.HttpUrl("http://example.com/"),
    token=Secret("t"),
)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (User, ADA),
        (Sized, Sized(Size.PAIR, Sized(Size.SMALL))),
        (Part, Part(1, date(2026, 1, 2))),
        (SizedStruct, SizedStruct(Size.PAIR, ROOT, SizedStruct(Size.ODD, ADA))),
        (list[SizedRow], [SizedRow(Size.PAIR, 1), SizedRow(Size.ODD)]),
        (SizedPair, SizedPair(Size.PAIR, 1)),
        (SizedDict, {"size": Size.PAIR, "who": ROOT}),
        (SizedPart, SizedPart(Size.PAIR, 2)),
        (dict[str, SizedPart | SizedStruct], {"a": SizedPart(Size.ODD), "b": SizedStruct(Size.ODD, ADA)}),
        (Model, MODEL),
        (list[Model], [MODEL]),
        (Model | None, MODEL),
        (dict[str, Model], {"a": MODEL}),
        (Model | str, "text"),
        (User | Admin, ADA),
        (User | Admin, ROOT),
        (list[User | Admin | None], [ADA, None, ROOT]),
        (str | UUID, UUID(int=1)),
        (str | UUID, "x"),
        (datetime | date, date(2026, 1, 2)),
        (Size, Size.SMALL),
        (list[Size], [Size.PAIR, Size.ODD]),
        (dict[Size, tuple[Size, ...]], {Size.PAIR: (Size.ODD, Size.SMALL)}),
        (tuple[Size, int], (Size.ODD, 1)),
        (frozenset[Size], frozenset([Size.ODD])),
        (Right, Right.READ | Right.WRITE),
        (Box[User], Box(ADA)),
        (Email, Email("a@b")),
        (list[Email], [Email("a@b")]),
        (Path, Path("/x/y")),
        (list[PurePosixPath], [PurePosixPath("x")]),
        (IPv4Address, IPv4Address("127.0.0.1")),
        (IPv6Network, ip_network("::/8")),
        (ZoneInfo, ZoneInfo("Europe/Berlin")),
        (deque[int], deque([1, 2])),
        (OrderedDict[str, Size], OrderedDict(b=Size.ODD, a=Size.PAIR)),
        (bytearray, bytearray(b"x")),
        (complex, 1 + 2j),
        (Mapping[str, User], {"a": ADA}),
        (dict[Path, int], {Path("a"): 1}),
        (dict[tuple[Email, int], int], {(Email("a"), 1): 1}),
        (Sequence[User], [ADA]),
        (Filters, {"color": Color.RED, "since": date(2026, 1, 2)}),
        (Literal["a", 3], 3),
        (Annotated[int, msgspec.Meta(gt=3)], 4),
        (Annotated[int, pydantic.Field(gt=3)], 4),
        (Annotated[Size, "a note"], Size.ODD),
        (Secret[str], Secret("x")),
        (Secret[User], Secret(ADA)),
        (Secret[Size] | None, Secret(Size.PAIR)),
        (list[Secret[str]], [Secret("x")]),
        (Secret, Secret([1])),
        (int, True),
        (list[int], [True, 2]),
        (Any, (1, {2})),
        (object, [1]),
    ],
    ids=str,
)
def test_it_arrives_as_annotated(hint: Any, value: Any) -> None:
    found = arrived(hint, value)
    assert found == value
    assert type(found) is type(value)


def test_an_int_is_a_float_too() -> None:
    def task(a: float, b: list[float]) -> None: ...

    [a, b], _ = CallSignature(task, "task").arguments(pack_call([2, [3]], {}))
    assert (type(a), type(b[0])) == (float, float)


LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (int, st.integers(-(2**100), 2**100)),
    (str, st.text(max_size=5)),
    (bytes, st.binary(max_size=5)),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False)),
    (Decimal, st.decimals(allow_nan=False)),
    (UUID, st.uuids()),
    (date, st.dates()),
    (time, st.times()),
    (datetime, st.datetimes(timezones=st.none() | st.just(UTC))),
    (timedelta, st.timedeltas()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Word, st.sampled_from(Word)),
    (Size, st.sampled_from(Size)),
    (Right, st.sampled_from([Right(0), Right.READ, Right.READ | Right.WRITE])),
    (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False))),
    (Email, st.text(max_size=5).map(Email)),
    (Path, st.text(string.ascii_letters, min_size=1, max_size=5).map(Path)),
    (IPv4Address, st.ip_addresses(v=4)),
    (Secret[str], st.text(max_size=5).map(Secret)),
]
UNHASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (User, st.builds(User, st.text(max_size=5), st.dates(), st.sampled_from(Level), st.just([]))),
    (Sized, st.builds(Sized, st.sampled_from(Size), st.none())),
    (Order, st.builds(Order, st.decimals(allow_nan=False), st.datetimes())),
    (Filters, st.fixed_dictionaries({}, optional={"color": st.sampled_from(Color), "since": st.dates()})),
]


# To type checkers a hint made at run time is no type.
LIST: Any = list
TUPLE: Any = tuple
DICT: Any = dict
SET: Any = set
FROZENSET: Any = frozenset


def boxes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Pairs of a hint and a strategy for its values, around other such pairs."""
    key = st.sampled_from(LEAVES)
    return (
        inner.map(lambda pair: (LIST[pair[0]], st.lists(pair[1], max_size=3)))
        | inner.map(lambda pair: (TUPLE[pair[0], ...], st.lists(pair[1], max_size=3).map(tuple)))
        | inner.map(lambda pair: (pair[0] | None, st.none() | pair[1]))
        | st.tuples(inner, inner).map(
            lambda two: (TUPLE[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))
        )
        | st.tuples(key, inner).map(
            lambda two: (DICT[two[0][0], two[1][0]], st.dictionaries(two[0][1], two[1][1], max_size=3))
        )
        | key.map(lambda pair: (SET[pair[0]], st.sets(pair[1], max_size=3)))
        | key.map(lambda pair: (FROZENSET[pair[0]], st.frozensets(pair[1], max_size=3)))
    )


TYPED = st.recursive(st.sampled_from([*LEAVES, *UNHASHABLE]), boxes, max_leaves=4)


def types_of(value: Any) -> Any:
    """1 == True == 1.0 must not pass for a round trip; nor a text for a member."""
    if isinstance(value, dict):
        return {name: (type(name), types_of(item)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), {type(item) for item in value}
    return type(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_the_annotation_it_arrives_as_it_was(data: st.DataObject) -> None:
    hint, values = data.draw(TYPED)
    value = data.draw(values)
    found = arrived(hint, value)
    assert found == value
    assert types_of(found) == types_of(value)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (int, "x", "Expected `int`, got `str`"),
        (str, 5, "Expected `str`, got `int`"),
        (list[int], [1, "x"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (User, {"name": 5, "born": date(2026, 1, 2)}, r"Expected `str`, got `int` - at `\$\.name`"),
        (User, {"name": "x"}, "missing required field `born`"),
        (User | Admin, {"title": 1}, r"Expected `User \| Admin`, got `dict`"),
        (str | UUID, 5, r"Expected `str \| UUID`, got `int`"),
        (Size, 7, "Expected a value of `Size`, got another `int`"),
        (
            Sized,
            {"size": 0.5, "inner": {"size": 7}},
            r"got another `int` - at `\$\.inner\.size`|Expected `Sized",
        ),
        (Sized, 5, "Expected `Sized`, got `int`"),
        (Sized, {}, "missing 1 required positional argument: 'size'"),
        (list[Size], 5, "Expected `list`, got `int`"),
        (dict[str, Size], {"a": 7}, r"another `int` - at `\$\[\.\.\.\]`"),
        (dict[str, Size], [1], "Expected `dict`, got `list`"),
        (tuple[Size, int], (0.5,), "Expected `tuple` of 2 items, got 1"),
        (tuple[Size, int], "x", "Expected `tuple`, got `str`"),
        (Path, 5, "Expected `Path`, got `int`"),
        (IPv4Address, "x", "Expected 4 octets"),
        (Literal["a"], "b", "Invalid enum value"),
        (Annotated[int, msgspec.Meta(gt=3)], 3, "Expected `int` >= 4"),
        (Annotated[int, pydantic.Field(gt=3)], 3, "Input should be greater than 3, got `int`"),
        (Model, {"id": "secret-ish", "when": 5}, r"valid integer.*, got `str` - at `\$\.id`"),
        (list[Model], [{"id": 1}], r"Field required, got `dict` - at `\$\[0\]\.when`"),
        (Secret[int], "quoted", "Expected a Secret of `int`, got one of `str` that is none"),
        (list[Secret[int]], ["quoted"], r"that is none - at `\$\[0\]`"),
    ],
    ids=str,
)
def test_what_is_something_else_is_refused(hint: Any, value: Any, says: str) -> None:
    def task(value): ...  # type: ignore[no-untyped-def]  # it follows

    task.__annotations__ = {"value": hint}
    with pytest.raises(DecodeError, match=rf"(?s)^task\(\): argument 'value': .*({says})") as caught:
        CallSignature(task, "task").arguments(pack_call([value], {}))
    assert "this worker's signature is task(value: " in str(caught.value)
    assert "quoted" not in str(caught.value) and "secret-ish" not in str(caught.value)


def test_plain_values_become_secrets_where_they_are_annotated() -> None:
    def task(
        a: Secret[str], *rest: "Secret[int] | None", b: Annotated[Secret[str], "x"], c: str = ""
    ) -> None: ...

    signature = CallSignature(task, "task")
    payload = signature.encode(("x", 1, None), {"b": "y", "c": "z"})
    assert signature._unpack_call(payload) == ([Secret("x"), Secret(1), None], {"b": Secret("y"), "c": "z"})
    assert signature.arguments(payload) == signature._unpack_call(payload)
    # What nobody marked: from another client.
    assert signature.arguments(pack_call(["x"], {"b": "y"})) == ([Secret("x")], {"b": Secret("y")})


def test_plain_values_inside_of_others_become_secrets_too() -> None:
    @dataclass
    class Login:
        user: str
        password: Secret[str]

    def task(login, logins=(), *rest, model=None, **more): ...  # type: ignore[no-untyped-def]  # they follow

    task.__annotations__ = {
        "login": Login,
        "logins": list[dict[str, Login | None]],
        "rest": list[Secret[int]],
        "model": Model | None,
        "more": Login,
    }
    signature = CallSignature(task, "task")
    plain = {"user": "ann", "password": "hunter2"}
    wrong = Login("ann", "hunter2")  # type: ignore[arg-type]  # the mistake
    model = {"id": 1, "when": datetime(2026, 1, 1), "token": "hunter2", "email": "hunter2"}
    payload = signature.encode((plain, [{"a": wrong, "b": None}], [1]), {"model": model, "z": wrong})
    assert "hunter2" not in repr(signature._unpack_call(payload))
    [login, logins, rest], named = signature.arguments(payload)
    assert login == Login("ann", Secret("hunter2")) == logins[0]["a"] == named["z"]
    assert rest == [Secret(1)] and named["model"].token == Secret("hunter2")
    with pytest.raises(
        EncodeError, match=r"task\(\): argument 'login': Object missing required field `password`"
    ):
        signature.encode(({"user": "ann"},), {})
    with pytest.raises(EncodeError, match=r"task\(\): argument 'z' at \.user: function cannot be sent"):
        signature.encode((plain,), {"z": Login(lambda: 0, Secret(""))})  # type: ignore[arg-type]  # as above


def test_a_name_that_only_type_checkers_know_leaves_the_others_typed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def task(a: "Nowhere", b: User) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821  # the point

    caplog.set_level("INFO", "taskq.client")
    signature = CallSignature(task, "task")
    for _ in range(2):
        assert signature.arguments(signature.encode(({"x": 1}, ADA), {}))[0] == [{"x": 1}, ADA]
    assert "task(): 'Nowhere' cannot be looked up (name 'Nowhere' is not defined)" in caplog.text
    assert signature.result(signature.encode_result([1])) == [1]
    with pytest.raises(TypeError, match=r"signature is task\(a: Nowhere, b: .*User\)"):
        signature.arguments(pack_call([], {}))


def test_annotations_are_looked_up_where_they_stand() -> None:
    def task(a: "User", b: "Size | None" = None) -> "User": ...  # type: ignore[empty-body]  # only annotations matter

    class Machine:
        def run(self, a: "User", b: "Size | None" = None) -> "User": ...  # type: ignore[empty-body]  # as above

        def __call__(self, a: "User", b: "Size | None" = None) -> "User": ...  # type: ignore[empty-body]  # as above

    functions: list[Any] = [
        *(task, logged(logged(task)), functools.partial(task), functools.partial(logged(task))),
        *(Machine().run, Machine(), logged(Machine().run)),
    ]
    for fn in functions:
        signature = CallSignature(fn, "task")
        assert signature.arguments(signature.encode((ADA, Size.PAIR), {}))[0] == [ADA, Size.PAIR]
        assert signature.result(signature.encode_result(ADA)) == ADA


def test_one_go_and_the_long_way_agree() -> None:
    def task(a: int, b: str, c: float, d: bytes, e: bool) -> None: ...

    signature = CallSignature(task, "task")
    assert signature._read_scalars is not None
    for args in [(1, "x", 1.5, b"x", True), (2**80, "x", 3, b"", False), (True, "", -0.0, b"y", None)]:
        found, kwargs = signature.arguments(signature.encode(args, {}))
        signature.__dict__["_read_scalars"], read = None, signature._read_scalars
        assert (found, kwargs) == signature.arguments(signature.encode(args, {}))
        assert list(map(type, found)) == list(map(type, signature.arguments(signature.encode(args, {}))[0]))
        signature.__dict__["_read_scalars"] = read
    named = signature.encode((1, "x", 1.5, b"x"), {"e": True})
    assert signature.arguments(named) == ([1, "x", 1.5, b"x"], {"e": True})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_hostile_bytes_raise_nothing_else(data: bytes) -> None:
    def task(a: int, b: str = "") -> None: ...
    def other(a: int, b: str) -> None: ...

    for fn in (task, other):
        with contextlib.suppress(DecodeError, TypeError):
            CallSignature(fn, "task").arguments(data)
