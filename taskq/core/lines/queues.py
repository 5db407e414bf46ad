"""Queues: ready jobs as workers see them. The keys of a queue take turns; what one key has goes by
rank, the longest waiting first. Workers that are alike are a pool, and see the lanes they can serve.
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush, heapreplace
from itertools import islice
from typing import Protocol

from taskq import limits
from taskq.core.job import Job
from taskq.core.lines.gates import Gate, Group, Scope, Spot
from taskq.core.lines.lanes import Lane, Route, route_of
from taskq.protocol.messages import Terms


class Strand:
    """What a pool sees of one key of a queue: its lanes that have jobs."""

    def __init__(self, sight: "Sight", key: str, gate: Gate | None, weight: int) -> None:
        self.sight = sight
        self.key = key
        self.gate = gate
        self.weight = weight
        self.left = weight  # of its turn
        self.in_ring = False
        self.parked: Gate | None = None
        self.group: Group = sight
        self._heap: list[tuple[int, int, Lane]] = []
        # The lanes in the heap, by number, and the rank of each one's entry: any other of it is void.
        self._present: dict[int, int] = {}

    def notice(self, lane: Lane) -> None:
        """A lane has jobs, or one that goes before those that it had."""
        job = lane.head()
        if job is None:
            return
        rank = lane.rank(job)
        known = self._present.get(lane.number)
        if known is None or rank < known:
            self._present[lane.number] = rank
            heappush(self._heap, (rank, lane.number, lane))
        self.line_up()

    def line_up(self) -> None:
        if not self.in_ring and self.parked is None:
            self.in_ring = True
            self.sight.ring.append(self)
        self.sight.wake()

    def unpark(self) -> bool:
        self.parked = None
        self.line_up()
        return bool(self._heap)

    @property
    def is_spent(self) -> bool:
        return not self._heap

    def first(self, now_ms: int) -> Lane | None:
        """The lane whose head is next. Entries are corrected when they come up."""
        heap = self._heap
        while heap:
            rank, number, lane = heap[0]
            if len(heap) > len(self._present) and self._present.get(number) != rank:
                heappop(heap)
                continue
            job = lane.head()
            if job is None or lane.parked is not None:
                self._leave(lane, now_ms)
            elif lane.doors and (door := lane.closed_door(now_ms)) is not None:
                door.park(lane, now_ms)
                self._leave(lane, now_ms)
            elif job.turn - lane.head_start_us != rank:
                self._present[number] = lane.rank(job)
                heapreplace(heap, (lane.rank(job), number, lane))
            else:
                return lane
        return None

    def pass_on(self, now_ms: int) -> None:
        """The key waits now: rooms that its lanes were woken for are for the next ones."""
        for _, _, lane in self._heap:
            for gate in lane.doors:
                gate.wake(now_ms)

    def set_aside(self) -> Lane:
        """Take the first lane out: nobody here can serve it at the moment."""
        lane = heappop(self._heap)[2]
        del self._present[lane.number]
        return lane

    def _leave(self, lane: Lane, now_ms: int) -> None:
        self.set_aside()
        # It was woken for a room that it does not use: that is for the next one.
        for gate in lane.gates:
            if gate.has_waiting:
                gate.wake(now_ms)
        if lane.needs:
            self.sight.pool.feed_next(lane.needs)

    def lanes(self, most: int) -> list[Lane]:
        return [lane for rank, number, lane in self._heap[:most] if self._present.get(number) == rank]

    @property
    def is_idle(self) -> bool:
        return not self._heap and self.parked is None and not self.in_ring


class Sight:
    """What a pool sees of a queue: the keys that have jobs, in a ring, and whose turn it is."""

    def __init__(self, pool: "Watcher", queue: str, gate: Gate | None) -> None:
        self.pool = pool
        self.queue = queue
        self.gate = gate
        self.weight = 1
        self.left = 1  # of its turn among the queues of the pool
        self.parked: Gate | None = None
        self.group: Group = self
        self.ring: deque[Strand] = deque()
        self.strands: dict[str, Strand] = {}
        self._queues = pool.queues

    def notice(self, lane: Lane) -> bool:
        """A lane has jobs. False: its key waits at a gate."""
        strand = self.strands.get(lane.key)
        if strand is None:
            strand = self.strands[lane.key] = Strand(
                self, lane.key, *self._queues.gate_and_weight(self.queue, lane.key)
            )
        strand.notice(lane)
        return strand.parked is None

    def wake(self) -> None:
        if self.parked is None:
            self.pool.wake()

    def unpark(self) -> bool:
        self.parked = None
        self.pool.wake()
        return bool(self.ring)

    @property
    def is_spent(self) -> bool:
        return not self.ring

    def first(self, now_ms: int) -> Lane | None:
        """The lane that is next: of the key whose turn it is."""
        if self.gate is not None and not self.gate.is_open(now_ms):
            if self.parked is None and self.ring:
                self.gate.park(self, now_ms)
            return None
        ring = self.ring
        while ring:
            strand = ring[0]
            if strand.gate is not None and not strand.gate.is_open(now_ms):
                self._drop_first()
                strand.gate.park(strand, now_ms)
                strand.pass_on(now_ms)
                continue
            lane = strand.first(now_ms)
            if lane is not None:
                return lane
            self._drop_first()
        return None

    def next_key(self) -> None:
        """A job was given. Each key has as many in its turn as its weight."""
        strand = self.ring[0]
        strand.left -= 1
        if strand.left <= 0:
            strand.left = strand.weight
            self.ring.rotate(-1)

    def set_aside(self) -> Lane:
        """The lane that `first` gave can be served by nobody here at the moment."""
        return self.ring[0].set_aside()

    def ahead(self, lane: Lane, job: Job, looks: int) -> int:
        """At most so many jobs are given before this one, as things stand."""
        strand = self.strands.get(lane.key)
        if strand is None:
            return 0
        rank = lane.rank(job)
        mine = lane.place(job, looks)
        mine += sum(other.before(rank) for other in strand.lanes(looks) if other is not lane)
        # While it waits for the turns of its own key, each other key has as many.
        turns = mine // strand.weight + 1
        others = sum(other.weight for other in islice(self.ring, looks) if other is not strand)
        others += max(len(self.ring) - looks, 0)
        return mine + turns * others

    def sweep(self) -> None:
        """Keys that have nothing are forgotten; not each time, for most come again."""
        self.strands = {key: strand for key, strand in self.strands.items() if not strand.is_idle}

    def places(self) -> "list[Sight | Strand]":
        """All that can stand before a gate."""
        return [self, *self.strands.values()]

    def _drop_first(self) -> None:
        strand = self.ring.popleft()
        strand.in_ring = False
        strand.left = strand.weight


class Watcher(Protocol):
    """A pool, as far as its sights know it."""

    queues: "Queues"

    def wake(self) -> None: ...
    def sees(self, lane: Lane) -> bool: ...
    def feed_next(self, needs: tuple[tuple[str, int], ...]) -> None: ...
    def prune(self) -> None: ...


class Registry(Protocol):
    """Who knows the gates and the weights."""

    def gate(self, scope: Scope, name: str, key: str = "") -> Gate | None: ...
    def weight(self, queue: str, key: str) -> int: ...
    def sweep(self, in_use: Iterable[Gate]) -> None: ...
    def prune(self) -> None: ...


class Queues:
    """All lanes, by their routes."""

    def __init__(self, registry: Registry) -> None:
        self.lanes: dict[Route, Lane] = {}
        self._registry = registry
        # Terms know their hash: quicker to find than by the route.
        self._by_terms: dict[Terms, Lane] = {}  # of jobs without a key: most
        self._by_key: dict[Terms, dict[bytes, Lane]] = {}
        self._found = 0  # in both
        self._families: dict[Route, list[Lane]] = {}  # by the route without its priority
        self._of_key: dict[str, list[Lane]] = {}
        self._aside: dict[bytes, Job] = {}
        self._aside_keys: dict[tuple[str, str], None] = {}  # queue and key of some of them
        self._sights: dict[str, list[Sight]] = {}
        self._count = 0
        self._sweep_at = LANES_BEFORE_SWEEP

    def put(self, job: Job) -> None:
        """A job became ready. (`job.turn` says when.)"""
        if self._aside_keys and (job.terms.queue, job.key) in self._aside_keys:
            self.put_aside(job)  # behind those of its key that wait there
        else:
            self.lane(job).put(job)

    def put_back(self, job: Job) -> None:
        """It was ready before, and was given to somebody who has not begun: to the front, by its rank."""
        self.lane(job).put_back(job)

    def lane(self, job: Job) -> Lane:
        """Where the job stands when it is ready."""
        if job.ext is not None and (key := job.ext.get("key")):
            keyed = self._by_key.get(job.terms)
            lane = keyed.get(key) if keyed is not None else None
            if lane is None:
                lane = self._lane(route_of(job.terms, job.key))
                self._forget_some()
                self._by_key.setdefault(job.terms, {})[key] = lane
            return lane
        lane = self._by_terms.get(job.terms)
        if lane is None:
            lane = self._lane(route_of(job.terms, ""))
            self._forget_some()
            self._by_terms[job.terms] = lane
        return lane

    def put_aside(self, job: Job) -> None:
        """A job is ready, but nobody is to have it before `take_aside`."""
        self._aside[job.id] = job
        if job.key:
            self._aside_keys[job.terms.queue, job.key] = None

    def take_aside(self) -> list[Job]:
        """The jobs put aside that are still ready; they are to be put in line now."""
        jobs, self._aside, self._aside_keys = list(self._aside.values()), {}, {}
        return jobs

    @property
    def aside(self) -> int:
        return len(self._aside)

    def is_aside(self, job: Job) -> bool:
        return job.id in self._aside

    def bury(self, job: Job) -> None:
        """A job that was put here is no longer ready."""
        if self._aside and self._aside.pop(job.id, None) is not None:
            return
        self.lane(job).bury(job)

    # -- who sees what ------------------------------------------------------------------------

    def open_sight(self, pool: Watcher, queue: str) -> Sight:
        """Let a pool see a queue, with what is in it now and what comes later."""
        sight = Sight(pool, queue, self._registry.gate("queue", queue))
        self._sights.setdefault(queue, []).append(sight)
        for lane in self.lanes.values():
            if lane.queue == queue and pool.sees(lane):
                lane.sights.append(sight)
                sight.notice(lane)
        return sight

    def sights_of(self, lane: Lane) -> list[Sight]:
        """What those pools see of its queue that can serve it."""
        return [sight for sight in self._sights.get(lane.queue, ()) if sight.pool.sees(lane)]

    def close_sight(self, sight: Sight) -> None:
        self._sights[sight.queue].remove(sight)
        for waiting in sight.places():
            if waiting.parked is not None:
                waiting.parked.forget(waiting)
        for lane in self.lanes.values():
            if sight in lane.sights:
                lane.sights.remove(sight)

    def gate_and_weight(self, queue: str, key: str) -> tuple[Gate | None, int]:
        """The gate and the weight of a key among the keys of its queue."""
        gate = self._registry.gate("queue", queue, key) if key else None
        return gate, self._registry.weight(queue, key)

    def regate(self, spot: Spot) -> None:
        """Gates or weights of this spot have come or gone: all that stand before them look again."""
        for lane in self._of_key.get(spot.key, ()) if spot.key else self.lanes.values():
            if spot.covers(lane.queue, lane.task, lane.key):
                self._gate(lane)
                if lane.parked is not None and lane.parked not in lane.doors:
                    lane.parked.forget(lane)
                    lane.show()
        if spot.scope == "queue":
            for sight in self._sights.get(spot.name, ()):
                self._regate(sight, spot.key)

    # -- parts --------------------------------------------------------------------------------

    def _regate(self, sight: Sight, key: str) -> None:
        if not key:
            sight.gate = self._registry.gate("queue", sight.queue)
            if sight.parked is not None and sight.parked is not sight.gate:
                sight.parked.forget(sight)
                sight.wake()
        strands = sight.strands.values() if not key else (sight.strands.get(key),)
        for strand in strands:
            if strand is None:
                continue
            strand.gate, strand.weight = self.gate_and_weight(sight.queue, strand.key)
            strand.left = min(strand.left, strand.weight)
            if strand.parked is not None and strand.parked is not strand.gate:
                strand.parked.forget(strand)
                strand.line_up()

    def _gate(self, lane: Lane) -> None:
        gate, key = self._registry.gate, lane.key
        # The narrow ones last: who has just run lines up behind those that its room was taken from.
        wide = [gate("queue", lane.queue), gate("task", lane.task)]
        narrow = [gate("queue", lane.queue, key), gate("task", lane.task, key)] if key else []
        lane.gates = tuple(each for each in wide + narrow if each is not None)
        # The narrow ones first: who waits for its own key takes no place before the wide one.
        lane.doors = tuple(each for each in reversed(lane.gates) if each.spot.scope == "task")

    def _forget_some(self) -> None:
        """Terms come from peers, and those of jobs for a certain moment are all different."""
        self._found += 1
        if self._found > max(limits.TERMS_CACHE_MAX, 4 * len(self.lanes)):
            self._by_terms, self._by_key, self._found = {}, {}, 1

    def _lane(self, route: Route) -> Lane:
        lane = self.lanes.get(route)
        return self._make(route) if lane is None else lane

    def _make(self, route: Route) -> Lane:
        if len(self.lanes) > self._sweep_at:
            self._sweep()
        self._count += 1
        lane = self.lanes[route] = Lane(route, self._count)
        self._enter(lane)
        self._gate(lane)
        lane.sights.extend(sight for sight in self._sights.get(route.queue, ()) if sight.pool.sees(lane))
        return lane

    def _enter(self, lane: Lane) -> None:
        """Make it known to its siblings, and to who asks for its key."""
        lane.siblings = self._families.setdefault(lane.route._replace(priority=0), [])
        lane.siblings.append(lane)
        if lane.key:
            self._of_key.setdefault(lane.key, []).append(lane)

    def _sweep(self) -> None:
        """Names come from peers: lanes that are empty must not pile up, nor what stands for them."""
        self._registry.prune()
        self.lanes = {route: lane for route, lane in self.lanes.items() if lane.places}
        self._by_terms, self._by_key, self._found = {}, {}, 0
        self._families, self._of_key = {}, {}
        for lane in self.lanes.values():
            self._enter(lane)
        in_use = [gate for lane in self.lanes.values() for gate in lane.gates]
        for sights in self._sights.values():
            for sight in sights:
                sight.sweep()
                sight.pool.prune()
                in_use += [place.gate for place in sight.places() if place.gate is not None]
        self._registry.sweep(in_use)
        # Twice what is left: a sweep costs O(1) for each lane made since the last one.
        self._sweep_at = max(2 * len(self.lanes), LANES_BEFORE_SWEEP)


# How many lanes may stand empty before they are looked through.
LANES_BEFORE_SWEEP = 10_000
