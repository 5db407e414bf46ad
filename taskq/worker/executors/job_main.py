"""A process that runs jobs, one at a time, in its main thread.

python -m taskq.worker.executors.job_main FD PARENT      what to be comes first from FD
"""

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from itertools import count
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Final

from taskq.client.app import TaskQ
from taskq.client.saving import OnSaved
from taskq.client.session import NewJob
from taskq.client.task import Task
from taskq.errors import ConfigError
from taskq.limits import PAYLOAD_BYTES_MAX, TEXT_CHARS_MAX
from taskq.protocol.messages import Delivery, Failure, Saved
from taskq.worker.attempts import Attempt, Definition
from taskq.worker.control import die_with_parent
from taskq.worker.executors.calling import call
from taskq.worker.executors.pipe import (
    Answer,
    Asked,
    Done,
    Enclosed,
    Extended,
    Failed,
    Frames,
    FromProcess,
    Kept,
    Logged,
    Prepare,
    Prepared,
    Run,
    Told,
    Unfit,
    framed,
    to_process,
)
from taskq.worker.executors.processes import INSIDE
from taskq.worker.faults import fault
from taskq.worker.hooks.scope import WorkerScope
from taskq.worker.loading import load_app
from taskq.worker.session import too_large

_READ_BYTES: Final = 256 * 1024
EXIT_CONFIG: Final = 78


class Worker:
    """The pipe to the worker: what it wants, and what is said to it, from any thread."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # what a job starts must not hold the pipe open
        self._socket = socket.socket(fileno=fd)
        self._lock = Lock()
        self._wanted: SimpleQueue[Prepare | Run] = SimpleQueue()
        self._asking: dict[int, OnSaved] = {}
        self._questions = count(1)
        # In a thread: a worker that ends while a job runs is seen at once.
        Thread(target=self._read, name="taskq-pipe", daemon=True).start()

    def wanted(self) -> Prepare | Run:
        """What comes next. Waits for it."""
        return self._wanted.get()

    def ask(self, on_saved: OnSaved) -> None:
        """Call this, in a thread of ours, when what was kept so far is recorded."""
        number = next(self._questions)
        self._asking[number] = on_saved
        self.say(Asked(number))

    def say(self, message: FromProcess) -> None:
        data = framed(message)
        with self._lock:
            self._socket.sendall(data)

    def _read(self) -> None:
        frames = Frames()
        try:
            while data := self._socket.recv(_READ_BYTES):
                for frame in frames.feed(data):
                    message = to_process.decode(frame)
                    if isinstance(message, Answer):
                        self._asking.pop(message.number)(message.code)
                    else:
                        self._wanted.put(message)
        finally:
            # The worker has ended: what we run is run again elsewhere. What we started goes with us.
            os.killpg(os.getpgrp(), signal.SIGKILL)


class Home:
    """What lives as long as this process: the lifespan, and what dependencies share. On a loop of its own, in
    a thread, for the jobs have the main one. It ends by being killed, so nothing of it is left in order."""

    def __init__(self, app: TaskQ) -> None:
        self.definitions = {name: Definition(task) for name, task in app.tasks.items()}
        self.scope = WorkerScope(app)
        self.loop = asyncio.new_event_loop()
        Thread(target=self.loop.run_forever, name="taskq-loop", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self.scope.enter(), self.loop).result()


class Words:
    """What the attempt leaves behind goes to the worker, in the order in which it is said."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def checkpoint(self, delivery: Delivery, saved: Saved) -> None:
        self._worker.say(Kept(saved))

    def when_saved(self, delivery: Delivery, on_saved: OnSaved) -> None:
        self._worker.ask(on_saved)

    def enclose(self, delivery: Delivery, jobs: list[NewJob]) -> None:
        self._worker.say(Enclosed(jobs))


class Host:
    """What the attempt asks of its runner goes to the worker."""

    def __init__(self, worker: Worker, home: Home, timeout_ms: int) -> None:
        self.scope = home.scope
        self.loop = home.loop
        self.words = Words(worker)
        self._worker = worker
        self._due_at = monotonic() + timeout_ms / 1_000 if timeout_ms else None

    def on_progress(self, attempt: Attempt, done: int, total: int, text: str) -> None:
        self._worker.say(Told(done, total, text))

    def on_extend(self, attempt: Attempt, timeout_ms: int) -> None:
        if self._due_at is not None:
            self._due_at = monotonic() + timeout_ms / 1_000
            self._worker.say(Extended(timeout_ms))

    def left(self, attempt: Attempt) -> float | None:
        return None if self._due_at is None else self._due_at - monotonic()


class LogLines(logging.Handler):
    """What is logged is logged by the worker: it knows where to, and to which job it belongs."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            self._worker.say(Logged(record.name, record.levelno, text[:TEXT_CHARS_MAX]))
        except Exception:
            self.handleError(record)


def main(fd: int, parent: int) -> int:
    """Run what the worker at the other end of `fd` wants. Returns the exit code."""
    die_with_parent(parent)
    os.environ[INSIDE] = str(parent)
    worker = Worker(fd)
    prepare = worker.wanted()
    assert isinstance(prepare, Prepare)
    sys.path[:] = prepare.path
    root = logging.getLogger()
    root.addHandler(LogLines(worker))
    root.setLevel(prepare.log_level)
    home: Home | None = None
    try:
        if prepare.app:
            home = Home(load_app(prepare.app))
    except ConfigError as error:
        worker.say(Unfit(str(error)))
        return EXIT_CONFIG
    gc.freeze()
    worker.say(Prepared())
    while True:
        run = worker.wanted()
        assert isinstance(run, Run)
        if home is None or run.terms.task not in home.definitions:
            try:
                home = Home(_app_of(run))
            except Exception as error:
                held = run.delivery
                worker.say(Failed(Failure(held.id, held.lease, "rejected", fault(error), final=True)))
                continue
        host = Host(worker, home, run.terms.timeout_ms)
        outcome = call(Attempt(run.delivery, run.terms, home.definitions[run.terms.task], host))
        worker.say(_said_of(run, outcome))


def _said_of(run: Run, outcome: bytes | Failure) -> FromProcess:
    if isinstance(outcome, Failure):
        return Failed(outcome)
    if len(outcome) <= PAYLOAD_BYTES_MAX:
        return Done(outcome)
    # Said here, so that it need not travel to be refused.
    held = run.delivery
    return Failed(Failure(held.id, held.lease, "failed", too_large(len(outcome)), final=True))


def _app_of(run: Run) -> TaskQ:
    """The app of the task, which is where its worker has seen it."""
    found: Any = importlib.import_module(run.module)
    for part in run.name.split("."):
        found = getattr(found, part)
    if not isinstance(found, Task) or run.terms.task not in found.app.tasks:
        raise ConfigError(
            f"{run.module}.{run.name} is not the task {run.terms.task!r} in a process of its own; declare it "
            "with @q.task at the top of its module"
        )
    return found.app


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
