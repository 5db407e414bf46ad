"""What a running job tells, from the task's code to whoever listens: broker, worker and client are real."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from taskq import JobCancelled, JobFailed, JobTimedOut, LogLine, Missed, Restarted, TaskQ, current, limits
from taskq.client.task import StreamTask
from taskq.client.telling import StreamJob
from taskq.errors import Busy, EncodeError, NotFound
from taskq.worker.executors import stops

WAIT = 60
log = logging.getLogger("tests.telling")


async def test_what_a_task_yields_arrives_as_annotated() -> None:
    q = TaskQ()

    @q.task
    async def pairs(n: int) -> AsyncIterator[tuple[int, str]]:
        for number in range(n):
            yield number, "x"

    @q.task
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)

    async with q.embedded(), asyncio.timeout(WAIT):
        job = await pairs.submit(3_000)
        assert [item async for item in job.stream()] == [(number, "x") for number in range(3_000)]
        assert await job == 3_000
        again = [item async for item in q.job(job.id).stream()]
        assert len(again) == 3_000  # it has ended, and is still there
        assert [item async for item in (await numbers.submit(5_000)).stream()] == list(range(5_000))
        sync = await asyncio.to_thread(lambda: list(numbers.submit_sync(10).stream()))
        assert sync == list(range(10))
    assert [item async for item in pairs(2)] == [(0, "x"), (1, "x")]


async def test_a_retry_begins_anew_and_says_so() -> None:
    q = TaskQ()

    @q.task(retry=2)
    async def flaky() -> AsyncIterator[int]:
        yield 1
        if current().attempt == 1:
            raise ValueError("not yet")
        yield 2

    async with q.embedded(), asyncio.timeout(WAIT):
        items = [item async for item in (await flaky.submit()).stream()]
        assert items[-3:] == [Restarted(2), 1, 2]


async def test_a_failure_is_raised_after_the_items_before_it() -> None:
    q = TaskQ()

    @q.task
    async def failing() -> AsyncIterator[object]:
        yield 1
        yield 2
        yield object()

    got: list[object] = []
    async with q.embedded(), asyncio.timeout(WAIT):
        with pytest.raises(JobFailed, match=r"item: .*cannot be sent") as caught:
            async for item in (await failing.submit()).stream():
                got.append(item)  # noqa: PERF401  # what came before the error counts
    assert got == [1, 2]
    assert caught.value.remote_type.endswith(EncodeError.__name__)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_cancel_and_timeout_close_the_generator(how: str) -> None:
    q = TaskQ()
    closed = asyncio.Event()
    thread_closed = threading.Event()

    @q.task
    async def forever() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    @q.task
    def in_thread() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            thread_closed.set()

    async with q.embedded(), asyncio.timeout(WAIT):
        for task in (forever, in_thread):
            options = task.options(timeout=0.3) if how == "timeout" else task
            job = await options.submit()
            with pytest.raises(JobTimedOut if how == "timeout" else JobCancelled):
                async for _ in job.stream():
                    if how == "cancel":
                        await job.cancel()
        await closed.wait()
        assert await asyncio.to_thread(thread_closed.wait, WAIT)


async def test_a_generator_that_swallows_its_cancellation_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "STOP_GRACE_MS", 50)
    q = TaskQ()
    closed = asyncio.Event()

    @q.task
    async def stubborn() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.001)
        finally:
            closed.set()

    async with q.embedded(), asyncio.timeout(WAIT):
        job = await stubborn.submit()
        async for _ in job.stream():
            break
        await job.cancel()
        await closed.wait()


async def test_a_stream_that_the_broker_refuses_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    q = TaskQ()
    may_end = asyncio.Event()

    @q.task
    async def waiting() -> AsyncIterator[int]:
        await may_end.wait()
        yield 1

    async with q.embedded(), asyncio.timeout(WAIT):
        job = await waiting.submit()
        monkeypatch.setattr(limits, "FOLLOWS_PER_PEER_MAX", 0)
        with pytest.raises(Busy, match="that is the limit"):
            await anext(job.stream())
        may_end.set()


async def test_streams_from_an_outbox_and_of_a_map_are_as_others() -> None:
    q = TaskQ()

    @q.task
    async def pairs(n: int) -> AsyncIterator[tuple[int, str]]:
        for number in range(n):
            yield number, "x"

    @q.task
    async def outer() -> str:
        with current().outbox():
            job = await pairs.submit(2)
        assert isinstance(job, StreamJob)
        assert isinstance(await asyncio.to_thread(_in_outbox, pairs), StreamJob)
        return job.id

    def _in_outbox(task: StreamTask[[int], tuple[int, str]]) -> object:
        with current().outbox():
            return task.submit_sync(1)._job

    async with q.embedded(), asyncio.timeout(WAIT):
        assert [count async for count in pairs.map([1, 2])] == [1, 2]
        job = q.job(await (await outer.submit()).result())
        assert len([item async for item in job.stream()]) == 2


async def test_who_does_not_take_holds_the_task_back() -> None:
    q = TaskQ()
    made: list[int] = []

    @q.task
    async def many() -> AsyncIterator[int]:
        for number in range(50_000):
            made.append(number)
            yield number

    async with q.embedded(), asyncio.timeout(WAIT):
        job = await many.options(delay=0.2).submit()
        stream = job.stream()
        assert await anext(stream) == 0
        before = -1
        while before != len(made):
            before = len(made)
            await asyncio.sleep(0.2)
        assert before < 10_000
        assert len([item async for item in stream]) == 49_999


async def test_events_and_progress_and_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log.name)
    q = TaskQ()

    @q.task
    async def steps() -> None:
        log.info("begun")
        log.debug("not kept")
        for number in range(200):
            current().progress(number, 200)
        await asyncio.to_thread(log.warning, "from %s", "a thread")
        current().progress(200, 200, "all")

    async with q.embedded(), asyncio.timeout(WAIT):
        job = await steps.options(delay=0.3).submit()
        events = [event async for event in job.events()]
        states = [event.state for event in events if not isinstance(event, Missed) and event.kind == "state"]
        assert (states[0], states[-1]) == ("scheduled", "succeeded")
        last = [event.progress for event in events if not isinstance(event, Missed) and event.progress][-1]
        assert (last.done, last.message) == (200, "all")
        assert len(events) < 20  # not one for each call
        lines = [line async for line in job.logs()]
        assert [(line.level, line.text) for line in lines if isinstance(line, LogLine)] == [
            ("INFO", "begun"),
            ("WARNING", "from a thread"),
        ]
        with pytest.raises(NotFound):
            await anext(q.job("019b76daa80075118123456789abcdef").events())


async def test_logging_is_left_as_it_was() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    q = TaskQ()

    @q.task
    async def nothing() -> None: ...

    async with q.embedded(), asyncio.timeout(WAIT):
        await (await nothing.submit()).result()
        assert len(root.handlers) == len(before[0]) + 1
    assert (root.handlers, root.level) == before
