"""Live stacks of a worker process: its jobs, its threads, its asyncio tasks. From any thread, also while the
event loop stands still.
"""

import asyncio
import threading
from collections.abc import Iterable, Mapping
from typing import Final

from taskq.limits import STACK_CHARS_MAX
from taskq.worker.attempts import Attempt
from taskq.worker.insight.frames import (
    Frames,
    awaited_frames,
    is_ours,
    split_at_attempt,
    stack_lines,
    thread_frames,
)

_FRAMES_MAX: Final = 40
# Jobs that stand at the same line are told of together, by so many of their ids.
_IDS_MAX: Final = 10
# What keeps the worker itself going is not told.
_OUR_THREADS: Final = "taskq-"
_OUR_TASKS: Final = "taskq "
_NO_FRAMES: Final = ["  (no Python code)"]


def stacks_text(
    loop: asyncio.AbstractEventLoop, loop_thread: int, attempts: Mapping[int, Attempt], *, lease: int = 0
) -> str:
    """What runs here, at most STACK_CHARS_MAX characters. With a `lease` only that attempt; empty if it is
    not here.

    Reads tables that the loop's thread writes: each look is one step of the interpreter, and what has
    changed between two of them is told as it was at one or the other.
    """
    running = list(attempts.values())
    in_threads = {
        thread.ident: (thread.name, *split_at_attempt(thread_frames(thread.ident)))
        for thread in threading.enumerate()
        if thread.ident is not None and thread.ident != threading.get_ident()
    }
    of_jobs = {id(attempt): frames for _, attempt, frames in in_threads.values() if attempt is not None}
    if lease:
        running = [attempt for attempt in running if attempt.delivery.lease == lease]
    sections = list(_jobs(running, of_jobs))
    if not lease:
        sections += _tasks(loop, running)
        for ident, (name, attempt, frames) in in_threads.items():
            if ident == loop_thread:
                sections.append("\n".join(["the event loop's thread:", *_lines(thread_frames(ident))]))
            elif attempt is None and not name.startswith(_OUR_THREADS):
                sections.append("\n".join([f"thread {name}:", *_lines(frames)]))
    return _bounded("\n\n".join(sections))


def _jobs(attempts: Iterable[Attempt], in_threads: Mapping[int, Frames]) -> Iterable[str]:
    alike: dict[tuple[str, str, str], list[Attempt]] = {}
    for attempt in attempts:
        how, lines = _where(attempt, in_threads)
        alike.setdefault((attempt.terms.task, how, "\n".join(lines)), []).append(attempt)
    for (task, how, stack), those in alike.items():
        ids = ", ".join(attempt.delivery.id.hex() for attempt in those[:_IDS_MAX])
        more = f" and {len(those) - _IDS_MAX} more" if len(those) > _IDS_MAX else ""
        jobs = "job" if len(those) == 1 else f"{len(those)} jobs"
        yield f"task {task!r}, {jobs} {ids}{more}, {how}" + (f":\n{stack}" if stack else "")


def _where(attempt: Attempt, in_threads: Mapping[int, Frames]) -> tuple[str, list[str]]:
    frames = in_threads.get(id(attempt))
    stopped = f" (told to stop: {attempt.stopped})" if attempt.stopped else ""
    if frames is not None:
        return f"runs now{stopped}", _lines(frames)
    if attempt.coroutine is not None:
        return f"waits{stopped}", _lines(awaited_frames(attempt.coroutine))
    if attempt.is_waiting:
        return "waits for a slot", []
    if attempt.definition.executor == "process":
        return f"is in a process of its own, which is not asked{stopped}", []
    return f"has not begun{stopped}", []


def _tasks(loop: asyncio.AbstractEventLoop, attempts: Iterable[Attempt]) -> Iterable[str]:
    """Those that are not a job's own: what jobs have started, or the app."""
    own = {id(attempt.running) for attempt in attempts}
    alike: dict[str, list[str]] = {}
    for task in asyncio.all_tasks(loop):
        frames = awaited_frames(task.get_coro())
        if id(task) not in own and not task.get_name().startswith(_OUR_TASKS) and not is_ours(frames):
            alike.setdefault("\n".join(_lines(frames)), []).append(task.get_name())
    for lines, names in alike.items():
        more = f" and {len(names) - _IDS_MAX} more" if len(names) > _IDS_MAX else ""
        yield f"asyncio task {', '.join(names[:_IDS_MAX])}{more}:\n{lines}"


def _lines(frames: Frames) -> list[str]:
    return stack_lines(frames, _FRAMES_MAX) if frames else _NO_FRAMES


def _bounded(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= STACK_CHARS_MAX:
        return text
    cut = "\n... and more"
    return text[: STACK_CHARS_MAX - len(cut)] + cut
