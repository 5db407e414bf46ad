"""The worker of a test environment: the one that `run_worker` runs, with another place around it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from taskq.client.app import TaskQ
from taskq.client.link import Speaker
from taskq.protocol.messages import Role
from taskq.testing.clock import Clock, ClockLoop, live_by
from taskq.testing.wire import Switchboard, Wire
from taskq.worker.attempts import Attempt, Definition
from taskq.worker.inline import Obey, Place, Voucher, run_worker
from taskq.worker.runner import ASYNC, THREAD, Runner
from taskq.worker.vouching import SupervisorSession

NAME: Final = "test-worker"
_FRAMES_SHOWN: Final = 3


class TestPlace(Place):
    """Virtual time, a wire instead of a socket, and a supervisor that knows at once what became of it."""

    __test__ = False  # pytest need not look for tests in here
    is_watched = False  # its time is not that of a clock

    def __init__(self, board: Switchboard, clock: Clock, *, threads: int) -> None:
        self.runner: Runner | None = None
        self.wire: Wire | None = None
        self.supervisor = SupervisorSession()
        self.child: bytes | None = None
        self._board = board
        self._clock = clock
        self._threads = threads
        self._vouching: Wire | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        loop = ClockLoop(self._board.loop, self._clock, self._board.variables)
        return cast(asyncio.AbstractEventLoop, loop)  # which passes on what it does not know

    def clock(self) -> float:
        return self._clock.time()

    def slots(self, slots: dict[str, int]) -> dict[str, int]:
        return {**slots, THREAD: self._threads}

    def link(  # type: ignore[override]  # the same, as an attribute there
        self,
        urls: Sequence[str],
        *,
        session: bytes,
        role: Role,
        speaker: Speaker,
        name: str = "",
        token: str | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> Wire:
        assert isinstance(speaker, Runner)
        self.runner = speaker
        live_by(speaker, self._clock)
        self.wire = Wire(
            self._board, urls, session=session, role=role, speaker=speaker, name=name, on_change=on_change
        )
        return self.wire

    def definitions(self, q: TaskQ) -> list[Definition]:
        """What runs in a process of its own elsewhere runs in a thread here: tests want to see it."""
        definitions = super().definitions(q)
        for definition in definitions:
            if definition.executor != ASYNC:
                definition.executor = THREAD
        return definitions

    def voucher(
        self, urls: Sequence[str], session: bytes, name: str, token: str | None, obey: Obey
    ) -> Voucher:
        self.child = session
        self.supervisor.started(session)
        self._vouching = Wire(
            self._board, urls, session=os.urandom(16), role="supervisor", speaker=self.supervisor, name=name
        )
        return _Voucher(self, self._vouching)

    def say_exited(self, status: int, text: str) -> None:
        """The supervisor has seen it end."""
        if self.child is not None and self._vouching is not None:
            self.supervisor.exited(self.child, status, text)
            self.child = None
            self._vouching.wake()


class _Voucher:
    def __init__(self, place: TestPlace, wire: Wire) -> None:
        self._place = place
        self._wire = wire

    def start(self) -> None:
        self._wire.start()

    async def stop(self) -> None:
        self._place.say_exited(0, "the worker has stopped")
        await self._wire.close()


class TestWorker:
    """One life of it, from `start` until `stop` or `kill`."""

    __test__ = False

    def __init__(
        self,
        q: TaskQ,
        board: Switchboard,
        clock: Clock,
        *,
        threads: int,
        on_failure: Callable[[BaseException], None],
        **options: Any,
    ) -> None:
        self._place = TestPlace(board, clock, threads=threads)
        self._clock = clock
        self._until = asyncio.Event()
        self._is_killed = False
        self._on_failure = on_failure
        work = run_worker(q, name=NAME, grace=0, until=self._until, place=self._place, **options)
        # In real time, as all that does not run in a task: how it begins and ends is no job's business.
        self.task = board.loop.create_task(work, name="taskq test worker", context=board.outside.copy())
        self.task.add_done_callback(self._on_done)

    @property
    def is_starting(self) -> bool:
        wire = self._place.wire
        return not self.task.done() and not (wire is not None and wire.connected)

    @property
    def wire(self) -> Wire | None:
        return self._place.wire

    @property
    def running(self) -> list[Attempt]:
        """Those that have a slot."""
        runner = self._place.runner
        attempts = {} if runner is None else runner._attempts
        return [each for each in attempts.values() if not each.is_waiting]

    def stop(self) -> None:
        """Hand back what runs, and end. One that was killed waits for nothing any more."""
        self._until.set()
        if self._is_killed:
            self.task.cancel()

    def kill(self) -> None:
        """As SIGKILL: not another word is heard from it. Its tasks are cancelled, which is all one can do."""
        if self._place.wire is not None:
            self._place.wire.die()
        self._place.say_exited(-signal.SIGKILL, "signal SIGKILL")
        self._is_killed = True
        self.task.cancel()

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)


def place_of(attempt: Attempt) -> str:
    """Where its code is, for people: the innermost frames last."""
    if attempt.definition.executor == ASYNC:
        frames = [*_frames(attempt.coroutine)]
    else:
        return _thread_of(attempt)
    return " > ".join(frames[-_FRAMES_SHOWN:])


def _frames(awaited: Any) -> Iterator[str]:
    """From a coroutine down to what waits in it."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)


def _thread_of(attempt: Attempt) -> str:
    """The line of the task's own function, in whichever thread it runs."""
    code = attempt.definition.function.__code__
    for frame in sys._current_frames().values():
        inner: Any = frame
        while inner is not None:
            if inner.f_code is code:
                return f"{code.co_filename}:{inner.f_lineno} in {code.co_name}"
            inner = inner.f_back
    return ""
