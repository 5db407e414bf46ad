"""Workers: what each can run, how much room it has, and what it holds. Workers that are alike form
a pool, whose members with room take turns.
"""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from taskq.core.job import Job
from taskq.core.queues import Lane, Queues, Sight
from taskq.protocol.messages import Announce, ProgressItem


class Slots(Struct, eq=False):
    """The room of one worker for one executor."""

    worker: "Worker"
    pool: "Pool"
    capacity: int = 0
    running: int = 0
    in_ring: bool = False
    ticket: int = 0

    def give_back(self) -> None:
        self.running -= 1
        self.pool.offer(self)


class Pool:
    """Workers of the same queues and the same tasks under one executor: alike to every job."""

    def __init__(self, roster: "Roster", queues: tuple[str, ...], tasks: frozenset[str]) -> None:
        self.tasks = tasks
        self.members = 0
        self.ring: deque[Slots] = deque()  # with room, who waited longest first
        self.awake = False  # it may have both room and jobs
        self._roster = roster
        self.sights: deque[Sight] = deque(roster.queues.open_sight(self, queue) for queue in queues)

    def sees(self, lane: Lane) -> bool:
        return lane.task in self.tasks

    def wake(self) -> None:
        if not self.awake and self.ring:
            self.awake = True
            self._roster.awake.append(self)

    def offer(self, slots: Slots) -> None:
        """A member may have room: it goes to the end of the ring, unless it stands in it."""
        if slots.in_ring or slots.running >= slots.capacity or not slots.worker.is_open:
            return
        slots.in_ring = True
        slots.ticket = self._roster.next_ticket()
        self.ring.append(slots)
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
        """The front was given a job: to the end of the ring, if there is still room."""
        self.ring.popleft()
        slots.running += 1
        if slots.running < slots.capacity:
            slots.ticket = self._roster.next_ticket()
            self.ring.append(slots)
        else:
            slots.in_ring = False

    def next_job(self) -> Job | None:
        """The next job for any member: its queues take turns."""
        sights = self.sights
        if len(sights) == 1:
            lane = sights[0].first()
            return lane.jobs.popleft() if lane is not None else None
        for _ in range(len(sights)):
            lane = sights[0].first()
            sights.rotate(-1)
            if lane is not None:
                return lane.jobs.popleft()
        return None


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
        self.draining = False
        self.blocked = False
        self.reported = 0  # the newest report that was handled
        self.extended: dict[int, int] = {}  # lease -> deadline it asked for, boot ms
        self.progress: dict[int, ProgressItem] = {}  # lease -> the latest
        self.lost_ms = 0  # boot; when its connection was lost
        self.unreported: dict[int, Job] = {}  # while it resumes: held by our books, not yet named by it

    def drop_notes(self, lease: int) -> None:
        """Forget what was noted about an attempt."""
        self.extended.pop(lease, None)
        self.progress.pop(lease, None)

    def refresh(self) -> None:
        """Derive whether it may be given jobs, and offer its room."""
        self.is_open = bool(self.peer) and self.resumed and not self.draining and not self.blocked
        if self.is_open:
            for slots in self.slots.values():
                slots.pool.offer(slots)


class Roster:
    """All workers, their pools, and whose turn it is."""

    def __init__(self, queues: Queues) -> None:
        self.queues = queues
        self.workers: dict[bytes, Worker] = {}
        self.awake: list[Pool] = []
        self._pools: dict[tuple[tuple[str, ...], frozenset[str]], Pool] = {}
        self._ticket = 0

    def next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def announce(self, worker: Worker, announce: Announce) -> None:
        """What a worker can run and how much of it; replaces what it said before."""
        self._leave(worker)
        worker.queues = list(dict.fromkeys(announce.queues))
        tasks: dict[str, list[str]] = {}
        for task, executor in announce.tasks.items():
            tasks.setdefault(executor, []).append(task)
        for executor, names in tasks.items():
            slots = Slots(worker, self._join(tuple(worker.queues), frozenset(names)))
            slots.capacity = announce.slots.get(executor, 0)
            worker.slots[executor] = slots
            worker.by_task.update(dict.fromkeys(names, slots))
        for job in worker.held.values():
            held = worker.by_task.get(job.terms.task)
            if held is not None:
                held.running += 1
        worker.refresh()

    def remove(self, worker: Worker) -> None:
        worker.is_open = False
        self._leave(worker)
        self.workers.pop(worker.session, None)

    def turns(self) -> Iterator[tuple[Slots, Job]]:
        """Who gets what, one job each in turn, until no one has room for what there is.

        All pools together are one ring: the front with the oldest ticket is next.
        """
        awake = self.awake
        while awake:
            pool = awake[0] if len(awake) == 1 else min(awake, key=_front_ticket)
            slots = pool.front()
            job = pool.next_job() if slots is not None else None
            if slots is None or job is None:
                pool.awake = False
                awake.remove(pool)
                continue
            pool.served(slots)
            yield slots, job

    def _join(self, queues: tuple[str, ...], tasks: frozenset[str]) -> Pool:
        pool = self._pools.get((queues, tasks))
        if pool is None:
            pool = self._pools[(queues, tasks)] = Pool(self, queues, tasks)
        pool.members += 1
        return pool

    def _leave(self, worker: Worker) -> None:
        for slots in worker.slots.values():
            pool = slots.pool
            if slots.in_ring:
                pool.ring.remove(slots)
                slots.in_ring = False
            pool.members -= 1
            if not pool.members:
                self._close(pool)
        worker.slots = {}
        worker.by_task = {}

    def _close(self, pool: Pool) -> None:
        self._pools = {key: other for key, other in self._pools.items() if other is not pool}
        for sight in pool.sights:
            self.queues.close_sight(sight)
        if pool.awake:
            pool.awake = False
            self.awake.remove(pool)


def _front_ticket(pool: Pool) -> int:
    return pool.ring[0].ticket if pool.ring else 0
