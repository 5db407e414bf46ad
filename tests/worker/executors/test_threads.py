"""Threads that share one line: each job once, none behind a slow one, and no more threads than allowed."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from taskq.worker.executors import threads as threads_module
from taskq.worker.executors.threads import Threads

Job = Callable[[], object]


class Pool:
    """Runs functions, and keeps what they returned, in the order in which the loop heard of it."""

    def __init__(self, size: int) -> None:
        self.done: list[object] = []
        self.threads: Threads[Job, object] = Threads(
            asyncio.get_running_loop(), size, lambda job: job(), self._on_done
        )
        self._changed = asyncio.Event()

    def _on_done(self, job: Job, result: object) -> None:
        self.done.append(result)
        self._changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.done) < count:
                self._changed.clear()
                await self._changed.wait()


async def test_each_job_is_run_once_however_they_come() -> None:
    pool = Pool(8)
    for number in range(5_000):
        pool.threads.submit(lambda number=number: number)  # type: ignore[misc]
        if number % 7 == 0:
            await asyncio.sleep(0)
    await pool.until(5_000)
    pool.threads.close()
    assert sorted(pool.done) == list(range(5_000))  # type: ignore[type-var]


async def test_as_many_run_at_once_as_there_are_threads() -> None:
    """All meet at a barrier: were one of them behind another in some line, none would come through."""
    pool = Pool(8)
    barrier = threading.Barrier(8, timeout=60)
    for _ in range(8):
        pool.threads.submit(barrier.wait)
    await pool.until(8)
    pool.threads.close()
    assert sorted(pool.done) == list(range(8))  # type: ignore[type-var]


async def test_none_waits_behind_a_slow_one_while_a_thread_is_free() -> None:
    pool = Pool(2)
    let = threading.Event()
    pool.threads.submit(lambda: let.wait(60))
    for number in range(100):
        pool.threads.submit(lambda number=number: number)  # type: ignore[misc]
    await pool.until(100)
    assert pool.done == list(range(100))
    let.set()
    await pool.until(101)
    pool.threads.close()


async def test_threads_end_when_it_is_closed_and_run_what_is_left() -> None:
    pool = Pool(3)
    here: list[threading.Thread] = []
    barrier = threading.Barrier(3, timeout=60)

    def meet() -> None:
        here.append(threading.current_thread())
        barrier.wait()

    for _ in range(3):
        pool.threads.submit(meet)
    await pool.until(3)
    pool.threads.submit(lambda: "left")
    pool.threads.close()
    await pool.until(4)
    for thread in here:
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()


async def test_a_system_without_threads_left_makes_do_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(4)
    pool.threads.submit(lambda: "first")
    await pool.until(1)

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads_module.threading, "Thread", Refused)
    let = threading.Event()
    pool.threads.submit(lambda: let.wait(60))
    pool.threads.submit(lambda: "second")
    let.set()
    await pool.until(3)
    pool.threads.close()
    assert "no thread more than 1" in caplog.text
