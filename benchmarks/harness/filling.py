"""Many jobs that wait, put into a broker before something is measured."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final

from taskq import Job, Task, TaskQ

PER_CALL: Final = 500
# A producer that does not stand still while a call is confirmed, and keeps 2,000 slots busy.
CALLS_IN_FLIGHT: Final = 8
PAYLOAD_BYTES: Final = 100


def argument_for(task: Task[[bytes], None], payload_bytes: int = PAYLOAD_BYTES) -> bytes:
    """The argument whose packed form has this size."""
    return bytes(payload_bytes - len(task.call(b"").payload) - _marker_growth(task, payload_bytes))


async def submit_all(app: TaskQ, task: Task[[bytes], None], jobs: int) -> "deque[Job[None]]":
    """Confirmed jobs of PAYLOAD_BYTES each; the last one of each call, in order."""
    data = argument_for(task)
    calls: deque[int] = deque(min(PER_CALL, jobs - start) for start in range(0, jobs, PER_CALL))
    last: deque[Job[None]] = deque()

    async def caller() -> None:
        while calls:
            size = calls.popleft()
            last.append((await app.submit_many([task.call(data) for _ in range(size)]))[-1])

    await together(caller, CALLS_IN_FLIGHT)
    return last


async def together(caller: Callable[[], Coroutine[None, None, None]], count: int) -> None:
    """So many callers at once."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(caller())


def _marker_growth(task: Task[[bytes], None], payload_bytes: int) -> int:
    """Longer bytes may have longer headers."""
    return len(task.call(bytes(payload_bytes)).payload) - payload_bytes - len(task.call(b"").payload)
