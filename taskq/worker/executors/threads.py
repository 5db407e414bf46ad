"""Threads that run plain functions, and bring what became of them back to the loop in batches."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")

logger = logging.getLogger("taskq.worker")

_NAME: Final = "taskq-job"


class Threads(Generic[J, R]):
    """Up to `size` threads, started when needed; `work` runs in them and must not raise.

    All take from one line, so that no job waits behind a slow one while a thread is free. One thread at a
    time is woken, and wakes the next before it begins if more is left: of a batch of tiny jobs the first
    thread has run all before the second one has the interpreter, where a wake-up for each job cost twice
    what the job did.

    They are daemons: a function that never returns must not keep the process from ending, as it
    would with concurrent.futures, which joins its threads at exit.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        size: int,
        work: Callable[[J], R],
        on_done: Callable[[J, R], None],
    ) -> None:
        self._loop = loop
        self._size = size
        self._work = work
        self._on_done = on_done
        self._inbox: deque[J] = deque()
        self._outbox: deque[tuple[J, R]] = deque()
        self._collecting = False
        self._hiring = threading.Lock()
        self._threads = 0
        # Those that sleep, each by the lock that wakes it when it is released; the latest is woken first.
        self._idle: list[threading.Lock] = []
        # One was woken, or started, and has not looked for a job yet.
        self._waking = False
        self._is_closed = False

    def submit(self, job: J) -> None:
        """Run it in a thread that is free; the caller keeps no more than `size` in here."""
        self._inbox.append(job)
        if not self._waking:
            self._wake()

    def close(self) -> None:
        """No more jobs: each thread ends when the line is empty."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().release()

    def _wake(self) -> None:
        """From any thread: one more should look for a job."""
        self._waking = True
        try:
            self._idle.pop().release()
        except IndexError:
            if self._threads >= self._size or not self._hire():
                self._waking = False  # those that are busy will look, each after its job

    def _hire(self) -> bool:
        with self._hiring:
            if self._threads >= self._size:
                return False
            self._threads += 1
            thread = threading.Thread(target=self._run, name=f"{_NAME}-{self._threads}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more: those that there are do it
            logger.warning("no thread more than %d: %s", self._threads - 1, error)
            with self._hiring:
                self._threads -= 1
            return False
        return True

    def _run(self) -> None:
        inbox, outbox, idle, work = self._inbox, self._outbox, self._idle, self._work
        bell = threading.Lock()
        bell.acquire()
        self._waking = False
        while True:
            try:
                job = inbox.popleft()
            except IndexError:
                if self._is_closed:
                    return
                self._sleep(bell)
                continue
            if inbox and not self._waking and (idle or self._threads < self._size):
                self._wake()
            outbox.append((job, work(job)))
            if self._collecting:
                continue  # the loop is on its way: one wake-up brings many results
            self._collecting = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                return  # the loop is closed: nobody is left to hear it

    def _sleep(self, bell: threading.Lock) -> None:
        """Until somebody wakes this thread. Who brings a job first puts it into the line and then looks who
        sleeps; this looks into the line once more when it counts as asleep: one of the two sees the other."""
        self._idle.append(bell)
        if self._inbox or self._is_closed:
            try:
                self._idle.remove(bell)
            except ValueError:
                pass  # somebody has taken it, and will release it
            else:
                return
        bell.acquire()
        self._waking = False

    def _collect(self) -> None:
        # First the flag, then the results: one that comes in between asks for another round.
        self._collecting = False
        while self._outbox:
            job, result = self._outbox.popleft()
            self._on_done(job, result)
