"""A worker inside the user's own process."""

import asyncio
import threading

import pytest

from taskq.client.app import TaskQ
from taskq.client.options import WorkerOptions
from taskq.client.payload import pack_call, unpack_value
from taskq.errors import ConfigError, Unauthorized
from taskq.protocol.messages import (
    Announce,
    Drain,
    Failure,
    Goodbye,
    Instruction,
    Limit,
    Obeyed,
    Success,
    Undrain,
    Vouch,
)
from taskq.worker.inline import run_worker
from tests.worker.tiny_broker import TinyBroker


async def test_it_runs_tasks_on_this_loop_until_it_is_told_to_stop() -> None:
    async with TinyBroker() as broker:
        q = TaskQ(broker.url)
        here = asyncio.get_running_loop()

        @q.task(name="is_here", queue="own")
        async def is_here() -> bool:
            return asyncio.get_running_loop() is here

        until = asyncio.Event()
        worker = asyncio.create_task(run_worker(q, concurrency=7, until=until))
        peer = await broker.a_worker()
        (announce,) = [message for message in peer.heard if isinstance(message, Announce)]
        assert announce.queues == ["default", "own"] and announce.slots["async"] == 7
        report = await broker.report(broker.deliver(peer, "is_here", pack_call([], {})))
        assert isinstance(report, Success) and unpack_value(report.result) is True
        until.set()
        await worker
        await broker.until(lambda: any(isinstance(message, Goodbye) for message in peer.heard))
        assert broker.said(Drain)


async def test_it_announces_what_it_offers() -> None:
    async with TinyBroker() as broker:
        q = TaskQ(broker.url)

        @q.task(name="send", concurrency=3)
        async def send() -> None: ...

        until = asyncio.Event()
        offer: WorkerOptions = {
            "queues": ["high:3", "default"],
            "labels": {"region": "eu"},
            "resources": {"gpu": 2},
        }
        worker = asyncio.create_task(q.run_worker(until=until, **offer))
        peer = await broker.a_worker()
        (announce,) = [message for message in peer.heard if isinstance(message, Announce)]
        assert (announce.queues, announce.weights) == (["high", "default"], [3, 1])
        assert (announce.labels, announce.resources) == ({"region": "eu", "taskq.zstd": "yes"}, {"gpu": 2})
        assert announce.declared == [Limit("task", "send", "concurrency", 3)]
        until.set()
        await worker


async def test_it_finishes_what_runs_before_it_ends() -> None:
    async with TinyBroker() as broker:
        q = TaskQ(broker.url)
        began, let, until = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @q.task(name="slow")
        async def slow() -> str:
            began.set()
            await let.wait()
            return "finished"

        worker = asyncio.create_task(run_worker(q, until=until))
        peer = await broker.a_worker()
        lease = broker.deliver(peer, "slow", pack_call([], {}))
        await began.wait()
        until.set()
        await broker.until(lambda: broker.said(Drain))
        assert not worker.done()
        let.set()
        await worker
        report = await broker.report(lease)
        assert isinstance(report, Success) and unpack_value(report.result) == "finished"


async def test_cancelled_it_hands_back_what_runs() -> None:
    async with TinyBroker() as broker:
        q = TaskQ(broker.url)
        began = asyncio.Event()

        @q.task(name="endless")
        async def endless() -> None:
            began.set()
            await asyncio.Event().wait()

        worker = asyncio.create_task(run_worker(q))
        peer = await broker.a_worker()
        lease = broker.deliver(peer, "endless", pack_call([], {}))
        await began.wait()
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        report = await broker.report(lease)
        assert isinstance(report, Failure) and report.ending == "returned"


async def test_a_thread_vouches_for_it_while_a_task_blocks_its_loop() -> None:
    async with TinyBroker() as broker:
        q = TaskQ(broker.url)
        began, let = threading.Event(), threading.Event()
        until = asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        @q.task(name="block")
        async def block() -> str:
            began.set()
            let.wait(30)  # blocking the loop is what this is about
            return "free"

        async def work() -> None:
            loops.append(asyncio.get_running_loop())
            await run_worker(q, until=until)

        # On a loop of its own, so that the broker's is not blocked with it.
        worker = asyncio.create_task(asyncio.to_thread(asyncio.run, work()))
        peer = await broker.a_worker()
        lease = broker.deliver(peer, "block", pack_call([], {}))
        await asyncio.to_thread(began.wait, 30)
        count = len(broker.said(Vouch))
        await broker.until(lambda: len(broker.said(Vouch)) >= count + 3)
        assert broker.vouched() == {peer.hello.session}
        assert lease not in broker.reports()
        let.set()
        assert isinstance(await broker.report(lease), Success)
        loops[0].call_soon_threadsafe(until.set)
        await worker
        await broker.until(lambda: peer.hello.session in broker.exits())


async def test_what_cannot_be_used_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="no tasks"):
        await run_worker(TaskQ("taskq://127.0.0.1:1"))
    q = TaskQ("taskq://127.0.0.1:1")

    @q.task
    def anything() -> None: ...

    with pytest.raises(ConfigError, match="a weight is from 1"):
        await run_worker(q, queues=["high:0"])
    with pytest.raises(ConfigError, match="from 1"):
        await run_worker(q, concurrency=0)


async def test_a_broker_that_refuses_it_is_an_error() -> None:
    async with TinyBroker() as broker:
        broker.refuse("unauthorized", "not you")
        q = TaskQ(broker.url)

        @q.task
        def anything() -> None: ...

        with pytest.raises(Unauthorized, match="not you"):
            await run_worker(q)


async def test_its_voucher_tells_what_runs_and_passes_orders_on() -> None:
    async with TinyBroker() as broker:
        q = TaskQ(broker.url)
        began, let = threading.Event(), threading.Event()

        @q.task(name="block")
        async def block() -> None:
            began.set()
            let.wait(60)  # keeps this very loop

        loop_thread = threading.Thread(target=lambda: asyncio.run(run_worker(q)), daemon=True)
        loop_thread.start()
        peer = await broker.a_worker()
        await broker.until(broker.vouched)
        (voucher,) = [each for each in broker.peers if each.hello.role == "supervisor" and each.is_open]
        broker.deliver(peer, "block", pack_call([], {}))
        await asyncio.to_thread(began.wait, 60)
        for number, verb in enumerate(("stack", "drain", "resume", "stop"), 1):
            voucher.say(Instruction(number, verb, [peer.hello.session]))  # type: ignore[arg-type]
        await broker.until(lambda: len(broker.said(Obeyed)) == 4)
        stack, *others = broker.said(Obeyed)
        assert "let.wait(60)  # keeps this very loop" in stack.texts[0].text
        assert others == [Obeyed(2), Obeyed(3), Obeyed(4)]
        assert not broker.said(Drain)
        let.set()
        await broker.until(lambda: broker.said(Undrain))
        await asyncio.to_thread(loop_thread.join, 60)
        assert not loop_thread.is_alive()
