"""Frames of threads and coroutines, read from another thread: whose attempt they run, which line is meant."""

import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from taskq.worker.attempts import Attempt

# Innermost first.
Frames = list[FrameType]

_OURS: Final = str(Path(__file__).parents[2])
# Where code is that nobody who reads a warning has written.
_LIBRARIES: Final = tuple(
    dict.fromkeys([sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")])
)
# The functions of executors that call an attempt's code, and where each of them keeps the attempt. Others
# have one at hand as well, and run no code of its task.
_STEPS: Final = ("_first_step", "_next_step", "_call")
_STEP_VARIABLE: Final = "attempt"


def thread_frames(thread: int) -> Frames:
    """What a thread is doing now; empty when it has ended."""
    return outward(sys._current_frames().get(thread))


def outward(frame: FrameType | None) -> Frames:
    """A frame, its caller, and so on."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def awaited_frames(waiting: object) -> Frames:
    """Where a suspended coroutine or generator is, and what it waits for in turn."""
    frames: Frames = []
    seen = 0
    while waiting is not None and seen < _AWAITED_MAX:
        seen += 1
        frame, waiting = _step(waiting)
        if frame is not None:
            frames.append(frame)
    frames.reverse()
    return frames


# Deeper than Python's own recursion goes: only a chain in a circle would be longer.
_AWAITED_MAX: Final = 1_000


def _step(waiting: Any) -> tuple[FrameType | None, object]:
    if inspect.iscoroutine(waiting):
        return waiting.cr_frame, waiting.cr_await
    if inspect.isasyncgen(waiting):
        return waiting.ag_frame, waiting.ag_await
    if inspect.isgenerator(waiting):
        return waiting.gi_frame, waiting.gi_yieldfrom
    return None, None


def split_at_attempt(frames: Frames) -> tuple[Attempt | None, Frames]:
    """The attempt that these frames run, and those that are its code's; without one, all."""
    for at, frame in enumerate(frames):
        code = frame.f_code
        if code.co_name in _STEPS and code.co_filename.startswith(_OURS):
            attempt = frame.f_locals.get(_STEP_VARIABLE)
            if isinstance(attempt, Attempt):
                return attempt, frames[:at]
    return None, frames


def culprit(frames: Frames) -> FrameType | None:
    """The frame to name: the innermost that is not a library's. If all are, the outermost: there it began."""
    for frame in frames:
        name = frame.f_code.co_filename
        if not name.startswith(("<", _OURS, *_LIBRARIES)):
            return frame
    return frames[-1] if frames else None


def is_ours(frames: Frames) -> bool:
    """Did code of this package begin it?"""
    return bool(frames) and frames[-1].f_code.co_filename.startswith(_OURS)


def place(frame: FrameType) -> str:
    """`/app/tasks.py:12 in send`."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def stack_lines(frames: Sequence[FrameType], most: int) -> list[str]:
    """As in a traceback, the innermost last; of a deep one the outer part is left out."""
    shown = frames[:most]
    lines = [f"  ... {len(frames) - most} frames above\n"] if len(frames) > most else []
    summary = traceback.StackSummary.extract(_with_lines(reversed(shown)), lookup_lines=True)
    return [line.rstrip("\n") for text in [*lines, *summary.format()] for line in text.splitlines()]


def _with_lines(frames: Iterable[FrameType]) -> Iterable[tuple[FrameType, int]]:
    for frame in frames:
        yield frame, frame.f_lineno
