"""Recall: what one worker holds and has not started is asked back when another, alike, has nothing to do.

A worker may announce more room than it has slots. Which of its jobs have slots it alone knows, but those
given last are the last to get one. Its next Announce, in which nothing is extra, is its answer.
"""

from msgspec import Struct

from taskq import limits
from taskq.core.job import RUNNING
from taskq.core.lines.workers import Pool, Roster, Slots, Worker
from taskq.core.outbox import Outbox
from taskq.protocol.messages import Announce, Held
from taskq.protocol.messages import Recall as RecallMessage


class Question(Struct, gc=False, frozen=True):
    """A Recall that has not been answered: these jobs are on their way back to the pool, or have begun."""

    pool: Pool
    peer: int  # the connection that heard it
    items: list[Held]


class Recall:
    """Looks at the end of a turn, when a worker may have got room; nothing is polled. Without workers that
    announce extra room it costs nothing.
    """

    def __init__(self, roster: Roster, out: Outbox) -> None:
        self._roster = roster
        self._out = out
        self._generous: dict[bytes, Worker] = {}  # those that hold, or may, more than they have slots for
        self._asked: dict[bytes, Question] = {}
        # Leases that were asked for and not handed back, by worker: those have begun. To ask for them again
        # would go to and fro as fast as the wire carries it.
        self._begun: dict[bytes, dict[int, None]] = {}
        self.recalled = 0

    def announced(self, worker: Worker, announce: Announce) -> None:
        """A worker has said how much room it has: with that it has answered, too."""
        question = self._asked.pop(worker.session, None)
        if question is None or question.peer != worker.peer:
            # It has connected again: what it was asked before it may not have heard.
            self._begun.pop(worker.session, None)
        else:
            begun = self._begun.get(worker.session, {})
            leases = [*begun, *(item.lease for item in question.items)]
            self._begun[worker.session] = dict.fromkeys(lease for lease in leases if lease in worker.held)
        if announce.extra:
            self._generous[worker.session] = worker
        else:
            self._generous.pop(worker.session, None)
            self._begun.pop(worker.session, None)

    def look(self) -> None:
        """Ask for jobs that wait at one worker while another has a free slot, and no job is in line."""
        if not self._generous:
            return
        self._forget_the_dead()
        loaded: dict[Pool, list[Slots]] = {}
        for session, worker in self._generous.items():
            if not worker.is_open or session in self._asked:
                continue
            for slots in worker.slots.values():
                pool = slots.pool
                # The ring holds those with room. Asleep: they have had all that was in line for them.
                if slots.excess > 0 and pool.ring and not pool.awake:
                    loaded.setdefault(pool, []).append(slots)
        for pool, members in loaded.items():
            self._ask(pool, members)

    # -- parts --------------------------------------------------------------------------------

    def _ask(self, pool: Pool, loaded: list[Slots]) -> None:
        coming = sum(len(question.items) for question in self._asked.values() if question.pool is pool)
        room = sum(max(-slots.excess, 0) for slots in pool.ring if slots.worker.is_open) - coming
        for slots in sorted(loaded, key=_excess, reverse=True):
            if room <= 0:
                return
            worker = slots.worker
            if worker.session in self._asked:  # for another executor, a moment ago
                continue
            begun = self._begun.get(worker.session, {})
            items = _newest(worker, slots, begun, min(slots.excess, room, limits.BATCH_MAX))
            if items:
                room -= len(items)
                self.recalled += len(items)
                self._asked[worker.session] = Question(pool, worker.peer, items)
                # Not before what it was given: it must know these leases.
                self._out.say_after_deliveries(worker.peer, RecallMessage(items))

    def _forget_the_dead(self) -> None:
        workers = self._roster.workers
        dead = [session for session, worker in self._generous.items() if workers.get(session) is not worker]
        for session in dead:
            del self._generous[session]
            self._asked.pop(session, None)
            self._begun.pop(session, None)


def _excess(slots: Slots) -> int:
    return slots.excess


def _newest(worker: Worker, slots: Slots, begun: dict[int, None], count: int) -> list[Held]:
    """What it was given last for this executor, and has not reported nor begun."""
    items: list[Held] = []
    for lease, job in reversed(worker.held.items()):
        if len(items) == count:
            break
        if lease in begun or job.state is not RUNNING or job.lease != lease:
            continue
        if worker.by_task.get(job.terms.task) is slots:
            items.append(Held(job.id, lease))
    return items
