"""What a worker is started with, checked before anything runs."""

from dataclasses import dataclass, field
from typing import Final, Literal

from taskq.errors import ConfigError
from taskq.limits import CHILDREN_PER_SUPERVISOR_MAX, GRACE_MS, SLOTS_MAX
from taskq.worker.offer import Offer, offer_of

# Threads cost memory and take turns under the GIL; beyond this more of them only wait longer.
THREADS_MAX: Final = 32

LoopName = Literal["auto", "asyncio", "uvloop"]


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """`taskq worker APP`. Raises ConfigError when a value cannot be used.

    Each of `processes` children has `slots` for async tasks and at most THREADS_MAX of them for
    plain functions. No `urls`: those of the app. `queues`, `strict`, `labels` and `resources` are as for
    `offer_of`. `burst`: end when the broker has given nothing for a second while nothing was running.
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

    def __post_init__(self) -> None:
        slots_of(self.slots)
        _check_range("processes", self.processes, CHILDREN_PER_SUPERVISOR_MAX)
        if self.grace_ms < 0:
            raise ConfigError(f"grace must not be negative, it is {self.grace_ms} ms")
        _ = self.offer

    @property
    def offer(self) -> Offer:
        """What is announced beside the tasks. Raises ConfigError, though not once we are made."""
        return offer_of(self.queues, strict=self.strict, labels=self.labels, resources=self.resources)


def slots_of(slots: int) -> dict[str, int]:
    """The capacity of each executor for `-c SLOTS`. Raises ConfigError."""
    _check_range("slots", slots, SLOTS_MAX)
    return {"async": slots, "thread": min(slots, THREADS_MAX)}


def _check_range(what: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise ConfigError(f"{what} must be from 1 to {maximum}, not {value}")
