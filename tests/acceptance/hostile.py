"""Tasks that do not let go, or take their process with them, each in every kind of executor."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from taskq import TaskQ

q = TaskQ()
_libc = ctypes.PyDLL(None)  # calls keep the interpreter to themselves


def _exit() -> None:
    sys.exit(3)


def _leave() -> None:
    os._exit(3)


def _abort() -> None:
    os.abort()


def _recurse() -> None:
    _recurse()


def _overflow() -> None:
    """The stack of C, where no RecursionError comes in time."""
    nested: list[object] = []
    for _ in range(1_000_000):
        nested = [nested]
    sys.setrecursionlimit(2**30)
    repr(nested)


def _devour() -> None:
    bytes(2**62)


def _spin() -> None:
    _libc.sleep(3600)


_WAYS: dict[str, Callable[[], None]] = {
    "exit": _exit,
    "leave": _leave,
    "abort": _abort,
    "recurse": _recurse,
    "overflow": _overflow,
    "devour": _devour,
    "spin": _spin,
}


def _once(way: str, marker: str) -> str:
    """The first attempt ends so; the second succeeds."""
    path = Path(marker)
    if path.exists():
        return "survived"
    path.touch()
    _WAYS[way]()
    return "nothing happened"


@q.task(retry=2)
async def on_the_loop(way: str, marker: str) -> str:
    return _once(way, marker)


@q.task(retry=2)
def in_a_thread(way: str, marker: str) -> str:
    return _once(way, marker)


@q.task(retry=2, executor="process")
def in_a_process(way: str, marker: str) -> str:
    return _once(way, marker)


@q.task
async def wait(marker: str) -> int:
    while not Path(marker).exists():
        await asyncio.sleep(0.01)
    return os.getpid()
