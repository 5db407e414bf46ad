"""What users make fail on purpose: workers, connections, the broker."""

from datetime import timedelta

from taskq.testing import Embedded
from tests.testing.apps import App


async def test_what_a_dead_worker_ran_is_run_again() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.sleep.submit(60)
        await env.advance(30)
        await env.crash_worker()
        info = await job.info()
        assert (info.state, info.crashes, info.failures) == ("running", 1, 0)
        assert [(told.ending, told.status) for told in info.history] == [("crashed", -9)]
        before = env.now
        assert await job.result() == 60
        assert env.now - before == timedelta(seconds=60)
        assert app.runs == ["asleep", "asleep"]


async def test_a_thread_of_a_dead_worker_is_heard_no_more() -> None:
    app = App()
    async with Embedded(app.q) as env:
        jobs = [await app.plain.submit(n) for n in range(3)]
        await env.crash_worker()
        assert await app.q.gather(*jobs) == [0, 2, 4]


async def test_a_lost_connection_loses_nothing() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.sleep.submit(60)
        await env.advance(30)
        await env.drop_connection()
        await env.drop_connection("worker")
        await env.drop_connection("producer")
        before = env.now
        assert await job.result() == 60
        assert env.now - before == timedelta(seconds=30)
        assert app.runs == ["asleep"]
        assert (await job.info()).crashes == 0


async def test_a_broker_that_starts_again_remembers() -> None:
    app = App()
    async with Embedded(app.q) as env:
        running = await app.sleep.submit(60)
        later = await app.add.options(delay="1d").submit(1, 2)
        done = await app.add.submit(1, 1)
        await env.advance(30)
        await env.restart_broker()
        assert (await app.q.status()).epoch == 2
        assert await done.result() == 2
        before = env.now
        assert await running.result() == 60
        assert env.now - before == timedelta(seconds=30)
        assert app.runs == [(1, 1), "asleep"] or app.runs == ["asleep", (1, 1)]
        await env.advance("1d")
        assert await later.result() == 3
        assert len(env.submitted()) == 3


async def test_failures_come_again_and_again() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.sleep.options(retry=9).submit(100)
        for _ in range(3):
            await env.advance(10)
            await env.drop_connection()
            await env.restart_broker()
            await env.crash_worker()
        assert await job.result() == 100
        assert (await job.info()).crashes == 3
