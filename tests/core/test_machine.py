"""Hypothesis plays producers, workers, the clock and the power cord, and looks for a broken promise.

After every step: no confirmed job is lost, outcomes never change, no worker holds more than its room,
a job is in nobody's second hand, and what the journal adds up to is what was lived.
"""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from taskq.core.job import BECOMES
from taskq.protocol.messages import Confirm, Drain, Verb
from tests.core.world import World, canonical, id_of, name_of

CHANGES = ("kill", "lose", "deafen", "connect", "drain", "block", "vouch")
WORKERS = ("w0", "w1", "w2")
PRODUCERS = ("p0", "p1")
OUTCOMES = frozenset(state for state, others in BECOMES.items() if not others)

terms = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(["work", "other", "nobody knows"]),
        "queue": st.sampled_from(["default", "mail"]),
        "attempts": st.integers(1, 4),
        "crashes": st.integers(0, 3),
        "delay_ms": st.sampled_from([0, 10, 2_500]),
        "expires_ms": st.sampled_from([0, 1, 3_000]),
        "timeout_ms": st.sampled_from([0, 1, 4_000]),
        "keep_ms": st.sampled_from([0, 1_000, 10**9]),
        "durability": st.sampled_from([0, 1]),
        "backoff_ms": st.sampled_from([0, 700]),
        "payload": st.sampled_from([b"", b"x" * 50]),
        "settled": st.just(0),
    },
)
endings = st.sampled_from(["failed", "timed_out", "crashed", "returned", "snoozed", "discarded", "cancelled"])


