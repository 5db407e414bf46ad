"""What lives as long as a worker: entered before the first job, ended after the last, in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from taskq import ConfigError, Depends, TaskQ, TaskqError
from taskq.client.depends import Dependency, Node, node_of
from taskq.worker.hooks import scope as scope_module
from taskq.worker.hooks.scope import WorkerScope

colour: ContextVar[str] = ContextVar("colour", default="none")


def node(factory: Callable[..., Any]) -> Node:
    return node_of(Dependency(factory, "worker"))


async def test_the_lifespan_yields_the_state_and_sets_variables() -> None:
    notes = []

    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[dict[str, TaskQ]]:
        colour.set("green")
        yield {"q": q}
        notes.append("left")

    q = TaskQ(lifespan=lifespan)
    scope = WorkerScope(q)
    await scope.enter()
    assert scope.state == {"q": q}
    assert scope.variables[colour] == "green"
    await scope.leave(5)
    assert notes == ["left"]


async def test_without_one_there_is_no_state() -> None:
    scope = WorkerScope(TaskQ())
    await scope.enter()
    assert scope.state is None
    await scope.leave(5)


@pytest.mark.parametrize("error", [OSError("no\n  database"), SystemExit("no database")])
async def test_one_that_fails_is_told_with_the_place(error: BaseException) -> None:
    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        raise error
        yield

    with pytest.raises(ConfigError, match=rf"at .*test_scope.py:\d+: {type(error).__name__}: no"):
        await WorkerScope(TaskQ(lifespan=lifespan)).enter()


async def test_what_is_no_lifespan() -> None:
    async def forgotten(q: TaskQ) -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigError, match=r"@asynccontextmanager.*async_generator"):
        await WorkerScope(TaskQ(lifespan=forgotten)).enter()  # type: ignore[arg-type]  # it lacks the decorator
    with pytest.raises(ConfigError, match="@asynccontextmanager"):
        TaskQ(lifespan=5)  # type: ignore[arg-type]  # nor is this


async def test_an_end_that_fails_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        yield
        raise OSError("too late")

    scope = WorkerScope(TaskQ(lifespan=lifespan))
    await scope.enter()
    with caplog.at_level(logging.ERROR, "taskq.worker"):
        await scope.leave(5)
    assert caplog.messages == ["leaving the lifespan failed"]
    assert "too late" in caplog.text


async def test_an_end_that_takes_too_long_is_abandoned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope_module, "LEAVE_MS", 20)
    ended = []

    async def stuck() -> AsyncIterator[int]:
        try:
            yield 5
            await asyncio.Event().wait()
        finally:
            ended.append("stuck")

    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        yield
        ended.append("lifespan")
        await asyncio.Event().wait()

    scope = WorkerScope(TaskQ(lifespan=lifespan))
    await scope.enter()
    await scope.shared(node(stuck))
    with caplog.at_level(logging.ERROR, "taskq.worker"):
        await scope.leave(0)
    assert [message.split(" took")[0] for message in caplog.messages] == [
        "closing what jobs share",
        "leaving the lifespan",
    ]
    assert "lifespan" in ended, "one that hangs does not keep the other from its end"


async def test_one_that_starts_slowly_is_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope_module, "LIFESPAN_SLOW_MS", 1)
    let = asyncio.Event()

    @asynccontextmanager
    async def lifespan(q: TaskQ) -> AsyncIterator[None]:
        await let.wait()
        yield

    scope = WorkerScope(TaskQ(lifespan=lifespan))
    with caplog.at_level(logging.WARNING, "taskq.worker"):
        entering = asyncio.create_task(scope.enter())
        async with asyncio.timeout(30):
            while not caplog.messages:
                await asyncio.sleep(0.001)
        let.set()
        await entering
    assert "has not started" in caplog.text
    await scope.leave(5)


# -- what jobs share -----------------------------------------------------------------------------------


async def test_first_uses_at_once_share_one_making() -> None:
    let = asyncio.Event()
    made = []

    async def pool() -> AsyncIterator[int]:
        made.append(asyncio.current_task())
        await let.wait()
        yield len(made)
        made.append(asyncio.current_task())

    scope = WorkerScope()
    uses = [asyncio.create_task(scope.shared(node(pool))) for _ in range(3)]
    await asyncio.sleep(0)
    uses[0].cancel()  # the first to ask goes away: the others get it all the same
    let.set()
    gone, *others = await asyncio.gather(*uses, return_exceptions=True)
    assert isinstance(gone, asyncio.CancelledError) and others == [1, 1]
    assert await scope.shared(node(pool)) == 1
    await scope.leave(5)
    assert len(made) == 2 and made[0] is made[1], "it ends in the Task that made it"


async def test_what_needs_another_ends_before_it() -> None:
    ended = []

    async def inner() -> AsyncIterator[str]:
        yield "inner"
        ended.append("inner")

    async def outer(it: str = Depends(inner, scope="worker")) -> AsyncIterator[str]:
        yield f"outer {it}"
        ended.append("outer")

    async def later() -> AsyncIterator[str]:
        yield "later"
        ended.append("later")

    scope = WorkerScope()
    assert await scope.shared(node(outer)) == "outer inner"
    await scope.shared(node(later))
    await scope.leave(5)
    assert ended == ["later", "outer", "inner"]


async def test_one_that_fails_is_tried_again_at_its_next_use() -> None:
    tries = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not yet")
        return 5

    scope = WorkerScope()
    first = await asyncio.gather(*(scope.shared(node(flaky)) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in first] == [OSError, OSError] and len(tries) == 1
    assert await scope.shared(node(flaky)) == 5
    await scope.leave(5)


async def test_one_that_is_still_made_when_the_worker_leaves() -> None:
    async def slow() -> int:
        await asyncio.Event().wait()
        return 5

    scope = WorkerScope()
    use = asyncio.create_task(scope.shared(node(slow)))
    await asyncio.sleep(0)
    await scope.leave(5)
    with pytest.raises(TaskqError, match=r"slow\(\): this worker has stopped"):
        await use
    with pytest.raises(TaskqError, match="has stopped"):
        await scope.shared(node(slow))


async def test_it_is_made_in_the_workers_context_not_in_the_jobs() -> None:
    async def which() -> str:
        return colour.get()

    scope = WorkerScope()
    token = colour.set("the job's")
    try:
        assert await scope.shared(node(which)) == "none"
    finally:
        colour.reset(token)
    await scope.leave(5)
