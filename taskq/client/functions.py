"""Functions that are no tasks, for `q.executor()`: those of modules that the app has allowed.

Whoever may submit may then call any of them, so nothing is allowed unless the app says so.
"""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from taskq.client.callables import module_of
from taskq.client.options import checked_name
from taskq.client.task import OURS
from taskq.errors import Discard

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.task import Task

# What runs them. Every job of an allowed function is one of this task, whose first argument is its name.
TASK: Final = f"{OURS}function"


class Functions:
    """The modules that an app has allowed, and the one task that calls what is in them."""

    def __init__(self, app: "TaskQ") -> None:
        self._app = app
        self._modules: dict[str, None] = {}
        self._task: Task[..., Any] | None = None

    def allow(self, modules: tuple[str, ...]) -> None:
        """Allow these modules. The first time declares the task."""
        if not modules:
            raise TypeError("allow_functions() takes the names of modules, such as 'shop.reports'")
        for module in modules:
            self._modules[checked_name("allow_functions(): a module", module)] = None
        if self._task is None:

            def call(function: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
                return self.named(function)(*args, **kwargs)

            self._task = self._app.task(name=TASK)(call)

    def task_for(self, fn: Callable[..., Any]) -> "tuple[Task[..., Any], str]":
        """The task that calls this function, and the name by which it finds it. TypeError when none may."""
        name = name_of(fn)
        module = name.partition(":")[0]
        if self._task is None or module not in self._modules:
            raise TypeError(
                f"{name} is no task of this app: declare it with @q.task, or, where the app is made, say "
                f"q.task({fn.__qualname__}) or q.allow_functions({module!r})"
            )
        if inspect.iscoroutinefunction(fn):
            raise TypeError(f"{name} is an async def: declare it as a task, with @q.task")
        return self._task, name

    def named(self, name: str) -> Callable[..., Any]:
        """The function of an allowed module. Discard, which ends the job, if there is none."""
        module, _, path = name.partition(":")
        if module not in self._modules:
            raise Discard(f"the functions of {module!r} are not allowed here; see TaskQ.allow_functions")
        found: Callable[..., Any] = _found(module, path)
        # Its own, and not something of elsewhere that can be reached through it, such as the `os` it imports.
        if not callable(found) or (_module(found), getattr(found, "__qualname__", "")) != (module, path):
            raise Discard(f"{module!r} has no function {path!r} of its own")
        return found


def name_of(fn: Callable[..., Any]) -> str:
    """`module:qualname`. TypeError when it cannot be found by that on a worker."""
    module, path = _module(fn), getattr(fn, "__qualname__", "")
    if not module or not path:
        raise TypeError(f"{fn!r} is no function: submit a task, its function, its name, or a function")
    present = sys.modules.get(fn.__module__)
    found: object = present
    for part in path.split("."):
        found = getattr(found, part, None)
    if found != fn:
        raise TypeError(
            f"{module}:{path} cannot be found by its name, as lambdas, functions inside functions and "
            "methods of objects cannot: submit a task, or a function of a module"
        )
    return f"{module}:{path}"


def _module(fn: Any) -> str:
    return module_of(fn) if isinstance(getattr(fn, "__module__", None), str) else ""


def _found(module: str, path: str) -> Any:
    found: object = import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