class Machine(RuleBasedStateMachine):
    """The model is what was promised to somebody: confirms, receipts and outcomes that were heard."""

    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.submissions: dict[str, tuple[str, int, dict[str, Any]]] = {}
        self.confirmed: dict[str, str] = {}  # job -> its producer
        self.kept: dict[str, str] = {}  # outcomes seen
        self.room: dict[str, int] = {}

    @initialize(slack=st.sampled_from([0, 300, 1 << 30]), budget=st.sampled_from([1_500, 1 << 30]))
    def begin(self, slack: int, budget: int) -> None:
        self.world = World(slack=slack, outcome_bytes=budget)
        self.is_tight = budget < 1 << 30

    # -- producers ----------------------------------------------------------------------------

    @rule(
        target=jobs, by=st.sampled_from(PRODUCERS), count=st.integers(1, 4), fields=terms, full=st.booleans()
    )
    def submit(self, by: str, count: int, fields: dict[str, Any], full: bool) -> Any:
        self.world.broker.intake.closed_because = "full" if full and count == 1 else ""
        first = self.world.peers[by].next_seq if by in self.world.peers else 0
        names = [f"{len(self.submissions) + number}" for number in range(count)]
        self.world.submit(*names, by=by, **fields)
        for number, name in enumerate(names):
            self.submissions[name] = (by, first + number, fields)
        self.world.broker.intake.closed_because = ""
        self._hear(by, names, first)
        return multiple(*names)

    @rule(name=jobs)
    def resubmit(self, name: str) -> None:
        by, seq, fields = self.submissions[name]
        self.world.submit(name, by=by, seq=seq, **fields)
        self._hear(by, [name], seq)

    def _hear(self, by: str, names: list[str], first: int) -> None:
        (confirm,) = self.world.heard(by, Confirm)
        assert (confirm.first, confirm.count) == (first, len(names))
        refused = {verdict.seq for verdict in confirm.verdicts}
        assert all(verdict.code == "busy" for verdict in confirm.verdicts)
        for number, name in enumerate(names):
            if first + number not in refused:
                self.confirmed[name] = by

    @rule(name=jobs, by=st.sampled_from(PRODUCERS))
    def watch(self, name: str, by: str) -> None:
        self.world.watch(name, by=by)

    @rule(name=jobs)
    def cancel(self, name: str) -> None:
        before = self.world.state(name)
        ((_, code),) = self.world.cancel(name).receipts()
        assert (code == "unknown") == (before == "unknown")
        assert (code == "finished") == (before in OUTCOMES - {"cancelled"})
        if before not in OUTCOMES and before != "unknown":
            assert self.world.state(name) in ("cancelled", "unknown")

    @rule(queue=st.sampled_from(["", "mail"]), retries=st.booleans())
    def to_all_at_once(self, queue: str, retries: bool) -> None:
        """Cancel what has not ended, or give those that are dead a new life."""
        states = {name: self.world.state(name) for name in self.submissions}
        verb: Verb = "retry" if retries else "cancel"
        self.world.bulk(verb, queue=queue, task="*")
        meant = ("dead",) if retries else ("scheduled", "ready", "running")
        for name, state in states.items():
            if state not in meant or queue not in ("", self.submissions[name][2].get("queue", "default")):
                continue
            if retries:
                assert self.world.state(name) != "dead"
                self.kept.pop(name, None)
            else:
                assert self.world.state(name) in ("cancelled", "unknown")

    @precondition(lambda self: any(name in self.world.peers for name in PRODUCERS))
    @rule(pick=st.sampled_from(PRODUCERS))
    def producer_goes(self, pick: str) -> None:
        if pick in self.world.peers and self.world.peers[pick].number:
            self.world.lose(pick)

    # -- workers ------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(WORKERS),
        slots=st.integers(1, 3),
        queues=st.sampled_from([("default",), ("mail", "default")]),
    )
    def worker(self, name: str, slots: int, queues: tuple[str, ...]) -> None:
        """Starts, or announces something else over a new connection."""
        tasks = ("work", "other") if name == "w1" else ("work",)
        self.world.worker(name, slots=slots, tasks=tasks, queues=queues)
        self.room[name] = max(slots, len(self.world.holds(name)))

    def _busy(self) -> list[str]:
        return [name for name in WORKERS if name in self.world.peers and self.world.peers[name].holds]

    def _connected(self) -> list[str]:
        return [name for name in WORKERS if name in self.world.peers and self.world.peers[name].number]

    @precondition(lambda self: self._busy())
    @rule(data=st.data(), succeeds=st.booleans(), ending=endings)
    def report(self, data: st.DataObject, succeeds: bool, ending: str) -> None:
        name = data.draw(st.sampled_from(self._busy()))
        job = data.draw(st.sampled_from(self.world.holds(name)))
        if not self.world.peers[name].number:
            self.world.connect(name)
            if job not in self.world.holds(name):
                return
        self.world.ack(job, by=name, result=b"y") if succeeds else self.world.nack(
            job, by=name, ending=ending
        )

    @precondition(lambda self: self._connected())
    @rule(data=st.data(), size=st.sampled_from([0, 1, 500]))
    def checkpoint(self, data: st.DataObject, size: int) -> None:
        self.world.checkpoint(bytes(size), by=data.draw(st.sampled_from(self._connected())))

    @precondition(lambda self: self._connected())
    @rule(
        data=st.data(), how=st.sampled_from(["kill", "lose", "deafen", "connect", "drain", "block", "vouch"])
    )
    def worker_changes(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(self._connected()))
        match how:
            case "kill":
                self.world.kill(name)
            case "lose":
                self.world.lose(name)
            case "deafen":
                self.world.deafen(name)
            case "connect":
                self.world.connect(name)
            case "drain":
                self.world.say(name, Drain())
            case "block":
                self.world.block(name)
            case "vouch":
                self.world.vouch(name, by="supervisor")

    @rule(name=st.sampled_from(WORKERS))
    def stop_as_told(self, name: str) -> None:
        if name in self._connected():
            for job in self.world.stops(name):
                self.world.nack(job, by=name, ending="cancelled")

    # -- time and crashes -----------------------------------------------------------------------

    @rule(
        ms=st.sampled_from([1, 700, 2_500, 6_000, 11_000]), jump_ms=st.sampled_from([0, 0, 0, -5_000, 5_000])
    )
    def tick(self, ms: int, jump_ms: int) -> None:
        self.world.tick(ms, wall_ms=ms + jump_ms)

    @rule()
    def crash(self) -> None:
        self.world.restart()

    # -- what is promised -----------------------------------------------------------------------

    @invariant()
    def no_confirmed_job_is_lost(self) -> None:
        for name in self.confirmed:
            state = self.world.state(name)
            if state == "unknown":
                # Its outcome may be forgotten: by its terms, or for the budget.
                keep_ms = self.submissions[name][2].get("keep_ms", 3_600_000)
                ended = any(job == name for job, _ in self.world.deliveries) or name in self.kept
                forgettable = keep_ms < 10**9 or self.is_tight
                assert forgettable, f"{name} was confirmed and is not there"
                assert ended or self._may_end_unseen(name), f"{name} never ran and is not there"

    def _may_end_unseen(self, name: str) -> bool:
        """Cancelled or expired, and forgotten in the same turn."""
        return self.submissions[name][2].get("keep_ms") == 0 or self.is_tight

    @invariant()
    def outcomes_never_change(self) -> None:
        for name in self.submissions:
            state = self.world.state(name)
            if name in self.kept:
                assert state in (self.kept[name], "unknown"), f"{name}: {self.kept[name]} became {state}"
            elif state in OUTCOMES:
                self.kept[name] = state

    @invariant()
    def each_outcome_is_heard_as_it_is(self) -> None:
        for by in PRODUCERS:
            if by in self.world.peers:
                for name, state in self.world.outcomes(by):
                    assert state == "unknown" or self.kept.get(name, state) == state
                    if state != "unknown":
                        self.kept.setdefault(name, state)

    @invariant()
    def nobody_holds_more_than_its_room(self) -> None:
        for name in self._connected():
            peer = self.world.peers[name]
            assert len(peer.holds) <= self.room[name] + len(peer.stops), f"{name} holds {peer.holds}"

    @invariant()
    def one_attempt_at_a_time(self) -> None:
        """Of all that believe to run a job, one has its lease; the others were lost or told to stop."""
        for name in self._connected():
            peer = self.world.peers[name]
            for lease, held in peer.holds.items():
                job = self.world.broker.state.jobs.get(held.id)
                is_current = job is not None and job.state == "running" and job.lease == lease
                assert is_current or lease in peer.stops or peer.is_deaf, f"{name} runs {name_of(held.id)}"

    @invariant()
    def leases_only_grow(self) -> None:
        assert all(leases == sorted(set(leases)) for leases in self.world.leases.values())

    @invariant()
    def what_is_read_back_is_what_was_lived(self) -> None:
        assert canonical(self.world.recovered()) == canonical(self.world.broker.state)

    @invariant()
    def nothing_leaks(self) -> None:
        broker, state = self.world.broker, self.world.broker.state
        ready = sum(job.state == "ready" for job in state.jobs.values())
        assert sum(map(len, broker.queues.lanes.values())) + broker.queues.aside == ready
        assert set(broker.watchers.by_job) <= set(state.jobs)
        for worker in broker.roster.workers.values():
            assert worker.peer or worker.held, "a worker without connection and leases"
            for slots in worker.slots.values():
                counted = [job for job in worker.held.values() if worker.by_task.get(job.terms.task) is slots]
                assert slots.running == len(counted)
        batches = broker.ledger.batches
        assert broker.ledger.journal_bytes == sum(len(self.world.journal[batch.seq]) for batch in batches)

    @invariant()
    def no_room_beside_a_waiting_job(self) -> None:
        if self.world.broker.queues.aside:
            return
        for job in self.world.broker.state.jobs.values():
            for worker in self.world.broker.roster.workers.values():
                slots = worker.by_task.get(job.terms.task)
                if job.state == "ready" and worker.is_open and slots and job.terms.queue in worker.queues:
                    assert slots.running >= slots.capacity, f"{name_of(job.id)} waits beside {worker.name}"

    def teardown(self) -> None:
        """In the end all heals, and every confirmed job comes to an outcome or waits for its task."""
        self.world.restart()
        for name in WORKERS:
            self.world.peers.pop(name, None)
        for _ in range(60):
            self.world.worker("last", slots=1_000, tasks=("work", "other"), queues=("default", "mail"))
            if self.world.holds("last"):
                self.world.ack(by="last")
            self.world.tick(7_000)
        for name in self.confirmed:
            fields = self.submissions[name][2]
            if fields.get("task") != "nobody knows":
                state = self.world.state(name)
                assert state in OUTCOMES or state == "unknown", f"{name} is {state} for ever"
        assert id_of("last") in self.world.broker.roster.workers


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
