"""Nobody idles for long beside a worker, alike, that holds what it has not begun. Looks into the broker's
books for who is alike, who may be given jobs, and who holds more than it has slots for.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from taskq.core.job import RUNNING
from taskq.core.lines.workers import Slots
from tests.simulation.agenda import MS, Agenda, Violation
from tests.simulation.host import BrokerHost
from tests.simulation.wire import Wire
from tests.simulation.workers import SimWorker

_LOOK_US: Final = 250 * MS
# There and back on the slowest of our links, and commits that a slow disk holds up.
_PATIENCE_US: Final = 2_000 * MS

# Who holds, who idles, and over which connections: another connection is another story.
Pair = tuple[SimWorker, SimWorker, str, Wire | None, Wire | None]


class Idling:
    """Looks again and again, and remembers since when."""

    def __init__(self, agenda: Agenda, host: BrokerHost, workers: list[SimWorker]) -> None:
        self._agenda = agenda
        self._host = host
        self._workers = workers
        self._since: dict[Pair, int] = {}

    def watch(self) -> None:
        us, before = self._agenda.us, self._since
        self._since = {pair: before.get(pair, us) for pair in self._pairs()}
        for (holder, idler, executor, _, _), since_us in self._since.items():
            if us - since_us > _PATIENCE_US:
                waiting = len(holder.lanes[executor].waiting)
                raise Violation(
                    "V4", f"{idler.name} idles, and {waiting} jobs wait for slots of {holder.name}"
                )
        self._agenda.after(_LOOK_US, self.watch)

    def _pairs(self) -> Iterator[Pair]:
        if not self._host.is_up or not self._host.is_reachable or self._host.slow_commits:
            return
        able = [worker for worker in self._workers if worker.can_take]
        idle = [(worker, slots) for worker, slots in self._slots(able) if slots.excess < 0]
        for holder, slots in self._slots(able):
            if slots.excess <= 0:
                continue
            for executor in _waits(holder, slots, self._host):
                for idler, free in idle:
                    if free.pool is slots.pool and idler.lanes[executor].free > 0:
                        yield holder, idler, executor, holder.link.wire, idler.link.wire

    def _slots(self, workers: Iterable[SimWorker]) -> Iterator[tuple[SimWorker, Slots]]:
        for worker in workers:
            known = self._host.broker.roster.workers.get(worker.session)
            if known is not None and known.is_open:
                for slots in known.slots.values():
                    yield worker, slots


def _waits(holder: SimWorker, slots: Slots, host: BrokerHost) -> Iterator[str]:
    """The executor of these slots, if something waits for one that it could hand back."""
    known, jobs = slots.worker, host.broker.state.jobs
    for executor, lane in holder.lanes.items():
        if known.slots.get(executor) is not slots:
            continue
        for attempt in lane.waiting:
            job = jobs.get(attempt.delivery.id)
            if job is not None and job.state is RUNNING and job.lease == attempt.delivery.lease:
                yield executor
                return
