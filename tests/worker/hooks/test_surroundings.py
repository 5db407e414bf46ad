"""Lifespan, dependencies and middleware around real attempts, on the loop and in threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from taskq import (
    ConfigError,
    Context,
    Depends,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    Middleware,
    Retry,
    TaskQ,
    current,
)
from taskq.client.task import Task
from taskq.worker.attempts import Definition

colour: ContextVar[str] = ContextVar("colour", default="none")
shade: ContextVar[str] = ContextVar("shade", default="none")
KINDS = ["async", "thread"]
PATIENCE = 30


def task_of(q: TaskQ, kind: str, fn: Callable[..., Any], **options: Any) -> Task[..., Any]:
    """The same body as a task of either kind: declared on the loop it gets an async shell."""
    if kind == "thread":
        return q.task(name="it", **options)(fn)

    async def shell(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    shell.__signature__ = __import__("inspect").signature(fn)  # type: ignore[attr-defined]  # functions have it
    return q.task(name="it", **options)(shell)


async def run(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await (await task.submit(*args, **kwargs)).result(timeout=PATIENCE)


def test_a_task_without_any_of_it_is_its_function() -> None:
    class Producing(Middleware):
        async def submit(self, jobs: Any, call_next: Callable[[], Awaitable[None]]) -> None:
            await call_next()

    q = TaskQ(middleware=[Producing()])

    @q.task
    async def bare() -> None: ...

    assert Definition(bare).function is bare.fn


@pytest.mark.parametrize("kind", KINDS)
async def test_state_and_variables_of_the_lifespan_reach_tasks(kind: str) -> None:
    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[dict[str, int]]:
        colour.set("green")
        yield {"pool": 5}

    q = TaskQ(lifespan=lifespan)
    task = task_of(q, kind, lambda: [current().state["pool"], colour.get()])
    async with q.embedded():
        assert await run(task) == [5, "green"]
    assert colour.get() == "none"


async def test_a_lifespan_that_fails_ends_the_worker_and_says_where() -> None:
    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    q = TaskQ(lifespan=lifespan)
    q.task(name="it")(lambda: None)
    with pytest.raises(ConfigError, match="no database"):
        async with q.embedded():
            raise AssertionError("there is no worker")


async def test_the_lifespan_is_left_after_the_last_job() -> None:
    notes = []
    began, let = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        yield
        notes.append("left")

    async def shared() -> AsyncIterator[int]:
        yield 5
        notes.append("shared ended")

    q = TaskQ(lifespan=lifespan)

    @q.task
    async def slow(it: int = Depends(shared, scope="worker")) -> None:
        began.set()
        await let.wait()
        notes.append("job ended")

    async with q.embedded():
        await slow.submit()
        await began.wait()
        asyncio.get_running_loop().call_later(0.01, let.set)
    assert notes == ["job ended", "shared ended", "left"]


# -- dependencies ----------------------------------------------------------------------------------------


def thread_name() -> str:
    return threading.current_thread().name


async def on_loop() -> AsyncIterator[str]:
    assert asyncio.get_running_loop().is_running()
    colour.set("set by a factory")
    yield thread_name()


def in_place() -> Iterator[str]:
    shade.set("set by a plain one")
    yield thread_name()


async def test_on_the_loop_all_of_it_runs_there() -> None:
    q = TaskQ()

    @q.task
    async def it(n: int, a: str = Depends(on_loop), b: str = Depends(in_place)) -> list[Any]:
        return [n, a, b, colour.get(), shade.get()]

    async with q.embedded():
        here = thread_name()
        assert await run(it, 7) == [7, here, here, "set by a factory", "set by a plain one"]


async def test_for_a_thread_async_factories_run_on_the_loop_and_plain_ones_in_it() -> None:
    q = TaskQ()

    @q.task
    def it(n: int, b: str = Depends(in_place), a: str = Depends(on_loop)) -> list[Any]:
        return [n, a, b, thread_name(), colour.get(), shade.get()]

    async with q.embedded():
        here = thread_name()
        n, a, b, own, *variables = await run(it, 7)
    assert (n, a) == (7, here) and b == own != here
    assert variables == ["set by a factory", "set by a plain one"]


async def test_for_a_thread_plain_factories_alone_need_no_loop() -> None:
    q = TaskQ()
    ended = []

    def opened() -> Iterator[str]:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        yield thread_name()
        ended.append(thread_name())

    @q.task
    def it(a: str = Depends(opened)) -> bool:
        return a == thread_name()

    async with q.embedded():
        assert await run(it) is True
    assert len(ended) == 1 and ended[0].startswith("taskq-job")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_wide_one_is_made_once(kind: str) -> None:
    made = []

    async def pool() -> int:
        made.append(1)
        return len(made)

    q = TaskQ()
    task = task_of(q, kind, lambda pool=Depends(pool, scope="worker"): pool)
    async with q.embedded():
        jobs = await q.submit_many([task.call() for _ in range(10)])
        assert await q.gather(*jobs) == [1] * 10
    async with q.embedded():
        assert await run(task) == 2, "another worker, another one"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_factory_that_fails_is_the_attempts_failure(kind: str) -> None:
    tries = []

    async def flaky() -> int:
        tries.append(current().attempt)
        if len(tries) == 1:
            raise OSError("not yet")
        return 5

    q = TaskQ()
    task = task_of(q, kind, lambda it=Depends(flaky): it, retry=2)
    async with q.embedded():
        job = await task.options(retry=2).submit()
        assert await job.result(timeout=PATIENCE) == 5
        assert (await job.info()).history[0].error == "OSError: not yet"
    assert tries == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_end_that_fails_makes_the_attempt_fail(kind: str) -> None:
    async def committing() -> AsyncIterator[int]:
        yield 5
        raise OSError("commit failed")

    q = TaskQ()
    task = task_of(q, kind, lambda it=Depends(committing): it)
    async with q.embedded():
        with pytest.raises(JobFailed, match="commit failed"):
            await run(task)


@pytest.mark.parametrize("end", ["cancelled", "timed out"])
async def test_what_was_made_is_ended_when_the_task_is_cancelled_or_its_time_is_up(end: str) -> None:
    began = asyncio.Event()
    seen = []

    async def opened() -> AsyncIterator[int]:
        try:
            yield 5
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("ended")

    q = TaskQ()

    @q.task
    async def stuck(it: int = Depends(opened)) -> None:
        began.set()
        await asyncio.Event().wait()

    async with q.embedded():
        job = await stuck.options(timeout=60 if end == "cancelled" else 0.05).submit()
        await began.wait()
        if end == "cancelled":
            await job.cancel(reason="enough")
        with pytest.raises(JobCancelled if end == "cancelled" else JobTimedOut):
            await job.result(timeout=PATIENCE)
    assert seen == ["cancelled", "ended"]


async def test_a_thread_that_waits_for_its_factory_is_let_go_when_it_is_cancelled() -> None:
    began = asyncio.Event()
    seen = []

    async def never() -> AsyncIterator[int]:
        began.set()
        try:
            await asyncio.Event().wait()
            yield 5
        finally:
            seen.append("ended")

    q = TaskQ()

    @q.task
    def it(a: int = Depends(never)) -> None:
        seen.append("ran")

    async with q.embedded(concurrency=1):
        job = await it.submit()
        await began.wait()
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=PATIENCE)
        # The slot is free again, and there is one only.
        began.clear()
        again = await it.submit()
        await began.wait()
        await again.cancel()
    assert seen[0] == "ended" and "ran" not in seen


async def test_what_a_cancelled_thread_uses_is_ended_only_after_it() -> None:
    began, let = threading.Event(), threading.Event()
    notes = []

    async def opened() -> AsyncIterator[int]:
        yield 5
        notes.append("ended")

    q = TaskQ()

    @q.task
    def it(a: int = Depends(opened)) -> None:
        began.set()
        let.wait(PATIENCE)
        notes.append("returned")

    other = q.task(name="other")(lambda: None)
    async with q.embedded(concurrency=1):
        job = await it.submit()
        await asyncio.to_thread(began.wait, PATIENCE)
        await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=PATIENCE)
        assert notes == []
        let.set()
        # The slot is the only one: this one runs when that one has ended.
        await run(other)
    assert notes == ["returned", "ended"]


async def test_overrides_stand_in_for_tests() -> None:
    def pool() -> str:
        raise OSError("no database here")

    def conn(it: str = Depends(pool)) -> str:
        return f"{it}-conn"

    async def fake() -> str:
        return "fake"

    q = TaskQ()

    @q.task
    async def on(it: str = Depends(conn)) -> str:
        return it

    @q.task
    def thread(it: str = Depends(conn)) -> str:
        return it

    async with q.embedded():
        q.overrides[pool] = fake
        assert [await run(on), await run(thread)] == ["fake-conn"] * 2
        del q.overrides[pool]
        with pytest.raises(JobFailed, match="no database"):
            await run(on)


# -- middleware --------------------------------------------------------------------------------------------


class Colouring(Middleware):
    def __init__(self) -> None:
        self.notes: list[str] = []

    async def before(self, context: Context) -> None:
        colour.set(f"{colour.get()} red")
        self.notes.append(f"before {context.task} {context.attempt}")

    async def after(self, context: Context, result: Any) -> None:
        self.notes.append(f"after {result} {shade.get()}")

    async def error(self, context: Context, error: BaseException) -> None:
        self.notes.append(f"error {type(error).__name__}")


@pytest.mark.parametrize("kind", KINDS)
async def test_variables_go_in_and_come_out(kind: str) -> None:
    def body() -> str:
        shade.set("dark")
        return colour.get()

    middleware = Colouring()
    q = TaskQ(middleware=[middleware, Colouring()])
    task = task_of(q, kind, body)
    async with q.embedded():
        assert await run(task) == "none red red"
    assert middleware.notes == ["before it 1", "after none red red dark"]


@pytest.mark.parametrize("kind", KINDS)
async def test_it_sees_errors_of_tasks_and_of_factories(kind: str) -> None:
    def broken() -> int:
        raise LookupError("no such thing")

    middleware = Colouring()
    q = TaskQ(middleware=[middleware])
    task = task_of(q, kind, lambda it=Depends(broken): it)
    async with q.embedded():
        with pytest.raises(JobFailed, match="no such thing") as raised:
            await run(task)
    assert middleware.notes == ["before it 1", "error LookupError"]
    assert "taskq/worker" not in raised.value.remote_traceback
    assert "taskq/client/middleware" not in raised.value.remote_traceback
    assert "in broken" in raised.value.remote_traceback


@pytest.mark.parametrize("kind", KINDS)
async def test_what_it_raises_counts_as_if_the_task_had(kind: str) -> None:
    class Patient(Middleware):
        async def error(self, context: Context, error: BaseException) -> None:
            if context.attempt == 1:
                raise Retry(0, "once more") from error

    def body() -> int:
        if current().attempt == 1:
            raise OSError("busy")
        return current().attempt

    q = TaskQ(middleware=[Patient()])
    task = task_of(q, kind, body)
    async with q.embedded():
        job = await task.options(retry=2).submit()
        assert await job.result(timeout=PATIENCE) == 2
        assert "once more" in (await job.info()).history[0].error


@pytest.mark.parametrize("kind", KINDS)
async def test_it_may_answer_without_running_the_task(kind: str) -> None:
    class Caching(Middleware):
        async def run(self, context: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
            return 5

    def body() -> int:
        raise AssertionError("not run")

    q = TaskQ(middleware=[Caching()])
    task = task_of(q, kind, body)
    async with q.embedded():
        assert await run(task) == 5


async def test_it_sees_a_cancellation() -> None:
    middleware = Colouring()
    q = TaskQ(middleware=[middleware])
    began = asyncio.Event()

    @q.task(name="stuck")
    async def stuck() -> None:
        began.set()
        await asyncio.Event().wait()

    async with q.embedded():
        job = await stuck.submit()
        await began.wait()
        await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=PATIENCE)
    assert middleware.notes == ["before stuck 1", "error CancelledError"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_task_that_wants_to_end_the_process_fails_like_any_other(kind: str) -> None:
    def leaving() -> None:
        raise SystemExit(3)

    q = TaskQ(middleware=[Colouring()])
    task = task_of(q, kind, leaving)
    async with q.embedded():
        with pytest.raises(JobFailed, match="SystemExit"):
            await run(task)
