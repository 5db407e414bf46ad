"""Which functions that are no tasks may be submitted, and which names a worker follows."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from taskq.client.app import TaskQ
from taskq.client.functions import TASK, Functions, name_of
from taskq.errors import ConfigError, Discard

from . import importable

HERE = importable.__name__


def allowing(*modules: str) -> Functions:
    q = TaskQ()
    q.allow_functions(*modules)
    return q._functions


def nested() -> Callable[[], None]:
    def inside() -> None: ...

    return inside


def test_nothing_is_allowed_unless_the_app_says_so() -> None:
    q = TaskQ()
    with pytest.raises(TypeError, match=rf"{HERE}:mul is no task of this app: .*allow_functions\('{HERE}'\)"):
        q._functions.task_for(importable.mul)
    assert TASK not in q.tasks


def test_allowing_declares_one_task() -> None:
    q = TaskQ()
    q.allow_functions(HERE)
    q.allow_functions("time", HERE)
    assert list(q.tasks) == [TASK]
    task, name = q._functions.task_for(importable.mul)
    assert (task, name) == (q.tasks[TASK], f"{HERE}:mul")
    assert task(name, [2], {"y": 3}) == 6
    assert q._functions.task_for(time.sleep)[1] == "time:sleep"


def test_the_task_does_not_name_the_app() -> None:
    q = TaskQ()
    q.allow_functions(HERE)
    assert q.name == ""
    q.task(importable.mul)
    assert q.name == HERE


@pytest.mark.parametrize("modules", [(), ("",), ("a,b",)])
def test_what_is_no_module(modules: tuple[str, ...]) -> None:
    with pytest.raises((TypeError, ConfigError)):
        TaskQ().allow_functions(*modules)


@pytest.mark.parametrize(
    "fn", [lambda: None, nested(), importable.shop.method, 5, importable.later, nested().__call__]
)
def test_what_a_worker_could_not_find_or_wait_for(fn: Any) -> None:
    functions = allowing(HERE, __name__)
    with pytest.raises(TypeError):
        functions.task_for(fn)


@pytest.mark.parametrize(("fn", "path"), [(importable.Shop.price, "Shop.price"), (importable.Shop, "Shop")])
def test_what_is_inside_a_class(fn: Any, path: str) -> None:
    assert name_of(fn) == f"{HERE}:{path}"
    assert allowing(HERE).named(f"{HERE}:{path}") is fn


@pytest.mark.parametrize(
    "name",
    [
        "os:system",  # not allowed
        f"{HERE}:os.system",  # of elsewhere, reached through what is allowed
        f"{HERE}:mul.__globals__",
        f"{HERE}:mul.__class__",
        f"{HERE}:shop.method",  # under another name than its own
        f"{HERE}:nothing",
        f"{HERE}:",
        f"{HERE}.below:f",
        "",
    ],
)
def test_a_worker_calls_only_what_the_modules_define(name: str) -> None:
    with pytest.raises(Discard):
        allowing(HERE).named(name)
