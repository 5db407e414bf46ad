"""What can be a task, which executor it gets, and what the others are told."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from taskq.client.app import TaskQ
from taskq.errors import ConfigError

T = TypeVar("T")


async def fetch(n: int) -> int:
    return n


def add(a: int, b: int = 2, *rest: int, c: int, **more: int) -> int:
    return a + b + c


def logged(fn: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        return fn(*args, **kwargs)

    return wrapper


class Machine:
    slot = "mine"

    def __call__(self, n: int) -> int:
        return n

    def run(self, n: int) -> int:
        return n

    async def wait(self, n: int) -> int:
        return n

    @classmethod
    def make(cls) -> "Machine":
        return cls()

    @staticmethod
    def turn(n: int) -> int:
        return n


class AsyncMachine:
    async def __call__(self, n: int) -> int:
        return n


@pytest.mark.parametrize(
    ("fn", "executor", "args"),
    [
        (fetch, "async", (1,)),
        (functools.partial(fetch), "async", (1,)),
        (functools.partial(functools.partial(add, 1), c=1), "thread", (3,)),
        (Machine().run, "thread", (1,)),
        (Machine().wait, "async", (1,)),
        (logged(Machine().run), "thread", (1,)),
        (Machine(), "thread", (1,)),
        (AsyncMachine(), "async", (1,)),
        (logged(add), "thread", (1, 2, 3)),
        (Machine.turn, "thread", (1,)),
        (Machine.__dict__["turn"], "thread", (1,)),
        (len, "thread", ("x",)),
        (lambda n: n, "thread", (1,)),
    ],
)
def test_what_can_be_called_can_be_a_task(fn: Any, executor: str, args: tuple[Any, ...]) -> None:
    task = TaskQ().task(name="t")(fn)
    assert task.executor == executor
    kwargs = {"c": 4} if getattr(fn, "__wrapped__", None) is add else {}
    assert [*task.signature.arguments(task.call(*args, **kwargs).payload)[0]] == [*args]
    assert task.slot != "mine"
    assert TaskQ().task(name="t")(fn).options(priority=3).executor == executor


def test_what_has_no_name_needs_one() -> None:
    for fn in (functools.partial(fetch), Machine()):
        with pytest.raises(ConfigError, match=r"has no name .*q\.task\(name="):
            TaskQ().task(fn)


def test_a_method_of_one_object_may_be_declared_twice() -> None:
    q, machine = TaskQ(), Machine()
    assert q.task(machine.run).fn == q.task(machine.run).fn
    with pytest.raises(ConfigError, match="two functions want to be the task"):
        q.task(Machine().run)


def test_methods_of_no_object_are_refused_at_decoration() -> None:
    q = TaskQ()
    with pytest.raises(ConfigError, match=r"Shop\.open is a method, and a worker has no object"):

        class Shop:
            @q.task
            async def open(self, n: int) -> int:
                return n

    with pytest.raises(ConfigError, match=r"Bar\.open is a classmethod, .* or a staticmethod"):

        class Bar:
            @q.task
            @classmethod
            def open(cls, n: int) -> int:
                return n

    with pytest.raises(ConfigError, match=r"Hut\.open is a method"):

        class Hut:
            @q.task
            @logged
            def open(self, n: int) -> int:
                return n

    class Kiosk:
        @staticmethod
        @q.task
        async def open(n: int) -> int:
            return n

        @q.task
        @staticmethod
        def close(n: int) -> int:
            return n

    assert Kiosk.open.name.endswith("Kiosk.open") and Kiosk.open.executor == "async"
    assert Kiosk.close.name.endswith("Kiosk.close") and Kiosk.close(3) == 3


@pytest.mark.parametrize("fn", [Machine, int, 5, "x", None.__class__, object()])
def test_what_is_no_function_is_refused(fn: Any) -> None:
    with pytest.raises(TypeError, match="@task decorates a function, not"):
        TaskQ().task(name="t")(fn)


def test_a_function_that_does_not_say_what_it_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not say which arguments it takes.* decorate a def"):
        TaskQ().task(max)


def test_an_async_def_behind_a_plain_decorator_is_refused_unless_it_says_what_it_gives() -> None:
    q = TaskQ()
    with pytest.raises(ConfigError, match=r"fetch is an async def behind a plain decorator: .*executor="):
        q.task(logged(fetch))

    def blocking(fn: Callable[[int], Coroutine[Any, Any, int]]) -> Callable[[int], int]:
        @functools.wraps(fn)
        def wrapper(n: int) -> int:
            return asyncio.run(fn(n))

        return wrapper

    assert q.task(name="a", executor="async")(logged(fetch)).executor == "async"
    thread = q.task(name="b", executor="thread")(blocking(fetch))
    assert thread.executor == "thread" and thread(3) == 3


def test_an_async_decorator_is_as_it_should_be() -> None:
    def timed(fn: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> T:
            return await fn(*args, **kwargs)

        return wrapper

    assert TaskQ().task(timed(fetch)).executor == "async"


def test_a_decorator_that_wraps_itself_does_no_harm() -> None:
    def odd(n: int) -> int:
        return n

    odd.__wrapped__ = odd  # type: ignore[attr-defined]  # the mistake
    with pytest.raises(ConfigError, match="does not say which arguments"):
        TaskQ().task(odd)
