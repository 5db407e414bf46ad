"""Who waits for which job's outcome."""

from taskq.core.outbox import Outbox
from taskq.core.peers import Peers
from taskq.core.records import SuccessItem
from taskq.core.state import Kept, State
from taskq.protocol.messages import Outcome


class Watchers:
    """Peers that watch jobs. A peer that went away is noticed when there would be something to say."""

    def __init__(self, state: State, peers: Peers, out: Outbox) -> None:
        self.by_job: dict[bytes, int | tuple[int, ...]] = {}
        self._state = state
        self._peers = peers.peers
        self._out = out

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
            else:
                self._out.outcome(peer, Outcome(job_id, "unknown"))

    def unwatch(self, peer: int, ids: list[bytes]) -> None:
        for job_id in ids:
            watching = self.by_job.pop(job_id, ())
            others = tuple(other for other in _all(watching) if other != peer)
            if others:
                self.by_job[job_id] = others

    def ended(self, job_id: bytes, outcome: Outcome) -> None:
        """A job has an outcome: say so to those who wait."""
        watching = self.by_job.pop(job_id, None)
        if watching is None:
            return
        if isinstance(watching, int):
            if watching in self._peers:
                self._out.outcome(watching, outcome)
            return
        for peer in watching:
            if peer in self._peers:
                self._out.outcome(peer, outcome)

    def _join(self, others: int | tuple[int, ...], peer: int) -> tuple[int, ...]:
        alive = (other for other in _all(others) if other in self._peers)
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
