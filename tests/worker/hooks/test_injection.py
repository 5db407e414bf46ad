"""Values are made, shared within an attempt, and ended again, whatever happens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskq import Depends
from taskq.client.depends import Node, needs_of
from taskq.worker.hooks.injection import Injection, is_on_loop, run_here, with_overrides

notes: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    notes.clear()


class Nobody:
    async def shared(self, node: Node) -> Any:
        return f"shared {node.name}"


def number() -> int:
    notes.append("number")
    return 5


async def doubled(it: int = Depends(number)) -> int:
    return 2 * it


def opened(it: int = Depends(number)) -> Iterator[str]:
    notes.append("open")
    try:
        yield f"open {it}"
    except ValueError as error:
        notes.append(f"saw {error}")
        raise
    finally:
        notes.append("closed")


async def outer(inner: str = Depends(opened)) -> AsyncIterator[str]:
    yield f"outer {inner}"
    notes.append("outer closed")


@contextmanager
def managed() -> Iterator[str]:
    yield "managed"
    notes.append("managed closed")


async def filled(task: Callable[..., Any]) -> tuple[dict[str, Any], Injection]:
    injection = Injection(Nobody(), run_here)
    return await injection.arguments(needs_of(task)), injection


async def test_each_is_made_once_and_ended_in_reverse() -> None:
    def task(
        a: int = Depends(doubled),
        b: str = Depends(outer),
        c: str = Depends(managed),
        d: int = Depends(number),
    ) -> None: ...

    values, injection = await filled(task)
    assert values == {"a": 10, "b": "outer open 5", "c": "managed", "d": 5}
    assert notes == ["number", "open"]
    assert await injection.close(None) is None
    assert notes[2:] == ["managed closed", "outer closed", "closed"]
    assert await injection.close(None) is None, "once"


async def test_what_is_shared_comes_from_elsewhere() -> None:
    def task(a: int = Depends(number, scope="worker")) -> None: ...

    values, _ = await filled(task)
    assert values == {"a": "shared number"} and notes == []


async def test_each_that_has_an_end_sees_the_error_at_its_yield() -> None:
    def task(a: str = Depends(opened)) -> None: ...

    error = ValueError("broken")
    _, injection = await filled(task)
    assert await injection.close(error) is error
    assert notes[2:] == ["saw broken", "closed"]


async def test_what_is_made_is_ended_when_a_later_one_cannot_be() -> None:
    def broken() -> int:
        raise LookupError("no such thing")

    def task(a: str = Depends(opened), b: int = Depends(broken)) -> None: ...

    injection = Injection(Nobody(), run_here)
    with pytest.raises(LookupError) as raised:
        await injection.arguments(needs_of(task))
    assert await injection.close(raised.value) is raised.value
    assert notes[-1] == "closed"


async def failing() -> AsyncIterator[str]:
    yield "it"
    raise OSError("disk of ann@example.com")


def translating() -> Iterator[str]:
    try:
        yield "it"
    except ValueError as error:
        raise LookupError("translated") from error


def swallowing() -> Iterator[str]:
    try:
        yield "it"
    except ValueError:
        notes.append("swallowed")


async def test_an_end_that_fails_is_the_attempts_failure_and_the_others_end_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def task(a: str = Depends(opened), b: str = Depends(failing)) -> None: ...

    _, injection = await filled(task)
    with caplog.at_level(logging.WARNING, "taskq.worker"):
        assert isinstance(await injection.close(None), OSError)
    assert notes[-1] == "closed"
    (said,) = caplog.messages
    assert said == "failing() failed after its yield: OSError", "never what it quotes"


async def test_an_end_may_translate_an_error(caplog: pytest.LogCaptureFixture) -> None:
    def task(a: str = Depends(translating)) -> None: ...

    _, injection = await filled(task)
    assert isinstance(await injection.close(ValueError("x")), LookupError)
    assert caplog.messages == [], "it is told as the attempt's failure"


async def test_an_end_that_swallows_an_error_does_not_undo_it() -> None:
    def task(a: str = Depends(swallowing)) -> None: ...

    error = ValueError("x")
    _, injection = await filled(task)
    assert await injection.close(error) is error
    assert notes == ["swallowed"]


async def test_what_was_cancelled_stays_so_whatever_an_end_raises() -> None:
    def task(a: str = Depends(failing)) -> None: ...

    cancelled = asyncio.CancelledError()
    _, injection = await filled(task)
    # At its yield it sees the cancellation, and lets it pass.
    assert await injection.close(cancelled) is cancelled


def angry() -> Iterator[str]:
    try:
        yield "it"
    finally:
        raise OSError("at the end")  # what this is about


async def test_an_end_that_fails_while_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def task(a: str = Depends(angry)) -> None: ...

    cancelled = asyncio.CancelledError()
    _, injection = await filled(task)
    with caplog.at_level(logging.WARNING, "taskq.worker"):
        assert await injection.close(cancelled) is cancelled
    assert "angry() failed after its yield: OSError" in caplog.messages


async def test_one_that_yields_nothing_or_twice_is_told() -> None:
    def silent() -> Iterator[int]:
        yield from ()

    def twice() -> Iterator[int]:
        yield 1
        yield 2

    def first(a: int = Depends(silent)) -> None: ...
    def second(a: int = Depends(twice)) -> None: ...

    with pytest.raises(RuntimeError, match="didn't yield"):
        await filled(first)
    _, injection = await filled(second)
    assert "didn't stop" in str(await injection.close(None))


# -- overrides ------------------------------------------------------------------------------------------


async def test_an_override_stands_in_wherever_it_is_needed() -> None:
    def task(a: int = Depends(doubled), b: int = Depends(number)) -> None: ...

    needs = with_overrides(needs_of(task), {number: lambda: 50})
    assert await Injection(Nobody(), run_here).arguments(needs) == {"a": 100, "b": 50}


async def test_an_override_may_build_on_what_it_overrides() -> None:
    def one_more(it: int = Depends(number)) -> int:
        return it + 1

    def task(a: int = Depends(doubled)) -> None: ...

    needs = with_overrides(needs_of(task), {number: one_more})
    assert await Injection(Nobody(), run_here).arguments(needs) == {"a": 12}


def test_whether_the_loop_is_needed() -> None:
    def plain(a: str = Depends(opened)) -> None: ...
    def deep(a: str = Depends(outer)) -> None: ...
    def wide(a: int = Depends(number, scope="worker")) -> None: ...

    assert [is_on_loop(needs_of(task)) for task in (plain, deep, wide)] == [False, True, True]
    assert is_on_loop(with_overrides(needs_of(plain), {number: doubled}))
