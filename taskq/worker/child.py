"""One worker process: imports the user's app, runs its tasks, and never outlives its supervisor.

python -m taskq.worker.child FD PARENT      what to be comes as the first line from FD
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Final

from taskq.client.app import TaskQ
from taskq.client.link import Link
from taskq.errors import ConfigError, Refused
from taskq.protocol.messages import ScheduleSpec
from taskq.worker.attempts import Definition
from taskq.worker.control import Begin, Control, Failed, Groups, Look, Order, Ready, Serving, Spent
from taskq.worker.hooks.scope import WorkerScope
from taskq.worker.loading import definitions_of, load_app, schedules_of
from taskq.worker.runner import Runner
from taskq.worker.settings import LoopName
from taskq.worker.stopping import first_of, stop, until_refused
from taskq.worker.telling.logs import level_of
from taskq.worker.tree.docket import Docket
from taskq.worker.tree.supervision import Supervision

EXIT_REFUSED: Final = 5
EXIT_CONFIG: Final = 78
# A burst ends when nothing came and nothing ran for this long.
BURST_IDLE_MS: Final = 1_000


def main(fd: int, parent: int, on_app: Callable[[], None] | None = None) -> int:
    """Be the child that the supervisor at the other end of `fd` wants. Returns the exit code.

    `on_app` is called when the user's modules have been imported, and have set up what they want.
    """
    control = Control(fd, parent)
    begin = control.begin()
    try:
        app = load_app(begin.settings.app)
        if on_app is not None:
            on_app()
        definitions = definitions_of(app)
        schedules = schedules_of(app)
        urls = list(begin.settings.urls) or app.urls
        token = begin.settings.token or app.token
        loop_factory = _loop_factory(begin.settings.loop)
    except ConfigError as error:
        control.say(Failed("config", str(error)))
        return EXIT_CONFIG
    control.say(Ready(urls, token))
    # What was imported stays: the collector need not look at it again and again.
    gc.freeze()
    with asyncio.Runner(loop_factory=loop_factory) as loop:
        child = _Child(loop.get_loop(), begin, app, definitions, schedules, urls, token, control)
        control.listen(child.on_order, child.stacks)
        try:
            has_stopped = loop.run(child.serve())
        except ConfigError as error:
            control.say(Failed("config", str(error)))
            return EXIT_CONFIG
        except Refused as error:
            control.say(Failed(error.code, str(error)))
            return EXIT_REFUSED
        if not has_stopped:
            # What runs belongs to another worker by now, and might never end.
            logging.shutdown()
            os._exit(0)
    return 0


class _Child:
    """The life of the process, on its loop: serve until told to stop, then stop within the grace."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Begin,
        app: TaskQ,
        definitions: list[Definition],
        schedules: list[ScheduleSpec],
        urls: list[str],
        token: str | None,
        control: Control,
    ) -> None:
        self._loop = loop
        self._settings = settings = begin.settings
        self._control = control
        self._drain = asyncio.Event()
        self._now = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_signalled = False
        self._scope = WorkerScope(app)
        self._entering: asyncio.Timeout | None = None
        self._runner = Runner(
            loop,
            definitions,
            settings.offer,
            slots=settings.capacity,
            app=settings.app,
            schedules=schedules,
            scope=self._scope,
            supervision=Supervision(
                app=settings.app,
                docket=Docket(begin.docket, lambda at: control.say(Look(at))),
                on_spent=lambda why: control.say(Spent(why)),
                on_groups=lambda groups: control.say(Groups(groups)),
                jobs_max=settings.max_jobs,
                memory_bytes_max=settings.max_memory_bytes,
            ),
            log_level=level_of(settings.job_logs),
            slow_callback_ms=settings.slow_callback_ms,
        )
        self._link = Link(
            urls,
            session=begin.session,
            role="worker",
            speaker=self._runner,
            name=settings.name,
            token=token,
            on_change=self._changed.set,
        )
        self._runner.attach(self._link.wake)

    def on_order(self, order: Order) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are on our way out
            self._loop.call_soon_threadsafe(self._obey, order)

    def stacks(self, lease: int) -> str:
        """From any thread: what runs here."""
        return self._runner.stacks(lease)

    async def serve(self) -> bool:
        """Until drained. Whether everything has stopped. Raises Refused when the broker does not want us,
        ConfigError when the lifespan does not start."""
        # Counted apart from the supervisor's orders: a service manager signals the whole group, and
        # that must not count as the second time.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        if not await self._enter():
            return True
        seconds = 0.0
        try:
            self._control.say(Serving())
            self._link.start()
            self._runner.start()
            await self._until_told()
            end = self._loop.time() + self._settings.grace_ms / 1_000
            has_stopped = await stop(
                self._runner, self._link, grace_ms=self._settings.grace_ms, now=self._now
            )
            seconds = 0 if self._now.is_set() else end - self._loop.time()
            return has_stopped
        finally:
            await self._scope.leave(seconds)

    async def _enter(self) -> bool:
        """Whether the lifespan was entered before we were told to stop."""
        try:
            async with asyncio.timeout(None) as self._entering:
                if not self._drain.is_set():
                    await self._scope.enter()
        except TimeoutError:
            pass
        self._entering = None
        return not self._drain.is_set()

    async def _until_told(self) -> None:
        waits: list[Coroutine[object, object, object]] = [
            self._drain.wait(),
            until_refused(self._link, self._changed),
        ]
        if self._settings.burst:
            waits.append(self._until_nothing_is_left())
        await first_of(*waits)

    async def _until_nothing_is_left(self) -> bool:
        while True:
            await self._link.wait_connected()
            before = self._runner.delivered
            await asyncio.sleep(BURST_IDLE_MS / 1_000)
            if self._link.connected and self._runner.is_idle and self._runner.delivered == before:
                return True

    def _on_signal(self) -> None:
        self._obey("now" if self._is_signalled else "drain")
        self._is_signalled = True

    def _obey(self, order: Order) -> None:
        if order == "hold":
            self._runner.hold()
            return
        if order == "release":
            self._runner.release()
            return
        self._drain.set()
        if self._entering is not None:
            self._entering.reschedule(self._loop.time())
        if order == "now":
            self._now.set()


def _loop_factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        if name == "uvloop":
            raise ConfigError("loop uvloop: uvloop is not installed") from error
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
