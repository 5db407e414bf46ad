"""The user's own loop: code in virtual time has its own timers, all other code notices nothing."""

import asyncio
import contextvars
import threading

from taskq import current
from taskq.client.context import Context, context_var
from taskq.testing import Embedded
from taskq.testing.clock import Clock, clock_var
from taskq.testing.tap import Tap, fire
from tests.testing.apps import App


async def test_only_code_in_virtual_time_has_virtual_timers() -> None:
    loop = asyncio.get_running_loop()
    tap = Tap.on(loop)
    clock = Clock(loop)
    variables = contextvars.copy_context()
    variables.run(clock_var.set, clock)

    async def in_virtual_time() -> float:
        began = loop.time()
        async with asyncio.timeout(10_000):
            await asyncio.sleep(3_600)
        return loop.time() - began

    try:
        inside = loop.create_task(in_virtual_time(), context=variables)
        before = loop.time()
        await asyncio.sleep(0.005)
        assert loop.time() - before < 60
        assert not inside.done()
        due_us = clock.next_us()
        assert due_us is not None
        fire(clock.move(due_us), tap)
        assert await inside == 3_600
    finally:
        tap.release()


async def test_a_loop_is_as_it_was_when_the_last_one_has_left() -> None:
    loop = asyncio.get_running_loop()
    before = dict(vars(loop))
    first, second = Tap.on(loop), Tap.on(loop)
    assert first is second
    first.release()
    assert vars(loop) != before
    second.release()
    assert vars(loop) == before


async def test_all_that_is_called_is_counted_also_from_threads() -> None:
    loop = asyncio.get_running_loop()
    tap = Tap.on(loop)
    heard: list[int] = []
    tap.listeners.append(lambda: heard.append(1))
    try:
        before = tap.count
        loop.call_soon(lambda: None)
        assert tap.count == before + 1
        called = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(called.set))
        thread.start()
        await called.wait()
        thread.join()
        assert tap.count > before + 1
        assert heard
    finally:
        tap.release()


async def test_a_loop_is_alone_only_when_that_is_sure() -> None:
    loop = asyncio.get_running_loop()
    tap = Tap.on(loop)
    can_tell = hasattr(loop, "_selector")
    try:
        await asyncio.to_thread(lambda: None)  # its thread stays, and has nothing to do
        while can_tell and not tap.is_alone():
            await asyncio.sleep(0)
        assert tap.is_alone() is can_tell
        gate = threading.Event()
        busy = asyncio.create_task(asyncio.to_thread(gate.wait, 20))
        await asyncio.sleep(0)
        assert not tap.is_alone()
        gate.set()
        await busy
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
            assert not tap.is_alone()
    finally:
        tap.release()


async def test_a_jobs_code_lives_by_the_clock_of_its_runner() -> None:
    """Whatever other variables it sees: a worker may give its jobs those of its own caller."""
    loop = asyncio.get_running_loop()
    app = App()
    async with Embedded(app.q) as env:
        began = env.now
        stripped = contextvars.Context()

        @app.q.task
        async def detached() -> None:
            attempt = current()
            stripped.run(context_var.set, attempt)
            await loop.create_task(asyncio.sleep(3_600), context=stripped)

        await env.crash_worker()  # the new one knows the task
        await (await detached.submit())
        assert (env.now - began).total_seconds() == 3_600
    own = contextvars.copy_context()
    own.run(context_var.set, Context("1", "a context that somebody made by hand"))
    assert own.run(loop.time) - loop.time() < 60
