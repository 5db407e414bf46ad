"""Who waits for which job's outcome."""

from collections.abc import Container
from typing import Final

from taskq.core.outbox import Outbox
from taskq.core.peers import Peers
from taskq.core.records import SuccessItem
from taskq.core.state import Kept, State
from taskq.protocol.messages import Outcome

# Who watches a job that the broker itself waits for: numbers of connections begin with 1.
OURSELVES: Final = 0


class Watchers:
    """Peers that watch jobs. A peer that went away is noticed when there would be something to say."""

    def __init__(self, state: State, peers: Peers, out: Outbox, held: Container[bytes]) -> None:
        self.by_job: dict[bytes, int | tuple[int, ...]] = {}
        self._state = state
        self._peers = peers.peers
        self._out = out
        self._held = held  # jobs that wait to be accepted
        self.noticed: list[bytes] = []  # tied jobs that have ended in this turn

    def __len__(self) -> int:
        return len(self.by_job)

    def watch(self, peer: int, ids: list[bytes]) -> None:
        """Tell the peer now of what has ended or is not known, and of the others when they end."""
        jobs, outcomes, by_job = self._state.jobs, self._state.outcomes, self.by_job
        for job_id in ids:
            if job_id in jobs:
                others = by_job.setdefault(job_id, peer)
                if others != peer:
                    by_job[job_id] = self._join(others, peer)
            elif (kept := outcomes.get(job_id)) is not None:
                self._out.outcome(peer, outcome_of(kept))
            elif job_id in self._held:
                by_job[job_id] = self._join(by_job.get(job_id, ()), peer)
            else:
                self._out.outcome(peer, Outcome(job_id, "unknown"))

    def tie(self, job_id: bytes) -> None:
        """The broker itself waits for this one's end: it will be in `noticed`."""
        others = self.by_job.setdefault(job_id, OURSELVES)
        if others != OURSELVES:
            self.by_job[job_id] = self._join(others, OURSELVES)

    def take_noticed(self) -> list[bytes]:
        noticed, self.noticed = self.noticed, []
        return noticed

    def unwatch(self, peer: int, ids: list[bytes]) -> None:
        for job_id in ids:
            watching = self.by_job.pop(job_id, ())
            others = tuple(other for other in _all(watching) if other != peer)
            if others:
                self.by_job[job_id] = others

    def not_accepted(self, ids: list[bytes]) -> None:
        """These waited to be accepted, and do so no longer: who waits for what never came is told."""
        if not self.by_job:
            return
        for job_id in ids:
            if job_id not in self._state.jobs and job_id not in self._held:
                kept = self._state.outcomes.get(job_id)
                self.ended(job_id, Outcome(job_id, "unknown") if kept is None else outcome_of(kept))

    def ended(self, job_id: bytes, outcome: Outcome) -> None:
        """A job has an outcome: say so to those who wait."""
        watching = self.by_job.pop(job_id, None)
        if watching is None:
            return
        if isinstance(watching, int) and watching in self._peers:
            self._out.outcome(watching, outcome)
            return
        for peer in _all(watching):
            if peer in self._peers:
                self._out.outcome(peer, outcome)
            elif peer == OURSELVES:
                self.noticed.append(job_id)

    def _join(self, others: int | tuple[int, ...], peer: int) -> tuple[int, ...]:
        alive = (other for other in _all(others) if other == OURSELVES or other in self._peers)
        return tuple(dict.fromkeys((*alive, peer)))


def _all(watching: int | tuple[int, ...]) -> tuple[int, ...]:
    return watching if isinstance(watching, tuple) else (watching,)


def outcome_of(kept: Kept) -> Outcome:
    """An outcome as peers hear it."""
    item = kept.item
    if isinstance(item, SuccessItem):
        return Outcome(
            item.id, "succeeded", item.result, item.flags, attempts=item.failures + item.crashes + 1
        )
    assert item.state in ("cancelled", "expired", "dead")
    return Outcome(
        item.id,
        item.state,
        ending=item.ending,
        fault=item.fault,
        attempts=item.failures + item.crashes,
        reason=item.reason,
    )
