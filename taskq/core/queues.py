"""Ready jobs, in lines. A queue's jobs of one task are a lane, first in first out; workers that
are alike are a pool, and see the lanes that they can serve, the longest waiting first.
"""

from collections import deque
from heapq import heappop, heappush, heapreplace
from typing import Protocol

from msgspec import Struct

from taskq.core.job import READY, Job


class Lane:
    """The ready jobs of one queue and one task.

    A job that stops being ready (cancelled, expired, resumed) stays as a tombstone until it comes
    to the head, or until half of the lane is tombstones.
    """

    def __init__(self, queue: str, task: str, number: int) -> None:
        self.queue = queue
        self.task = task
        self.number = number
        self.jobs: deque[Job] = deque()
        self.sights: list[Sight] = []
        self._gone = 0

    def put(self, job: Job) -> None:
        if not self.jobs:
            self.jobs.append(job)
            for sight in self.sights:
                sight.notice(self, job.turn)
        else:
            self.jobs.append(job)

    def head(self) -> Job | None:
        """The job that has waited longest."""
        jobs = self.jobs
        while jobs:
            job = jobs[0]
            if job.state is READY:
                return job
            jobs.popleft()
            self._gone -= 1
        return None

    def bury(self) -> None:
        """One of the jobs is no longer ready. Amortised O(1)."""
        self._gone += 1
        if self._gone > 32 and self._gone * 2 > len(self.jobs):
            self.jobs = deque(job for job in self.jobs if job.state is READY)
            self._gone = 0

    def __len__(self) -> int:
        return len(self.jobs) - self._gone


class Sight(Struct, eq=False):
    """What a pool sees of a queue: its lanes that have jobs, by how long their heads have waited."""

    pool: "Watcher"
    queue: str
    heap: list[tuple[int, int, Lane]] = []
    present: dict[int, None] = {}

    def notice(self, lane: Lane, turn: int) -> None:
        """A lane has jobs."""
        if lane.number not in self.present:
            self.present[lane.number] = None
            heappush(self.heap, (turn, lane.number, lane))
        self.pool.wake()

    def first(self) -> Lane | None:
        """The lane whose head has waited longest. Entries are corrected when they come up."""
        heap = self.heap
        while heap:
            turn, number, lane = heap[0]
            job = lane.head()
            if job is None:
                heappop(heap)
                del self.present[number]
            elif job.turn != turn:
                heapreplace(heap, (job.turn, number, lane))
            else:
                return lane
        return None


class Watcher(Protocol):
    """A pool, as far as lanes know it."""

    def wake(self) -> None: ...
    def sees(self, lane: Lane) -> bool: ...


class Queues:
    """All lanes, by queue and task."""

    def __init__(self) -> None:
        self.lanes: dict[tuple[str, str], Lane] = {}
        self._sights: dict[str, list[Sight]] = {}
        self._count = 0

    def put(self, job: Job) -> None:
        """A job became ready. (`job.turn` says when.)"""
        terms = job.terms
        lane = self.lanes.get((terms.queue, terms.task))
        if lane is None:
            lane = self._make(terms.queue, terms.task)
        lane.put(job)

    def bury(self, job: Job) -> None:
        """A job that was put here is no longer ready."""
        terms = job.terms
        self.lanes[(terms.queue, terms.task)].bury()

    def open_sight(self, pool: Watcher, queue: str) -> Sight:
        """Let a pool see a queue, with what is in it now and what comes later."""
        sight = Sight(pool, queue)
        self._sights.setdefault(queue, []).append(sight)
        for lane in self.lanes.values():
            if lane.queue == queue and pool.sees(lane):
                self._show(lane, sight)
        return sight

    def close_sight(self, sight: Sight) -> None:
        self._sights[sight.queue].remove(sight)
        for lane in self.lanes.values():
            if sight in lane.sights:
                lane.sights.remove(sight)

    def _make(self, queue: str, task: str) -> Lane:
        if len(self.lanes) > LANES_BEFORE_SWEEP:
            self._sweep()
        self._count += 1
        lane = self.lanes[(queue, task)] = Lane(queue, task, self._count)
        for sight in self._sights.get(queue, ()):
            if sight.pool.sees(lane):
                self._show(lane, sight)
        return lane

    def _show(self, lane: Lane, sight: Sight) -> None:
        lane.sights.append(sight)
        head = lane.head()
        if head is not None:
            sight.notice(lane, head.turn)

    def _sweep(self) -> None:
        """Names come from peers: lanes that are empty must not pile up."""
        self.lanes = {key: lane for key, lane in self.lanes.items() if lane.jobs}


# How many lanes (queue, task) may stand empty before they are looked through.
LANES_BEFORE_SWEEP = 10_000
