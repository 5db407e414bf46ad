"""Notices that an event loop does not turn, and tells which task and line hold it up, while they do."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from threading import Lock, Thread, get_ident
from types import CodeType
from typing import Final

from taskq.limits import BLOCKING_TOLD_EVERY_MS, BLOCKINGS_REMEMBERED
from taskq.worker.insight.frames import Frames, culprit, place, split_at_attempt, stack_lines, thread_frames

logger = logging.getLogger("taskq.worker")

# It looks so often within the time that is too long: what lasts one and a half times as long is always seen.
_LOOKS: Final = 2
# After the last attempt it stays awake for so long: jobs that come one by one must not wake it each.
_LINGER_S: Final = 1.0
# What its thread may take for the look that it is at when the worker ends.
_LAST_LOOK_S: Final = 1.0
# The part of a time in which the process has used a processor, to count as busy all the while.
_ALL_THE_WHILE: Final = 0.8
_STACK_FRAMES: Final = 6


class LoopWatch:
    """A thread that asks the loop, again and again, whether it turns; only while `is_busy`.

    There is nothing to do for a job. Who makes the loop busy looks whether the watch `is_asleep`, and if
    so calls `rouse`, on the loop's thread. `slow_ms` 0: nothing is watched, and there is no thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, slow_ms: int, is_busy: Callable[[], bool]) -> None:
        self.is_asleep = slow_ms > 0
        self._loop = loop
        self._slow_s = slow_ms / 1_000
        self._is_busy = is_busy
        self._watched = 0
        self._thread: Thread | None = None
        self._bell = Lock()
        self._bell.acquire()
        self._is_closed = False
        self._is_blocked = False
        self._asked = 0  # the questions put to the loop, and the newest that it has answered
        self._answered = 0
        self._answered_at = 0.0
        self._base: CodeType | None = None  # what calls callbacks
        self._told = _Told()

    def rouse(self) -> None:
        """The loop has become busy. In the loop's thread."""
        self.is_asleep = False
        if self._thread is None:
            self._watched = get_ident()
            self._thread = Thread(target=self._run, name="taskq-watch", daemon=True)
            self._thread.start()
        else:
            self._ring()

    def close(self) -> None:
        """Watch no more."""
        self.is_asleep = False
        self._is_closed = True
        self._ring()
        if self._thread is not None:
            self._thread.join(_LAST_LOOK_S)

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        busy_at = time.monotonic()
        while not self._is_closed:
            now = time.monotonic()
            if self._is_busy():
                busy_at = now
            elif now - busy_at > _LINGER_S:
                self._sleep()
                busy_at = time.monotonic()
                continue
            self._ask()
            self._wait_answer()

    def _sleep(self) -> None:
        self.is_asleep = True
        # Who made it busy before that did not see it, and does not ring.
        if not self._is_busy():
            self._bell.acquire()
        self.is_asleep = False

    def _ask(self) -> None:
        self._asked += 1
        try:
            self._loop.call_soon_threadsafe(self._answer, self._asked)
        except RuntimeError:  # the loop is closed
            self._is_closed = True

    def _answer(self, number: int) -> None:
        """On the loop."""
        self._base = sys._getframe(1).f_code
        self._answered_at = time.monotonic()
        self._answered = number
        if self._is_blocked:
            self._ring()

    def _wait_answer(self) -> None:
        """Returns when the loop has turned; tells if that took too long."""
        began = time.monotonic()
        pause_s = self._slow_s / _LOOKS
        while True:
            before, cpu_before = time.monotonic(), time.process_time()
            self._bell.acquire(timeout=pause_s)
            now = time.monotonic()
            late_s = now - before - pause_s
            if late_s >= self._slow_s:
                # We did not run either. If the process did, then in one long call that is not Python and
                # keeps the interpreter to itself: it has just come out of it. Else it was stopped, or the
                # machine was asleep or has too much to do.
                if time.process_time() - cpu_before > late_s * _ALL_THE_WHILE:
                    self._look(max(before, self._answered_at) if self._answered == self._asked else began)
                    return
                began = now
            if self._is_closed or self._answered == self._asked:
                return
            if now - began >= self._slow_s:
                self._look(began)
                return

    def _look(self, began: float) -> None:
        frames = self._callback_frames(thread_frames(self._watched))
        if not frames or self._is_waiting(frames):
            return  # it is about to turn
        self._is_blocked = True
        if self._answered == self._asked:
            self._ask()
        blocking = self._told.begin(frames, time.monotonic() - began)
        del frames  # they keep what is in them alive
        while self._answered != self._asked and not self._is_closed:
            self._bell.acquire()
        self._is_blocked = False
        self._told.end(blocking, self._answered_at - began)

    def _callback_frames(self, frames: Frames) -> Frames:
        """Without what is around every callback; none when there is no callback."""
        for at, frame in enumerate(frames):
            if frame.f_code is self._base:
                return frames[:at]
        return frames

    @staticmethod
    def _is_waiting(frames: Frames) -> bool:
        """Is this asyncio's own loop, as it waits for something to happen?"""
        code = frames[0].f_code
        return code.co_name == "select" and code.co_filename.endswith("selectors.py")

    def _ring(self) -> None:
        # Only a lock that is held can be released, and rung twice is rung once.
        with contextlib.suppress(RuntimeError):
            self._bell.release()


class _Told:
    """What was told of whom: each task and line once in a while, however often it blocks."""

    def __init__(self) -> None:
        # By task and line: when it was told last, and how often it blocked since.
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def begin(self, frames: Frames, seconds: float) -> str:
        """Warn. What to call it when it ends; empty when it was told a moment ago."""
        attempt, frames = split_at_attempt(frames)
        frame = culprit(frames)
        where = place(frame) if frame is not None else "reading its arguments"
        who = "code that is not a task"
        fields: dict[str, object] = {}
        if attempt is not None:
            job = attempt.delivery.id.hex()
            who = f"task {attempt.terms.task!r} (job {job})"
            fields = {"job": job, "task": attempt.terms.task, "attempt": attempt.delivery.attempt}
        more = self._note((attempt.terms.task if attempt is not None else "", where))
        if more < 0:
            return ""
        again = f" ({more} times more since this was last told)" if more else ""
        logger.warning(
            "%s blocks the event loop, for %d ms so far: %s%s\n%s",
            who,
            round(seconds * 1_000),
            where,
            again,
            "\n".join(stack_lines(frames, _STACK_FRAMES)),
            extra=fields,
        )
        return f"{who}: {where}"

    def end(self, blocking: str, seconds: float) -> None:
        """It is over."""
        if blocking:
            logger.info("the event loop turns again, after %d ms; %s", round(seconds * 1_000), blocking)

    def _note(self, key: tuple[str, str]) -> int:
        """How often it blocked since it was told last, if it is to be told now; else -1."""
        now = time.monotonic()
        told_at, more = self._last.pop(key, (float("-inf"), 0))
        if now - told_at < BLOCKING_TOLD_EVERY_MS / 1_000:
            self._last[key] = (told_at, more + 1)
            return -1
        if len(self._last) >= BLOCKINGS_REMEMBERED:
            del self._last[next(iter(self._last))]
        self._last[key] = (now, 0)
        return more
