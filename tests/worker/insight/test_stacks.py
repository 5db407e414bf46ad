"""Stacks of jobs, threads and tasks, as another thread reads them."""

import asyncio
import threading

import pytest

from taskq.limits import STACK_CHARS_MAX
from taskq.worker.insight import stacks as stacks_module
from tests.worker.test_runner import Gate, Host


async def stacks(host: Host, lease: int = 0) -> str:
    return await asyncio.to_thread(host.runner.stacks, lease)


async def test_a_job_that_waits_is_shown_where_it_waits_and_for_what() -> None:
    gate = Gate()

    async def inner() -> None:
        await gate.task()()

    async def outer() -> None:
        await inner()

    host = Host(outer)
    lease = host.deliver("outer")
    await gate.began.wait()
    text = await stacks(host, lease)
    assert text.startswith(f"task 'outer', job {lease:032x}, waits:")
    assert [line.split(", in ")[1] for line in text.splitlines() if ", in " in line][:3] == [
        "outer",
        "inner",
        "gated",
    ]
    gate.let.set()
    await host.report(lease)
    assert await stacks(host, lease) == ""


async def test_jobs_at_the_same_line_are_told_of_together() -> None:
    gate = Gate()
    host = Host(gate.task(), slots=20)
    leases = [host.deliver("gated") for _ in range(15)]
    await gate.began.wait()
    await asyncio.sleep(0)
    text = await stacks(host)
    assert "task 'gated', 15 jobs" in text and " and 5 more, waits" in text
    assert text.count("await self.let.wait()") + text.count("await let.wait()") <= 1
    gate.let.set()
    for lease in leases:
        await host.report(lease)


async def test_a_job_in_a_thread_is_shown_by_its_own_code() -> None:
    began, let = threading.Event(), threading.Event()

    def plain() -> None:
        began.set()
        let.wait(60)

    host = Host(plain)
    lease = host.deliver("plain")
    await asyncio.to_thread(began.wait, 60)
    text = await stacks(host, lease)
    assert text.startswith(f"task 'plain', job {lease:032x}, runs now:")
    assert "let.wait(60)" in text and "_run" not in text.split("plain\n")[0]
    let.set()
    await host.report(lease)


async def test_one_without_a_slot_says_so() -> None:
    gate = Gate()

    async def second() -> None: ...

    host = Host(gate.task(), second, slots=1)
    host.deliver("gated")
    lease = host.deliver("second")
    await gate.began.wait()
    assert (await stacks(host, lease)).endswith("waits for a slot")
    gate.let.set()
    await host.report(lease)


async def test_tasks_that_a_job_has_started_are_shown_and_ours_are_not() -> None:
    began, let = asyncio.Event(), asyncio.Event()

    async def helper() -> None:
        began.set()
        await let.wait()

    async def parent() -> None:
        await asyncio.create_task(helper(), name="the helper")

    ours = asyncio.create_task(let.wait(), name="taskq link")
    host = Host(parent)
    lease = host.deliver("parent")
    await began.wait()
    text = await stacks(host)
    assert "asyncio task the helper:" in text and ", in helper" in text
    assert "taskq link" not in text
    assert "the event loop's thread:" in text
    let.set()
    await host.report(lease)
    await ours


async def test_the_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks_module, "STACK_CHARS_MAX", 200)
    text = await stacks(Host())
    assert len(text) == 200 < STACK_CHARS_MAX
    assert text.endswith("... and more")


async def test_what_cannot_be_told_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the thread that hears orders: were it to end, nobody could stop the worker."""

    def changed(loop: object) -> object:
        raise RuntimeError("the table was changed")

    monkeypatch.setattr(asyncio, "all_tasks", changed)
    assert Host().runner.stacks() == "what runs here could not be told: RuntimeError: the table was changed"
