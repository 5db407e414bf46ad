"""Ready jobs, in lines. A queue's jobs of one task are a lane, first in first out; workers that
are alike are a pool, and see the lanes that they can serve, the longest waiting first.
"""

from collections import deque
from heapq import heappop, heappush, heapreplace
from typing import Protocol

from msgspec import Struct

from taskq.core.job import Job


class Lane:
    """The ready jobs of one queue and one task.

    A job that stops being ready (cancelled, expired, resumed) stays in its place as a tombstone
    until it comes to the head, or until half of the lane is tombstones. When it is ready again
    before that, it has its place back: a job must never stand in line twice.
    """

    def __init__(self, queue: str, task: str, number: int) -> None:
        self.queue = queue
        self.task = task
        self.number = number
        self.jobs: deque[Job] = deque()
        self.sights: list[Sight] = []
        self._gone: set[int] = set()  # `id()` of the tombstones; who stands in `jobs` keeps it unique

    def put(self, job: Job) -> None:
        if self._gone and id(job) in self._gone:
            self._gone.remove(id(job))
        elif not self.jobs:
            self.jobs.append(job)
            for sight in self.sights:
                sight.notice(self, job.turn)
        else:
            self.jobs.append(job)

    def head(self) -> Job | None:
        """The job that has waited longest."""
        jobs, gone = self.jobs, self._gone
        while jobs:
            job = jobs[0]
            if not gone or id(job) not in gone:
                return job
            jobs.popleft()
            gone.remove(id(job))
        return None

    def bury(self, job: Job) -> None:
        """One of the jobs is no longer ready. Amortised O(1)."""
        gone = self._gone
        gone.add(id(job))
        if len(gone) > 32 and len(gone) * 2 > len(self.jobs):
            self.jobs = deque(job for job in self.jobs if id(job) not in gone)
            gone.clear()

    def __len__(self) -> int:
        return len(self.jobs) - len(self._gone)


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
        self._aside: dict[bytes, Job] = {}
        self._sights: dict[str, list[Sight]] = {}
        self._count = 0
        self._sweep_at = LANES_BEFORE_SWEEP

    def put(self, job: Job) -> None:
        """A job became ready. (`job.turn` says when.)"""
        terms = job.terms
        lane = self.lanes.get((terms.queue, terms.task))
        if lane is None:
            lane = self._make(terms.queue, terms.task)
        lane.put(job)

    def put_aside(self, job: Job) -> None:
        """A job is ready, but nobody is to have it before `take_aside`."""
        self._aside[job.id] = job

    def take_aside(self) -> list[Job]:
        """The jobs put aside that are still ready; they are to be put in line now."""
        jobs, self._aside = list(self._aside.values()), {}
        return jobs

    @property
    def aside(self) -> int:
        return len(self._aside)

    def bury(self, job: Job) -> None:
        """A job that was put here is no longer ready."""
        if self._aside and self._aside.pop(job.id, None) is not None:
            return
        terms = job.terms
        self.lanes[(terms.queue, terms.task)].bury(job)

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
        if len(self.lanes) > self._sweep_at:
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
        # Twice what is left: a sweep costs O(1) for each lane made since the last one.
        self._sweep_at = max(2 * len(self.lanes), LANES_BEFORE_SWEEP)


# How many lanes (queue, task) may stand empty before they are looked through.
LANES_BEFORE_SWEEP = 10_000
