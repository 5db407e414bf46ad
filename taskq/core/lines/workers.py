"""Workers: what each can run, how much room it has, and what it holds. Workers that are alike form
a pool, whose members with room take turns.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct

from taskq.core.job import Job
from taskq.core.lines.lanes import Lane
from taskq.core.lines.queues import Queues
from taskq.core.lines.sights import Sight
from taskq.protocol.messages import Announce, ProgressItem

Needs = tuple[tuple[str, int], ...]  # so much of each resource


class Slots(Struct, eq=False):
    """The room of one worker for one executor."""

    worker: "Worker"
    pool: "Pool"
    capacity: int = 0
    extra: int = 0  # how much of the capacity is more than it runs at once
    running: int = 0
    in_ring: bool = False
    ticket: int = 0

    def give_back(self) -> None:
        self.running -= 1
        self.pool.offer(self)

    @property
    def excess(self) -> int:
        """How many it holds more than it runs at once; below 0: so many of its slots are free."""
        return self.running - (self.capacity - self.extra)


class Likeness(NamedTuple):
    """What makes workers alike to every job, but for what they have left of their resources."""

    queues: tuple[str, ...]
    weights: tuple[int, ...]
    is_strict: bool
    tasks: frozenset[str]
    labels: frozenset[tuple[str, str]]
    resources: frozenset[str]


class Pool:
    """Workers that are alike, under one executor."""

    def __init__(self, roster: "Roster", likeness: Likeness) -> None:
        self.likeness = likeness
        self.members = 0
        self.ring: deque[Slots] = deque()  # with room, who waited longest first
        self.awake = False  # it may have both room and jobs
        self.queues = roster.queues
        self._roster = roster
        # By their needs, of which no member has enough left: lanes in the order in which they came.
        self._starved: dict[Needs, deque[Lane]] = {}
        self.sights: deque[Sight] = deque()
        for queue, weight in zip(likeness.queues, likeness.weights, strict=True):
            sight = self.queues.open_sight(self, queue)
            sight.weight = sight.left = weight
            self.sights.append(sight)

    def sees(self, lane: Lane) -> bool:
        route = lane.route
        if route.task not in self.likeness.tasks:
            return False
        if not route.labels and not route.resources:
            return True
        names = self.likeness.resources
        return self.likeness.labels.issuperset(route.labels) and all(
            name in names for name, _ in route.resources
        )

    def wake(self) -> None:
        if not self.awake and self.ring:
            self.awake = True
            self._roster.awake.append(self)

    def offer(self, slots: Slots) -> None:
        """A member may have room: it goes to the end of the ring, unless it stands in it."""
        if slots.running >= slots.capacity or not slots.worker.is_open:
            return
        if not slots.in_ring:
            slots.in_ring = True
            slots.ticket = self._roster.next_ticket()
            self.ring.append(slots)
        # Also when it stood in the ring: closed, it was passed over, and now it can serve again.
        if self._starved:
            self.feed(slots.worker)
        self.wake()

    def front(self) -> Slots | None:
        """The member whose turn it is. Those that closed meanwhile leave the ring here."""
        ring = self.ring
        while ring:
            slots = ring[0]
            if slots.running < slots.capacity and slots.worker.is_open:
                return slots
            slots.in_ring = False
            ring.popleft()
        return None

    def served(self, slots: Slots) -> None:
        """A member was given a job: to the end of the ring, if there is still room."""
        if self.ring[0] is slots:
            self.ring.popleft()
        else:  # those before it lacked a resource
            self.ring.remove(slots)
        slots.running += 1
        if slots.running < slots.capacity:
            slots.ticket = self._roster.next_ticket()
            self.ring.append(slots)
        else:
            slots.in_ring = False

    def next_lane(self, now_ms: int) -> tuple[Sight, Lane] | None:
        """The lane whose head is next: queues take turns of their weights, or have an order."""
        sights = self.sights
        if len(sights) == 1:
            sight = sights[0]
            lane = sight.first(now_ms)
            return (sight, lane) if lane is not None else None
        if self.likeness.is_strict:
            for sight in sights:
                lane = sight.first(now_ms)
                if lane is not None:
                    return sight, lane
            return None
        for _ in range(len(sights)):
            sight = sights[0]
            lane = sight.first(now_ms)
            if lane is None:
                self._next_sight(sight)
                continue
            sight.left -= 1
            if sight.left <= 0:
                self._next_sight(sight)
            return sight, lane
        return None

    def with_resources(self, lane: Lane) -> Slots | None:
        """The member whose turn it is, of those that have enough left. None: nobody has."""
        for slots in self.ring:
            if slots.running < slots.capacity and slots.worker.is_open and slots.worker.has(lane.needs):
                return slots
        return None

    def starve(self, sight: Sight) -> None:
        """Nobody has the resources for the sight's first lane: it waits until somebody gives some back."""
        lane = sight.set_aside()
        self._starved.setdefault(lane.needs, deque()).append(lane)

    def feed(self, worker: "Worker") -> None:
        """A member has more resources than before: as many lanes as it could take a job of come back."""
        for needs, lanes in list(self._starved.items()):
            for _ in range(min(worker.room_for(needs), len(lanes))):
                self.feed_next(needs)

    def feed_next(self, needs: Needs) -> None:
        """The next lane of these needs comes back into line: there may be enough for it."""
        lanes = self._starved.get(needs)
        while lanes:
            lane = lanes.popleft()
            if lane.parked is None and lane.head() is not None:
                lane.show()
                break
        if lanes is not None and not lanes:
            del self._starved[needs]

    def prune(self) -> None:
        """Lanes that have no jobs any more must not starve for ever."""
        for needs, lanes in list(self._starved.items()):
            here = deque(lane for lane in lanes if lane.head() is not None)
            if here:
                self._starved[needs] = here
            else:
                del self._starved[needs]

    def _next_sight(self, sight: Sight) -> None:
        sight.left = sight.weight
        self.sights.rotate(-1)


