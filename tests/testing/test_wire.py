"""Connections in memory: what is said arrives, what is cut comes back, what is over says so."""

import asyncio

import pytest

from taskq import ConnectionLost, TaskQ
from taskq.testing import Embedded
from tests.testing.apps import App


async def test_an_app_may_close_and_come_back() -> None:
    app = App()
    async with Embedded(app.q):
        for n in range(3):
            async with app.q:
                assert await (await app.add.submit(n, 1)) == n + 1
        assert (await app.q.status()).connections == 3  # this one, the worker's and its supervisor's


async def test_what_was_not_confirmed_is_said_again() -> None:
    app = App()
    async with Embedded(app.q) as env:
        submitting = asyncio.create_task(app.add.submit(1, 1))
        await asyncio.sleep(0)
        await env.drop_connection("producer")
        assert await (await submitting) == 2
        assert len(env.submitted("add")) == 1


def test_an_environment_ends_with_its_loop() -> None:
    app = App()
    env = Embedded(app.q)

    async def one() -> None:
        assert await (await app.add.submit(1, 1)) == 2

    env.take_over()
    try:
        asyncio.run(one())
        with pytest.raises(ConnectionLost, match="event loop on which this test environment began"):
            asyncio.run(one())
    finally:
        env.close_from_outside()


async def test_a_broker_that_breaks_is_told_to_all_who_wait() -> None:
    app = App()
    async with Embedded(app.q) as env:
        job = await app.add.options(delay=60).submit(1, 1)
        env.board.broker.core.settle = broken  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await job.result()
        with pytest.raises(ZeroDivisionError):
            await env.drain()


def broken(*_: object) -> None:
    raise ZeroDivisionError


async def test_an_app_without_tasks_submits_those_of_others() -> None:
    q, other = TaskQ(), App()
    async with Embedded(q) as env:
        await q.submit_many([other.add.call(1, 2)])
        await env.drain()
        assert [call.args for call in env.submitted()] == [(1, 2)]
