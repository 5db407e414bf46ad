"""Runs attempts of tasks with executor="process": each in a process that runs nothing else meanwhile.

What happens in there touches no other job: a crash is this job's, and to stop it is to kill it. Processes
are started afresh, never forked: a fork of a program with threads or an event loop may hang for ever.
"""

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from taskq.client.context import context_var
from taskq.errors import ConfigError
from taskq.limits import CHILD_BACKOFF_FIRST_MS, CHILD_BACKOFF_MAX_MS
from taskq.protocol.messages import Failure
from taskq.worker.attempts import Attempt, crash_failure, stop_failure
from taskq.worker.executors.job_process import JobProcess
from taskq.worker.executors.pipe import (
    Answer,
    Asked,
    Done,
    Enclosed,
    Extended,
    Failed,
    FromProcess,
    Kept,
    Logged,
    Prepare,
    Prepared,
    Run,
    Told,
    Unfit,
)
from taskq.worker.tree.offspring import exit_text
from taskq.worker.tree.supervision import Supervision
from taskq.worker.words import Words

logger = logging.getLogger("taskq.worker")

# Set in a job's process: a script that starts a worker when it is imported would start processes for ever.
INSIDE: Final = "TASKQ_JOB_PROCESS"


def check_outside() -> None:
    """A worker starts here: raises ConfigError when that is in the process of a job."""
    if INSIDE in os.environ:
        raise ConfigError(
            "a worker is started by what the process of a job imports, and would start such processes for "
            "ever; put the start of the program under if __name__ == '__main__':"
        )


@dataclass(frozen=True)
class Calls:
    """What is called on the loop: when an attempt begins, what it says, when it is over; and when processes
    that might have run another have come or gone."""

    on_begin: Callable[[Attempt], None]
    on_progress: Callable[[Attempt, int, int, str], None]
    on_extend: Callable[[Attempt, int], None]
    on_done: Callable[[Attempt, bytes | Failure], None]
    on_size: Callable[[int], None]
    words: Words


