"""The pytest plugin that comes with the package: `taskq_embedded`, `taskq_broker` and `taskq_worker`.

It is imported by every pytest where the package is installed: what is heavy is imported by those who use it.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from taskq import TaskQ
    from taskq.testing.env import Embedded, SyncEmbedded
    from taskq.testing.fleet import Fleet

_NO_APP = """taskq_embedded does not know your app. Name it in pytest's configuration:

    taskq_app = "tasks:q"

or give it in your conftest.py:

    @pytest.fixture
    def taskq_app():
        from tasks import q
        return q
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("taskq_app", "the TaskQ that `taskq_embedded` runs, written module:object", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "taskq(**options): how `taskq_embedded` runs, as taskq.testing.Embedded(q, **options)"
    )


@pytest.fixture
def taskq_app(request: pytest.FixtureRequest) -> "TaskQ":
    """The app that `taskq_embedded` runs: the one that `taskq_app` in pytest's configuration names."""
    from taskq.worker.loading import load_app

    target = request.config.getini("taskq_app")
    if not target:
        raise pytest.UsageError(_NO_APP)
    return load_app(str(target))


@pytest.fixture
def taskq_embedded(request: pytest.FixtureRequest, taskq_app: "TaskQ") -> "Iterator[Embedded | SyncEmbedded]":
    """Your app with a broker and a worker in virtual time, for one test; see taskq.testing.Embedded.

    In an `async def` test its verbs are awaited, in a plain one they block.
    """
    from taskq.testing.env import Embedded

    options = {}
    for mark in reversed(list(request.node.iter_markers("taskq"))):  # the nearest comes last, and wins
        options.update(mark.kwargs)
    env = Embedded(taskq_app, **options)
    if not inspect.iscoroutinefunction(request.function):
        with env as blocking:
            yield blocking
        return
    # It begins on the loop of the test, whichever plugin runs that: here there is none yet.
    env.take_over()
    try:
        yield env
    finally:
        env.close_from_outside()


@pytest.fixture
def taskq_broker() -> "Iterator[Fleet]":
    """A real broker on a free port, for one test. `taskq_broker.url` is its address."""
    from taskq.testing.fleet import Fleet

    with Fleet() as fleet:
        asyncio.run(fleet.start_broker())
        yield fleet


@pytest.fixture
def taskq_worker(taskq_broker: "Fleet") -> Callable[..., list[int]]:
    """Starts workers for that broker: `taskq_worker("tasks:q", "-c", "10")`; returns their pids."""

    def start(app: str, *flags: str, count: int = 1) -> list[int]:
        return taskq_broker.start_workers(count, app, *flags)

    return start
