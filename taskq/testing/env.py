"""A broker and a worker for users' tests: the real ones, in this process, in virtual time.

Nothing is mocked but the sockets, the disk and the clock. It starts in a millisecond.
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack

from taskq.client.app import TaskQ
from taskq.client.background import run
from taskq.client.job import Job
from taskq.client.options import WorkerOptions
from taskq.client.producer import Producer
from taskq.client.seconds import Seconds, millis_of
from taskq.client.task import Task
from taskq.core.job import Job as Kept
from taskq.errors import ConnectionLost
from taskq.protocol.messages import Role
from taskq.testing.broker import MemoryBroker
from taskq.testing.clock import Clock, clock_var
from taskq.testing.pacing import Goal, Pacer
from taskq.testing.producer import TestProducer
from taskq.testing.submitted import Submitted, aware, named, submitted
from taskq.testing.tap import Tap
from taskq.testing.wire import Switchboard, Wire
from taskq.testing.work import Work
from taskq.testing.worker import TestWorker

Side = Literal["producer", "worker"]

# Real time. A task that waits for a socket or a thread gets so long before virtual time moves on.
PATIENCE_SECONDS: Final = 1.0
GUARD_SECONDS: Final = 10.0


class Embedded:
    """`async with Embedded(q) as env:` and q's jobs run in here; `with`, in code without asyncio.

    All that q does meanwhile, it does here: submits, results, schedules, queues, searches. The broker, the
    worker and everything that a task waits for live in virtual time, which stands still until somebody
    waits for a job, or says `drain` or `advance`. Code outside of tasks stays in real time.

    `run=False` runs nothing: jobs are submitted, and stay. `now` is the time at which it begins;
    `threads` is how many plain functions run at once, one after the other unless said otherwise;
    `patience` is how long (real seconds) time stands still for a task that waits for a socket or a
    thread, and `guard` after which nothing is waited for any more. `worker` is as for `run_worker`.

    It begins at its first use, on the event loop that runs then, and `close` ends it.
    """

    def __init__(
        self,
        q: TaskQ,
        *,
        run: bool = True,
        now: datetime | None = None,
        seed: int = 0,
        threads: int = 1,
        patience: float = PATIENCE_SECONDS,
        guard: float = GUARD_SECONDS,
        **worker: Unpack[WorkerOptions],
    ) -> None:
        self.q = q
        self.rng = Random(seed)
        self.board: Switchboard
        self.clock: Clock
        self.pacer: Pacer
        self.work: Work
        self._runs = run
        self._begin = None if now is None else aware("now", now)
        self._threads = threads
        self._times = (patience, guard)
        self._options = worker
        self._broker: MemoryBroker
        self._worker: TestWorker | None = None
        self._dying: list[TestWorker] = []
        self._producers: list[TestProducer] = []
        self._submitted: list[Kept] = []
        self._tap: Tap | None = None
        self._come_back: Callable[[], None] | None = None
        self._sync: SyncEmbedded | None = None

    # -- life ---------------------------------------------------------------------------------

    def take_over(self) -> Self:
        """From now on the app is in here. ConfigError when it is in another environment."""
        if self._come_back is None:
            self._come_back = self.q._stand_aside(self)
        return self

    async def __aenter__(self) -> Self:
        self.take_over()
        try:
            await self.advance(0)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> "SyncEmbedded":
        self._sync = SyncEmbedded(self)
        run(self.__aenter__())
        return self._sync

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run(self.close())

    async def close(self) -> None:
        """End what runs; jobs without an outcome are forgotten. The app is as it was before."""
        try:
            if self._tap is not None:
                await self._end(self._tap)
        finally:
            self._give_back()

    def close_from_outside(self) -> None:
        """`close`, by code that does not run on the environment's event loop, which must not run now."""
        try:
            if self._tap is None:
                return
            loop = self.board.loop
            if loop.is_closed() or loop.is_running():  # its end has ended our tasks, or will
                self._leave(self._tap)
            else:
                loop.run_until_complete(self.close())
        finally:
            self._give_back()

    # -- what was submitted -------------------------------------------------------------------

    def submitted(self, task: "str | Task[..., Any] | None" = None) -> list[Submitted]:
        """What was submitted, in order: of one task, by its name or the end of it, or of all.

        Jobs that tasks, schedules and callbacks have submitted too. LookupError when no task is called so.
        """
        jobs = self._submitted
        if task is not None:
            names = named(task, self.q.tasks, [job.terms.task for job in jobs])
            jobs = [job for job in jobs if job.terms.task in names]
        return [submitted(self.q, job) for job in jobs]

    def job(self, task: "str | Task[..., Any]") -> Job[Any]:
        """The only job of a task. AssertionError when there is none, or more than one."""
        found = self.submitted(task)
        assert len(found) == 1, f"{len(found)} jobs of {task} were submitted, not one"
        return found[0].job

    # -- time ---------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        self._start()
        return self.clock.moment

    async def advance(self, seconds: Seconds) -> None:
        """Let so much time pass: all that is due until then happens, at its time and in order.

        What runs at the end goes on running. `advance(0)` does what is due now.
        """
        self._start()
        us = millis_of("advance", seconds) * 1_000
        await self.pacer.reach(Goal(self.board.loop, self.clock.us + us))
        if us:
            self._broker.look()
            await self.pacer.reach(Goal(self.board.loop, self.clock.us))

    async def advance_to(self, moment: datetime) -> None:
        """`advance` until that moment. ValueError when it is over."""
        left = aware("moment", moment) - self.now
        if left.total_seconds() < 0:
            raise ValueError(f"it is {self.now.isoformat()} already, and time does not run backwards")
        await self.advance(left)

    async def drain(self, *, retries: bool = True) -> None:
        """Until nothing is left to do now: all that is ready or running has ended.

        Time passes as far as that needs it: tasks that sleep wake up, and what failed is tried
        again; with `retries=False` it is left to wait. Jobs that wait for their first time (`delay`, `at`,
        schedules) do not run, unless their time comes meanwhile; nor those that nobody can run.
        Raises Stuck when something runs and does not end.
        """
        self._start()
        await self.pacer.reach(Goal(self.board.loop, None, retries=retries))

    # -- failures -----------------------------------------------------------------------------

    async def crash_worker(self) -> None:
        """The worker dies as with SIGKILL, and another one is there at once: what ran has crashed once.

        An attempt in a thread cannot be killed: it goes on, and nobody hears of it.
        """
        self._start()
        if self._worker is not None:
            self._worker.kill()
            self._dying = [worker for worker in self._dying if not worker.task.done()]
            self._dying.append(self._worker)
            self._start_worker()
        await self.advance(0)

    async def drop_connection(self, side: Side | None = None) -> None:
        """The connections of the "producer" or of the "worker", or both, are cut, and made again at once.

        What runs goes on: the worker's supervisor has a connection of its own, and vouches for it.
        """
        self._start()
        for wire in list(self.board.wires):
            if wire.role != "supervisor" and side in (
                None,
                "worker" if wire.role == "worker" else "producer",
            ):
                wire.drop()
        await self.advance(0)

    async def restart_broker(self) -> None:
        """The broker dies as with SIGKILL, and starts again with what its journal holds."""
        self._start()
        self._broker.restart()
        self.work.core = self._broker.core
        await self.advance(0)

    # -- for the app --------------------------------------------------------------------------

    def producer(self, name: str, role: Role) -> Producer:
        """The app wants to speak, on the loop that runs here. Begins if that has not happened."""
        self._start()
        producer = TestProducer(self, self.q.urls, name=name, role=role, link=self._link)
        self._producers.append(producer)
        return producer

    # -- parts --------------------------------------------------------------------------------

    def _give_back(self) -> None:
        if self._come_back is not None:
            self._come_back()
            self._come_back = None

    def _start(self) -> None:
        """Begin, on the loop that runs here. Never waits."""
        if self._tap is not None:
            return
        self.take_over()
        loop = asyncio.get_running_loop()
        tap = self._tap = Tap.on(loop)
        self.clock = Clock(loop, self._begin)
        variables = copy_context()
        variables.run(clock_var.set, self.clock)
        self.board = Switchboard(loop, variables, copy_context())
        self.work = Work(self.clock)
        patience_s, guard_s = self._times
        self.pacer = Pacer(tap, self.clock, self.work, patience_s=patience_s, guard_s=guard_s)
        self._broker = self.board.broker = MemoryBroker(
            self.clock, self.rng, self.board.soon, self._submitted.append, self.pacer.fail
        )
        self.work.core = self._broker.core
        if self._runs and self.q.tasks:
            self._start_worker()

    def _start_worker(self) -> None:
        self._worker = self.work.worker = TestWorker(
            self.q,
            self.board,
            self.clock,
            threads=self._threads,
            on_failure=self.pacer.fail,
            **self._options,
        )

    def _link(self, urls: Any, **options: Any) -> Wire:
        return Wire(self.board, urls, **options)

    async def _end(self, tap: Tap) -> None:
        workers = [*self._dying, *([] if self._worker is None else [self._worker])]
        for worker in workers:
            worker.stop()
        tasks = [worker.task for worker in workers if not worker.task.done()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._times[1])
            for task in late:
                task.cancel()
        self._leave(tap)

    def _leave(self, tap: Tap) -> None:
        """The loop and the code on it are as they were before."""
        for producer in self._producers:
            producer.end(ConnectionLost("the test environment was closed"))
        for wire in list(self.board.wires):
            wire.die()
        self.pacer.close()
        for timer in self.clock.end():
            # Of code that outlives us: the rest of its time is real.
            if not self.board.loop.is_closed():
                tap.after((timer.due_us - self.clock.us) / 1e6, timer.fire)
        tap.release()
        self._tap = None


class SyncEmbedded:
    """An `Embedded` for code without asyncio: the same verbs, which block.

    It lives on the background loop of `q.sync`, in a thread of its own.
    """

    def __init__(self, env: Embedded) -> None:
        self._env = env

    @property
    def q(self) -> TaskQ:
        return self._env.q

    @property
    def now(self) -> datetime:
        return self._env.now

    def submitted(self, task: "str | Task[..., Any] | None" = None) -> list[Submitted]:
        return self._env.submitted(task)

    def job(self, task: "str | Task[..., Any]") -> Job[Any]:
        return self._env.job(task)

    def advance(self, seconds: Seconds) -> None:
        run(self._env.advance(seconds))

    def advance_to(self, moment: datetime) -> None:
        run(self._env.advance_to(moment))

    def drain(self, *, retries: bool = True) -> None:
        run(self._env.drain(retries=retries))

    def crash_worker(self) -> None:
        run(self._env.crash_worker())

    def drop_connection(self, side: Side | None = None) -> None:
        run(self._env.drop_connection(side))

    def restart_broker(self) -> None:
        run(self._env.restart_broker())