class Processes:
    """Up to `size` processes. The caller keeps no more than `size` attempts in here."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, size: int, calls: Calls, supervision: Supervision
    ) -> None:
        self._loop = loop
        self._size = size
        self._calls = calls
        self._supervision = supervision
        self._all: dict[int, JobProcess] = {}
        self._idle: list[JobProcess] = []
        self._waiting: deque[Attempt] = deque()  # for a process that is being started
        self._at: dict[int, JobProcess] = {}  # lease -> where it runs
        self._bad_starts = 0
        self._restart: asyncio.TimerHandle | None = None
        self._is_started = False
        self._is_closed = False

    def start(self) -> None:
        """Have them all ready before the first job comes: until they are, they are told of as gone."""
        self._is_started = True
        self._calls.on_size(-self._size)
        self._fill()

    @property
    def is_warm(self) -> bool:
        """None is being started for the first time."""
        return self._bad_starts > 0 or all(process.is_ready for process in self._all.values())

    def _fill(self) -> None:
        self._restart = None
        while len(self._all) < self._size and not self._is_closed:
            process = JobProcess(self._loop, self._on_word, self._on_exit)
            self._all[process.pid] = process
            process.say(Prepare(self._supervision.app, sys.path, logging.getLogger().getEffectiveLevel()))
        self._say_groups()

    def submit(self, attempt: Attempt) -> None:
        """Run it as soon as a process is there."""
        if self._idle:
            self._give(self._idle.pop(), attempt)
            return
        self._waiting.append(attempt)
        if not self._all and self._restart is None:
            self._fill()

    def stop(self, attempt: Attempt) -> None:
        """Kill it; `on_done` is called when it is dead."""
        process = self._at.get(attempt.delivery.lease)
        if process is not None:
            process.kill()
        elif attempt in self._waiting:
            self._waiting.remove(attempt)
            assert attempt.stopped is not None
            self._calls.on_done(attempt, stop_failure(attempt, attempt.stopped))

    def close(self) -> None:
        """Kill them all; what still runs is told of no more."""
        self._is_closed = True
        if self._restart is not None:
            self._restart.cancel()
        for process in self._all.values():
            process.close()

    # -- what processes say -----------------------------------------------------------------------

    def _on_word(self, process: JobProcess, word: FromProcess) -> None:
        attempt, calls = process.attempt, self._calls
        match word:
            case Prepared():
                process.is_ready = True
                self._bad_starts = 0
                self._serve(process)
                self._say_size(+1)
            case Unfit(text):
                logger.error("a process for jobs cannot start: %s", text)
            case Logged():
                _log(word, attempt)
            case _ if attempt is None:
                pass  # it belongs to nobody any more
            case Told(done, total, text):
                calls.on_progress(attempt, done, total, text)
            case Extended(timeout_ms):
                calls.on_extend(attempt, timeout_ms)
            case Kept(saved):
                calls.words.checkpoint(attempt.delivery, saved)
            case Asked(number):
                calls.words.when_saved(attempt.delivery, partial(_answer, process, attempt, number))
            case Enclosed(jobs):
                calls.words.enclose(attempt.delivery, jobs)
            case Done(result):
                self._on_end(process, attempt, result)
            case Failed(failure):
                self._on_end(process, attempt, failure)
            case _:
                assert_never(word)

    def _on_end(self, process: JobProcess, attempt: Attempt, outcome: bytes | Failure) -> None:
        self._leave(process, attempt)
        if self._is_too_large(process):
            process.kill()
        self._calls.on_done(attempt, outcome)
        self._serve(process)

    def _on_exit(self, process: JobProcess, status: int) -> None:
        """It is dead, and all that it said has been heard."""
        del self._all[process.pid]
        if process in self._idle:
            self._idle.remove(process)
        attempt = process.attempt
        if process.is_ready:
            self._say_size(-1)
        elif not self._is_closed:
            self._bad_starts += 1
            if attempt is None and self._waiting:
                attempt = self._waiting.popleft()
        if attempt is not None:
            self._leave(process, attempt)
            self._calls.on_done(attempt, _end_of(attempt, process, status))
        self._replace()

    def _replace(self) -> None:
        """At once; the more often none could start, the later."""
        self._say_groups()
        if self._is_closed or self._restart is not None:
            return
        backoff_ms = min(CHILD_BACKOFF_FIRST_MS * 2 ** min(self._bad_starts, 20), CHILD_BACKOFF_MAX_MS)
        self._restart = self._loop.call_later(backoff_ms / 1_000 if self._bad_starts else 0, self._fill)

    # -- parts --------------------------------------------------------------------------------------

    def _serve(self, process: JobProcess) -> None:
        if process.is_killed or process.attempt is not None:
            return
        if self._waiting:
            self._give(process, self._waiting.popleft())
        else:
            self._idle.append(process)

    def _give(self, process: JobProcess, attempt: Attempt) -> None:
        process.attempt = attempt
        self._at[attempt.delivery.lease] = process
        self._calls.on_begin(attempt)
        definition = attempt.definition
        process.say(Run(attempt.delivery, attempt.terms, definition.module, definition.function.__qualname__))

    def _leave(self, process: JobProcess, attempt: Attempt) -> None:
        process.attempt = None
        self._at.pop(attempt.delivery.lease, None)

    def _is_too_large(self, process: JobProcess) -> bool:
        bytes_max = self._supervision.memory_bytes_max
        seen = process.vitals.look() if bytes_max else None
        return seen is not None and seen.resident_bytes > bytes_max

    def _say_size(self, change: int) -> None:
        if self._is_started:
            self._calls.on_size(change)

    def _say_groups(self) -> None:
        self._supervision.on_groups(list(self._all))


def _answer(process: JobProcess, attempt: Attempt, number: int, code: str) -> None:
    if process.attempt is attempt:  # else it is dead, or runs another
        process.say(Answer(number, code))


def _end_of(attempt: Attempt, process: JobProcess, status: int) -> Failure:
    if attempt.stopped:
        return stop_failure(attempt, attempt.stopped)
    what = "the process that ran it ended" if process.is_ready else "the process for it could not start"
    return crash_failure(attempt, f"{what}: {exit_text(status)}", status)


def _log(said: Logged, attempt: Attempt | None) -> None:
    """As if it had been logged here, where somebody has said what becomes of it."""
    to = logging.getLogger(said.logger)
    if not to.isEnabledFor(said.level):
        return
    record = to.makeRecord(said.logger, said.level, "", 0, "%s", (said.text,), None)
    variables = copy_context()
    if attempt is not None:
        variables.run(context_var.set, attempt)
    variables.run(to.handle, record)
