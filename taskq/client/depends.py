"""What a task asks of its worker beside its arguments: `Depends`, and the graph that its factories make.

Here it is declared and checked; workers make it.
"""

import functools
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints, overload

from taskq.errors import ConfigError

T = TypeVar("T")
Scope = Literal["job", "worker"]
# How a factory gives its value: returned; awaited; or yielded, with what comes after as its end.
Kind = Literal["plain", "coroutine", "generator", "async generator"]

_SCOPES: Final = ("job", "worker")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Dependency:
    """What stands in a signature for a value that the worker makes."""

    factory: Callable[..., Any]
    scope: Scope


# What type checkers see is the value that the factory gives, however it gives it.
@overload
def Depends(factory: Callable[..., _AsyncGeneratorContextManager[T]], *, scope: Scope = "job") -> T: ...
@overload
def Depends(factory: Callable[..., _GeneratorContextManager[T]], *, scope: Scope = "job") -> T: ...
@overload
def Depends(factory: Callable[..., AsyncIterator[T]], *, scope: Scope = "job") -> T: ...
@overload
def Depends(factory: Callable[..., Iterator[T]], *, scope: Scope = "job") -> T: ...
@overload
def Depends(factory: Callable[..., Awaitable[T]], *, scope: Scope = "job") -> T: ...
@overload
def Depends(factory: Callable[..., T], *, scope: Scope = "job") -> T: ...


def Depends(factory: Any, *, scope: Scope = "job") -> Any:
    """A parameter that the worker fills: `db: Pool = Depends(pool)`, or `db: Annotated[Pool, Depends(pool)]`.

    `factory` is called without arguments, but its own parameters may be Depends in turn. It returns
    the value, or is `async def`, or yields it once, and what follows the `yield` runs when the job
    has ended, however it ended; a function under @contextmanager or @asynccontextmanager is the same.
    With `scope="worker"` it is made once for each worker process, at its first use, and ended with it;
    else once for each attempt that asks for it, however often it is asked for there.

    Such a parameter is no argument: `submit` refuses it, and those after it are given by name.
    Raises ConfigError when the factory cannot be one.
    """
    if not callable(factory):
        raise ConfigError(f"Depends() takes a function that makes the value, not {factory!r}")
    if type(factory).__hash__ is None:
        raise ConfigError(f"Depends() tells factories apart by their hash, and {_name(factory)} has none")
    if scope not in _SCOPES:
        raise ConfigError(f"the scope of Depends() is 'job' or 'worker', not {scope!r}")
    return Dependency(factory, scope)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One factory of a graph. `needs` is by its parameters."""

    factory: Callable[..., Any]
    scope: Scope
    kind: Kind
    needs: Mapping[str, "Node"]

    @property
    def name(self) -> str:
        """For people."""
        return _name(self.factory)

    @property
    def is_on_loop(self) -> bool:
        """Must it be made on the event loop?"""
        return self.scope == "worker" or self.kind in ("coroutine", "async generator")


def needs_of(fn: Callable[..., Any]) -> dict[str, Node]:
    """What a task's function asks for, by parameter. ConfigError when that cannot be."""
    return _needs(fn, None, ())


def node_of(dependency: Dependency) -> Node:
    """The factory and all below it. ConfigError when they depend on each other, or want arguments."""
    return _node(dependency, ())


def without(signature: inspect.Signature, needs: Mapping[str, Node], name: str) -> inspect.Signature:
    """The signature that producers see. What follows an injected parameter is given by name only."""
    if not needs:
        return signature
    kept: list[inspect.Parameter] = []
    is_named = False
    for parameter in signature.parameters.values():
        if parameter.name in needs:
            if parameter.kind == parameter.POSITIONAL_ONLY:
                raise ConfigError(
                    f"{name}(): {parameter.name!r} is injected by its name, so it cannot be positional-only"
                )
            is_named = True
        elif is_named and parameter.kind == parameter.VAR_POSITIONAL:
            raise ConfigError(
                f"{name}(): nothing could be given to *{parameter.name}, which stands behind an injected "
                "parameter; put that one after it"
            )
        elif is_named and parameter.kind in _POSITIONAL:
            kept.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        else:
            kept.append(parameter)
    kept.sort(key=lambda parameter: parameter.kind)  # stable: only **rest may have to move
    return signature.replace(parameters=kept)


def _node(dependency: Dependency, path: tuple[Dependency, ...]) -> Node:
    factory, scope = dependency.factory, dependency.scope
    if any(each.factory is factory for each in path):
        names = " -> ".join(_name(each.factory) for each in (*path, dependency))
        raise ConfigError(f"these depend on each other: {names}")
    needs = _needs(factory, dependency, (*path, dependency))
    return Node(factory, scope, _kind(factory), needs)


def _needs(fn: Callable[..., Any], maker: Dependency | None, path: tuple[Dependency, ...]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for parameter in _parameters(fn):
        dependency = _dependency(fn, parameter)
        if dependency is not None:
            if maker is not None and maker.scope == "worker" and dependency.scope == "job":
                raise ConfigError(
                    f"{_name(fn)}() lives as long as the worker, and its {parameter.name!r} only as long as "
                    'a job; give that one scope="worker" too'
                )
            found[parameter.name] = _node(dependency, path)
        elif maker is not None and _is_required(parameter):
            raise ConfigError(
                f"{_name(fn)}() wants {parameter.name!r}, and nobody can give it: what a factory takes is "
                "Depends(...) or has a default"
            )
    return found


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except ValueError:  # `dict` and its like do not tell
        return []


def _is_required(parameter: inspect.Parameter) -> bool:
    is_rest = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not is_rest


def _dependency(fn: Callable[..., Any], parameter: inspect.Parameter) -> Dependency | None:
    if isinstance(parameter.default, Dependency):
        return parameter.default
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = _evaluated(fn, parameter.name, annotation)
    if get_origin(annotation) is not Annotated:
        return None
    return next((each for each in get_args(annotation)[1:] if isinstance(each, Dependency)), None)


def _evaluated(fn: Callable[..., Any], name: str, annotation: str) -> Any:
    """What `from __future__ import annotations` left as text."""
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, globalns=_globals(fn), include_extras=True)["it"]
    except Exception as error:
        if "Depends" in annotation:
            raise ConfigError(
                f"{_name(fn)}(): the annotation of {name!r} cannot be read: {error}; "
                "what it names must be there when the module is imported"
            ) from error
        return None  # a name that exists for type checkers only


def _globals(fn: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(fn, functools.partial):
        fn = fn.func
    module = sys.modules.get(getattr(fn, "__module__", ""))
    return getattr(inspect.unwrap(fn), "__globals__", None) or dict(vars(module) if module else {})


def _kind(factory: Callable[..., Any]) -> Kind:
    while isinstance(factory, functools.partial):
        factory = factory.func
    if not inspect.isroutine(factory) and not inspect.isclass(factory):
        factory = type(factory).__call__
    # Under @contextmanager and @asynccontextmanager there is a generator function. Other context managers
    # are values like any other: a factory may well return a pool that is not its own to close.
    inner = inspect.unwrap(factory)
    if inspect.isasyncgenfunction(inner):
        return "async generator"
    if inspect.isgeneratorfunction(inner):
        return "generator"
    return "coroutine" if inspect.iscoroutinefunction(factory) else "plain"


def _name(factory: object) -> str:
    while isinstance(factory, functools.partial):
        factory = factory.func
    return getattr(factory, "__qualname__", None) or type(factory).__qualname__
