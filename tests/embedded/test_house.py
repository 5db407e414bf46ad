"""Broker and worker inside this process: the real ones."""

import asyncio
from pathlib import Path

import pytest

from taskq import TaskQ
from taskq.errors import ConfigError


async def test_a_task_runs_without_any_other_process() -> None:
    q = TaskQ("taskq://127.0.0.1:1")

    @q.task
    async def double(n: int) -> int:
        return 2 * n

    async with q.embedded() as same:
        assert same is q
        jobs = await q.submit_many([double.call(n) for n in range(100)])
        assert await q.gather(*jobs) == [2 * n for n in range(100)]
    assert q.urls == ["taskq://127.0.0.1:1"]


async def test_what_is_not_done_is_there_the_next_time(tmp_path: Path) -> None:
    q = TaskQ()
    ran = asyncio.Event()

    @q.task(queue="later")
    async def note() -> None:
        ran.set()

    journal = f"sqlite:{tmp_path}/x.db"
    async with q.embedded(journal=journal, queues=["default"]):
        job = await note.submit()
    assert not ran.is_set()
    async with q.embedded(journal=journal):
        await q.job(job.id).result(timeout=20)
    assert ran.is_set()


async def test_a_broker_that_cannot_start_says_why() -> None:
    with pytest.raises(ConfigError, match="sqlite:PATH"):
        async with TaskQ().embedded(journal="nonsense:"):
            pass


async def test_a_worker_in_this_process_stops_when_told() -> None:
    q = TaskQ()

    @q.task
    async def double(n: int) -> int:
        return 2 * n

    async with q.embedded(queues=["nobody"]):
        until = asyncio.Event()
        worker = asyncio.create_task(q.run_worker(until=until))
        assert await (await double.submit(4)).result(timeout=20) == 8
        until.set()
        await asyncio.wait_for(worker, 20)
