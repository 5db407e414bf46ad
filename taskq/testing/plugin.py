"""The pytest plugin that comes with the package: `taskq_broker` and `taskq_worker`."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from taskq.testing.fleet import Fleet


@pytest.fixture
def taskq_broker() -> Iterator[Fleet]:
    """A real broker on a free port, for one test. `taskq_broker.url` is its address."""
    with Fleet() as fleet:
        asyncio.run(fleet.start_broker())
        yield fleet


@pytest.fixture
def taskq_worker(taskq_broker: Fleet) -> Callable[..., list[int]]:
    """Starts workers for that broker: `taskq_worker("tasks:q", "-c", "10")`; returns their pids."""

    def start(app: str, *flags: str, count: int = 1) -> list[int]:
        return taskq_broker.start_workers(count, app, *flags)

    return start
