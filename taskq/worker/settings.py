"""What a worker is started with, checked before anything runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from taskq.errors import ConfigError
from taskq.limits import (
    CHILDREN_PER_SUPERVISOR_MAX,
    GRACE_MS,
    NAME_CHARS_MAX,
    QUEUES_PER_WORKER_MAX,
    SLOTS_MAX,
)

# Threads cost memory and take turns under the GIL; beyond this more of them only wait longer.
THREADS_MAX: Final = 32

LoopName = Literal["auto", "asyncio", "uvloop"]


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """`taskq worker APP`. Raises ConfigError when a value cannot be used.

    Each of `processes` children has `slots` for async tasks and at most THREADS_MAX of them for
    plain functions. No `urls`: those of the app. No `queues`: "default", and every queue that a
    task of the app names. `burst`: end when the broker has given nothing for a second while
    nothing was running.
    """

    app: str
    urls: tuple[str, ...] = ()
    token: str | None = None
    queues: tuple[str, ...] = ()
    slots: int = 100
    processes: int = 1
    grace_ms: int = GRACE_MS
    burst: bool = False
    name: str = ""
    loop: LoopName = "auto"

    def __post_init__(self) -> None:
        slots_of(self.slots)
        _check_range("processes", self.processes, CHILDREN_PER_SUPERVISOR_MAX)
        if self.grace_ms < 0:
            raise ConfigError(f"grace must not be negative, it is {self.grace_ms} ms")
        check_queues(self.queues)


def slots_of(slots: int) -> dict[str, int]:
    """The capacity of each executor for `-c SLOTS`. Raises ConfigError."""
    _check_range("slots", slots, SLOTS_MAX)
    return {"async": slots, "thread": min(slots, THREADS_MAX)}


def parse_queues(text: str) -> tuple[str, ...]:
    """Names from `-q high,default`. Raises ConfigError."""
    queues = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not queues:
        raise ConfigError("no queue is named; write -q high,default")
    check_queues(queues)
    return queues


def check_queues(queues: Sequence[str]) -> None:
    """Raises ConfigError for what is not the name of a queue, or too many of them."""
    if len(queues) > QUEUES_PER_WORKER_MAX:
        raise ConfigError(f"{len(queues)} queues; a worker takes at most {QUEUES_PER_WORKER_MAX}")
    for name in queues:
        queue, _, weight = name.rpartition(":")
        if queue and weight.isdigit():
            raise ConfigError(
                f"queue {name!r}: this version has no weights; write {queue!r} (queues take turns)"
            )
        if not 0 < len(name) <= NAME_CHARS_MAX:
            raise ConfigError(f"a queue's name has 1 to {NAME_CHARS_MAX} characters, this has {len(name)}")


def queues_of(named: Sequence[str], used_by_tasks: Iterable[str]) -> list[str]:
    """The queues a worker serves: those named, or else "default" and each that a task uses."""
    return list(named) if named else list(dict.fromkeys(["default", *used_by_tasks]))


def _check_range(what: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise ConfigError(f"{what} must be from 1 to {maximum}, not {value}")
