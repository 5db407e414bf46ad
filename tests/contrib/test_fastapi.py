"""The real FastAPI and Starlette, with the real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from taskq import ConfigError, ConnectionLost, TaskQ, current
from taskq.contrib.fastapi import QueueDep, queue_of, taskq_lifespan
from taskq.embedded import house


@asynccontextmanager
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """As a server runs it: startup, requests, shutdown; all in one Task."""
    async with app.router.lifespan_context(app) as state:
        inner = app if state is None else _with_state(app, dict(state))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=inner), base_url="http://test"
        ) as http:
            yield http


def _with_state(app, state):  # type: ignore[no-untyped-def]  # what a server does with it
    async def call(scope, receive, send):  # type: ignore[no-untyped-def]  # as above
        await app({**scope, "state": dict(state)}, receive, send)

    return call


async def test_the_queue_is_connected_and_injected() -> None:
    async with house.broker() as url:
        q = TaskQ(url)

        @q.task(name="add")
        async def add(a: int, b: int) -> int:
            return a + b

        app = FastAPI(lifespan=taskq_lifespan(q))

        @app.get("/add")
        async def view(a: int, b: int, queue: QueueDep) -> str:
            assert queue is q
            return (await add.submit(a, b)).id

        async with client(app) as http:
            job = (await http.get("/add", params={"a": 2, "b": 3})).json()
            assert await q.job(job).status() == "ready"
            assert q._producers
        assert not q._producers, "closed"


async def test_a_worker_inside_and_a_lifespan_of_ones_own() -> None:
    notes = []

    @asynccontextmanager
    async def tasks_lifespan(q: TaskQ) -> AsyncIterator[str]:
        notes.append("worker in")
        yield "state"
        notes.append("worker out")

    async with house.broker() as url:
        q = TaskQ(url, lifespan=tasks_lifespan)

        @q.task(name="state")
        async def state() -> str:
            return str(current().state)

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
            notes.append(await (await state.submit()).result(timeout=30))
            yield {"mine": "yours"}
            notes.append(await (await state.submit()).result(timeout=30))

        app = FastAPI(lifespan=taskq_lifespan(q, lifespan, worker=True, concurrency=5))

        @app.get("/")
        async def view(request: Request, queue: QueueDep) -> list[str]:
            return [request.state.mine, await (await state.submit()).result(timeout=30)]

        async with client(app) as http:
            assert (await http.get("/")).json() == ["yours", "state"]
    assert notes == ["worker in", "state", "state", "worker out"]


async def test_plain_starlette() -> None:
    async with house.broker() as url:
        q = TaskQ(url)

        async def view(request: StarletteRequest) -> PlainTextResponse:
            report = await queue_of(request).status()
            return PlainTextResponse(str(len(report.workers)))

        app = Starlette(routes=[Route("/", view)], lifespan=taskq_lifespan(q))
        async with client(app) as http:
            assert (await http.get("/")).text == "0"


async def test_no_broker_no_app(monkeypatch: pytest.MonkeyPatch) -> None:
    q = TaskQ("taskq://127.0.0.1:1")

    async def connect() -> None:
        await TaskQ.connect(q, timeout=0.05)

    monkeypatch.setattr(q, "connect", connect)
    with pytest.raises(ConnectionLost):
        async with client(FastAPI(lifespan=taskq_lifespan(q))):
            raise AssertionError("it has started")


async def test_a_worker_that_cannot_start_ends_the_startup() -> None:
    @asynccontextmanager
    async def broken(q: TaskQ) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    async with house.broker() as url:
        q = TaskQ(url, lifespan=broken)
        q.task(name="it")(lambda: None)
        with pytest.raises(ConfigError, match="no database"):
            async with client(FastAPI(lifespan=taskq_lifespan(q, worker=True))):
                raise AssertionError("it has started")
        await asyncio.sleep(0)


async def test_without_the_lifespan_the_dependency_says_what_to_do() -> None:
    app = FastAPI()

    @app.get("/")
    async def view(queue: QueueDep) -> None: ...

    async with client(app) as http:
        with pytest.raises(ConfigError, match="taskq_lifespan"):
            await http.get("/")


def test_options_of_no_worker() -> None:
    with pytest.raises(ConfigError, match="concurrency is said of a worker"):
        taskq_lifespan(TaskQ(), concurrency=5)
