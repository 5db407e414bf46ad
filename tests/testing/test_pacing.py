"""Nobody waits for ever: what cannot come is told at once, with the reason."""

import asyncio

import pytest

from taskq import ConfirmTimeout, Throttle
from taskq.testing import Embedded, Stuck
from tests.testing.apps import App


async def test_a_job_for_tomorrow_is_not_waited_for() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.add.options(delay="1d").submit(1, 1)
        with pytest.raises(Stuck, match=r"due in 24.0 h; `await env.advance\(86400\)` gets there"):
            await job.result()
        await env.advance(86_400)
        assert await job.result() == 2


async def test_who_says_how_long_he_waits_gets_that_time() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.add.options(delay="1d").submit(1, 1)
        before = env.now
        with pytest.raises(TimeoutError):
            await job.result(timeout="1h")
        assert (env.now - before).total_seconds() == 3_600
        assert await job.result(timeout="2d") == 2
        assert (env.now - before).total_seconds() == 86_400


async def test_a_job_that_nobody_serves_is_explained() -> None:
    app = App()
    async with Embedded(app.q):
        with pytest.raises(Stuck, match="none of them serves queue 'gpu'"):
            await (await app.add.options(queue="gpu").submit(1, 1)).result()
        with pytest.raises(Stuck, match="serves queue 'gpu'"):
            await app.q.gather(await app.add.submit(1, 1), await app.add.options(queue="gpu").submit(1, 1))
    async with Embedded(app.q, run=False):
        with pytest.raises(Stuck, match="runs nothing"):
            await (await app.add.submit(1, 1)).result()


async def test_a_queue_that_is_paused_is_explained() -> None:
    app = App()
    async with Embedded(app.q) as env:
        await app.q.queues.pause("default", reason="holidays")
        job = await app.add.submit(1, 1)
        await env.drain()
        with pytest.raises(Stuck, match="holidays"):
            await job.result()
        await app.q.queues.resume("default")
        assert await job.result() == 2


async def test_a_task_that_waits_for_what_never_comes_is_shown() -> None:
    app = App()
    async with Embedded(app.q, patience=0.01, guard=0.3) as env:
        job = await app.wait_gate.submit()
        with pytest.raises(Stuck, match=r"apps.py:\d+ in wait_gate"):
            await job.result()
        with pytest.raises(Stuck, match=r"in wait_gate"):
            await env.drain()
        await env.advance(60)  # it may go on
        assert await job.status() == "running"
        app.gate.set()
        assert await job.result() == "open"


async def test_a_task_without_end_is_given_up() -> None:
    app = App()

    @app.q.task
    async def forever() -> None:
        while True:
            await asyncio.sleep(1)

    async with Embedded(app.q, patience=0.01, guard=0.2) as env:
        job = await forever.submit()
        with pytest.raises(Stuck, match="in forever"):
            await job.result()
        with pytest.raises(Stuck, match="in forever"):
            await env.drain()


async def test_jobs_that_make_jobs_without_end_are_given_up() -> None:
    app = App()

    @app.q.task
    async def again() -> None:
        await again.submit()

    async with Embedded(app.q, guard=0.2) as env:
        await again.submit()
        with pytest.raises(Stuck, match="on and on"):
            await env.drain()


async def test_a_task_that_waits_for_a_job_of_tomorrow_is_no_reason_to_wait() -> None:
    app = App()

    @app.q.task
    async def patient() -> int:
        return await (await app.add.options(delay="1d").submit(1, 1))

    async with Embedded(app.q) as env:
        job = await patient.submit()
        with pytest.raises(Stuck, match="in patient"):
            await job.result()
        await env.drain()
        await env.advance("1d")
        assert await job.result() == 2


async def test_time_waits_for_an_answer_from_outside() -> None:
    """A task's own timeout must not end because the environment let time pass."""
    app = App()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(b"yes\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    @app.q.task(timeout=5)
    async def ask() -> bytes:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()

    async with server, Embedded(app.q, patience=20, guard=40) as env:
        before = env.now
        assert await (await ask.submit()) == b"yes\n"
        assert env.now == before


async def test_a_slow_thread_is_waited_for() -> None:
    app = App()
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.q.task
    def slow() -> str:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)
        return "done"

    async with Embedded(app.q, patience=20, guard=40):
        job = await slow.submit()
        loop.call_later(0.05, gate.set)
        assert await job.result() == "done"


async def test_a_limit_of_nothing_is_explained() -> None:
    app = App()
    async with Embedded(app.q) as env:
        await app.q.queues.limit("default", concurrency=0)
        job = await app.add.submit(1, 1)
        with pytest.raises(Stuck, match="may run 0 at once"):
            await job.result()
        await env.drain()
        await app.q.queues.unlimit("default")
        assert await job.result() == 2


async def test_a_pause_that_ends_by_itself_is_waited_for() -> None:
    app = App()

    @app.q.task
    async def refused() -> str:
        if not app.runs:
            app.runs.append("held")
            raise Throttle("api", 300)
        return "through"

    async with Embedded(app.q) as env:
        before = env.now
        job = await refused.options(key="api").submit()
        other = await app.add.options(key="api").submit(1, 1)
        assert await job.result() == "through"
        assert await other.result() == 2
        assert 300 <= (env.now - before).total_seconds() < 400


async def test_a_full_queue_makes_the_producer_wait_in_virtual_time() -> None:
    app = App()
    async with Embedded(app.q) as env:
        await app.q.queues.configure("default", max_jobs=1, when_full="wait")
        first = await app.add.options(delay=10).submit(1, 1)
        before = env.now
        second = await app.add.submit(2, 2)  # there is room when the first one has run
        assert (env.now - before).total_seconds() == pytest.approx(10, abs=0.1)
        assert await app.q.gather(first, second) == [2, 4]
        third = await app.add.options(delay="1h").submit(3, 3)
        with pytest.raises(ConfirmTimeout):
            await app.add.submit(4, 4)
        await env.advance("1h")
        assert await third.result() == 6
