"""What workers see of a queue: its keys that have jobs, in a ring, and of each key what is next."""

from collections import deque
from heapq import heappop, heappush, heapreplace
from itertools import islice
from typing import Protocol

from taskq.core.job import Job
from taskq.core.lines.gates import Gate, Group
from taskq.core.lines.lanes import Lane


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

    @property
    def queues(self) -> "Weights": ...

    def wake(self) -> None: ...
    def sees(self, lane: Lane) -> bool: ...
    def feed_next(self, needs: tuple[tuple[str, int], ...]) -> None: ...
    def prune(self) -> None: ...


class Weights(Protocol):
    """Who knows what a key has of its own."""

    def gate_and_weight(self, queue: str, key: str) -> tuple[Gate | None, int]: ...
