"""What a runner may ask of the process around it, and what that asks of the runner."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from taskq.worker.tree.docket import Docket


def _nobody(_: object) -> None:
    """Stands where a supervisor would be: a process of the user's own cannot be replaced."""


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """Without any: a worker inside the user's own process.

    `app` is what a process that runs jobs imports; without it, what defines the task. `docket` is where the
    supervisor sees whose time is limited. `on_spent` is told, for people, why the process had better be
    replaced; `on_groups` which process groups belong to it. `jobs_max`: it is spent after about so many
    jobs; `memory_bytes_max`: a process that runs jobs is, when it takes more; 0: never.
    """

    app: str = ""
    docket: Docket | None = None
    on_spent: Callable[[str], None] = _nobody
    on_groups: Callable[[list[int]], None] = _nobody
    jobs_max: int = 0
    memory_bytes_max: int = 0


UNSUPERVISED = Supervision()


class Wear:
    """When this process had better be replaced; said once."""

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._is_spent = False
        self.is_counted = supervision.jobs_max > 0

    def count(self, ended: Iterable[int]) -> None:
        """So many jobs have ended, in each executor."""
        jobs = sum(ended)
        if jobs >= self._supervision.jobs_max:
            self.is_counted = False
            self.say(f"it has run {jobs} jobs")

    def say(self, why: str) -> None:
        if not self._is_spent:
            self._is_spent = True
            self._supervision.on_spent(why)
