"""How a worker ends: take no more, finish, hand the rest back, say goodbye."""

import asyncio
from collections.abc import Coroutine
from typing import Final, NoReturn

from taskq.client.link import Carrier
from taskq.worker.runner import Runner

# How long cancelled tasks get for their `finally` blocks before their jobs are given away regardless.
HAND_BACK_MS: Final = 1_000


async def stop(runner: Runner, link: Carrier, *, grace_ms: int, now: asyncio.Event) -> bool:
    """End the worker within the grace, or at once when `now` is set meanwhile.

    Whether everything has really stopped: if not, what still runs belongs to another worker
    already, and the process should end without waiting for it.
    """
    runner.drain()
    if not await _is_idle_before(runner, now, grace_ms):
        runner.hand_back()
        await runner.wait_idle(HAND_BACK_MS / 1_000)
    has_stopped = runner.is_empty
    runner.abandon()
    await link.close("the worker has stopped")
    runner.close()
    return has_stopped


async def until_refused(link: Carrier, changed: asyncio.Event) -> NoReturn:
    """Ends only by raising Refused, when the broker does not want us and trying again cannot help.

    `changed` is set by the link's `on_change`.
    """
    while True:
        await link.wait_connected()
        changed.clear()
        if link.connected:
            await changed.wait()


async def first_of(*waits: Coroutine[object, object, object]) -> None:
    """Until one of them ends; raises what it raised."""
    tasks = [asyncio.create_task(wait, name="taskq worker") for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _is_idle_before(runner: Runner, now: asyncio.Event, grace_ms: int) -> bool:
    idle = asyncio.ensure_future(runner.wait_idle(grace_ms / 1_000))
    hurry = asyncio.ensure_future(now.wait())
    try:
        await asyncio.wait([idle, hurry], return_when=asyncio.FIRST_COMPLETED)
        return idle.done() and idle.result()
    finally:
        idle.cancel()
        hurry.cancel()
