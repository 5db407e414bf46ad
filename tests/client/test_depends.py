"""What may be asked for with Depends, how it is found, and what producers see of it."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest

from taskq import ConfigError, Depends, TaskQ
from taskq.client.depends import Dependency, needs_of, node_of
from taskq.client.payload import unpack_call


def plain() -> str:
    return "plain"


async def coroutine() -> str:
    return "coroutine"


def generator() -> Iterator[str]:
    yield "generator"


async def async_generator() -> AsyncIterator[str]:
    yield "async generator"


@contextmanager
def manager() -> Iterator[str]:
    yield "manager"


@asynccontextmanager
async def async_manager() -> AsyncIterator[str]:
    yield "async manager"


class Made:
    def __init__(self, inner: str = Depends(plain)) -> None:
        self.inner = inner


class Maker:
    async def __call__(self) -> str:
        return "made"


Shared = Annotated[str, Depends(plain)]


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        (plain, "plain"),
        (coroutine, "coroutine"),
        (generator, "generator"),
        (async_generator, "async generator"),
        (manager, "generator"),
        (async_manager, "async generator"),
        (Made, "plain"),
        (dict, "plain"),
        (Maker(), "coroutine"),
        (functools.partial(coroutine), "coroutine"),
        (functools.partial(generator), "generator"),
    ],
)
def test_a_factory_is_known_by_how_it_is_written(factory: Callable[..., Any], kind: str) -> None:
    assert node_of(Dependency(factory, "job")).kind == kind


def test_defaults_and_annotations_are_found() -> None:
    def task(
        a: int,
        b: str = Depends(plain),
        *,
        c: Annotated[str, "a word", Depends(coroutine, scope="worker")],
        d: Shared = "",
        e: Annotated[int, "no Depends"] = 1,
    ) -> None: ...

    needs = needs_of(task)
    assert {name: (node.factory, node.scope) for name, node in needs.items()} == {
        "b": (plain, "job"),
        "c": (coroutine, "worker"),
        "d": (plain, "job"),
    }


def test_annotations_that_are_text_are_read() -> None:
    def task(a: "int", b: "Annotated[str, Depends(plain)]", c: "Shared", d: "Elsewhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    assert list(needs_of(task)) == ["b", "c"]


def test_a_text_that_asks_and_cannot_be_read_is_told() -> None:
    def task(a: "Annotated[str, Depends(nowhere)]") -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    with pytest.raises(ConfigError, match=r"'a' cannot be read: name 'nowhere'"):
        TaskQ().task(task)


def test_factories_ask_in_turn() -> None:
    def outer(inner: Made = Depends(Made)) -> str:
        return inner.inner

    (node,) = [node_of(Dependency(outer, "job"))]
    assert node.needs["inner"].needs["inner"].factory is plain


# -- what producers see -------------------------------------------------------------------------------


def test_what_is_injected_is_no_argument() -> None:
    q = TaskQ()

    @q.task
    async def send(user: int, db: str = Depends(plain), copies: int = 1, **rest: int) -> None: ...

    assert unpack_call(send.call(7).payload) == ([7], {})
    assert unpack_call(send.call(7, copies=2, more=3).payload) == ([7], {"copies": 2, "more": 3})
    for args, kwargs in [((7, "mine"), {}), ((), {})]:
        with pytest.raises(TypeError, match="workers inject db"):
            send.signature.encode(args, kwargs)


def test_one_that_is_given_all_the_same_is_refused() -> None:
    q = TaskQ()

    @q.task
    async def send(user: int, *, db: str = Depends(plain)) -> None: ...

    with pytest.raises(TypeError, match=r"send\(\): .*'db'.*workers inject db"):
        send.call(7, db="mine")


def test_without_a_default_it_is_not_asked_for_either() -> None:
    q = TaskQ()

    @q.task
    async def send(user: int, db: Shared, copies: int) -> None: ...

    payload = send.signature.encode((7,), {"copies": 2})
    assert unpack_call(payload) == ([7], {"copies": 2})
    with pytest.raises(TypeError, match="copies"):
        send.signature.encode((7,), {})


async def test_a_plain_call_has_to_give_it() -> None:
    q = TaskQ()

    @q.task
    async def send(user: int, db: str = Depends(plain)) -> str:
        return db

    @q.task
    def post(user: int, db: str = Depends(plain)) -> str:
        return db

    assert await send(7, "mine") == "mine"
    assert post(7, db="mine") == "mine"
    with pytest.raises(TypeError, match=r"send\(\): workers inject db; .*db=\.\.\."):
        send(7)
    with pytest.raises(TypeError, match=r"post\(\): workers inject db"):
        post(7)


# -- what is refused when it is declared --------------------------------------------------------------


def test_factories_that_need_each_other() -> None:
    def first(other: Any) -> None: ...

    def second(other: Any = Depends(first)) -> None: ...

    first.__annotations__["other"] = Annotated[Any, Depends(second)]
    with pytest.raises(ConfigError, match=r"first -> .*second -> .*first"):
        TaskQ().task(lambda_task(first))


def test_a_worker_wide_one_cannot_need_one_of_a_job() -> None:
    def wide(inner: str = Depends(plain)) -> str:
        return inner

    async def task(it: str = Depends(wide, scope="worker")) -> None: ...

    with pytest.raises(ConfigError, match=r"wide\(\) lives as long as the worker.*'inner'.*scope=\"worker\""):
        TaskQ().task(task)


def test_a_factory_that_wants_arguments() -> None:
    def wanting(dsn: str) -> str:
        return dsn

    with pytest.raises(ConfigError, match=r"wanting\(\) wants 'dsn'"):
        TaskQ().task(lambda_task(wanting))


def test_places_where_it_cannot_stand() -> None:
    def rest(a: int, b: str = Depends(plain), *more: int) -> None: ...
    def positional(b: str = Depends(plain), /) -> None: ...

    with pytest.raises(ConfigError, match=r"\*more, which stands behind"):
        TaskQ().task(rest)
    with pytest.raises(ConfigError, match="positional-only"):
        TaskQ().task(positional)


def test_what_is_no_factory() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]  # so it is with what defines __eq__

        def __call__(self) -> int:
            return 1

    with pytest.raises(ConfigError, match="a function that makes the value, not 'text'"):
        Depends("text")  # type: ignore[call-overload]  # it is none
    with pytest.raises(ConfigError, match="scope"):
        Depends(plain, scope="request")  # type: ignore[call-overload]  # neither
    with pytest.raises(ConfigError, match="hash"):
        Depends(Unhashable())


def test_a_signature_shows_what_is_left() -> None:
    q = TaskQ()

    @q.task
    async def send(user: int, db: str = Depends(plain), copies: int = 1) -> None: ...

    assert str(send.signature._signature) == "(user: int, *, copies: int = 1) -> None"
    assert list(inspect.signature(send.fn).parameters) == ["user", "db", "copies"]


def lambda_task(factory: Callable[..., Any]) -> Callable[..., None]:
    """A task's function that needs this."""

    def task(it: Any = Depends(factory)) -> None: ...

    return task
