"""What the broker holds in memory, against its budget: outcomes give way, then submissions are refused."""

from taskq import limits
from taskq.core.intake.held import HeldBack
from taskq.core.job import ext_bytes
from taskq.core.state import State
from taskq.core.telling.feeds import Feeds
from taskq.protocol.messages import JobSpec

_ANY = 1 << 62


class Memory:
    """An estimate: jobs, outcomes, submissions that wait for room, feeds. `budget_bytes` 0: there is none."""

    def __init__(self, state: State, held: HeldBack, feeds: Feeds, budget_bytes: int) -> None:
        self._state = state
        self._held = held
        self._feeds = feeds  # which have a bound of their own
        self._budget_bytes = budget_bytes

    @property
    def taken_bytes(self) -> int:
        # What connections follow has no part in this: it is bounded by its number.
        feeds = min(self._feeds.bytes, self._feeds.bytes_max)
        return self._state.memory_bytes + self._held.bytes + feeds

    @property
    def is_full(self) -> bool:
        return self.left_bytes <= 0

    @property
    def left_bytes(self) -> int:
        """How much more there is room for, once outcomes have made some; very much without a budget."""
        if not self._budget_bytes:
            return _ANY
        return self._budget_bytes - self._firm_bytes - min(self._fleeting_bytes, self._share_bytes)

    @property
    def _fleeting_bytes(self) -> int:
        """Of outcomes that may be dropped; dead jobs have bounds of their own."""
        return self._state.outcome_bytes - self._state.dead_bytes

    @property
    def _firm_bytes(self) -> int:
        return self.taken_bytes - self._fleeting_bytes

    @property
    def _share_bytes(self) -> int:
        return self._budget_bytes // limits.OUTCOME_SHARE

    def has_room(self, specs: list[JobSpec]) -> bool:
        """For all of these?"""
        if not self._budget_bytes:
            return True
        return sum(cost(len(spec.payload) + ext_bytes(spec.ext)) for spec in specs) <= self.left_bytes

    def why_full(self) -> str:
        """Why nothing new is accepted; nothing: it is within its budget."""
        return self.figures() if self.is_full else ""

    def figures(self) -> str:
        """What a refusal says."""
        jobs, outcomes = len(self._state.jobs), len(self._state.outcomes)
        return (
            f"the broker's memory is full: {jobs} jobs, {outcomes} outcomes and {self._held.jobs} held "
            f"submissions take about {_mib(self.taken_bytes)}; its budget is {_mib(self._budget_bytes)}"
        )

    def outcome_budget(self, budget_bytes: int) -> int:
        """What outcomes may take: they make room for jobs, down to their share."""
        if not self._budget_bytes:
            return budget_bytes
        return min(budget_bytes, max(self._budget_bytes - self._firm_bytes, self._share_bytes))


def cost(size: int) -> int:
    """What a job takes that carries so much."""
    return limits.JOB_OVERHEAD_BYTES + size


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
