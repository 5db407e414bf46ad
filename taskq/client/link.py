"""One reconnecting connection to a broker, for whoever has something to say on it.

It says hello, keeps the beat, reconnects; what the messages mean is its speaker's business.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from random import Random
from typing import Protocol

from taskq import limits
from taskq.client.address import Address, addresses_of
from taskq.client.connection import Connection, open_connection, reason_of
from taskq.errors import ConnectionLost, TaskqError
from taskq.protocol.connection import PeerSide
from taskq.protocol.messages import FromBroker, Message, Role, Welcome

_log = logging.getLogger("taskq.client")


class Speaker(Protocol):
    """What a link carries. Pure: it decides what is said, the link says it."""

    def on_welcome(self, welcome: Welcome) -> None:
        """Connected, for the first time or again: queue what must be said (again)."""

    def on_message(self, message: FromBroker) -> None:
        """A message arrived; never Greeting, Welcome, Ping, Pong or Goodbye."""

    def on_lost(self) -> None:
        """The connection is gone."""

    def outgoing(self) -> list[Message]:
        """What to say now, in order. Empties the queue; [] while not welcome."""
        ...


class Carrier(Protocol):
    """What a link is to those who speak over it: `Link`, or what stands in its place in users' tests."""

    connected: bool
    fatal: TaskqError | None

    @property
    def trouble(self) -> str: ...
    def start(self) -> None: ...
    def wake(self) -> None: ...
    async def wait_connected(self, timeout: float | None = None) -> None: ...
    async def close(self, text: str = "") -> None: ...


class MakeCarrier(Protocol):
    """Makes one for a speaker; `Link` does."""

    def __call__(
        self,
        urls: Sequence[str],
        *,
        session: bytes,
        role: Role,
        speaker: Speaker,
        name: str = "",
        token: str | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> Carrier: ...


class Link:
    """One reconnecting connection. All that is said in one turn of the loop goes out in one write.

    It belongs to the event loop in which `start` was called.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        session: bytes,
        role: Role,
        speaker: Speaker,
        name: str = "",
        token: str | None = None,
        on_change: Callable[[], None] | None = None,
        rng: Random | None = None,
    ) -> None:
        self.connected = False
        self.fatal: TaskqError | None = None  # why there is no use in trying again
        self._trouble = ""
        self._addresses = addresses_of(urls)
        self._speaker = speaker
        self._on_change = on_change
        self._rng = rng or Random()
        self._make_peer = partial(
            PeerSide,
            session=session,
            role=role,
            name=name,
            token=token,
            namespace=self._addresses[0].namespace,
        )
        self._make_peer()  # a token that cannot be read is told to the caller, not to the log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._told = ""  # the trouble that was logged last
        self._is_flush_due = False
        self._is_closing = False
        self._waiters: set[asyncio.Future[None]] = set()

    def start(self) -> None:
        """Begin connecting, in a background task that `close` ends."""
        assert self._task is None, "a link is started once"
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="taskq link")

    def wake(self) -> None:
        """The speaker has something to say: flush once, at the end of this turn of the loop."""
        if self.connected and not self._is_flush_due:
            self._is_flush_due = True
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    @property
    def trouble(self) -> str:
        """Why there is no connection, as far as is known, for people."""
        if self.connected:
            return "the connection is good, the broker is busy"
        return self._trouble or f"trying {', '.join(map(str, self._addresses))}"

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Until the broker has welcomed us.

        Raises ConnectionLost when that takes longer than `timeout` seconds or the link is closed,
        Unauthorized or VersionMismatch when trying again cannot help.
        """
        if self.connected:
            return
        self._raise_if_over()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise ConnectionLost(
                f"no broker within {timeout:g} s: {self.trouble}. "
                "Is one running there? `taskq broker` starts one"
            ) from None
        finally:
            self._waiters.discard(waiter)
        self._raise_if_over()

    async def close(self, text: str = "") -> None:
        """Say what is queued and goodbye, then close. Never raises; a second call does nothing."""
        if self._is_closing:
            return
        self._flush()
        self._is_closing = True
        try:
            if self._connection is not None:
                await self._connection.part(text)
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            self._wake_waiters()

    def _raise_if_over(self) -> None:
        if self.fatal is not None:
            raise self.fatal
        if self._is_closing:
            raise ConnectionLost("this connection was closed")

    async def _run(self) -> None:
        assert self._loop is not None
        backoff = _Backoff(self._rng, self._loop.time())
        for address in cycle(self._addresses):
            began = self._loop.time()
            was_welcome = await self._visit(address)
            ended = self._loop.time()
            # Welcomed and closed at once, again and again, is no success: it would be tried without end.
            if was_welcome and ended - began > limits.RECONNECT_MAX_EARLY_MS / 1000:
                backoff = _Backoff(self._rng, ended)
            if self.fatal is not None:
                self._changed()
                return
            await asyncio.sleep(backoff.next_seconds(self._loop.time()))

    async def _visit(self, address: Address) -> bool:
        """One connection from its beginning to its end. Whether the broker welcomed us."""
        connection = self._connection = Connection(self, self._make_peer())
        try:
            async with asyncio.timeout(limits.CONNECT_TIMEOUT_MS / 1000):
                await open_connection(connection, address)
                await connection.is_met.wait()
        except TimeoutError:
            self._trouble = f"{address}: no answer within {limits.CONNECT_TIMEOUT_MS / 1000:g} s"
        except OSError as error:
            self._trouble = f"{address}: {reason_of(error)}"
        else:
            await connection.is_ended.wait()
            if connection.trouble:
                self._trouble = f"{address}: {connection.trouble}"
        finally:
            connection.abort()
            self._connection = None
        if connection.fatal is not None:
            self.fatal = connection.fatal
        elif self._trouble != self._told and not self._is_closing:
            # Once per kind of trouble: a broker that is away for an hour is one line, not a thousand.
            self._told = self._trouble
            _log.warning("no connection to the broker: %s; trying again", self._trouble)
        return connection.was_welcome

    def _flush(self) -> None:
        self._is_flush_due = False
        connection = self._connection
        # While the broker does not read, what there is to say stays with the speaker, who bounds it.
        if not self.connected or connection is None or connection.is_paused or self._is_closing:
            return
        messages = self._speaker.outgoing()
        if messages:
            connection.say(*messages)

    def on_welcome(self, welcome: Welcome) -> None:
        self.connected = True
        if self._told:
            _log.info("connected to the broker")
        self._trouble = self._told = ""
        self._speaker.on_welcome(welcome)
        self.wake()
        self._changed()

    def on_message(self, message: FromBroker) -> None:
        self._speaker.on_message(message)

    def on_ended(self) -> None:
        if not self.connected:
            return
        self.connected = False
        self._speaker.on_lost()
        self._changed()

    def _changed(self) -> None:
        if self.connected or self.fatal is not None:
            self._wake_waiters()
        if self._on_change is not None:
            self._on_change()

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Backoff:
    """Full jitter between zero and a step that doubles; steps stay short in the first minute."""

    def __init__(self, rng: Random, began: float) -> None:
        self._rng = rng
        self._early_until = began + limits.RECONNECT_EARLY_FOR_MS / 1000
        self._step_ms = limits.RECONNECT_FIRST_MS

    def next_seconds(self, now: float) -> float:
        seconds = self._rng.uniform(0, self._step_ms / 1000)
        is_early = now < self._early_until
        step_max = limits.RECONNECT_MAX_EARLY_MS if is_early else limits.RECONNECT_MAX_MS
        self._step_ms = min(self._step_ms * 2, step_max)
        return seconds