class Worker:
    """One worker session. It outlives its connection: leases belong to it, not to the socket."""

    def __init__(self, session: bytes, name: str) -> None:
        self.session = session
        self.name = name
        self.peer = 0  # its connection; 0: none at the moment
        self.held: dict[int, Job] = {}  # lease -> job; also when the job ended, until it reports
        self.slots: dict[str, Slots] = {}  # by executor
        self.by_task: dict[str, Slots] = {}
        self.queues: list[str] = []
        self.is_open = False  # may be given jobs: resumed, connected, reading, not draining
        self.resumed = False
        self.draining = False  # it says so
        self.is_held = False  # somebody had its supervisor tell it so
        self.blocked = False
        self.reported = 0  # the newest report that was handled
        self.extended: dict[int, int] = {}  # lease -> deadline it asked for, boot ms
        self.progress: dict[int, ProgressItem] = {}  # lease -> the latest
        self.lost_ms = 0  # boot; when its connection was lost
        self.unreported: dict[int, Job] = {}  # while it resumes: held by our books, not yet named by it
        self.labels: dict[str, str] = {}
        self.capacities: dict[str, int] = {}  # its resources
        self.resources: dict[str, int] = {}  # what is left of them
        # As it says, for people.
        self.host = ""
        self.pid = 0
        self.version = ""
        self.started_ms = 0  # wall

    @property
    def is_drained(self) -> bool:
        """It is to get no more, by whoever's word."""
        return self.draining or self.is_held

    def has(self, needs: Needs) -> bool:
        """Is so much left?"""
        return all(self.resources.get(name, 0) >= count for name, count in needs)

    def room_for(self, needs: Needs) -> int:
        """How many jobs of these needs are there enough resources for?"""
        return min(max(self.resources.get(name, 0), 0) // count for name, count in needs)

    def use(self, needs: Needs) -> None:
        for name, count in needs:
            self.resources[name] = self.resources.get(name, 0) - count

    def return_resources(self, needs: Needs) -> None:
        """A job that used so much is no longer here."""
        if not needs:
            return
        for name, count in needs:
            if name in self.resources:
                self.resources[name] += count
        for slots in self.slots.values():
            slots.pool.feed(self)

    def note(self, items: list[ProgressItem]) -> None:
        """How far it has come with what it holds; the latest word of each."""
        for item in items:
            if item.lease in self.held:
                self.progress[item.lease] = item

    def drop_notes(self, lease: int) -> None:
        """Forget what was noted about an attempt."""
        self.extended.pop(lease, None)
        self.progress.pop(lease, None)

    def refresh(self) -> None:
        """Derive whether it may be given jobs, and offer its room."""
        self.is_open = bool(self.peer) and self.resumed and not self.is_drained and not self.blocked
        if self.is_open:
            for slots in self.slots.values():
                slots.pool.offer(slots)


class Roster:
    """All workers, their pools, and whose turn it is."""

    def __init__(self, queues: Queues) -> None:
        self.queues = queues
        self.workers: dict[bytes, Worker] = {}
        self.awake: list[Pool] = []
        self._pools: dict[Likeness, Pool] = {}
        self._ticket = 0

    def next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def announce(self, worker: Worker, announce: Announce) -> None:
        """What a worker can run and how much of it; replaces what it said before."""
        before, worker.slots, worker.by_task = worker.slots, {}, {}
        worker.queues = list(dict.fromkeys(announce.queues))
        worker.labels = announce.labels
        worker.capacities = announce.resources
        worker.resources = dict(announce.resources)
        worker.host, worker.pid = announce.host, announce.pid
        worker.version, worker.started_ms = announce.version, announce.started_ms
        weights = dict(zip(announce.queues, announce.weights, strict=False))
        tasks: dict[str, list[str]] = {}
        for task, executor in announce.tasks.items():
            tasks.setdefault(executor, []).append(task)
        for executor, names in tasks.items():
            likeness = Likeness(
                queues=tuple(worker.queues),
                weights=tuple(weights.get(queue, 1) for queue in worker.queues),
                is_strict=announce.is_strict,
                tasks=frozenset(names),
                labels=frozenset(announce.labels.items()),
                resources=frozenset(announce.resources),
            )
            slots = Slots(worker, self._join(likeness))
            slots.capacity = announce.slots.get(executor, 0)
            slots.extra = min(announce.extra.get(executor, 0), slots.capacity)
            worker.slots[executor] = slots
            worker.by_task.update(dict.fromkeys(names, slots))
        # After it has joined: a pool of its own must not be closed and opened to change a number, for that
        # looks at every lane there is.
        self._leave(before.values())
        for job in worker.held.values():
            held = worker.by_task.get(job.terms.task)
            if held is not None:
                held.running += 1
            worker.use(job.terms.resources)
        worker.refresh()

    def held(self, lease: int) -> Job | None:
        """The job that runs under this lease, wherever."""
        for worker in self.workers.values():
            job = worker.held.get(lease)
            if job is not None:
                return job
        return None

    def remove(self, worker: Worker) -> None:
        worker.is_open = False
        self._leave(worker.slots.values())
        worker.slots, worker.by_task = {}, {}
        self.workers.pop(worker.session, None)

    def turns(self, now_ms: int) -> Iterator[tuple[Slots, Job, Lane]]:
        """Who gets what, one job each in turn, until no one has room for what there is.

        All pools together are one ring: the front with the oldest ticket is next.
        """
        awake = self.awake
        while awake:
            pool = awake[0] if len(awake) == 1 else min(awake, key=_front_ticket)
            slots = pool.front()
            found = pool.next_lane(now_ms) if slots is not None else None
            if slots is None or found is None:
                pool.awake = False
                awake.remove(pool)
                continue
            sight, lane = found
            if lane.needs:
                slots = pool.with_resources(lane)
                if slots is None:
                    pool.starve(sight)
                    continue
                slots.worker.use(lane.needs)
            job = lane.jobs.popleft()
            if len(sight.ring) > 1:
                sight.next_key()
            pool.served(slots)
            yield slots, job, lane

    def _join(self, likeness: Likeness) -> Pool:
        pool = self._pools.get(likeness)
        if pool is None:
            pool = self._pools[likeness] = Pool(self, likeness)
        pool.members += 1
        return pool

    def _leave(self, all_slots: Iterable[Slots]) -> None:
        for slots in all_slots:
            pool = slots.pool
            if slots.in_ring:
                pool.ring.remove(slots)
                slots.in_ring = False
            pool.members -= 1
            if not pool.members:
                self._close(pool)

    def _close(self, pool: Pool) -> None:
        self._pools = {key: other for key, other in self._pools.items() if other is not pool}
        for sight in pool.sights:
            self.queues.close_sight(sight)
        if pool.awake:
            pool.awake = False
            self.awake.remove(pool)


def _front_ticket(pool: Pool) -> int:
    return pool.ring[0].ticket if pool.ring else 0
