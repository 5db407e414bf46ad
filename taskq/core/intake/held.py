"""Submissions that wait for room in a bounded queue: first come, first served, in memory only.

Their peers were told so, and send them again when they come back: what is here may always be forgotten.
"""

from collections import deque
from typing import TypeVar

from msgspec import Struct

from taskq import limits
from taskq.core.job import ext_bytes
from taskq.protocol.messages import JobSpec, Terms

K = TypeVar("K")


class Held(Struct, gc=False, eq=False):
    """One of them."""

    peer: int
    session: bytes
    seq: int
    terms: Terms
    spec: JobSpec

    @property
    def size(self) -> int:
        """What its job will carry."""
        return len(self.spec.payload) + ext_bytes(self.spec.ext)


class HeldBack:
    """All of them, by queue."""

    def __init__(self) -> None:
        self.by_queue: dict[str, deque[Held]] = {}
        self.jobs = 0
        self.bytes = 0  # in memory
        self.ids: dict[bytes, int] = {}  # of their jobs, and how often: several may submit one job
        self._of_peer: dict[int, int] = {}  # how many

    def hold(self, held: Held) -> bool:
        """Keep it until there is room. False: there are too many already."""
        cost = _cost(held)
        if self.jobs >= limits.HELD_JOBS_MAX or self.bytes + cost > limits.HELD_BYTES_MAX:
            return False
        self.by_queue.setdefault(held.terms.queue, deque()).append(held)
        self._of_peer[held.peer] = self._of_peer.get(held.peer, 0) + 1
        self.ids[held.spec.id] = self.ids.get(held.spec.id, 0) + 1
        self.jobs += 1
        self.bytes += cost
        return True

    def first(self, queue: str) -> Held | None:
        waiting = self.by_queue.get(queue)
        return waiting[0] if waiting else None

    def take(self, queue: str) -> Held:
        """The first of a queue, which is decided now."""
        waiting = self.by_queue[queue]
        held = waiting.popleft()
        if not waiting:
            del self.by_queue[queue]
        self._let_go(held)
        return held

    def take_all(self, job_id: bytes) -> list[Held]:
        """All that would submit this job, out of their turn. O(n) where one does."""
        found: list[Held] = []
        if job_id not in self.ids:
            return found
        for queue, waiting in list(self.by_queue.items()):
            mine = [held for held in waiting if held.spec.id == job_id]
            for held in mine:
                waiting.remove(held)
                self._let_go(held)
            if not waiting:
                del self.by_queue[queue]
            found += mine
        return found

    def forget(self, peer: int) -> list[bytes]:
        """A peer is gone; the jobs that it waited for."""
        gone: list[bytes] = []
        if peer not in self._of_peer:
            return gone
        for queue, waiting in list(self.by_queue.items()):
            kept: deque[Held] = deque()
            for held in waiting:
                if held.peer == peer:
                    self._let_go(held)
                    gone.append(held.spec.id)
                else:
                    kept.append(held)
            if kept:
                self.by_queue[queue] = kept
            else:
                del self.by_queue[queue]
        return gone

    def _let_go(self, held: Held) -> None:
        self.jobs -= 1
        self.bytes -= _cost(held)
        _take_one(self._of_peer, held.peer)
        _take_one(self.ids, held.spec.id)


def _cost(held: Held) -> int:
    return held.size + limits.JOB_OVERHEAD_BYTES


def _take_one(counts: dict[K, int], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
