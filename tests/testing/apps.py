"""An app with tasks of many kinds, made anew for each test."""

import asyncio
import time
from dataclasses import dataclass
from datetime import date

from taskq import RetryPolicy, Snooze, TaskQ, current


@dataclass
class Mail:
    to: str
    day: date


class App:
    """`q` and its tasks; `runs` is what they note."""

    def __init__(self) -> None:
        self.runs: list[object] = []
        self.gate = asyncio.Event()
        q = self.q = TaskQ("taskq://127.0.0.1:1")  # nobody is there

        @q.task
        async def add(a: int, b: int) -> int:
            self.runs.append((a, b))
            return a + b

        @q.task
        async def send(mail: Mail, *, urgent: bool = False) -> tuple[str, bool]:
            assert isinstance(mail, Mail)
            return (mail.to, urgent)

        @q.task
        async def sleep(seconds: float) -> float:
            began = asyncio.get_running_loop().time()
            self.runs.append("asleep")
            await asyncio.sleep(seconds)
            return asyncio.get_running_loop().time() - began

        @q.task(retry=RetryPolicy.exponential(max_attempts=4, base=60, factor=2, jitter="none"))
        async def flaky(failures: int) -> int:
            attempt = current().attempt
            self.runs.append(attempt)
            if attempt <= failures:
                raise OSError("not yet")
            return attempt

        @q.task(timeout=30)
        async def hang() -> None:
            await asyncio.Event().wait()

        @q.task
        async def wait_gate() -> str:
            await self.gate.wait()
            return "open"

        @q.task
        async def poll(times: int) -> int:
            self.runs.append("poll")
            if self.runs.count("poll") < times:
                raise Snooze(60)
            return times

        @q.task
        def plain(n: int) -> int:
            time.sleep(0.001)  # really: a thread is waited for in real time
            self.runs.append(n)
            return 2 * n

        @q.task
        def plain_parent(n: int) -> int:
            return add.submit_sync(n, 1).result()

        @q.task
        async def parent(n: int) -> int:
            return await (await add.submit(n, 1))

        @q.task(rate_limit="1/m")
        async def paced() -> None:
            self.runs.append("paced")

        self.add, self.send, self.sleep, self.flaky, self.hang = add, send, sleep, flaky, hang
        self.wait_gate, self.poll, self.plain, self.paced = wait_gate, poll, plain, paced
        self.plain_parent, self.parent = plain_parent, parent
