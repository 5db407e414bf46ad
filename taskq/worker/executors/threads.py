"""Threads that run plain functions, and bring what became of them back to the loop in batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final, Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")

_NAME: Final = "taskq-job"


class Threads(Generic[J, R]):
    """Up to `size` threads, started when needed; `work` runs in them and must not raise.

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
        self._inbox: SimpleQueue[J | None] = SimpleQueue()
        self._outbox: deque[tuple[J, R]] = deque()
        self._collecting = False
        self._threads = 0
        self._busy = 0

    def submit(self, job: J) -> None:
        """Run it in a thread that is free; the caller keeps no more than `size` in here."""
        self._busy += 1
        if self._busy > self._threads and self._threads < self._size:
            self._threads += 1
            Thread(target=self._run, name=f"{_NAME}-{self._threads}", daemon=True).start()
        self._inbox.put(job)

    def close(self) -> None:
        """No more jobs: each thread ends after the one it runs."""
        for _ in range(self._threads):
            self._inbox.put(None)

    def _run(self) -> None:
        while (job := self._inbox.get()) is not None:
            self._outbox.append((job, self._work(job)))
            if self._collecting:
                continue  # the loop is on its way: one wake-up brings many results
            self._collecting = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                return  # the loop is closed: nobody is left to hear it

    def _collect(self) -> None:
        # First the flag, then the results: one that comes in between asks for another round.
        self._collecting = False
        while self._outbox:
            job, result = self._outbox.popleft()
            self._busy -= 1
            self._on_done(job, result)
