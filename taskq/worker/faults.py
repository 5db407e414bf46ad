"""Exceptions as text that can travel. Nothing that a task raises can make this raise."""

import traceback
from pathlib import Path
from typing import Final

from taskq.limits import NAME_CHARS_MAX, TEXT_CHARS_MAX, TRACEBACK_CHARS_MAX
from taskq.protocol.messages import Fault

_OURS: Final = (
    str(Path(__file__).parent),
    # Its `run` stands between the worker and middleware of the user's, or the task.
    str(Path(__file__).parents[1] / "client" / "middleware.py"),
)


def fault(error: BaseException, message: str | None = None) -> Fault:
    """Type, message and traceback of an exception; `message` stands in for its own."""
    text = _message(error) if message is None else message
    return Fault(
        _shorter(_type_name(type(error)), NAME_CHARS_MAX),
        _shorter(_sendable(_shorter(text, TEXT_CHARS_MAX)), TEXT_CHARS_MAX),
        _without_middle(
            _sendable(_without_middle(_traceback(error), TRACEBACK_CHARS_MAX)), TRACEBACK_CHARS_MAX
        ),
    )


def _type_name(cls: type[BaseException]) -> str:
    name = _sendable(cls.__qualname__)
    return name if cls.__module__ == "builtins" else f"{_sendable(str(cls.__module__))}.{name}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        # Its __str__ is a user's code too, and this is the place where that must end.
        return f"<str() of this {type(error).__qualname__} failed>"


def _traceback(error: BaseException) -> str:
    try:
        told = traceback.TracebackException.from_exception(error)
        _without_ours(told)
        return "".join(told.format())
    except BaseException:
        return f"<the traceback of this {type(error).__qualname__} could not be written>"


def _without_ours(told: traceback.TracebackException) -> None:
    """Drop the frames that are this package's own, here and in what it came from: nobody can act on them."""
    seen: set[int] = set()
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(_OURS)]
            waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]


def _sendable(text: str) -> str:
    # A lone surrogate cannot be encoded, and would take the whole frame down with it.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shorter(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _without_middle(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    gap = "\n… the middle was cut …\n"
    half = (chars_max - len(gap)) // 2
    return text[:half] + gap + text[-half:]
