"""Attempts: leases given, kept, ended. `(job, lease)` is the fencing token of all that a worker says."""

from collections.abc import Collection, Iterable
from itertools import islice
from random import Random

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.intake.uniqueness import Uniqueness
from taskq.core.job import OVERDUE, READY, RUNNING, SCHEDULED, SUCCEEDED, Job
from taskq.core.ledger import Ledger
from taskq.core.lines.controls import Controls
from taskq.core.lines.queues import Queues
from taskq.core.lines.registry import Registry
from taskq.core.lines.workers import Roster, Worker
from taskq.core.outbox import Outbox
from taskq.core.running.callbacks import Callbacks
from taskq.core.running.endings import Endings
from taskq.core.running.retry import UNCOUNTED, judge
from taskq.core.running.story import told
from taskq.core.timers import Timers
from taskq.protocol.messages import (
    MEMORY,
    OS,
    Ack,
    Extension,
    Failure,
    Fault,
    Held,
    Nack,
    Reported,
    Resumed,
    Stop,
    Success,
)

LEASE_COUNTER_BITS = 40
Grant = tuple[list[Held], list[Job]]  # leases given to one session, and whose they are


class Attempts:
    """Everything between a job's being ready and its end."""

    def __init__(
        self,
        ledger: Ledger,
        queues: Queues,
        roster: Roster,
        timers: Timers,
        endings: Endings,
        registry: Registry,
        controls: Controls,
        callbacks: Callbacks,
        uniqueness: Uniqueness,
        out: Outbox,
        rng: Random,
    ) -> None:
        self._ledger = ledger
        self._jobs = ledger.state.jobs
        self._queues = queues
        self._roster = roster
        self._timers = timers
        self._endings = endings
        self._registry = registry
        self._controls = controls
        self._callbacks = callbacks
        self._uniqueness = uniqueness
        self._out = out
        self._rng = rng
        self._first_lease = 0
        self._lease = 0
        self.turn = 0
        self.delivered = 0
        self.redelivered = 0
        self.failed = 0
        self.crashed = 0

    def begin_epoch(self, epoch: int) -> None:
        """Leases of this epoch are larger than all before."""
        self._first_lease = self._lease = epoch << LEASE_COUNTER_BITS

    def begin_turn(self, now: Now) -> None:
        """Who becomes ready in this turn stands behind all that became so before."""
        self.turn = max(self.turn + 1, now.boot_ms * 1_000)

    # -- ready and delivered ------------------------------------------------------------------

    def admit(self, jobs: Iterable[Job], now: Now) -> None:
        """New jobs: into line, or to wait for their time."""
        ready = self.ready
        timers = self._timers
        for job in jobs:
            terms = job.terms
            if job.state is READY:
                ready(job)
            elif terms.at_ms and not terms.delay_ms:
                timers.at(terms.at_ms, "due", job.id, job.due_ms)
            else:
                timers.after(now.boot_ms + job.due_ms - now.wall_ms, "due", job.id, job.due_ms)
            if terms.expires_ms:
                timers.after(now.boot_ms + terms.expires_ms, "expires", job.id, job.expires_at_ms)

    def ready(self, job: Job) -> None:
        """A job waits for a worker from now on."""
        job.turn = self.turn
        self._queues.put(job)

    def due(self, job: Job, now: Now) -> None:
        """A scheduled job's time has come."""
        job.move(READY)
        if self._ledger.news:
            self._ledger.news.changed(job, now.wall_ms)
        self.ready(job)

    def deliver(self, now: Now) -> None:
        """Give ready jobs to workers with room, one each in turn; the rest of many in the next turn."""
        granted: dict[bytes, tuple[Grant, Grant]] = {}  # durable, and in memory only
        lease = self._lease
        peer = after = -1
        for slots, job, lane in islice(self._roster.turns(now.boot_ms), limits.DELIVERIES_PER_TURN):
            worker = slots.worker
            lease += 1
            worker.held[lease] = job
            if lane.gates:
                self._registry.enter(lease, lane.gates)
            if worker.peer != peer or job.seq != after:  # jobs in a row mostly go together
                peer, after = worker.peer, job.seq
                parcel = self._out.parcel(peer, after)
                grant = granted.setdefault(worker.session, (([], []), ([], [])))
            terms = job.terms
            items, jobs = grant[terms.durability == MEMORY]
            items.append(Held(job.id, lease))
            jobs.append(job)
            parcel.add(job, lease)
            if job.lease:
                self.redelivered += 1
            if terms.timeout_ms:
                self._set_backstop(job, lease, now)
        self.delivered += lease - self._lease
        self._lease = lease
        for session, grants in granted.items():
            for (items, jobs), durability in zip(grants, (OS, MEMORY), strict=True):
                if items:
                    self._ledger.deliver(r.Delivered(session, now.wall_ms, items), durability, jobs)

    # -- what workers report ------------------------------------------------------------------

    def ack(self, worker: Worker, ack: Ack, now: Now) -> None:
        """Successes. One counts under any lease that the job has had, while it has no outcome."""
        if self._is_known(worker, ack):
            return
        counted: dict[bytes, tuple[Job, Success]] = {}
        odd: list[Reported] = []
        jobs = self._jobs
        held = worker.held
        by_task = worker.by_task
        taken = self._registry.taken
        for success in ack.items:
            lease = success.lease
            if worker.extended or worker.progress:
                worker.drop_notes(lease)
            mine = held.pop(lease, None)
            if mine is not None:
                slots = by_task.get(mine.terms.task)
                if slots is not None:
                    slots.running -= 1
                    if not slots.in_ring:
                        slots.pool.offer(slots)
                if mine.terms.resources:
                    worker.return_resources(mine.terms.resources)
                if taken:
                    self._registry.leave(lease, now.boot_ms)
            # With a million waiting, a look into the table is a cache miss: what we hold is known.
            is_mine = mine is not None and mine.state is RUNNING and mine.id == success.id
            job = mine if is_mine else jobs.get(success.id)
            if job is None:
                self._odd_success(success, odd)
            elif job.lease == lease or self._may_succeed(job, lease):
                if success.id in counted:
                    odd.append(Reported(lease, "duplicate"))
                    continue
                counted[success.id] = (job, success)
                if job.lease != lease or mine is None:
                    self._supersede(job, lease)
            else:
                odd.append(Reported(lease, "stale"))
        self._endings.succeed(counted.values(), now)
        self._recorded(worker, ack, odd)

    def nack(self, worker: Worker, nack: Nack, now: Now) -> None:
        """Attempts that did not succeed. Under a stale lease, that changes nothing."""
        if self._is_known(worker, nack):
            return
        odd: list[Reported] = []
        counted: dict[int, tuple[Job, Failure]] = {}
        for failure in nack.items:
            lease = failure.lease
            self._give_back(worker, lease, now)
            job = self._jobs.get(failure.id)
            if job is not None and job.state is RUNNING and job.lease == lease and lease not in counted:
                counted[lease] = (job, failure)
            else:
                odd.append(Reported(lease, "stale"))
        self.end(counted.values(), now, by=worker.name)
        self._recorded(worker, nack, odd)

    def counts(self, worker: Worker, ack: Ack) -> bool:
        """Would this one success be its job's outcome?"""
        (success,) = ack.items
        job = self._jobs.get(success.id)
        if job is None or self._was_heard(worker, ack):
            return False
        return job.lease == success.lease or self._may_succeed(job, success.lease)

    def _is_known(self, worker: Worker, report: Ack | Nack) -> bool:
        """Is there nothing to be done about it but to say that it is recorded?"""
        if not self._was_heard(worker, report):
            return False
        self._out.acked(worker.peer, worker.reported, [])
        return True

    def _was_heard(self, worker: Worker, report: Ack | Nack) -> bool:
        """Was it sent again, because our answer was lost? Not if it ends a lease that was taken up
        again meanwhile: for a job that vanished with a broker, and was submitted anew."""
        if report.seq > worker.reported:
            return False
        held = worker.held
        return not held or all(item.lease not in held for item in report.items)

    def _recorded(self, worker: Worker, report: Ack | Nack, odd: list[Reported]) -> None:
        worker.reported = max(worker.reported, report.seq)
        self._out.acked(worker.peer, worker.reported, odd)

    def end(
        self,
        ended: Iterable[tuple[Job, Failure]],
        now: Now,
        *,
        by: str,
        lost: bool = False,
    ) -> None:
        """The running attempts of these jobs ended in failure: again later, or never. `by`: the name of
        their worker. `lost`: says who gave it up, not the worker; should that come back, the attempts may
        go on."""
        again: list[tuple[Job, r.Release, int]] = []
        waiting: dict[bytes, bytes] = {}
        for job, failure in ended:
            if failure.ending == "cancelled":
                reason = failure.fault.message if failure.fault else "stopped by its worker"
                self._endings.cancel([job], reason, now)
                continue
            self._count(failure)
            if failure.hold_key:
                reason = failure.fault.message if failure.fault else ""
                self._controls.hold_key(job, failure.hold_key, failure.hold_ms, reason, now)
            verdict = judge(job, failure, self._rng)
            number = job.failures + job.crashes + 1
            report = told(failure, attempt=number, started_ms=job.started_ms, worker=by, now=now)
            if verdict.dead:
                self._endings.die(job, failure, verdict, report, now)
            elif job.turn == OVERDUE:
                self._endings.expire_after(job, verdict, report, now)
            elif (other := self._uniqueness.waits_instead(job, waiting)) is not None:
                reason = f"job {other.hex()} waits already, and is to be the only one that does"
                self._endings.cancel([job], reason, now)
                continue
            else:
                due_ms = now.wall_ms + verdict.wait_ms if verdict.wait_ms else 0
                counts = (verdict.failures, verdict.crashes)
                item = r.Release(job.id, job.lease, failure.ending, due_ms, *counts, lost, report)
                again.append((job, item, verdict.wait_ms))
            if job.terms.on_failure is not None or job.terms.on_dead is not None:
                for made in self._callbacks.make(job, failure, is_dead=verdict.dead, now=now):
                    self.ready(made)
        self._release(again, now)

    def _count(self, failure: Failure) -> None:
        if failure.ending == "crashed":
            self.crashed += 1
        elif failure.ending not in UNCOUNTED:
            self.failed += 1

    def _release(self, again: list[tuple[Job, r.Release, int]], now: Now) -> None:
        """These wait again. One record for all that fail together: a storm of failures costs half."""
        parts: dict[int, list[r.Release]] = {}
        for job, item, _ in again:
            parts.setdefault(job.terms.durability, []).append(item)
        for durability, items in parts.items():
            self._ledger.release(r.Released(now.wall_ms, items), durability)
        for job, item, wait_ms in again:
            if wait_ms:
                self._timers.after(now.boot_ms + wait_ms, "due", job.id, item.due_ms)
            elif item.ending == "returned":
                self._queues.put_back(job)
            else:
                self.ready(job)

    def extend(self, worker: Worker, items: list[Extension], now: Now) -> None:
        """More time for attempts that are still this worker's."""
        for item in items:
            job = worker.held.get(item.lease)
            if job is not None and job.lease == item.lease and job.state is RUNNING:
                deadline_ms = now.boot_ms + item.timeout_ms
                worker.extended[item.lease] = deadline_ms
                self._timers.after(deadline_ms + limits.TIMEOUT_BACKSTOP_MS, "timeout", job.id, item.lease)

    # -- what the broker ends itself ----------------------------------------------------------

    def time_out(self, job: Job, lease: int, now: Now) -> None:
        """The backstop: the worker should have ended this attempt by now."""
        if job.state is not RUNNING or job.lease != lease:
            return
        worker = self._roster.workers.get(job.holder)
        extended_ms = worker.extended.get(lease) if worker is not None else None
        if extended_ms is not None and extended_ms + limits.TIMEOUT_BACKSTOP_MS > now.boot_ms:
            return
        self.revoke(job, "it ran longer than its timeout")
        seconds = job.terms.timeout_ms / 1000
        fault = Fault("TimeoutError", f"the attempt ran longer than its timeout of {seconds:g} s")
        failure = Failure(job.id, lease, "timed_out", fault)
        self.end([(job, failure)], now, by=worker.name if worker is not None else "")

    def revoke(self, job: Job, reason: str) -> None:
        """Tell the worker of a running job to stop. Its slot is free when it says that it has."""
        worker = self._roster.workers.get(job.holder)
        if worker is not None and worker.peer:
            self._out.stop(worker.peer, Stop(job.id, job.lease, reason))

    def bury(
        self,
        worker: Worker,
        text: str,
        now: Now,
        *,
        status: int = 0,
        timed_out: Collection[int] = (),
        uncounted: bool = False,
    ) -> None:
        """A worker is dead: what it held is given to others at once. `timed_out`: leases that it was killed
        for. `uncounted`: it was killed for no fault of the others, which are as good as handed back."""
        self._roster.remove(worker)
        for lease in worker.held:
            self._registry.leave(lease, now.boot_ms)
        mine = [
            (lease, job) for lease, job in worker.held.items() if job.state is RUNNING and job.lease == lease
        ]
        worker.held = {}
        late = dict.fromkeys(timed_out)
        self.end([(job, _too_late(job, text)) for lease, job in mine if lease in late], now, by=worker.name)
        rest = [(lease, job) for lease, job in mine if lease not in late]
        if uncounted:
            # What is handed back goes to the front, so the last one first.
            back = [(job, Failure(job.id, lease, "returned")) for lease, job in reversed(rest)]
            self.end(back, now, by=worker.name, lost=True)
            return
        fault = Fault("WorkerDied", text)
        died = [(job, Failure(job.id, lease, "crashed", fault, status=status)) for lease, job in rest]
        self.end(died, now, by=worker.name, lost=True)

    # -- workers that come back ---------------------------------------------------------------

    def resume(self, worker: Worker, items: list[Held], last: bool, now: Now) -> None:
        """A worker says all that it holds; what our books say beyond that never arrived there."""
        gone = [
            Stop(held.id, held.lease, "it has ended or runs elsewhere")
            for held in items
            if not self._keeps(worker, held, now)
        ]
        self._out.say(worker.peer, Resumed(gone))
        if not last:
            return
        returned = []
        for lease, job in worker.unreported.items():
            self._give_back(worker, lease, now)
            if job.state is RUNNING and job.lease == lease:
                returned.append((job, Failure(job.id, lease, "returned")))
        self.end(returned, now, by=worker.name)
        worker.unreported = {}
        worker.resumed = True
        worker.refresh()

    def _keeps(self, worker: Worker, held: Held, now: Now) -> bool:
        """May a worker go on with this attempt?"""
        worker.unreported.pop(held.lease, None)
        job = worker.held.get(held.lease)
        if job is None:
            return self._adopt(worker, held, now)
        return job.state is RUNNING and job.lease == held.lease

    def _adopt(self, worker: Worker, held: Held, now: Now) -> bool:
        """It holds a lease that it should not. If the job is still waiting, the attempt goes on, so
        that nothing is run twice: under its last lease, when this worker was given up while it held
        it; or under one given by a broker that died before writing it down. Never under one that
        was reported ended: the worker only has not heard yet that we know."""
        job = self._jobs.get(held.id)
        if job is None or job.state not in (READY, SCHEDULED):
            return False
        was_given_up = held.lease == job.lease and job.holder == worker.session
        is_unknown = held.lease < self._first_lease and not job.had(held.lease)
        if not was_given_up and not is_unknown:
            return False
        if job.state is READY:
            self._queues.bury(job)
        worker.held[held.lease] = job
        worker.use(job.terms.resources)
        self._registry.move(held.lease, self._queues.lane(job).gates)
        slots = worker.by_task.get(job.terms.task)
        if slots is not None:
            slots.running += 1
        self._ledger.deliver(r.Delivered(worker.session, now.wall_ms, [held]), job.terms.durability, [job])
        if job.terms.timeout_ms:
            self._set_backstop(job, held.lease, now)
        return True

    # -- parts --------------------------------------------------------------------------------

    def _set_backstop(self, job: Job, lease: int, now: Now) -> None:
        deadline_ms = now.boot_ms + job.terms.timeout_ms + limits.TIMEOUT_BACKSTOP_MS
        self._timers.after(deadline_ms, "timeout", job.id, lease)

    def _give_back(self, worker: Worker, lease: int, now: Now) -> None:
        worker.drop_notes(lease)
        self._registry.leave(lease, now.boot_ms)
        job = worker.held.pop(lease, None)
        if job is None:
            return
        worker.return_resources(job.terms.resources)
        slots = worker.by_task.get(job.terms.task)
        if slots is not None:
            slots.give_back()

    def _may_succeed(self, job: Job, lease: int) -> bool:
        # A lease of an earlier epoch that we do not know was given in the killed broker's last batch.
        return job.had(lease) or lease < self._first_lease

    def _odd_success(self, success: Success, odd: list[Reported]) -> None:
        kept = self._ledger.state.outcomes.get(success.id)
        if kept is None or kept.state != SUCCEEDED or kept.item.lease != success.lease:
            odd.append(Reported(success.lease, "duplicate"))

    def _supersede(self, job: Job, lease: int) -> None:
        """An older attempt succeeded after all: a newer one is not needed."""
        if job.state is RUNNING and job.lease != lease:
            self.revoke(job, "an earlier attempt has succeeded")


def _too_late(job: Job, text: str) -> Failure:
    """Its process was killed for it."""
    seconds = job.terms.timeout_ms / 1000
    why = f"the attempt ran longer than its timeout of {seconds:g} s and could not be stopped; {text}"
    return Failure(job.id, job.lease, "timed_out", Fault("TimeoutError", why[: limits.TEXT_CHARS_MAX]))
