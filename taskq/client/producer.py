"""A producer on one event loop: a link, a session, and the futures of those who wait."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Protocol, TypeVar

from taskq import limits
from taskq.client.ids import IdMaker
from taskq.client.link import Link, MakeCarrier
from taskq.client.session import Answer, ClientSession, NewJob, OnAnswer, Submission
from taskq.errors import ConnectionLost, Refused, TaskqError
from taskq.protocol.messages import Outcome, Role

T = TypeVar("T")


class Producer:
    """Lives on the loop that it is made in, from `start` to `close`. Reconnects by itself."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        name: str,
        token: str | None,
        role: Role = "producer",
        link: MakeCarrier = Link,
    ) -> None:
        self.session = ClientSession()
        self.ids = IdMaker()
        self.id = os.urandom(16)  # of the session: the broker knows what was submitted by it
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._waits: set[asyncio.Future[Any]] = set()
        self._over: TaskqError | None = None
        self.link = link(
            urls,
            session=self.id,
            role=role,
            speaker=self.session,
            name=name,
            token=token,
            on_change=self._on_change,
        )
        self.link.start()

    @property
    def is_here(self) -> bool:
        """Is its loop the one that runs in this thread?"""
        return get_ident() == self._thread and self._loop.is_running()

    @property
    def is_over(self) -> bool:
        """Closed, or refused for good: nothing more comes of it."""
        return self._over is not None

    async def close(self) -> None:
        """Say what is queued, close the connection; those who still wait get ConnectionLost."""
        self._over = self._over or ConnectionLost("this client was closed")
        await self.link.close()
        self._fail(self._over)

    async def submit(self, jobs: Sequence[NewJob], timeout: float) -> list[Submission]:
        """Submit in order, in as many submissions as there is room for; wait until they are decided.

        When the time runs out, the rest is undecided or was not submitted at all.
        """
        deadline = self._loop.time() + timeout
        parts: list[tuple[Submission, asyncio.Future[None]]] = []
        at = 0
        try:
            while at < len(jobs):
                if self.session.room <= 0:
                    await self._wait_room(deadline)
                    continue
                part = jobs[at : at + self.session.room]
                parts.append(self._begin(part))
                at += len(part)
            for _, decided in parts:
                if not decided.done():
                    await self.wait(decided, deadline - self._loop.time())
        except TimeoutError:
            pass  # told by what is undecided
        return [submission for submission, _ in parts]

    async def outcome(self, id: bytes, timeout: float | None) -> Outcome:
        """A job's outcome, once it has one. TimeoutError leaves the job alone."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        call = partial(resolve, future)
        self.watch((id,), call)
        try:
            return await self.wait(future, timeout)
        finally:
            self.unwatch((id,), call)

    def outcome_nowait(self, id: bytes) -> "asyncio.Future[Outcome]":
        """The future of a job's outcome, for who cannot wait here. It fails when this producer is over."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        if self._over is not None:
            future.set_exception(self._over)
            return future
        self.watch((id,), partial(resolve, future))
        self._waits.add(future)
        future.add_done_callback(self._waits.discard)
        return future

    def watch(self, ids: Iterable[bytes], on_outcome: Callable[[Outcome], None]) -> None:
        self.session.watch(ids, on_outcome)
        self.link.wake()

    def unwatch(self, ids: Iterable[bytes], on_outcome: Callable[[Outcome], None]) -> None:
        self.session.unwatch(ids, on_outcome)
        self.link.wake()

    async def ask(self, ask: Callable[[OnAnswer], int], timeout: float) -> Answer:
        """Ask one of the session's questions. A refusal is raised; no answer in time is ConnectionLost."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        number = ask(partial(resolve, future))
        self.link.wake()
        try:
            answer = await self.wait(future, timeout)
        except TimeoutError:
            raise ConnectionLost(f"no answer within {timeout:g} s: {self.link.trouble}") from None
        finally:
            self.session.forget(number)
        if isinstance(answer, Refused):
            raise answer
        return answer

    async def wait(self, future: "asyncio.Future[T]", timeout: float | None) -> T:
        """Wait for a future of this producer. TimeoutError when it takes longer than `timeout` seconds."""
        if self._over is not None:
            raise self._over
        timer = None if timeout is None else self._loop.call_later(timeout, _time_out, future)
        self._waits.add(future)
        try:
            return await future
        finally:
            self._waits.discard(future)
            if timer is not None:
                timer.cancel()

    def _begin(self, jobs: Sequence[NewJob]) -> tuple[Submission, "asyncio.Future[None]"]:
        decided: asyncio.Future[None] = self._loop.create_future()
        submission = self.session.submit(jobs, lambda _: resolve(decided, None))
        self.link.wake()
        return submission, decided

    async def _wait_room(self, deadline: float) -> None:
        has_room: asyncio.Future[None] = self._loop.create_future()
        self.session.when_room(lambda: resolve(has_room, None))
        await self.wait(has_room, deadline - self._loop.time())

    def _on_change(self) -> None:
        if self.link.fatal is not None:
            self._over = self.link.fatal
            self._fail(self._over)

    def _fail(self, error: TaskqError) -> None:
        for future in list(self._waits):
            if not future.done():
                future.set_exception(error)


class StandIn(Protocol):
    """Stands in for the brokers and workers of an app, in its users' tests."""

    def producer(self, name: str, role: Role) -> Producer:
        """For the running loop, and to one that is not over there is no second."""
        ...


def resolve(future: "asyncio.Future[T]", value: T) -> None:
    """Give a future its value, unless whoever waited has gone."""
    if not future.done():
        future.set_result(value)


def _time_out(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())


ASK_TIMEOUT = limits.CONFIRM_TIMEOUT_MS / 1000
CONNECT_TIMEOUT = 2 * limits.CONNECT_TIMEOUT_MS / 1000
