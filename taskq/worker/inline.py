"""A worker inside the user's own process, on the user's own loop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Thread
from time import monotonic
from typing import Protocol, assert_never

from taskq.client.app import TaskQ
from taskq.client.link import Link, MakeCarrier
from taskq.errors import Refused
from taskq.limits import GRACE_MS, SLOW_CALLBACK_MS, VOUCH_EVERY_MS
from taskq.protocol.messages import Instruction, Obeyed, WorkerText
from taskq.worker.attempts import Definition
from taskq.worker.executors.processes import check_outside
from taskq.worker.hooks.scope import WorkerScope
from taskq.worker.loading import definitions_of, schedules_of
from taskq.worker.offer import offer_of
from taskq.worker.runner import Runner
from taskq.worker.settings import check_slow_callback, slots_of
from taskq.worker.stopping import first_of, stop, until_refused
from taskq.worker.telling.logs import level_of
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
    job_logs: str = "info",
    slow_callback: float = SLOW_CALLBACK_MS / 1_000,
    until: asyncio.Event | None = None,
    process_slots: int = 0,
    ready: asyncio.Event | None = None,
    place: "Place | None" = None,
) -> None:
    """Run q's tasks here until `until` is set, then finish what runs within `grace` seconds.

    `queues`, `strict`, `labels` and `resources` are as for `offer_of`, `job_logs` as for `level_of`.
    `process_slots`: processes for tasks
    with executor="process"; 0: as many as there are processors. A loop that does not turn for
    `slow_callback` seconds while jobs run is warned of, with the task and the line; 0: never. Cancelled,
    it hands back what runs and ends at once. `ready` is set when the lifespan has been entered. Raises
    Refused when the broker does not want this worker, ConfigError when the lifespan does not start. Nobody
    else can say that this process is alive while a task blocks the loop, so a thread does, over a
    connection of its own.
    """
    check_outside()
    place = place or Place()
    definitions = place.definitions(q)
    offer = offer_of(queues, strict=strict, labels=labels, resources=resources)
    loop = asyncio.get_running_loop()
    scope = WorkerScope(q)
    runner = Runner(
        place.loop(),
        definitions,
        offer,
        slots=place.slots(slots_of(concurrency, process_slots)),
        app=q.name,
        schedules=schedules_of(q),
        clock=place.clock,
        scope=scope,
        log_level=level_of(job_logs),
        slow_callback_ms=check_slow_callback(round(slow_callback * 1_000)) if place.is_watched else 0,
    )
    session, token = os.urandom(16), q.token
    name = name or f"{socket.gethostname()}:{os.getpid()}"
    changed = asyncio.Event()
    link = place.link(
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
    told = asyncio.Event()
    voucher = place.voucher(q.urls, session, name, token, _Obedience(runner, session, loop, told))
    now = asyncio.Event()
    seconds = 0.0
    voucher.start()
    link.start()
    try:
        runner.start()
        await first_of(until_refused(link, changed), (until or asyncio.Event()).wait(), told.wait())
        end = loop.time() + grace
        await stop(runner, link, grace_ms=round(grace * 1_000), now=now)
        seconds = end - loop.time()
    except (asyncio.CancelledError, Refused):
        now.set()
        await stop(runner, link, grace_ms=0, now=now)
        raise
    finally:
        runner.close()
        await link.close()
        await voucher.stop()
        await scope.leave(seconds)


# In any thread: do what a worker is told, and say what became of it.
Obey = Callable[[Instruction], Obeyed]


class _Obedience:
    """Does what the worker is told, from the voucher's thread: the worker's loop may stand still."""

    def __init__(
        self, runner: Runner, session: bytes, loop: asyncio.AbstractEventLoop, told: asyncio.Event
    ) -> None:
        self._runner = runner
        self._session = session
        self._loop = loop
        self._told = told  # to stop

    def __call__(self, instruction: Instruction) -> Obeyed:
        match instruction.verb:
            case "stack":
                text = self._runner.stacks(instruction.lease)
                return Obeyed(instruction.number, [WorkerText(self._session, text)])
            case "drain":
                self._there(self._runner.hold)
            case "resume":
                self._there(self._runner.release)
            case "stop":
                self._there(self._told.set)
            case _:
                assert_never(instruction.verb)
        return Obeyed(instruction.number)

    def _there(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # that loop is closed: the worker has ended
            self._loop.call_soon_threadsafe(call)


class _Voucher:
    """A thread with an event loop of its own, which no task can block. It also answers for the worker."""

    def __init__(self, urls: Sequence[str], session: bytes, name: str, token: str | None, obey: Obey) -> None:
        self._child = session
        self._obey = obey
        self._session = SupervisorSession(self._on_instruction)
        self._session.started(session)
        self._link = Link(
            urls, session=os.urandom(16), role="supervisor", speaker=self._session, name=name, token=token
        )
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = Thread(target=self._run, name="taskq-voucher", daemon=True)
        self._home = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Say that the worker has ended, and end."""
        self._loop.call_soon_threadsafe(self._stop.set)
        # Not in a thread of the loop's executor, which would stay.
        await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits
                self._home.call_soon_threadsafe(self._ended.set)

    async def _serve(self) -> None:
        self._link.start()
        while not self._stop.is_set():
            self._session.vouch()
            self._link.wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), VOUCH_EVERY_MS / 1_000)
        self._session.exited(self._child, 0, "the worker has stopped")
        await self._link.close("the worker has stopped")

    def _on_instruction(self, instruction: Instruction) -> None:
        self._session.obeyed(self._obey(instruction))
        self._link.wake()


class Voucher(Protocol):
    """Says to the broker that a worker is alive, from `start` until `stop`, and then that it has ended."""

    def start(self) -> None: ...
    async def stop(self) -> None: ...


class Place:
    """What a worker has around it: a loop, a clock, a way to its broker. Users' tests have another one."""

    link: MakeCarrier = Link
    # Is a loop that does not turn worth a warning?
    is_watched = True

    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def clock(self) -> float:
        """Seconds that pass, finer than the loop's."""
        return monotonic()

    def definitions(self, q: TaskQ) -> list[Definition]:
        return definitions_of(q)

    def slots(self, slots: dict[str, int]) -> dict[str, int]:
        """The capacity of each executor, where so much was asked for."""
        return slots

    def voucher(
        self, urls: Sequence[str], session: bytes, name: str, token: str | None, obey: Obey
    ) -> Voucher:
        return _Voucher(urls, session, name, token, obey)
