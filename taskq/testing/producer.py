"""The producer of a test environment: the real one over a wire, whose waits are in virtual time."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, TypeVar, cast

from taskq.client.context import context_var
from taskq.client.ids import IdMaker
from taskq.client.link import MakeCarrier
from taskq.client.producer import Producer
from taskq.protocol.messages import Role
from taskq.testing.clock import Clock, Timer, microseconds
from taskq.testing.pacing import Pacer, Wait
from taskq.testing.wire import Switchboard
from taskq.testing.work import Work

T = TypeVar("T")


class House(Protocol):
    """The environment, as its producers know it."""

    board: Switchboard
    clock: Clock
    pacer: Pacer
    work: Work
    rng: Random


class TestProducer(Producer):
    """Lives on any loop, in any thread. Those who wait for it are known to the environment."""

    __test__ = False  # pytest need not look for tests in here

    def __init__(
        self, house: House, urls: Sequence[str], *, name: str, role: Role, link: MakeCarrier
    ) -> None:
        super().__init__(urls, name=name, token=None, role=role, link=link)
        self.ids = IdMaker(lambda: house.clock.now.wall_ms * 1_000_000, house.rng.randbytes)
        self._house = house
        self._home = house.board.loop

    async def wait(self, future: "asyncio.Future[T]", timeout: float | None) -> T:
        """As of every producer; and Stuck at once when nothing is left that could bring it."""
        if self._over is not None:
            raise self._over
        attempt = context_var.get(None)
        wait = Wait(
            cast("asyncio.Future[object]", future),
            self._loop,
            is_timed=timeout is not None,
            is_inside=attempt is not None,
            is_far=self._loop is not self._home,
        )
        guest = _Guest(self._house, wait, id(attempt) if attempt is not None else 0, timeout)
        self._waits.add(future)
        self._call(guest.enter)
        try:
            return await future
        finally:
            self._waits.discard(future)
            self._call(guest.leave)

    def end(self, error: Exception) -> None:
        """The environment is over: whoever waits hears of it. On its loop."""
        for future in list(self._waits):
            wait = Wait(future, self._loop, is_timed=False, is_inside=False, is_far=False)
            wait.fail(error)

    def _call(self, callback: Callable[[], Any]) -> None:
        if self._loop is self._home:
            callback()
        elif not self._home.is_closed():
            self._home.call_soon_threadsafe(callback, context=self._house.board.variables)


class _Guest:
    """One wait, on the environment's loop: known there from `enter` to `leave`, with its timer."""

    def __init__(self, house: House, wait: Wait, inside: int, timeout: float | None) -> None:
        self._house = house
        self._wait = wait
        self._inside = inside
        self._timeout = timeout
        self._timer: Timer | None = None
        self._has_left = False

    def enter(self) -> None:
        house = self._house
        if self._timeout is not None:
            # In the context of who waits: a task's timers are its own.
            self._timer = house.clock.call_later(microseconds(self._timeout), self._wait.fail, TimeoutError())
        if self._inside:
            house.work.inside[self._inside] = house.work.inside.get(self._inside, 0) + 1
        house.pacer.enter(self._wait)

    def leave(self) -> None:
        house = self._house
        if self._timer is not None:
            self._timer.cancel()
        if self._inside:
            left = house.work.inside.pop(self._inside) - 1
            if left:
                house.work.inside[self._inside] = left
        house.pacer.leave(self._wait)
