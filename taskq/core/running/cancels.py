"""Cancelling: some jobs, the trees below them, or all of a client that has gone; a slice at a time."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from msgspec import Struct

from taskq import limits
from taskq.core.effects import Now
from taskq.core.job import CANCELLED, RUNNING, Job
from taskq.core.outbox import Outbox
from taskq.core.running.attempts import Attempts
from taskq.core.running.endings import Endings
from taskq.core.state import State
from taskq.protocol.ext import above
from taskq.protocol.messages import Cancel, Receipt, Receipts


class Felling(Struct, eq=False):
    """Jobs that are being cancelled, and who is told when they all are."""

    ids: Iterator[bytes]
    reason: str
    peer: int = 0
    request: int = 0
    receipts: list[Receipt] = []
    count: int = 0


class Cancels:
    """A job that runs has its outcome at once; its worker is told to stop."""

    def __init__(self, state: State, attempts: Attempts, endings: Endings, out: Outbox) -> None:
        self._state = state
        self._attempts = attempts
        self._endings = endings
        self._out = out
        self.work: deque[Felling] = deque()
        # Tops of trees that were cancelled: what is submitted below them comes too late.
        self.felled: OrderedDict[bytes, str] = OrderedDict()

    def cancel(self, peer: int, command: Cancel, now: Now) -> None:
        """Answered when all is done, so that a receipt for a tree is one for all of it."""
        ids = list(dict.fromkeys(command.ids))
        receipts = [Receipt(job_id, self._code(job_id)) for job_id in ids]
        self._end(ids, command.reason, now)
        if not command.tree:
            self._out.say(peer, Receipts(command.request, receipts))
            return
        below: dict[bytes, None] = {}
        for job_id in ids:
            below.update(self._state.kin.below.get(job_id, {}))
            self._remember(job_id, command.reason)
        reason = _reason(command.reason)
        self.work.append(Felling(iter(below), reason, peer, command.request, receipts))

    def cancel_all(self, ids: list[bytes], reason: str) -> None:
        """Nobody waits for an answer."""
        self.work.append(Felling(iter(ids), reason))

    def step(self, now: Now) -> None:
        """Go on with what is being cancelled, at most a slice of it in a turn."""
        budget = limits.CANCEL_SLICE
        while self.work and budget > 0:
            felling = self.work[0]
            part = list(islice(felling.ids, budget))
            felling.count += self._end(part, felling.reason, now)
            if len(part) == budget:
                return  # there may be more
            budget -= len(part) + 1
            self.work.popleft()
            if felling.peer:
                self._out.say(felling.peer, Receipts(felling.request, felling.receipts, felling.count))

    def cancel_late(self, jobs: list[Job], now: Now) -> None:
        """Of these new jobs, those that were submitted inside a tree that was cancelled meanwhile."""
        for job in jobs:
            for upper in above(job.ext) if job.ext else ():
                # A job that has an id of former times is another job.
                if upper in self.felled and upper not in self._state.jobs:
                    self._end([job.id], self.felled[upper], now)
                    break

    # -- parts --------------------------------------------------------------------------------

    def _code(self, job_id: bytes) -> Literal["cancelled", "finished", "unknown"]:
        if job_id in self._state.jobs:
            return "cancelled"
        kept = self._state.outcomes.get(job_id)
        if kept is None:
            return "unknown"
        return "cancelled" if kept.state == CANCELLED else "finished"

    def _end(self, ids: list[bytes], reason: str, now: Now) -> int:
        """Cancel those of them that have no outcome; how many those were."""
        found = [job for job in map(self._state.jobs.get, ids) if job is not None]
        for job in found:
            if job.state is RUNNING:
                self._attempts.revoke(job, reason)
        self._endings.cancel(found, reason, now)
        return len(found)

    def _remember(self, job_id: bytes, reason: str) -> None:
        self.felled[job_id] = _reason(reason)
        while len(self.felled) > limits.FELLED_MAX:
            self.felled.popitem(last=False)


def _reason(reason: str) -> str:
    text = f"a job above it was cancelled: {reason}" if reason else "a job above it was cancelled"
    return text[: limits.TEXT_CHARS_MAX]
