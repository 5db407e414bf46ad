"""A worker that does nothing with its jobs until it is told, then fails all of them at once: a process.

What comes back for another attempt succeeds. It speaks with the worker's own session and link; the faults
are as long as a short traceback is.
"""

import asyncio
import os
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

from benchmarks.harness.fleet import ROOT, FleetError
from benchmarks.harness.program import run_on_loop
from taskq.client.link import Link
from taskq.protocol.messages import Announce, Failure, Fault, FromBroker, Message, Welcome
from taskq.worker.session import Start, WorkerSession

FAULT: Final = Fault("RuntimeError", "the database is away", "Traceback (most recent call last)\n" * 20)
NONE: Final = b"\xc0"


class Failer:
    """A Speaker over the worker's session."""

    def __init__(self, task: str, queue: str, jobs: int) -> None:
        self._session = WorkerSession(Announce({task: "async"}, [queue], {"async": jobs}))
        self._jobs = jobs
        self._held: list[Start] = []
        self._has_failed = False
        self.link: Link | None = None
        self.has_all = asyncio.Event()
        self.is_over = asyncio.Event()

    def fail(self) -> None:
        """Report every attempt as failed, in one turn."""
        self._has_failed = True
        for start in self._held:
            self._session.fail(Failure(start.delivery.id, start.delivery.lease, "failed", FAULT))
        self._wake()

    def on_welcome(self, welcome: Welcome) -> None:
        self._session.on_welcome(welcome)

    def on_message(self, message: FromBroker) -> None:
        self._session.on_message(message)
        for event in self._session.take_events():
            if not isinstance(event, Start):
                continue
            if self._has_failed:
                self._jobs -= 1
                self._session.succeed(event.delivery.id, event.delivery.lease, NONE)
            else:
                self._held.append(event)
        if len(self._held) == self._jobs:
            self.has_all.set()
        if self._has_failed:
            self._wake()
        if not self._jobs and self._session.idle:
            self.is_over.set()

    def on_lost(self) -> None:
        self._session.on_lost()

    def outgoing(self) -> list[Message]:
        return self._session.outgoing()

    def _wake(self) -> None:
        assert self.link is not None
        self.link.wake()


class Failing:
    """The process, for the program that measures. Use as a context manager."""

    def __init__(self, url: str, task: str, queue: str, jobs: int) -> None:
        words = [sys.executable, "-m", "benchmarks.harness.failing", url, task, queue, str(jobs)]
        self._popen = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._popen.kill()
        self._popen.communicate()

    async def holds_all(self) -> None:
        """Until it was given every job."""
        await self._expect("holds all")

    async def fail_all(self) -> None:
        """Fail every job, until each has succeeded in its second attempt."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("fail\n")
        self._popen.stdin.flush()
        await self._expect("over")

    async def _expect(self, line: str) -> None:
        assert self._popen.stdout is not None
        if (await asyncio.to_thread(self._popen.stdout.readline)).strip() != line:
            raise FleetError("the worker that fails has ended by itself")


async def main(url: str, task: str, queue: str, jobs: int) -> None:
    failer = Failer(task, queue, jobs)
    link = failer.link = Link(url, session=os.urandom(16), role="worker", speaker=failer, name="failing")
    link.start()
    try:
        await failer.has_all.wait()
        print("holds all", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        failer.fail()
        await failer.is_over.wait()
        print("over", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    finally:
        await link.close()


if __name__ == "__main__":
    run_on_loop(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
