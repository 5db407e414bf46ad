"""Lanes: jobs that are alike to every decision, in the order in which they became ready."""

from collections import deque
from typing import Final, NamedTuple, Protocol

from taskq import limits
from taskq.core.job import Job
from taskq.core.lines.gates import Gate, Group
from taskq.protocol.messages import Terms

# What a point of priority is worth, in the unit of `Job.turn`.
STEP_US: Final = limits.PRIORITY_STEP_MS * 1_000
# Tombstones are taken out when they are more than these, and one place in so many.
GONE_MIN: Final = 32
GONE_PART: Final = 8
# Places looked at for each burial then: a pass is over before there could be many more of them.
PLACES_PER_BURIAL: Final = 2 * GONE_PART


class Route(NamedTuple):
    """What tells jobs of one lane from those of another."""

    queue: str
    key: str
    task: str
    priority: int
    labels: tuple[tuple[str, str], ...]
    resources: tuple[tuple[str, int], ...]


def route_of(terms: Terms, key: str) -> Route:
    return Route(terms.queue, key, terms.task, terms.priority, terms.labels, terms.resources)


class Viewer(Protocol):
    """What a pool sees of a queue, as far as lanes know it."""

    def notice(self, lane: "Lane") -> bool: ...


class Lane:
    """The ready jobs of one route, first in first out.

    A job that stops being ready (cancelled, expired, resumed) stays in its place as a tombstone
    until it comes to the head, or until a part of the lane is tombstones: then a pass takes them out,
    a few places for each burial, for a million that are cancelled must not hold up the loop. When it
    is ready again before that, it has its place back: a job must never stand in line twice.

    The line is `jobs`, and then those that the pass has yet to look at: `_rest`.

    Priority is a head start: each point counts as a minute of waiting. So the rank of a job never
    changes, larger goes first, and low is never starved.
    """

    def __init__(self, route: Route, number: int) -> None:
        self.route = route
        self.queue = route.queue
        self.key = route.key
        self.task = route.task
        self.needs = route.resources
        self.number = number
        self.jobs: deque[Job] = deque()
        self.sights: list[Viewer] = []
        self.gates: tuple[Gate, ...] = ()  # all that count its jobs
        self.doors: tuple[Gate, ...] = ()  # those of them that hold up this lane alone, not its key or queue
        self.group: Group = (route.queue, route.labels, route.resources)
        self.parked: Gate | None = None
        self.siblings: list[Lane] = []  # that differ in their priority only; and itself
        self.head_start_us = route.priority * STEP_US
        self._rest: deque[Job] = deque()
        self._gone: set[int] = set()  # `id()` of the tombstones; who stands in line keeps it unique

    def rank(self, job: Job) -> int:
        """Who has the smallest is next."""
        return job.turn - self.head_start_us

    def put(self, job: Job) -> None:
        if self._gone and id(job) in self._gone:
            self._gone.remove(id(job))
        elif self._rest:
            self._rest.append(job)
        elif not self.jobs:
            self.jobs.append(job)
            self.show()
        else:
            self.jobs.append(job)

    def put_back(self, job: Job) -> None:
        """In front of all that are of its rank or later: mostly the front, where it has been before."""
        if id(job) in self._gone:  # its place is still there
            self._gone.remove(id(job))
        elif self.jobs and self.rank(job) <= self.rank(self.jobs[0]):
            self.jobs.appendleft(job)
        else:
            self.jobs.insert(self._bisect(self.rank(job)), job)
        self.show()

    def head(self) -> Job | None:
        """The job that has waited longest."""
        jobs, gone = self.jobs, self._gone
        while jobs or self._rest:
            if not jobs:
                self.jobs, self._rest = self._rest, jobs
                jobs = self.jobs
            job = jobs[0]
            if not gone or id(job) not in gone:
                return job
            jobs.popleft()
            gone.remove(id(job))
        return None

    def bury(self, job: Job) -> None:
        """One of the jobs is no longer ready. O(1), and no burial takes much longer than another."""
        jobs, gone = self.jobs, self._gone
        if jobs and jobs[0] is job and not (gone and id(job) in gone):
            jobs.popleft()  # those who leave together mostly leave from the head on
            return
        gone.add(id(job))
        if len(gone) > GONE_MIN and len(gone) * GONE_PART > self.places:
            self._pass()

    def _pass(self) -> None:
        """Look at the next few places, and take the tombstones out."""
        gone = self._gone
        if not self._rest:
            self.jobs, self._rest = self._rest, self.jobs
        rest, keep = self._rest, self.jobs.append
        for _ in range(min(PLACES_PER_BURIAL, len(rest))):
            job = rest.popleft()
            if id(job) in gone:
                gone.remove(id(job))
            else:
                keep(job)

    def closed_door(self, now_ms: int) -> Gate | None:
        """The gate that holds up this lane, if one does."""
        for gate in self.doors:
            if not gate.is_open(now_ms):
                return gate
        return None

    def unpark(self) -> bool:
        gate, self.parked = self.parked, None
        for sibling in self.siblings:  # of another priority: who goes first is told by the rank
            if sibling.parked is gate:
                sibling.parked = None
                sibling.show()
        return self.show() and self.head() is not None

    @property
    def is_spent(self) -> bool:
        return self.head() is None

    def show(self) -> bool:
        """Let those who serve it know that it has jobs. False: wherever it is seen, its key waits."""
        is_held = bool(self.sights)
        for sight in self.sights:
            if sight.notice(self):
                is_held = False
        return not is_held

    def before(self, rank: int) -> int:
        """At most so many of this lane's jobs come before one of this rank. O(log n) looks."""
        return self._bisect(rank + 1)

    def place(self, job: Job, looks: int) -> int:
        """How many of this lane's jobs come before this one of them, or at most so many."""
        rank = self.rank(job)
        first, end = self._bisect(rank), self._bisect(rank + 1)
        for at in range(first, min(end, first + looks)):
            if self._at(at) is job:
                return at
        return max(end - 1, 0)

    def _bisect(self, rank: int) -> int:
        low, high = 0, self.places
        while low < high:
            middle = (low + high) // 2
            if self.rank(self._at(middle)) < rank:
                low = middle + 1
            else:
                high = middle
        return low

    def _at(self, place: int) -> Job:
        jobs = self.jobs
        return jobs[place] if place < len(jobs) else self._rest[place - len(jobs)]

    @property
    def places(self) -> int:
        """Jobs and tombstones."""
        return len(self.jobs) + len(self._rest)

    def __len__(self) -> int:
        return self.places - len(self._gone)
