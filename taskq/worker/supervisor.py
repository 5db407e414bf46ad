"""`taskq worker`: starts the children, vouches for them, replaces the dead, stops them all together.

It never imports the user's code, so nothing that a task does can keep it from its word. For the same reason
it keeps the time for those who cannot: a child that does not end an attempt whose time is up is ended itself.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

from taskq.client.link import Link
from taskq.errors import ConfigError, Refused, TaskqError
from taskq.limits import (
    CHILD_BACKOFF_FIRST_MS,
    CHILD_BACKOFF_MAX_MS,
    CHILD_STEADY_MS,
    LEAVE_MS,
    STANDSTILL_MS,
    UNREACHED_MS,
    VOUCH_EVERY_MS,
)
from taskq.protocol.messages import Obeyed
from taskq.worker.control import Failed, FromChild, Groups, Look, Order, Ready, Serving, Spent, Told
from taskq.worker.probes import MakePages, Standing, serving
from taskq.worker.settings import WorkerSettings
from taskq.worker.stopping import HAND_BACK_MS, until_refused
from taskq.worker.tree.caretaking import Caretaking
from taskq.worker.tree.offspring import Offspring, exit_text
from taskq.worker.tree.undertaker import Undertaker
from taskq.worker.vouching import SupervisorSession

logger = logging.getLogger("taskq.worker")

# What a child may take, after its grace, to hand back, leave its lifespan and end, before it is killed.
EXIT_MARGIN_MS: Final = HAND_BACK_MS + LEAVE_MS + 1_000
EXIT_INTERRUPTED: Final = 130
_UNREACHED_S: Final = UNREACHED_MS / 1_000


def run(
    settings: WorkerSettings,
    *,
    child_module: str = "taskq.worker.child",
    make_pages: MakePages | None = None,
) -> int:
    """Run the worker until it is stopped by signals, or, with `burst`, until nothing is left to do.

    Returns the exit code: 0, or 130 after a second signal. Raises ConfigError when the app cannot be
    imported, Refused when the broker does not want us. `child_module` is what children run, as they would
    `taskq.worker.child`; `make_pages` makes the server for `settings.http`. Only in the main thread.
    """
    if not settings.name:
        settings = replace(settings, name=f"{socket.gethostname()}:{os.getpid()}")
    # Plain asyncio: nothing here is hot, and uvloop keeps SIGCHLD for itself.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        return loop.run(_serve(settings, child_module, make_pages))


async def _serve(settings: WorkerSettings, child_module: str, make_pages: MakePages | None) -> int:
    supervisor = _Supervisor(settings, child_module)
    async with serving(supervisor.standing, settings.http, make_pages):
        return await supervisor.serve()


class _Supervisor:
    def __init__(self, settings: WorkerSettings, child_module: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._module = child_module
        self._session = SupervisorSession(lambda instruction: self._caretaking.obey(instruction))
        self._caretaking = Caretaking(lambda: self._children.values(), self._stop_soon, self._answer)
        self._replaced = 0
        self._link: Link | None = None
        self._changed = asyncio.Event()
        self._refused: asyncio.Task[None] | None = None
        self._undertaker = Undertaker()
        self._children: dict[int, Offspring] = {}
        self._dying: dict[int, Offspring] = {}  # killed by us, and counted out already
        self._restarts: dict[int, asyncio.TimerHandle] = {}
        # By place: how many children in a row died young there.
        self._short_lives = [0] * settings.processes
        self._has_served = False
        self._signals = 0
        self._error: TaskqError | None = None
        self._ended = asyncio.Event()

    def standing(self) -> Standing:
        return Standing(
            processes=len(self._children),
            wanted=self._settings.processes,
            restarts=self._replaced,
            is_connected=self._link is not None and self._link.connected,
            is_held=self._caretaking.is_held,
            is_stopping=bool(self._signals),
        )

    async def serve(self) -> int:
        self._loop.add_signal_handler(signal.SIGCHLD, self._on_child_signal)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_stop_signal)
        watching = self._loop.create_task(self._watch(), name="taskq vouching")
        try:
            for place in range(self._settings.processes):
                self._start(place)
            await self._ended.wait()
        finally:
            self._loop.remove_signal_handler(signal.SIGCHLD)
            self._cancel_restarts()
            for child in (*self._children.values(), *self._dying.values()):
                child.kill()
                child.close()
            self._undertaker.close()
            watching.cancel()
            self._caretaking.close()
            if self._refused is not None:
                self._refused.cancel()
            if self._link is not None:
                await self._link.close("the supervisor has stopped")
        if self._error is not None:
            raise self._error
        return EXIT_INTERRUPTED if self._signals > 1 else 0

    async def _watch(self) -> None:
        """Say that the children are alive, and see whether they are well."""
        while True:
            self._session.vouch()
            self._wake()
            for child in list(self._children.values()):
                self._examine(child)
            await asyncio.sleep(VOUCH_EVERY_MS / 1_000)

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    # -- children ---------------------------------------------------------------------------------

    def _start(self, place: int, predecessor: Offspring | None = None) -> None:
        self._restarts.pop(place, None)
        child = Offspring(place, self._settings, self._module, self._on_word)
        child.predecessor = predecessor
        self._children[child.pid] = child
        self._session.started(child.session)
        self._caretaking.started(child)
        self._tell_undertaker()
        self._wake()

    def _tell_undertaker(self) -> None:
        everybody = (*self._children.values(), *self._dying.values())
        self._undertaker.tell(group for child in everybody for group in (child.pid, *child.groups))

    def _on_word(self, child: Offspring, word: FromChild) -> None:
        match word:
            case Ready(urls, token):
                if self._link is None:
                    self._connect(urls, token)
            case Serving():
                is_first, self._has_served = not self._has_served, True
                if is_first:
                    self._say_ready()
                self._take_over(child)
            case Told(number, text):
                self._caretaking.told(child.session, number, text)
            case Failed(code="config", text=text) if self._has_served:
                # It could be imported, and its lifespan entered, before: somebody is editing, or deploying.
                logger.error("%s", text)
            case Failed(code="config", text=text):
                self._fail(ConfigError(text))
            case Failed(code, text):
                self._fail(Refused.from_code(code, text))
            case Look(at):
                self._look_at(child, at)
            case Groups(groups):
                child.groups = groups
                self._tell_undertaker()
            case Spent(why):
                self._retire(child, why)
            case _:
                assert_never(word)

    def _connect(self, urls: list[str], token: str | None) -> None:
        """The child has imported the app and knows the broker; only now do we."""
        self._link = Link(
            urls,
            session=os.urandom(16),
            role="supervisor",
            speaker=self._session,
            name=self._settings.name,
            token=token,
            on_change=self._on_change,
        )
        self._link.start()
        self._refused = self._loop.create_task(self._until_refused(self._link), name="taskq refusal")

    def _on_change(self) -> None:
        self._changed.set()
        self._say_ready()

    def _say_ready(self) -> None:
        if self._has_served and self._link is not None and self._link.connected:
            count = len(self._children)
            logger.info("ready: %d worker process%s", count, "" if count == 1 else "es")

    async def _until_refused(self, link: Link) -> None:
        try:
            await until_refused(link, self._changed)
        except Refused as error:
            self._fail(error)

    def _fail(self, error: TaskqError) -> None:
        if self._error is None:
            self._error = error
        self._ended.set()

    # -- their end --------------------------------------------------------------------------------

    def _on_child_signal(self) -> None:
        self._undertaker.check()
        for child in list(self._children.values()):
            status = child.status()
            if status is not None:
                self._on_exit(child, status)
        for child in list(self._dying.values()):
            if child.status() is not None:
                del self._dying[child.pid]
                child.close()
                self._tell_undertaker()

    def _on_exit(self, child: Offspring, status: int) -> None:
        child.kill()  # what its tasks had started
        self._count_out(child, status, exit_text(status))
        child.close()
        self._follow(child, status)

    def _put_down(
        self, child: Offspring, text: str, *, timed_out: Sequence[int] = (), uncounted: bool = True
    ) -> None:
        """Kill a child that does not do what it should; another takes its place at once. Its jobs are
        given back before it is really gone: no code of theirs runs any more."""
        logger.warning("worker process %d: %s", child.pid, text)
        child.kill()
        self._dying[child.pid] = child
        self._count_out(child, -signal.SIGKILL, text, timed_out=timed_out, uncounted=uncounted)
        self._follow(child, 0)

    def _count_out(
        self,
        child: Offspring,
        status: int,
        text: str,
        *,
        timed_out: Sequence[int] = (),
        uncounted: bool = False,
    ) -> None:
        del self._children[child.pid]
        child.rest()
        self._caretaking.gone(child.session)
        self._session.exited(child.session, status, text, timed_out=timed_out, uncounted=uncounted)
        self._tell_undertaker()
        self._wake()

    def _follow(self, child: Offspring, status: int) -> None:
        """Somebody takes the place of one that has gone, unless that is provided for already."""
        found_nothing_left = self._settings.burst and status == 0 and child.pid not in self._dying
        if not self._signals and not child.is_retiring and not found_nothing_left:
            self._replace(child, status)
        for other in list(self._children.values()):
            if other.place == child.place and other.why_spent:
                self._retire(other, other.why_spent, is_bad=other.is_bloated)
        if not self._children and not self._restarts:
            self._ended.set()

    def _replace(self, child: Offspring, status: int) -> None:
        backoff_ms = self._backoff_ms(child, status != 0)
        if child.pid not in self._dying:
            what = exit_text(status)
            logger.warning(
                "worker process %d ended: %s; the next starts in %d ms", child.pid, what, backoff_ms
            )
        self._start_in(backoff_ms, child.place, child.predecessor)

    def _backoff_ms(self, child: Offspring, is_bad: bool) -> int:
        is_short = is_bad and child.lived_ms < CHILD_STEADY_MS
        short_lives = self._short_lives[child.place] = self._short_lives[child.place] + 1 if is_short else 0
        backoff_ms = 0 if not short_lives else CHILD_BACKOFF_FIRST_MS * 2 ** min(short_lives - 1, 30)
        return min(backoff_ms, CHILD_BACKOFF_MAX_MS)

    def _start_in(self, backoff_ms: int, place: int, predecessor: Offspring | None) -> None:
        self._replaced += 1
        self._restarts[place] = self._loop.call_later(backoff_ms / 1_000, self._start, place, predecessor)

    # -- replacing one that lives -------------------------------------------------------------------

    def _retire(self, child: Offspring, why: str, *, is_bad: bool = False) -> None:
        """Another takes its place: that one is ready before this one is told to drain."""
        if self._signals or child.is_retiring or child.pid not in self._children:
            return
        if child.place in self._restarts or any(
            other.place == child.place for other in self._children.values() if other is not child
        ):
            child.why_spent = why  # one at a time: it has only just followed another
            child.is_bloated = is_bad
            return
        logger.info("worker process %d is replaced: %s", child.pid, why)
        child.is_retiring = True
        self._start_in(self._backoff_ms(child, is_bad), child.place, child)

    def _take_over(self, child: Offspring) -> None:
        retiring, child.predecessor = child.predecessor, None
        if retiring is None or retiring.pid not in self._children or self._signals:
            return
        retiring.order("drain")
        patience_ms = self._settings.grace_ms + EXIT_MARGIN_MS
        self._loop.call_later(patience_ms / 1_000, self._end_patience, retiring)

    def _end_patience(self, child: Offspring) -> None:
        if child.pid in self._children:
            self._put_down(child, "killed by its supervisor: it did not stop within the grace")

    # -- health -----------------------------------------------------------------------------------

    def _look_at(self, child: Offspring, due_at: float) -> None:
        """See a moment after that time, for it may be busy, whether it has ended an attempt."""
        if child.pid not in self._children:
            return
        at = max(due_at, self._loop.time()) + _UNREACHED_S
        if child.alarm is not None and child.alarm.when() <= at:
            return
        child.rest()
        child.alarm = self._loop.call_at(at, self._on_alarm, child, at)
        child.docket.arm(due_at)

    def _on_alarm(self, child: Offspring, planned_at: float) -> None:
        child.alarm = None
        due = child.docket.look()
        # Loops may wake a moment early: what is due at the time that this was set for counts as due.
        now = max(self._loop.time(), planned_at)
        late = [entry.lease for entry in due if entry.at + _UNREACHED_S <= now]
        if late and now - planned_at < _UNREACHED_S:
            when = f"when the time of {len(late)} of its jobs was up"
            self._put_down(child, f"killed by its supervisor: it did not answer {when}", timed_out=late)
        elif due:
            # If we come too late ourselves, all of this machine may have slept: it gets another chance.
            self._look_at(child, due[0].at)

    def _examine(self, child: Offspring) -> None:
        seen = child.vitals.look()
        if seen is None:
            return
        if child.stood_still_ms(seen) >= STANDSTILL_MS:
            # Counted: a job that stops its own process must not do so for ever.
            text = f"killed by its supervisor: it stood still for {STANDSTILL_MS / 1_000:g} s"
            self._put_down(child, text, uncounted=False)
        elif 0 < self._settings.max_memory_bytes < seen.resident_bytes:
            megabytes = seen.resident_bytes / 1e6
            self._retire(child, f"it takes {megabytes:.0f} MB of memory", is_bad=True)

    # -- stopping ---------------------------------------------------------------------------------

    def _answer(self, answer: Obeyed) -> None:
        self._session.obeyed(answer)
        self._wake()

    def _stop_soon(self) -> None:
        if not self._signals:
            self._loop.call_soon(self._on_stop_signal)

    def _on_stop_signal(self) -> None:
        self._signals += 1
        self._cancel_restarts()
        if not self._children:
            self._ended.set()
        elif self._signals == 1:
            logger.info(
                "stopping: running jobs get %g s; a second signal stops now", self._settings.grace_ms / 1_000
            )
            self._order("drain", self._settings.grace_ms + EXIT_MARGIN_MS)
        elif self._signals == 2:
            self._order("now", EXIT_MARGIN_MS)
        else:
            self._kill_all()

    def _order(self, order: Order, patience_ms: int) -> None:
        for child in self._children.values():
            child.order(order)
        self._loop.call_later(patience_ms / 1_000, self._kill_all)

    def _cancel_restarts(self) -> None:
        for restart in self._restarts.values():
            restart.cancel()
        self._restarts = {}

    def _kill_all(self) -> None:
        for child in list(self._children.values()):
            self._put_down(child, "killed by its supervisor: it did not stop in time")
