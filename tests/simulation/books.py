"""Looks into the broker's own books: what it would find after a crash, who idles, what leaks."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import asdict

from taskq import limits
from taskq.core.effects import Batch, Now
from taskq.core.job import DEAD, READY, SCHEDULED, Job
from taskq.core.ledger import fold
from taskq.core.lines.workers import Worker
from taskq.core.state import Kept, Session, State
from taskq.protocol.calendar import calendar_of
from taskq.protocol.messages import Announce, Hello
from tests.simulation.agenda import Violation
from tests.simulation.gatekeeper import Gatekeeper, is_held_up
from tests.simulation.host import BrokerHost

Portrait = dict[str, dict[Any, Any]]


class Books:
    """Samples are drawn by the seed: a fold of the whole journal at each commit would take too long."""

    def __init__(self, sample: Callable[[], bool], *, all_is_journaled: bool, wall_is_steady: bool) -> None:
        self._sample = sample
        self._all_is_journaled = all_is_journaled
        self._photo: tuple[int, Portrait] = (0, {})
        self._capacity: dict[int, dict[str, int]] = {}
        self._out: dict[int, dict[int, str]] = {}  # connection -> lease -> executor
        self._gatekeeper = Gatekeeper(wall_is_steady=wall_is_steady)
        self._closed_boot_ms = 0  # when the broker last accepted no jobs
        # Ticks that bounded memory may hold back, by schedule and time: boot time they were first found so.
        self._held_back: dict[tuple[str, int], int] = {}

    # -- the journal ------------------------------------------------------------------------------

    def on_crashed(self) -> None:
        self._photo = (0, {})
        self._capacity = {}
        self._out = {}
        self._held_back = {}
        self._gatekeeper.on_crashed()

    def on_cut(self, host: BrokerHost, batch: Batch) -> None:
        """What is in memory now is what a fold must give once this batch is written."""
        if self._sample():
            self._photo = (batch.seq, portrait(host.broker.state))

    def on_written(self, host: BrokerHost, batch: Batch) -> None:
        self._compare(host)

    def on_trimmed(self, host: BrokerHost) -> None:
        self._compare(host)

    def _compare(self, host: BrokerHost) -> None:
        seq, lived = self._photo
        if seq != host.disk.last_seq:
            return
        self._are_same(lived, portrait(fold(sorted(host.disk.batches.items()))))

    def _are_same(self, lived: Portrait, folded: Portrait) -> None:
        """Raises when what was lived and what is read back differ, naming the first difference."""
        for part, there in lived.items():
            read = folded[part]
            for key in [*there, *read]:
                if there.get(key) == read.get(key):
                    continue
                if part == "sessions" and not self._all_is_journaled:
                    continue  # what is submitted for memory only raises the floor in memory only
                raise Violation("I12", f"{part} {key!r}: lived {there.get(key)}, read back {read.get(key)}")

    # -- workers ----------------------------------------------------------------------------------

    def on_announced(self, number: int, announce: Announce) -> None:
        """Capacity as announced; a smaller one counts when the broker has surely seen it, so never here."""
        most = self._capacity.setdefault(number, {})
        for executor, slots in announce.slots.items():
            most[executor] = max(most.get(executor, 0), slots)

    def on_reported(self, number: int, leases: list[int]) -> None:
        for lease in leases:
            self._out.get(number, {}).pop(lease, None)

    def on_delivered(self, hello: Hello, number: int, lease: int, executor: str) -> None:
        out = self._out.setdefault(number, {})
        out[lease] = executor
        given = sum(1 for other in out.values() if other == executor)
        if given > self._capacity[number][executor]:
            raise Violation("I11", f"{hello.name} was given {given} for {executor}: {self._capacity[number]}")

    def on_turn(self, host: BrokerHost, now: Now) -> None:
        self._gatekeeper.on_turn(host, now)
        self.no_tick_is_overdue(host)
        if self._sample():
            self.nobody_idles(host)

    def no_tick_is_overdue(self, host: BrokerHost) -> None:
        """At the end of a turn every tick whose time has come is decided, if the broker may make jobs."""
        now = host.agenda.now
        if host.broker.intake.why_closed:
            self._closed_boot_ms = now.boot_ms
        if now.boot_ms - self._closed_boot_ms <= limits.TICK_RETRY_MS + 1:
            self._held_back = {}
            return
        if host.broker.next_deadline(now) == now.boot_ms:
            return  # a clock that was set far ahead brings more than one turn does
        schedules = host.broker.state.schedules
        # Memory that was full when it looked may have room again at the end of that turn: a tick that cancels
        # a job leaves an outcome, which goes then. It looks again so long after that turn, however long the
        # tick had been due (it may have been down), and each of the others may have come first once.
        patience_ms = (limits.TICK_RETRY_MS + 1) * len(schedules)
        held_back: dict[tuple[str, int], int] = {}
        for name, schedule in schedules.items():
            if schedule.is_paused:
                continue
            spec = schedule.spec
            calendar = calendar_of(spec.cron, spec.interval_ms, spec.zone, schedule.since_ms)
            tick_ms = calendar.after(schedule.floor_ms)
            if tick_ms > now.wall_ms:
                continue
            found_ms = self._held_back.get((name, tick_ms))
            if found_ms is None and host.broker.memory._budget_bytes:
                found_ms = now.boot_ms
            if found_ms is None or now.boot_ms - found_ms > patience_ms:
                raise Violation("T2", f"the tick {tick_ms} of {name} is overdue at {now.wall_ms}")
            held_back[name, tick_ms] = found_ms
        self._held_back = held_back

    def nobody_idles(self, host: BrokerHost) -> None:
        """No worker with room stands beside a job that it could run."""
        if host.broker.roster.awake:
            return  # there is more to give in the next turn
        waiting = {
            (job.terms.queue, job.terms.task): job.id
            for job in host.broker.state.jobs.values()
            if job.state is READY and job.id not in host.broker.queues._aside and not is_held_up(host, job)
        }
        for worker in host.broker.roster.workers.values():
            _is_counted(worker)
            if not worker.is_open:
                continue
            for task, slots in worker.by_task.items():
                for queue in worker.queues:
                    if slots.running < slots.capacity and (queue, task) in waiting:
                        id = waiting[queue, task]
                        raise Violation("V4", f"{worker.name} idles, and {id.hex()} waits for {task}")

    # -- the end ----------------------------------------------------------------------------------

    def at_rest(self, host: BrokerHost) -> None:
        """Everything has ended: nothing may be left of it but what is kept on purpose."""
        broker = host.broker
        _is_consistent(broker.state)
        self._gatekeeper.at_rest(host)
        leaks = {
            "watched jobs": len(broker.watchers),
            "messages held back": sum(map(len, host.engine._held.values())),
            "jobs in lanes": sum(len(lane) for lane in broker.queues.lanes.values()),
            "jobs put aside": broker.queues.aside,
            "unfinished": sum(broker.state.unfinished.values()),
            "submissions that wait for room": broker.held.jobs + broker.held.bytes,
            "bytes of jobs": broker.state.job_bytes,
            "jobs that are alone": len(broker.state.uniques.holders),
            "jobs below others": len(broker.state.kin.below),
            "bound jobs": len(broker.state.kin.bound),
            "trees being cancelled": len(broker.cancels.work),
        }
        for name, schedule in broker.state.schedules.items():
            leaks[f"ticks of {name} that wait for a job's end"] = int(bool(schedule.waiting_ms))
        for worker in broker.roster.workers.values():
            _is_counted(worker)
            leaks[f"leases of {worker.name}"] = len(worker.held) + len(worker.unreported)
            leaks[f"notes of {worker.name}"] = len(worker.progress) + len(worker.extended)
        for what, count in leaks.items():
            if count:
                raise Violation("I11", f"{count} {what} are left over")

    def timers_at_rest(self, host: BrokerHost) -> None:
        """Long after everything: one silence timer a connection, and retention's."""
        kinds = [entry[1] for entry in host.broker.timers.boot.near]
        # Those of jobs may outlive them, until there are many.
        count = len([kind for kind in kinds if kind not in ("due", "expires", "timeout")])
        peers = len(host.broker.peers)
        if count > peers + 1:
            raise Violation("I11", f"{count} timers are left over for {peers} connections")


