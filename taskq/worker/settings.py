"""What a worker is started with, checked before anything runs."""

import os
from dataclasses import dataclass, field
from typing import Final, Literal

from taskq.errors import ConfigError
from taskq.limits import (
    CHILDREN_PER_SUPERVISOR_MAX,
    GRACE_MS,
    SLOTS_MAX,
    SLOW_CALLBACK_LEAST_MS,
    SLOW_CALLBACK_MS,
)
from taskq.worker.offer import Offer, offer_of
from taskq.worker.telling.logs import level_of

# Threads cost memory and take turns under the GIL; beyond this more of them only wait longer.
THREADS_MAX: Final = 32
# Processes that run jobs, of one worker: each is an interpreter with the app in it.
JOB_PROCESSES_MAX: Final = 1_000
# Each child may have a successor beside it for a while.
PROCESSES_MAX: Final = CHILDREN_PER_SUPERVISOR_MAX // 2

LoopName = Literal["auto", "asyncio", "uvloop"]


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """`taskq worker APP`. Raises ConfigError when a value cannot be used.

    Each of `processes` children has `slots` for async tasks and at most THREADS_MAX of them for
    plain functions. No `urls`: those of the app. `queues`, `strict`, `labels` and `resources` are as for
    `offer_of`, `job_logs` as for `level_of`. `burst`: end when the broker has given nothing for a second
    while nothing was running.
    `process_slots`: processes of each child for tasks with executor="process"; 0: as many as there are
    processors for it. A child is replaced after about `max_jobs` jobs, or when it takes more memory than
    `max_memory_bytes`; 0: never.
    `slow_callback_ms`: warn of what keeps an event loop from turning for so long; 0: never.
    `http`: where probes may ask; port 0 picks a free one.
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
    strict: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    resources: dict[str, int] = field(default_factory=dict)
    process_slots: int = 0
    max_jobs: int = 0
    max_memory_bytes: int = 0
    job_logs: str = "info"
    slow_callback_ms: int = SLOW_CALLBACK_MS
    http: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        _check_range("processes", self.processes, PROCESSES_MAX)
        _ = self.capacity
        if self.max_jobs < 0:
            raise ConfigError(f"max_jobs is 1 or more, or 0 for no bound; not {self.max_jobs}")
        if self.max_memory_bytes < 0:
            raise ConfigError(f"max_memory is a size, or 0 for no bound; not {self.max_memory_bytes} bytes")
        if self.grace_ms < 0:
            raise ConfigError(f"grace must not be negative, it is {self.grace_ms} ms")
        level_of(self.job_logs)
        check_slow_callback(self.slow_callback_ms)
        _ = self.offer

    @property
    def offer(self) -> Offer:
        """What is announced beside the tasks. Raises ConfigError, though not once we are made."""
        return offer_of(self.queues, strict=self.strict, labels=self.labels, resources=self.resources)

    @property
    def capacity(self) -> dict[str, int]:
        """How many jobs each executor of a child runs at once. Raises ConfigError, as `offer` does."""
        job_processes = self.process_slots or max(_processors() // self.processes, 1)
        return slots_of(self.slots, job_processes)


def slots_of(slots: int, process_slots: int = 0) -> dict[str, int]:
    """The capacity of each executor for `-c SLOTS`; 0 processes: as many as there are processors.
    Raises ConfigError."""
    _check_range("slots", slots, SLOTS_MAX)
    job_processes = process_slots or min(_processors(), JOB_PROCESSES_MAX)
    _check_range("process slots", job_processes, JOB_PROCESSES_MAX)
    return {"async": slots, "thread": min(slots, THREADS_MAX), "process": job_processes}


def _processors() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_slow_callback(millis: int) -> int:
    """Returns it. Raises ConfigError."""
    if millis and millis < SLOW_CALLBACK_LEAST_MS:
        raise ConfigError(
            f"slow_callback is 0, for no warnings, or at least {SLOW_CALLBACK_LEAST_MS} ms; not {millis} ms"
        )
    return millis


def _check_range(what: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise ConfigError(f"{what} must be from 1 to {maximum}, not {value}")
