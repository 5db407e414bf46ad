"""A worker inside the user's own process, on the user's own loop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from threading import Thread

from taskq.client.app import TaskQ
from taskq.client.link import Link
from taskq.errors import Refused
from taskq.limits import GRACE_MS, VOUCH_EVERY_MS
from taskq.worker.hooks.scope import WorkerScope
from taskq.worker.loading import definitions_of, schedules_of
from taskq.worker.offer import offer_of
from taskq.worker.runner import Runner
from taskq.worker.settings import slots_of
from taskq.worker.stopping import first_of, stop, until_refused
from taskq.worker.vouching import SupervisorSession


async def run_worker(
    q: TaskQ,
    *,
    concurrency: int = 100,
    queues: Iterable[str] = (),
    strict: bool = False,
    labels: Mapping[str, str] | None = None,
    resources: Mapping[str, int] | None = None,
    grace: float = GRACE_MS / 1_000,
    name: str = "",
    until: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Run q's tasks here until `until` is set, then finish what runs within `grace` seconds.

    `queues`, `strict`, `labels` and `resources` are as for `offer_of`. Cancelled, it hands back what runs
    and ends at once. `ready` is set when the lifespan has been entered. Raises Refused when the broker does
    not want this worker, ConfigError when the lifespan does not start. Nobody else can say that
    this process is alive while a task blocks the loop, so a thread does, over a connection of its own.
    """
    definitions = definitions_of(q)
    offer = offer_of(queues, strict=strict, labels=labels, resources=resources)
    loop = asyncio.get_running_loop()
    scope = WorkerScope(q)
    runner = Runner(
        loop,
        definitions,
        offer,
        slots=slots_of(concurrency),
        app=q.name,
        schedules=schedules_of(q),
        scope=scope,
    )
    session, token = os.urandom(16), q.token
    name = name or f"{socket.gethostname()}:{os.getpid()}"
    changed = asyncio.Event()
    link = Link(
        q.urls,
        session=session,
        role="worker",
        speaker=runner,
        name=name,
        token=token,
        on_change=changed.set,
    )
    runner.attach(link.wake)
    await scope.enter()
    if ready is not None:
        ready.set()
    voucher = _Voucher(q.urls, session, name, token)
    now = asyncio.Event()
    seconds = 0.0
    voucher.start()
    link.start()
    try:
        await first_of(until_refused(link, changed), (until or asyncio.Event()).wait())
        end = loop.time() + grace
        await stop(runner, link, grace_ms=round(grace * 1_000), now=now)
        seconds = end - loop.time()
    except (asyncio.CancelledError, Refused):
        now.set()
        await stop(runner, link, grace_ms=0, now=now)
        raise
    finally:
        await link.close()
        await asyncio.to_thread(voucher.stop)
        await scope.leave(seconds)


class _Voucher:
    """A thread with an event loop of its own, which no task can block."""

    def __init__(self, urls: Sequence[str], session: bytes, name: str, token: str | None) -> None:
        self._child = session
        self._session = SupervisorSession()
        self._session.started(session)
        self._link = Link(
            urls, session=os.urandom(16), role="supervisor", speaker=self._session, name=name, token=token
        )
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = Thread(target=self._run, name="taskq-voucher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Say that the worker has ended, and end. Blocks for as long as that takes."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._link.start()
        while not self._stop.is_set():
            self._session.vouch()
            self._link.wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), VOUCH_EVERY_MS / 1_000)
        self._session.exited(self._child, 0, "the worker has stopped")
        await self._link.close("the worker has stopped")
