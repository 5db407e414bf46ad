"""What the benchmarks' workers run. Evidence goes to files that taskq knows nothing of."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from taskq import StreamTask, Task, TaskQ, current

# Where tasks write that they ran: append-only, one line at once, so that lines of many processes never mix.
EVIDENCE: Final = "BENCHMARKS_EVIDENCE"
# How many times as long as it should `linger` takes in this worker.
SLOWNESS: Final = "BENCHMARKS_SLOWNESS"
_slowness: Final = float(os.environ.get(SLOWNESS, "1"))


async def noop() -> None:
    """Nothing, so that what is measured is the queue."""


def plain() -> None:
    """Nothing, in a thread."""


async def limited() -> None:
    """Nothing, under limits."""


async def paced() -> None:
    """Nothing, at a rate."""


async def swallow(data: bytes) -> None:
    """Nothing, with a payload."""


async def nobody(data: bytes) -> None:
    """No worker has this task: such jobs wait."""


async def stamp(data: bytes) -> None:
    """Writes when it started."""
    note("start")


async def occupy(seconds: float) -> tuple[int, int, int]:
    """Takes a while. The answer is unlike that of any other run: process, attempt and moment."""
    attempt = current().attempt
    began = note("start")
    await asyncio.sleep(seconds)
    note("end")
    return os.getpid(), attempt, began


async def linger(seconds: float) -> None:
    """Takes a while, and in a slow worker longer."""
    await asyncio.sleep(seconds * _slowness)


async def items(count: int, size: int) -> AsyncIterator[bytes]:
    """So many, of so many bytes each, as fast as they are taken."""
    item = b"x" * size
    for _ in range(count):
        yield item


@dataclass(frozen=True)
class Tasks:
    """The tasks as one app knows them."""

    noop: Task[[], None]
    plain: Task[[], None]
    limited: Task[[], None]  # the same under other names, which limits are set for
    paced: Task[[], None]
    swallow: Task[[bytes], None]
    stamp: Task[[bytes], None]
    occupy: Task[[float], tuple[int, int, int]]
    linger: Task[[float], None]


def declare(app: TaskQ) -> Tasks:
    """What the workers have."""
    return Tasks(
        noop=app.task(name="benchmarks.noop")(noop),
        plain=app.task(name="benchmarks.plain")(plain),
        limited=app.task(name="benchmarks.limited")(limited),
        paced=app.task(name="benchmarks.paced")(paced),
        swallow=app.task(name="benchmarks.swallow")(swallow),
        stamp=app.task(name="benchmarks.stamp")(stamp),
        occupy=app.task(name="benchmarks.occupy")(occupy),
        linger=app.task(name="benchmarks.linger")(linger),
    )


def declare_nobody(app: TaskQ) -> Task[[bytes], None]:
    """What no worker has."""
    return app.task(name="benchmarks.nobody")(nobody)


def declare_items(app: TaskQ) -> StreamTask[[int, int], bytes]:
    """What is streamed."""
    return app.task(name="benchmarks.items")(items)


def note(word: str) -> int:
    """Append a line: the word, job, attempt, process and moment. Returns the moment, in ns since the boot."""
    now_ns = time.monotonic_ns()
    context = current()
    os.write(_evidence(), f"{word} {context.job_id} {context.attempt} {os.getpid()} {now_ns}\n".encode())
    return now_ns


@lru_cache(maxsize=1)
def _evidence() -> int:
    return os.open(os.environ[EVIDENCE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


q = TaskQ()
declare(q)
declare_items(q)
