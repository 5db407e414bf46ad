"""What probes ask a worker over HTTP: does it live, does it take jobs, how is it. The supervisor answers, so
a task that blocks its event loop does not get its pod killed.
"""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from taskq.errors import ConfigError

logger = logging.getLogger("taskq.worker")

Page = Callable[[], tuple[HTTPStatus, str]]


class Pages(Protocol):
    """Who serves pages. It comes from whoever runs the worker: servers are the broker's side."""

    async def start(self, host: str, port: int) -> tuple[str, int]: ...
    async def close(self) -> None: ...


MakePages = Callable[[dict[str, Page]], Pages]


@dataclass(frozen=True)
class Standing:
    """How a worker is, at a moment."""

    processes: int
    wanted: int
    restarts: int
    is_connected: bool
    is_held: bool
    is_stopping: bool

    @property
    def trouble(self) -> str:
        """Why it takes no jobs; empty: it does."""
        if self.is_stopping:
            return "stopping"
        if not self.processes:
            return "no process runs"
        if not self.is_connected:
            return "not connected to the broker"
        return "drained" if self.is_held else ""


@asynccontextmanager
async def serving(
    standing: Callable[[], Standing], http: tuple[str, int] | None, make_pages: MakePages | None
) -> AsyncGenerator[None, None]:
    """Pages at this address while the block runs; without one, none. Raises ConfigError."""
    if http is None or make_pages is None:
        yield
        return
    pages = make_pages(pages_of(standing))
    host, port = http
    try:
        host, port = await pages.start(host, port)
    except OSError as error:
        raise ConfigError(f"http {host}:{port} cannot be served: {error.strerror or error}") from None
    logger.info("serving http://%s:%d", host, port)
    try:
        yield
    finally:
        await pages.close()


def pages_of(standing: Callable[[], Standing]) -> dict[str, Page]:
    """The pages, by their paths."""

    def readyz() -> tuple[HTTPStatus, str]:
        trouble = standing().trouble
        return (HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n") if trouble else (HTTPStatus.OK, "ready\n")

    return {
        "/healthz": lambda: (HTTPStatus.OK, "alive\n"),
        "/readyz": readyz,
        "/metrics": lambda: (HTTPStatus.OK, _metrics(standing())),
    }


def _metrics(standing: Standing) -> str:
    samples = (
        ("processes", "gauge", "Processes that run jobs.", standing.processes),
        ("processes_wanted", "gauge", "Processes that there should be.", standing.wanted),
        ("restarts_total", "counter", "Processes that were replaced.", standing.restarts),
        ("connected", "gauge", "1: connected to the broker.", int(standing.is_connected)),
        ("drained", "gauge", "1: told to take nothing more.", int(standing.is_held)),
    )
    return "".join(
        f"# HELP taskq_worker_{name} {text}\n# TYPE taskq_worker_{name} {kind}\ntaskq_worker_{name} {value}\n"
        for name, kind, text, value in samples
    )
