"""Runs attempts and reports how each ended. The asyncio half of a worker; `session.py` is the other.

It decides nothing about who holds what. A task may raise, return or swallow what it likes: each
attempt is reported once, and the worker lives on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from time import monotonic
from typing import Final

from msgspec.structs import replace

from taskq.client.values.compression import smaller_result
from taskq.limits import COMPRESS_BYTES_MIN, EXTRA_PER_SLOT, LINE_WAIT_MS
from taskq.protocol.messages import (
    Ending,
    Failure,
    FromBroker,
    Message,
    Recall,
    ScheduleSpec,
    Stop,
    Welcome,
)
from taskq.worker.attempts import Attempt, Definition, inflate, stop_failure, why_stopped
from taskq.worker.executors.calling import call
from taskq.worker.executors.coroutines import Coroutines
from taskq.worker.executors.deadlines import Deadlines
from taskq.worker.executors.line import Line, Lines
from taskq.worker.executors.processes import Calls, Processes
from taskq.worker.executors.stops import Stops
from taskq.worker.executors.threads import Threads
from taskq.worker.hooks.scope import WorkerScope
from taskq.worker.idle import Idle
from taskq.worker.insight.loop_watch import LoopWatch
from taskq.worker.insight.stacks import stacks_text
from taskq.worker.offer import Offer, signed
from taskq.worker.refusals import Refusals
from taskq.worker.session import Start, WorkerSession
from taskq.worker.telling.teller import Teller
from taskq.worker.tree.supervision import UNSUPERVISED, Supervision, Wear
from taskq.worker.words import Words

logger = logging.getLogger("taskq.worker")

ASYNC: Final = "async"
THREAD: Final = "thread"
PROCESS: Final = "process"


class Runner:
    """The Speaker of a worker's connection: runs what is delivered, within the slots of each executor.

    Async tasks are cancelled when they are told to stop or their time is up; what one that swallows
    that returns or raises within its grace is reported. A thread cannot be cancelled: its attempt is
    reported at once, its slot stays taken until the function returns, and meanwhile the broker is told
    of the smaller capacity. A process is killed. Who goes on after the grace is reported, and named: only
    an end of this process would stop it, and that is asked for.

    While attempts are tiny the broker is asked for more than there are slots. What waits for a slot is
    handed back when the broker asks for it, or when it has waited too long.

    `slow_callback_ms`: warn when the loop has not turned for so long; 0: never.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        definitions: Iterable[Definition],
        offer: Offer,
        *,
        slots: Mapping[str, int],
        app: str = "",
        schedules: Iterable[ScheduleSpec] = (),
        clock: Callable[[], float] | None = None,
        scope: WorkerScope | None = None,
        supervision: Supervision = UNSUPERVISED,
        log_level: int | None = None,
        slow_callback_ms: int = 0,
    ) -> None:
        # What attempts ask for is there: a lifespan has been entered before.
        self.scope = scope or WorkerScope()
        self._definitions = {definition.name: definition for definition in definitions}
        self._has_processes = any(each.executor == PROCESS for each in self._definitions.values())
        slots = {each: count for each, count in slots.items() if each != PROCESS or self._has_processes}
        announce = offer.announce(self._definitions.values(), slots)
        self._session = WorkerSession(replace(signed(announce), app=app, schedules=list(schedules)))
        self._loop = loop
        self._thread = get_ident()
        self._wake: Callable[[], None] = _nobody_listens
        self.words = Words(loop, self._session, lambda: self._wake())
        self._attempts: dict[int, Attempt] = {}
        self._teller = Teller(loop, self._session, lambda: self._wake(), self, log_level)
        # What a running task may tell, from any thread; what it may ask for is below.
        self.on_progress, self.open_stream = self._teller.progress, self._teller.open_stream
        self._wear = Wear(supervision)
        self._deadlines = Deadlines(loop, self._on_deadline, supervision.docket)
        self._stops = Stops(loop, supervision.docket, self._on_ignored)
        self._coroutines = Coroutines(loop, self._begin, self._end, self.scope)
        self._threads = Threads(loop, slots.get(THREAD, 0), call, self._on_thread_done)
        calls = Calls(self._begin, self.on_progress, self.on_extend, self._end, self._on_size, self.words)
        self._processes = Processes(loop, slots.get(PROCESS, 0), calls, supervision)
        self._clock = clock or monotonic  # the loop's own time goes in steps of a ms, under uvloop
        starts = (
            (ASYNC, self._coroutines.submit),
            (THREAD, self._start_thread),
            (PROCESS, self._processes.submit),
        )
        self._lines = Lines(Line(name, slots.get(name, 0), start, self._clock()) for name, start in starts)
        self._line = self._lines.by_name
        self._watch: asyncio.TimerHandle | None = None  # over those that wait for slots
        self._refusals = Refusals()
        self._idle = Idle(loop)
        self._loop_watch = LoopWatch(loop, slow_callback_ms, lambda: bool(self._attempts))
        # What the broker wanted so far: tells whether anything came between two looks.
        self.delivered = 0

    # -- what the process around it does ----------------------------------------------------------

    def attach(self, wake: Callable[[], None]) -> None:
        """What to call when there is something to say: the link's `wake`."""
        self._wake = wake

    def start(self) -> None:
        """Before the connection is there: have ready what takes long to start."""
        if self._has_processes:
            self._processes.start()

    @property
    def is_idle(self) -> bool:
        """Nothing runs or is being started, and the broker has recorded everything that did."""
        return self._session.idle and self._processes.is_warm

    @property
    def is_empty(self) -> bool:
        """No attempt is left, reports aside that are not recorded yet, and none goes on all the same."""
        return not self._attempts and not self._stops.ignored

    async def wait_idle(self, timeout: float) -> bool:
        """Whether it became idle within so many seconds."""
        return self._session.idle or await self._idle.wait(timeout)

    def drain(self) -> None:
        """Take nothing more, and hand back what has not begun; what runs goes on."""
        self._session.drain()
        for attempt in reversed(self._lines.waiting):
            self._stop(attempt, "returned")
        self._wake()

    def hold(self) -> None:
        """The same, until `release`."""
        self._session.hold()
        for attempt in reversed(self._lines.waiting):
            self._stop(attempt, "returned")
        self._wake()

    def release(self) -> None:
        """Take jobs again."""
        self._session.release()
        self._wake()

    def stacks(self, lease: int = 0) -> str:
        """What runs here, line by line, from any thread; see `stacks_text`."""
        try:
            return stacks_text(self._loop, self._thread, self._attempts, lease=lease)
        except Exception as error:  # it reads what others write; who asks has more to do than this
            return f"what runs here could not be told: {type(error).__name__}: {error}"

    def hand_back(self) -> None:
        """Stop what runs: tasks are cancelled, and the broker may give them to another worker."""
        self.drain()
        for attempt in list(self._attempts.values()):
            self._stop(attempt, "returned")

    def abandon(self) -> None:
        """Hand back even what does not stop. For a process that ends now: it may still be running."""
        for attempt in list(self._attempts.values()):
            self._report(attempt, stop_failure(attempt, attempt.stopped or "returned"))
        self._deadlines.close()

    def close(self) -> None:
        """Let the threads end. The runner must not be used after this."""
        if self._watch is not None:
            self._watch.cancel()
        self._deadlines.close()
        self._stops.close()
        self._threads.close()
        self._processes.close()
        self._session.close()
        self._teller.close()
        self._loop_watch.close()

    # -- what a running task may ask for, from any thread -------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where what a thread cannot do itself is done for it."""
        return self._loop

    def on_extend(self, attempt: Attempt, timeout_ms: int) -> None:
        """The attempt needs this much time from now. One without a timeout has it already."""
        if get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.on_extend, attempt, timeout_ms)
            return
        if attempt.is_reported or not attempt.terms.timeout_ms:
            return
        self._deadlines.set(attempt.delivery.lease, timeout_ms)
        self._session.extend(attempt.delivery.id, attempt.delivery.lease, timeout_ms)
        self._wake()

    def left(self, attempt: Attempt) -> float | None:
        """Seconds until the attempt's time is up; None without a timeout."""
        return self._deadlines.left(attempt.delivery.lease)

    # -- Speaker ----------------------------------------------------------------------------------

    def on_welcome(self, welcome: Welcome) -> None:
        self._session.on_welcome(welcome)

    def on_message(self, message: FromBroker) -> None:
        self._session.on_message(message)
        events = self._session.take_events()
        if events:
            if self._loop_watch.is_asleep:
                self._loop_watch.rouse()
            self._look()
            for event in events:
                if isinstance(event, Start):
                    self._take(event)
                elif isinstance(event, Stop):
                    self._on_stop(event)
                else:
                    self._on_recall(event)
            self.delivered += len(events)
            self._lines.note_taken()
        if self._idle.is_awaited and self._session.idle:
            self._idle.come()

    def on_lost(self) -> None:
        self._session.on_lost()

    def outgoing(self) -> list[Message]:
        self._look()
        if self._wear.is_counted:
            self._wear.count(line.ended for line in self._line.values())
        return self._session.outgoing()

    # -- starting ---------------------------------------------------------------------------------

    def _take(self, start: Start) -> None:
        delivery, terms = start.delivery, start.terms
        definition = self._definitions.get(terms.task)
        if definition is None or self._session.draining:
            self._session.fail(self._refusals.report(start, draining=self._session.draining))
            return
        if delivery.flags:
            opened = inflate(delivery)
            if isinstance(opened, Failure):
                self._session.fail(opened)
                return
            delivery = opened
        attempt = Attempt(delivery, terms, definition, self)
        self._attempts[delivery.lease] = attempt
        line = self._line[definition.executor]
        if line.free > 0:
            line.free -= 1
            line.start(attempt)
        else:
            attempt.is_waiting = True
            line.waiting.append(attempt)
            if self._watch is None:
                self._watch = self._loop.call_later(LINE_WAIT_MS / 1_000, self._on_watch)

    def _start_thread(self, attempt: Attempt) -> None:
        self._begin(attempt)
        self._threads.submit(attempt)

    def _begin(self, attempt: Attempt) -> None:
        """Its time counts from now."""
        if attempt.terms.timeout_ms:
            self._deadlines.set(attempt.delivery.lease, attempt.terms.timeout_ms)

    # -- more than there are slots ------------------------------------------------------------------

    def _look(self) -> None:
        """Has an executor become so quick, or so slow, that it should be given more, or less?"""
        for line in self._lines.look(self._clock()):
            self._say_size(line)

    def _on_recall(self, recall: Recall) -> None:
        """The session has withdrawn what was extra. What has not begun goes back; what has, goes on."""
        self._lines.withdraw(self._clock())
        leases = {held.lease: None for held in recall.items}
        for attempt in reversed(self._lines.take_out(leases)):
            self._return(attempt)
        attempts = self._attempts
        for attempt in [attempts[lease] for lease in leases if lease in attempts]:
            # It has a slot, but the loop has not come to it yet. Of threads nobody can tell.
            if attempt.definition.executor == ASYNC and attempt.running is None:
                self._stop(attempt, "returned")

    def _on_watch(self) -> None:
        """What has waited too long goes back: the broker counts its timeout from the delivery."""
        self._watch = None
        stale = self._lines.take_stale()
        if stale:
            for line in self._lines.withdraw(self._clock()):
                self._say_size(line)
        for attempt in reversed(stale):
            self._return(attempt)
        if self._lines.waiting:
            self._watch = self._loop.call_later(LINE_WAIT_MS / 1_000, self._on_watch)

    def _return(self, attempt: Attempt) -> None:
        """Hand back one that has left its line; of several the last one first, for each goes to the front."""
        attempt.stopped = "returned"
        self._report(attempt, stop_failure(attempt, "returned"))

    # -- stopping ---------------------------------------------------------------------------------

    def _on_stop(self, stop: Stop) -> None:
        attempt = self._attempts.get(stop.lease)
        if attempt is not None:
            self._stop(attempt, "cancelled", stop.reason)

    def _on_deadline(self, lease: int) -> None:
        self._stop(self._attempts[lease], "timed_out")

    def _stop(self, attempt: Attempt, ending: Ending, reason: str = "") -> None:
        if attempt.stopped:
            return
        attempt.stopped = ending
        attempt.cancel(why_stopped(attempt, ending, reason))
        line = self._line[attempt.definition.executor]
        if attempt.is_waiting:
            attempt.is_waiting = False
            line.waiting.remove(attempt)
            self._report(attempt, stop_failure(attempt, ending))
        elif line.name == THREAD:
            self._give_up(attempt)
            self._stops.watch(attempt)
            if attempt.running is not None:  # its thread waits for what is made for it on the loop
                attempt.running.cancel(attempt.reason)
        elif line.name == PROCESS:
            self._processes.stop(attempt)
        elif attempt.running is not None:
            attempt.running.cancel(attempt.reason)
            self._stops.watch(attempt)
        # Else it has not begun, and is reported when its turn comes.

    def _give_up(self, attempt: Attempt, more: str = "") -> None:
        """Report it although it goes on, and keeps its slot for as long."""
        assert attempt.stopped is not None
        self._resize(self._line[attempt.definition.executor], -1)
        self._report(attempt, stop_failure(attempt, attempt.stopped, more=more))

    def _on_ignored(self, attempt: Attempt, what: str) -> None:
        if not attempt.is_reported:
            self._give_up(attempt, what)
        self._wear.say(f"a job of task {attempt.terms.task} goes on after it was stopped")

    # -- ending -----------------------------------------------------------------------------------

    def _on_thread_done(self, attempt: Attempt, outcome: bytes | Failure) -> None:
        if self.words.is_unheard:
            self.words.hear()
        self._end(attempt, outcome)

    def _end(self, attempt: Attempt, outcome: bytes | Failure) -> None:
        if attempt.stopped:
            self._stops.ended(attempt)
        if attempt.is_reported:
            self._resize(self._line[attempt.definition.executor], +1)
        else:
            self._report(attempt, outcome)
        self._release(attempt.definition.executor)

    def _report(self, attempt: Attempt, outcome: bytes | Failure) -> None:
        teller = self._teller
        if teller.streams or teller.latest or teller.lines:  # mostly not
            teller.end(attempt)
        attempt.is_reported = True
        delivery = attempt.delivery
        del self._attempts[delivery.lease]
        if attempt.terms.timeout_ms:
            self._deadlines.clear(delivery.lease)
        if isinstance(outcome, bytes):
            flags = 0
            if len(outcome) > COMPRESS_BYTES_MIN and attempt.terms.reads:
                outcome, flags = smaller_result(outcome, attempt.terms.reads)
            self._session.succeed(delivery.id, delivery.lease, outcome, flags)
        else:
            _log(attempt, outcome)
            self._session.fail(outcome)
        self._wake()

    def _release(self, executor: str) -> None:
        line = self._line[executor]
        line.free += 1
        line.ended += 1
        if line.waiting:
            line.free -= 1
            attempt = line.waiting.popleft()
            attempt.is_waiting = False
            line.start(attempt)

    def _resize(self, line: Line[Attempt], change: int) -> None:
        line.slots += change
        line.extra = min(line.extra, line.slots * EXTRA_PER_SLOT)
        self._say_size(line)

    def _on_size(self, change: int) -> None:
        line = self._line[PROCESS]
        line.resize(change)
        self._say_size(line)

    def _say_size(self, line: Line[Attempt]) -> None:
        self._session.resize(line.name, line.slots, line.extra)
        self._wake()


def _nobody_listens() -> None:
    """Stands in for the link's `wake` until there is one."""


def _log(attempt: Attempt, outcome: Failure) -> None:
    if outcome.ending == "returned" or not logger.isEnabledFor(logging.INFO):
        return
    delivery, fault = attempt.delivery, outcome.fault
    # The type only: a message may quote arguments, and payloads do not belong in logs.
    what = f"{outcome.ending}: {fault.type}" if fault else outcome.ending
    fields = {"job": delivery.id.hex(), "task": attempt.terms.task, "attempt": delivery.attempt}
    logger.info("%s", what, extra=fields)
