"""Users' own tests of their tasks: submitted, run, awaited; in virtual time."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from taskq import (
    ConfigError,
    ConnectionLost,
    Depends,
    JobFailed,
    JobTimedOut,
    NotFound,
    ResultGone,
    TaskQ,
    current,
)
from taskq.testing import Embedded
from tests.testing.apps import App, Mail

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


async def test_what_is_submitted_runs_and_comes_back_over_the_wire() -> None:
    app = App()
    async with Embedded(app.q) as env:
        assert await (await app.add.submit(2, 3)) == 5
        job = await app.send.submit(Mail("ann", date(2026, 5, 4)), urgent=True)
        assert await job.result(timeout=5) == ("ann", True)
        jobs = await app.q.submit_many([app.add.call(n, n) for n in range(1_000)])
        assert await app.q.gather(*jobs) == [2 * n for n in range(1_000)]
        done = [await each async for each in app.q.as_completed(jobs[:10])]
        assert sorted(done) == [2 * n for n in range(10)]
        assert len(env.submitted()) == 1_002
        assert (await app.q.status()).counts["succeeded_total"] == 1_002
    assert app.q.urls == ["taskq://127.0.0.1:1"]
    with pytest.raises(ConnectionLost):
        await app.q.connect(timeout=0.01)  # it is as it was before
    await app.q.close()


async def test_a_task_that_sleeps_for_a_year_is_not_waited_for() -> None:
    app = App()
    async with Embedded(app.q) as env:
        before = env.now
        year = 365 * 86_400
        assert await (await app.sleep.submit(year)) == year
        assert env.now - before == timedelta(days=365)


async def test_code_outside_of_tasks_stays_in_real_time() -> None:
    app = App()
    loop = asyncio.get_running_loop()
    async with Embedded(app.q) as env:
        before, began = env.now, loop.time()
        await asyncio.sleep(0.01)
        await env.advance("1d")
        assert 0.005 < loop.time() - began < 60
        assert env.now == before + timedelta(days=1)


async def test_time_stands_still_until_it_is_moved() -> None:
    app = App()
    async with Embedded(app.q, now=NEW_YEAR) as env:
        job = await app.add.options(delay="1h").submit(1, 1)
        await env.advance(3_599)
        assert await job.status() == "scheduled"
        await env.advance(1)
        assert await job.status() == "succeeded"
        assert env.now == NEW_YEAR + timedelta(hours=1)
        late = await app.add.options(at=NEW_YEAR + timedelta(days=2)).submit(2, 2)
        await env.advance_to(NEW_YEAR + timedelta(days=2))
        assert await late.status() == "succeeded"
        with pytest.raises(ValueError, match="backwards"):
            await env.advance_to(NEW_YEAR)


async def test_what_failed_is_tried_again_at_its_time() -> None:
    app = App()
    async with Embedded(app.q, now=NEW_YEAR) as env:
        job = await app.flaky.submit(2)
        await env.advance(0)
        assert app.runs == [1]
        await env.advance(60)
        assert app.runs == [1, 2]
        await env.advance(119)
        assert app.runs == [1, 2]
        await env.advance(1)
        assert app.runs == [1, 2, 3]
        assert await job.result() == 3
        hopeless = await app.flaky.submit(99)
        with pytest.raises(JobFailed, match="not yet"):
            await hopeless.result()
        assert env.now == NEW_YEAR + timedelta(seconds=180 + 60 + 120 + 240)


async def test_drain_runs_what_there_is_and_leaves_what_is_for_later() -> None:
    app = App()
    async with Embedded(app.q) as env:
        later = await app.add.options(delay="1d").submit(1, 1)
        await app.add.submit(1, 2)
        await app.flaky.submit(2)
        await app.sleep.submit(600)
        await app.parent.submit(7)
        await env.drain()
        assert await later.status() == "scheduled"
        assert await app.q.jobs.states() == {"scheduled": 1, "succeeded": 5}
        assert app.runs == [(1, 2), 1, "asleep", (7, 1), 2, 3]


async def test_drain_can_leave_what_failed() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.flaky.submit(1)
        before = env.now
        await env.drain(retries=False)
        assert app.runs == [1]
        assert await job.status() == "scheduled"
        assert env.now == before


async def test_what_snoozes_or_is_paced_is_drained_too() -> None:
    app = App()
    async with Embedded(app.q) as env:
        before = env.now
        await app.poll.submit(5)
        for _ in range(3):
            await app.paced.submit()
        await env.drain()
        assert len(app.runs) == 5 + 3
        assert env.now - before >= timedelta(minutes=4)


async def test_a_timeout_comes_without_waiting_for_it() -> None:
    app = App()
    async with Embedded(app.q, patience=0.01) as env:
        before = env.now
        with pytest.raises(JobTimedOut):
            await (await app.hang.submit()).result()
        assert env.now - before == timedelta(seconds=30)


async def test_schedules_tick_in_their_order_through_a_day() -> None:
    app = App()
    ticks: list[tuple[str, datetime]] = []
    env = Embedded(app.q, now=NEW_YEAR)

    @app.q.every("10m")
    async def often() -> None:
        ticks.append(("often", env.now))

    @app.q.cron("30 2 * * *", tz="Europe/Berlin")
    async def nightly() -> None:
        ticks.append(("nightly", env.now))

    async with env:
        await env.advance("1d")
        assert [name for name, _ in ticks].count("often") in (143, 144)
        assert [at for name, at in ticks if name == "nightly"] == [datetime(2026, 1, 1, 1, 30, tzinfo=UTC)]
        assert ticks == sorted(ticks, key=lambda tick: tick[1])
        assert {info.name.rpartition(".")[2] for info in await app.q.schedules.list()} == {"often", "nightly"}


async def test_results_are_kept_as_long_as_they_should() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.add.options(keep_result="1h").submit(1, 1)
        await env.drain()
        await env.advance("2h")
        with pytest.raises(NotFound):
            await job.info()
        with pytest.raises(ResultGone):
            await job.result()


async def test_the_same_test_has_the_same_order_each_time() -> None:
    orders = []
    for _ in range(3):
        app = App()
        async with Embedded(app.q, now=NEW_YEAR, seed=7) as env:
            for n in range(20):
                await app.plain.options(delay=n % 3, queue=f"q{n % 5}").submit(n)
                await app.add.options(delay=n % 4, key=f"k{n % 2}").submit(n, 1)
                await app.flaky.submit(n % 3)
            await env.advance("1d")
        orders.append([*app.runs])
    assert orders[0] == orders[1] == orders[2]


async def test_plain_functions_run_in_threads_and_may_wait_for_jobs() -> None:
    app = App()
    async with Embedded(app.q) as env:
        jobs = [await app.plain.submit(n) for n in range(5)]
        assert await app.q.gather(*jobs) == [0, 2, 4, 6, 8]
        assert app.runs == [0, 1, 2, 3, 4]
        assert await (await app.plain_parent.submit(4)) == 5
        assert env.submitted("add")[0].parent


async def test_an_environment_that_runs_nothing_only_takes_note() -> None:
    app = App()
    async with Embedded(app.q, run=False) as env:
        await app.add.submit(1, 2)
        await env.drain()
        assert [call.args for call in env.submitted("add")] == [(1, 2)]
        assert app.runs == []


async def test_two_apps_in_two_environments_know_nothing_of_each_other() -> None:
    one, two = App(), App()
    async with Embedded(one.q) as first, Embedded(two.q) as second:
        await one.sleep.submit(60)
        assert await (await two.sleep.submit(5)) == 5
        assert (second.now - first.now).total_seconds() == pytest.approx(5, abs=1)
        assert len(first.submitted()) == len(second.submitted()) == 1
        await first.drain()


async def test_an_app_is_in_one_environment_at_a_time() -> None:
    app = App()
    async with Embedded(app.q):
        with pytest.raises(ConfigError, match="already"):
            async with Embedded(app.q):
                pass
        assert await (await app.add.submit(1, 1)) == 2
    async with Embedded(app.q):
        assert await (await app.add.submit(1, 1)) == 2


async def test_what_the_app_starts_for_itself_is_in_the_environment_too() -> None:
    app = App()
    async with Embedded(app.q):
        until = asyncio.Event()
        worker = asyncio.create_task(app.q.run_worker(until=until))
        async with app.q, app.q.embedded() as same:
            assert await (await app.add.submit(1, 1)) == 2
        assert same is app.q
        assert not worker.done()
        until.set()
        await worker


async def test_other_threads_and_loops_may_use_the_app() -> None:
    app = App()

    async def elsewhere() -> float:
        async with app.q:
            return await (await app.sleep.submit(600)).result()

    async with Embedded(app.q, patience=0.05):
        assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) == 600
        assert await asyncio.to_thread(lambda: app.add.submit_sync(1, 2).result()) == 3
    await asyncio.to_thread(app.q.sync.close)


def test_code_without_asyncio_has_the_same() -> None:
    app = App()
    with Embedded(app.q, now=NEW_YEAR) as env:
        assert app.add.submit_sync(1, 2).result() == 3
        assert app.sleep.submit_sync(3_600).result() == 3_600
        job = app.add.options(delay=60).submit_sync(1, 2)
        env.advance(60)
        assert job.status() == "succeeded"
        env.drain()
        assert env.now == NEW_YEAR + timedelta(seconds=3_660)
        assert len(env.submitted("add")) == 2
        assert env.job("sleep").id


async def test_it_leaves_nothing_behind() -> None:
    app = App()
    loop = asyncio.get_running_loop()
    before = (set(vars(loop)), asyncio.all_tasks(), threading.active_count())
    for error in (None, ZeroDivisionError):
        try:
            async with Embedded(app.q, patience=0.01) as env:
                await app.sleep.submit(3_600)
                await app.wait_gate.submit()
                await env.advance(1)
                await env.crash_worker()
                if error is not None:
                    raise error
        except ZeroDivisionError:
            pass
        assert (set(vars(loop)), asyncio.all_tasks(), threading.active_count()) == before
    gc.collect()


async def test_tasks_are_cancelled_when_it_ends() -> None:
    q = TaskQ()
    ends: list[str] = []
    started = asyncio.Event()

    @q.task
    async def careful() -> None:
        started.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            ends.append("cleaned up")

    async with Embedded(q):
        await careful.submit()
        await started.wait()
    assert ends == ["cleaned up"]


async def test_a_wait_that_the_end_overtakes_is_told() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.add.options(delay=60).submit(1, 1)
        await env.advance(1)
        waiting = asyncio.create_task(job.result())
        await asyncio.sleep(0)
    with pytest.raises(ConnectionLost, match="closed"):
        await waiting


async def test_an_app_that_cannot_work_says_why() -> None:
    app = App()
    with pytest.raises(ConfigError, match="strict"):
        async with Embedded(app.q, strict=True):
            pass
    with pytest.raises(ValueError, match="time zone"):
        Embedded(app.q, now=datetime(2026, 1, 1))


async def test_what_stands_around_tasks_is_there_in_real_and_in_virtual_time() -> None:
    """A lifespan begins and ends in real time; what is made for one job lives as long as the job."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[str]:
        await asyncio.sleep(0.005)
        yield "pool"
        await asyncio.sleep(0.005)
        seen.append("closed")

    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield "connection"
        seen.append("returned")

    q = TaskQ("taskq://127.0.0.1:1", lifespan=lifespan)

    @q.task
    async def use(what: str = Depends(connection)) -> tuple[str, str]:
        await asyncio.sleep(3_600)
        return current().state, what

    async with Embedded(q) as env:
        before = env.now
        assert await (await use.submit()) == ("pool", "connection")
        assert env.now - before == timedelta(seconds=3_660)
        assert seen == ["returned"]
    assert seen == ["returned", "closed"]


async def test_a_lifespan_that_fails_is_told_when_it_begins() -> None:
    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    q = TaskQ("taskq://127.0.0.1:1", lifespan=lifespan)
    q.task(App().add.fn)
    with pytest.raises(ConfigError, match="no database"):
        async with Embedded(q):
            pass
    with pytest.raises(ConfigError, match="no database"):
        async with q.embedded():
            pass
