"""Broker and worker inside this process: the real ones."""

import asyncio
import threading
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


async def test_an_app_that_is_connected_elsewhere_talks_to_its_own_broker_meanwhile() -> None:
    outer, q = TaskQ(), TaskQ()

    @q.task
    async def double(n: int) -> int:
        return 2 * n

    outer.task(name="other")(double.fn)
    async with outer.embedded():
        q = TaskQ(outer.urls)
        again = q.task(name="again")(double.fn)
        async with q:
            before = q.urls
            async with q.embedded():
                assert q.urls != before
                assert await (await again.submit(4)).result(timeout=20) == 8
            assert (await q.status()).counts["submitted_total"] == 0
            assert q.urls == before


async def test_threads_talk_to_it_too_and_are_let_go() -> None:
    q = TaskQ("taskq://127.0.0.1:1")

    @q.task
    async def double(n: int) -> int:
        return 2 * n

    for n in range(2):
        async with q.embedded():
            assert await asyncio.to_thread(lambda n=n: double.submit_sync(n).result(timeout=20)) == 2 * n
        assert not q._producers


async def test_it_is_not_entered_twice() -> None:
    q, other = TaskQ(), TaskQ()

    @q.task
    async def double(n: int) -> int:
        return 2 * n

    other.task(double.fn)
    async with q.embedded():
        with pytest.raises(ConfigError, match="already"):
            async with q.embedded():
                pass
        async with other.embedded():
            assert other.urls != q.urls
        assert await (await double.submit(4)).result(timeout=20) == 8


async def test_a_worker_that_cannot_be_ends_the_block() -> None:
    q = TaskQ()

    @q.task
    async def double(n: int) -> int:
        return 2 * n

    with pytest.raises(ConfigError, match="strict"):
        async with q.embedded(strict=True):
            await (await double.submit(4)).result()
    with pytest.raises(ConfigError, match="no tasks"):
        async with TaskQ().embedded():
            await asyncio.Event().wait()


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_error_inside_ends_everything(error: type[BaseException]) -> None:
    q = TaskQ()
    started, ends = asyncio.Event(), []

    @q.task
    async def long() -> None:
        started.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            ends.append("cleaned up")

    before = (asyncio.all_tasks(), threading.active_count())
    with pytest.raises(error):
        async with q.embedded():
            await long.submit()
            await started.wait()
            raise error
    assert ends == ["cleaned up"]
    assert (asyncio.all_tasks(), threading.active_count()) == before
