"""Queues: all lanes, by what tells their jobs apart, and who sees which of them."""

from collections.abc import Iterable
from typing import Protocol

from taskq import limits
from taskq.core.job import Job
from taskq.core.lines.gates import Gate, Scope, Spot
from taskq.core.lines.lanes import Lane, Route, route_of
from taskq.core.lines.sights import Sight, Watcher
from taskq.protocol.messages import Terms


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
