"""Waiting for what other processes do: bounded, and without a fixed sleep that hopes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def until(look: Callable[[], T], *, seconds: float = 20.0) -> T:
    """The first true thing that `look` returns. TimeoutError when there is none in time."""
    async with asyncio.timeout(seconds):
        while not (found := look()):
            await asyncio.sleep(0.005)
    return found
