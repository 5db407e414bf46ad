"""Which functions can be tasks, which of them are async, and what the others are told."""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskq.errors import ConfigError


def function_of(fn: Any, name: str | None) -> Callable[..., Any]:
    """What is decorated, if it can be a task. Raises TypeError for what is no function, ConfigError."""
    if isinstance(fn, staticmethod):
        fn = fn.__func__
    if isinstance(fn, classmethod):
        raise ConfigError(
            f"{fn.__func__.__qualname__} is a classmethod, and a worker has no class to call it with; "
            "make it a function, or a staticmethod"
        )
    if isinstance(fn, type):
        raise TypeError(f"@task decorates a function, not the class {fn.__qualname__}; decorate what uses it")
    if not callable(fn):
        raise TypeError(f"@task decorates a function, not {fn!r}")
    function: Callable[..., Any] = fn
    if not hasattr(fn, "__qualname__") and name is None:
        raise ConfigError(
            f'{described(fn)} has no name by which a worker could find it; say one: q.task(name="...")(...)'
        )
    if _is_method(fn):
        raise ConfigError(
            f"{fn.__qualname__} is a method, and a worker has no object to call it with; make it a function "
            "and pass what it needs, or register that of one object: q.task(thing.method)"
        )
    return function


def is_async_function(fn: Callable[..., Any], executor: str | None) -> bool:
    """Whether a call gives a coroutine. ConfigError when nobody can tell and `executor` does not say."""
    if inspect.iscoroutinefunction(fn) or _has_async_call(fn):
        return True
    inner = _innermost(fn)
    if inner is fn or not inspect.iscoroutinefunction(inner):
        return False
    if executor is None:
        raise ConfigError(
            f"{described(fn)} is an async def behind a plain decorator: does calling it give a coroutine, "
            "or the result? Let the decorator's own function be async def and await; or say "
            'executor="async" if it gives a coroutine, executor="thread" if it gives the result'
        )
    return executor == "async"


def check_importable(fn: Callable[..., Any]) -> None:
    """Another process has to find it by its name: raises ConfigError when it could not."""
    name = getattr(fn, "__qualname__", "")
    if not name:
        what = "no def"
    elif "<lambda>" in name:
        what = "a lambda"
    elif "<locals>" in name:
        what = f"made inside {name.split('.<locals>')[0]}()"
    elif module_of(fn) == "__main__":
        what = "in no file"
    else:
        return
    raise ConfigError(
        f"{described(fn)} is {what}, so a process of its own could not import it; executor='process' needs a "
        "def at the top of a module, or in a class there"
    )


def default_name(fn: Callable[..., Any]) -> str:
    """`module.qualname`."""
    return f"{module_of(fn)}.{fn.__qualname__}"


def module_of(fn: Callable[..., Any]) -> str:
    """Where it is from. A script's own module gets the name by which a worker imports it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return _main_name() if fn.__module__ == "__main__" else fn.__module__


def _main_name() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        # `python -m package` runs package.__main__, `python -m module` the module.
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def _is_method(fn: Any) -> bool:
    """A function in the body of a class, whose first argument is what it is called on."""
    inner: Any = _innermost(fn)
    if not inspect.isfunction(inner) or not inner.__code__.co_argcount:
        return False
    around = inner.__qualname__.rpartition(".")[0]
    is_in_class = bool(around) and not around.endswith("<locals>")
    return is_in_class and inner.__code__.co_varnames[0] in ("self", "cls")


def _has_async_call(fn: Any) -> bool:
    """Of an object that can be called."""
    return not inspect.isroutine(fn) and inspect.iscoroutinefunction(type(fn).__call__)


def _innermost(fn: Callable[..., Any]) -> Callable[..., Any]:
    with contextlib.suppress(ValueError):  # it wraps itself
        inner: Callable[..., Any] = inspect.unwrap(fn)
        return inner
    return fn


def described(fn: Any) -> str:
    name: str = getattr(fn, "__qualname__", "")
    return name or repr(fn)