def _is_counted(worker: Worker) -> None:
    """Its slots are taken by what it holds, and by nothing else."""
    for executor, slots in worker.slots.items():
        held = sum(1 for job in worker.held.values() if worker.by_task.get(job.terms.task) is slots)
        if slots.running != held:
            raise Violation("I11", f"{worker.name}: {slots.running} slots of {executor} taken, {held} held")


def _is_consistent(state: State) -> None:
    """Its counters say what is there."""
    dead: dict[str, int] = {}
    for kept in state.outcomes.values():
        if kept.state == DEAD:
            dead[kept.terms.queue] = dead.get(kept.terms.queue, 0) + 1
    outcome_bytes = sum(kept.size + limits.OUTCOME_OVERHEAD_BYTES for kept in state.outcomes.values())
    if (state.dead, state.outcome_bytes) != (dead, outcome_bytes):
        raise Violation(
            "I11", f"counted {state.dead}, {state.outcome_bytes}; there are {dead}, {outcome_bytes}"
        )


def portrait(state: State) -> Portrait:
    """What a crash must not change. Jobs in memory only are not part of it; and that a time has come
    is not recorded, so waiting for it and waiting for a worker look the same."""
    return {
        "jobs": {id: _job(job) for id, job in sorted(state.jobs.items()) if job.seq},
        "outcomes": {id: _kept(kept) for id, kept in sorted(state.outcomes.items()) if kept.seq},
        "settings": dict(sorted(state.settings.items())),
        "counts": {"live_bytes": state.live_bytes},
        "claims": {
            key: (kept.claim, kept.seq) for key, kept in sorted(state.uniques.claims.items()) if kept.seq
        },
        "bounds": {queue: (line.bound, line.seq) for queue, line in sorted(state.lines.items())},
        "sessions": {name: _session(kept) for name, kept in sorted(state.sessions.items()) if kept.seq},
        "schedules": {name: asdict(schedule) for name, schedule in sorted(state.schedules.items())},
    }


def _session(session: Session) -> tuple[object, ...]:
    return session.floor, session.settled, session.refused, session.seq


def _job(job: Job) -> tuple[object, ...]:
    fields = asdict(job)
    del fields["turn"]
    if fields["state"] in (READY, SCHEDULED):
        fields["state"] = "waiting"
    return tuple(fields.values())


def _kept(kept: Kept) -> tuple[object, ...]:
    item = asdict(kept.item)
    del item["terms"]
    return (*item.values(), kept.terms, kept.seq)
