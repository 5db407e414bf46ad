"""What the acceptance tests run in real workers. Evidence of runs goes to files outside taskq."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from taskq import Discard, Retry, RetryPolicy, Snooze, TaskQ, current

q = TaskQ()


def note(path: str, word: str) -> None:
    """Append one line; O_APPEND keeps lines of several processes whole."""
    with Path(path).open("a") as file:
        file.write(f"{word} {os.getpid()} {current().attempt} {time.time()}\n")


@q.task
async def add(a: int, b: int) -> int:
    return a + b


@q.task
def in_thread(a: int) -> int:
    return a * 2


@q.task
async def echo(value: object) -> object:
    return value


@q.task
async def run_for(seconds: float, path: str, word: str) -> int:
    note(path, word)
    await asyncio.sleep(seconds)
    return os.getpid()


@q.task
async def block_for(seconds: float, path: str, word: str) -> int:
    """Holds up the event loop of its worker."""
    note(path, word)
    time.sleep(seconds)  # the point of this task: a blocked loop
    return current().attempt


@q.task(retry=RetryPolicy.exponential(max_attempts=3, base=0.01))
async def fail(text: str) -> None:
    raise ValueError(text)


@q.task(retry=RetryPolicy.exponential(max_attempts=3, base=0.01))
async def fail_until(attempt: int) -> int:
    if current().attempt < attempt:
        raise OSError("not yet")
    return current().attempt


@q.task(retry=5)
async def ask_for(what: str) -> int:
    attempt = current().attempt
    if what == "retry" and attempt == 1:
        raise Retry(after=0.01)
    if what == "discard":
        raise Discard("of no use")
    return attempt


@q.task
async def snooze_until(path: str) -> int:
    """Comes again until the file is there; no attempt is counted for that."""
    if not Path(path).exists():
        Path(path).touch()
        raise Snooze(0.01)
    return current().attempt


@q.task(timeout=0.2)
async def too_long() -> None:
    await asyncio.sleep(60)


@q.task
async def cancellable(path: str) -> None:
    note(path, "start")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(path, "cancelled")
        raise


@q.task
async def die(path: str) -> None:
    """Kills its worker, each time."""
    note(path, "die")
    os.kill(os.getpid(), signal.SIGKILL)


@q.task
async def leave() -> None:
    sys.exit(3)


@q.task(queue="other")
async def elsewhere() -> str:
    return current().queue


@q.task
async def climb(path: str, stop_at: int) -> list[int]:
    """A step at a time, each recorded before it is noted; waits at that one in its first attempt."""
    steps: list[int] = current().checkpointed([])
    for step in range(len(steps) + 1, 11):
        steps.append(step)
        await current().checkpoint(steps)
        note(path, f"step-{step}")
        if step == stop_at and current().attempt == 1:
            await asyncio.sleep(60)
    return steps


@q.task
async def deliver(path: str, word: str) -> None:
    note(path, word)


@q.task(retry=RetryPolicy.exponential(max_attempts=3, base=0.01))
async def order(path: str, word: str, end: str = "") -> None:
    """Three deliveries come of it, if it succeeds."""
    with current().outbox():
        for n in range(3):
            await deliver.submit(path, f"{word}-{n}")
    note(path, f"ordered-{word}")
    if end == "die" and current().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "fail" and current().attempt == 1:
        raise ValueError("not yet")


@q.task(executor="process", retry=RetryPolicy.exponential(max_attempts=3, base=0.01))
def order_apart(path: str, word: str) -> list[int]:
    """The same in a process of its own: the first attempt kills it, the second one fails."""
    steps: list[int] = current().checkpointed([])
    steps.append(current().attempt)
    for _ in range(1_000):
        current().checkpoint(steps)
    current().checkpoint(steps).wait(timeout=20)
    with current().outbox():
        for n in range(3):
            deliver.submit_sync(path, f"{word}-{n}")
    if current().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if current().attempt == 2:
        current().checkpoint([*steps, 0])
        raise ValueError("not yet")
    return steps
