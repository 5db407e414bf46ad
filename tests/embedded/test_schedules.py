"""Schedules from end to end: declared in code or made at run time, by the real broker's clock."""

import asyncio
import time

import pytest

from taskq import Conflict, NotFound, TaskQ, current


async def test_what_the_code_declares_runs() -> None:
    q = TaskQ()
    ran = asyncio.Queue[tuple[str, str]]()

    @q.cron("* * * * * *", tz="Asia/Tokyo")
    async def second() -> None:
        ran.put_nowait(("second", current().job_id))

    @q.every(1, name="thread")
    @q.task(queue="other")
    def plain(word: str = "plain") -> str:
        return word

    async with q.embedded(), asyncio.timeout(20):
        ids = [(await ran.get())[1] for _ in range(2)]
        moments = [int(id[:12], 16) for id in ids]
        assert moments[1] - moments[0] == 1_000
        assert moments[0] % 1_000 == 0
        assert abs(time.time() * 1_000 - moments[1]) < 10_000
        thread, declared = sorted(await q.schedules.list(), key=lambda info: info.name != "thread")
        assert (declared.name, declared.tz, declared.is_declared) == (second.name, "Asia/Tokyo", True)
        assert await q.job(thread.last_job).result() == "plain"
        with pytest.raises(Conflict, match="declares it"):
            await q.schedules.delete("thread")


async def test_what_is_made_at_run_time_is_there_after_a_restart(tmp_path: object) -> None:
    q = TaskQ()

    @q.task
    async def add(a: int, b: int) -> int:
        return a + b

    journal = f"sqlite:{tmp_path}/x.db"
    async with q.embedded(journal=journal), asyncio.timeout(20):
        made = await q.schedules.create("sum", add.call(2, 3), cron="@yearly", tz="Europe/Berlin")
        assert (made.name, made.app, len(made.next_at)) == ("sum", "", 1)
        assert (made.next_at[0].month, made.next_at[0].day, made.next_at[0].hour) == (1, 1, 0)
        ran = await q.schedules.run("sum")
        assert await q.job(ran.last_job).result() == 5
        assert (await q.schedules.pause("sum", "because")).reason == "because"
    async with q.embedded(journal=journal), asyncio.timeout(20):
        (kept,) = await q.schedules.list()
        assert (kept.is_paused, kept.last_job, kept.created_at) == (True, ran.last_job, made.created_at)
        assert await q.schedules.next("sum") == []
        assert not (await q.schedules.resume("sum")).is_paused
        times = await q.schedules.next("sum", 3)
        assert [moment.year - times[0].year for moment in times] == [0, 1, 2]
        await q.schedules.delete("sum")
        assert await q.schedules.list() == []
        with pytest.raises(NotFound, match="no schedule 'sum'"):
            await q.schedules.next("sum")
        with pytest.raises(ValueError, match="n is from 1 to 100"):
            await q.schedules.next("sum", 0)
        with pytest.raises(TypeError, match="makes calls"):
            await q.schedules.create("bad", "add", every=5)  # type: ignore[arg-type]


async def test_the_same_verbs_without_asyncio() -> None:
    q = TaskQ()

    @q.task
    def beat() -> str:
        return "done"

    def verbs(url: str) -> str:
        there = TaskQ(url)
        task = there.task(name=beat.name)(beat.fn)
        schedules = there.sync.schedules
        schedules.create("beat", task, every="1h")
        assert schedules.pause("beat", "why").is_paused
        assert schedules.next("beat") == []
        assert not schedules.resume("beat").is_paused
        assert [info.name for info in schedules.list()] == ["beat"]
        result = there.sync.job(schedules.run("beat").last_job).result(timeout=20)
        schedules.delete("beat")
        there.sync.close()
        return str(result)

    async with q.embedded():
        assert await asyncio.to_thread(verbs, q.urls[0]) == "done"
