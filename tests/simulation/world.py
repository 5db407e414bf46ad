"""A whole taskq in one thread of virtual time: the real core, engine and sessions; all else simulated.

`World(seed).run()` raises Violation at the first broken promise, and returns the digest of its trace.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from msgspec import Struct

from taskq import limits
from taskq.client.session import NewJob
from taskq.core.job import RUNNING
from taskq.protocol.messages import MEMORY, PauseSchedule, ScheduleSpec, Terms
from tests.simulation.agenda import MS, SECOND, Agenda, Violation
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.host import BrokerHost
from tests.simulation.idling import Idling
from tests.simulation.listeners import Listener
from tests.simulation.operators import Operator
from tests.simulation.overseers import Overseer
from tests.simulation.producers import Producer, Taste
from tests.simulation.seekers import Seeker
from tests.simulation.wire import Wire
from tests.simulation.workers import EXECUTORS, QUEUES, SimSupervisor, SimWorker, Temper

# After all is healed: the longest freeze, silence, backoffs and retries together are shorter.
REST_BOUND_US: Final = 240 * SECOND
# How soon a dead worker's jobs are free at the latest: two beats of silence, and a moment.
_DETECTION_US: Final = (limits.BEAT_MS * limits.SILENT_BEATS + 1_500) * MS
# How soon when its supervisor sees it die: SIGCHLD, the slowest of our links, a turn.
_EXIT_US: Final = 150 * MS
# How soon what is bound to a dead producer is cancelled: silence, and the time it has to come back.
_BINDING_US: Final = _DETECTION_US + limits.BIND_GRACE_MS * MS + SECOND
_PROBE_MS: Final = 2_000
# Schedules that people make, and those that code declares.
RUNTIME: Final = ("s1", "s2")
DECLARED: Final = ("d1", "d2")


class Plan(Struct):
    """The shape of one run."""

    seconds: int
    producers: int
    supervisors: int
    children: int
    lone_workers: int
    actions: int
    faults: int
    wall: bool
    power: bool
    slack_bytes: int
    outcome_bytes: int = limits.OUTCOME_BYTES_BUDGET
    decisions: int = 0
    searches: int = 0
    steering: int = 0  # what people do with schedules
    declaring: bool = False  # and what code does
    memory_bytes: int = 0
    listeners: int = 0
    overseeing: int = 0  # what people do with workers
    small: bool = False  # whoever runs this world makes its limits small

    @staticmethod
    def draw(rng: Random) -> "Plan":
        return Plan(
            seconds=rng.choice((2, 5, 10)),
            producers=rng.randrange(1, 4),
            supervisors=rng.randrange(0, 3),
            children=rng.randrange(1, 3),
            lone_workers=rng.randrange(0, 3),
            actions=rng.randrange(10, 60),
            faults=0 if rng.random() < 0.05 else rng.randrange(1, 20),
            wall=rng.random() < 0.15,
            power=rng.random() < 0.15,
            slack_bytes=rng.choice((0, 500, 3_000, 1_000_000)),
            outcome_bytes=rng.choice((0, 5_000, 10**9, 10**9)),
            small=rng.random() < 0.25,
            decisions=rng.choice((0, 0, 2, 8)),
            searches=rng.choice((0, 0, 3, 12)),
            steering=rng.randrange(2, 15) if rng.random() < 0.4 else 0,
            declaring=rng.random() < 0.2,
            memory_bytes=rng.choice((0, 0, 0, 10_000)),
            listeners=rng.choice((0, 1, 3)),
        )


class World:
    """Everything there is, and its clock."""

    def __init__(
        self, seed: int, *, plan: Plan | None = None, tell: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.rng = self._random("world")
        self.plan = plan or Plan.draw(self.rng)
        if plan is None:
            self.plan.overseeing = self._random("overseeing").choice((0, 4, 12, 12))
        self.agenda = Agenda(self._random("agenda"), tell=tell)
        self.taste = Taste(self._random("taste"))
        sampling = self._random("sampling")
        self.history = History(
            self.agenda,
            wall_is_steady=not self.plan.wall,
            all_is_journaled=MEMORY not in self.taste.durabilities,
            sample=lambda: sampling.random() < 0.07,
        )
        self.host = BrokerHost(
            self.agenda,
            self._random("host"),
            self.history,
            slack_bytes=self.plan.slack_bytes,
            outcome_bytes=self.plan.outcome_bytes,
            memory_bytes=self.plan.memory_bytes,
        )
        self.temper = Temper(self._random("temper"))
        self.temper.talks = self._random("talk").random() < 0.4
        self.producers: list[Producer] = []
        self.workers: list[SimWorker] = []
        self.supervisors: list[SimSupervisor] = []
        self.operators: list[Operator] = []
        self.caretaker: Producer | None = None
        self.seekers: list[Seeker] = []
        self.listeners: list[Listener] = []
        self.overseers: list[Overseer] = []
        self._names = 0
        self._clockwork = self._random("schedules")
        self.is_healed = False

    def run(self) -> int:
        """The whole story: busy and faulty, then healed, then at rest."""
        self.agenda.note("plan", self.plan)
        self.populate()
        self.make_trouble()
        self.agenda.run_until(self.plan.seconds * SECOND)
        self.heal()
        self.rest()
        self.probe()
        return self.agenda.digest

    # -- who is there -----------------------------------------------------------------------------

    def populate(self) -> None:
        self.host.start()
        Idling(self.agenda, self.host, self.workers).watch()
        for _ in range(self.plan.supervisors):
            supervisor = self.add_supervisor()
            for _ in range(self.plan.children):
                self.add_worker(supervisor)
        for _ in range(self.plan.lone_workers):
            self.add_worker()
        for _ in range(self.plan.producers):
            self.add_producer()
        if self.plan.decisions:
            self.add_operator()
        if self.plan.searches:
            self.add_seeker()
        for _ in range(self.plan.listeners):
            self.add_listener()
        if self.plan.overseeing:
            overseer = Overseer(self.agenda, self._random("overseer"), "overseer", self.host, self.workers)
            self.overseers.append(overseer)
            overseer.start()

    def add_supervisor(self) -> SimSupervisor:
        name = self._name("supervisor")
        supervisor = SimSupervisor(self.agenda, self._random(name), name, self.host)
        self.supervisors.append(supervisor)
        self.agenda.after(self.rng.randrange(100 * MS), supervisor.start)
        return supervisor

    def add_worker(self, supervisor: SimSupervisor | None = None, *, able: bool = False) -> SimWorker:
        """A worker; an able one runs all tasks of all queues."""
        name = self._name("worker")
        rng = self._random(name)
        tasks: tuple[str, ...] = tuple(EXECUTORS)
        queues: tuple[str, ...] = QUEUES
        if not able and rng.random() < 0.4:
            tasks = tuple(sorted(rng.sample(tasks, rng.randrange(1, len(tasks)))))
        if not able and rng.random() < 0.3:
            queues = (rng.choice(queues),)
        slots = {"async": rng.randrange(1, 5), "thread": rng.randrange(1, 3)}
        if able:
            slots = {"async": 6, "thread": 6}
        worker = SimWorker(
            self.agenda,
            rng,
            name,
            self.host,
            self.history,
            tasks=tasks,
            queues=queues,
            slots=slots,
            temper=self.temper,
            schedules=[self._schedule(each) for each in self._declared()],
        )
        self.workers.append(worker)
        worker.when_dead = lambda: self._replace(worker)
        if supervisor is not None:
            supervisor.adopt(worker)
        self.agenda.after(rng.randrange(100 * MS), worker.start)
        return worker

    def add_producer(self) -> Producer:
        name = self._name("producer")
        producer = Producer(self.agenda, self._random(name), name, self.host, self.history, self.taste)
        self.producers.append(producer)
        self.agenda.after(self.rng.randrange(20 * MS), producer.start)
        return producer

    def add_seeker(self) -> Seeker:
        name = self._name("seeker")
        seeker = Seeker(self.agenda, self._random(name), name, self.host, self.history)
        self.seekers.append(seeker)
        self.agenda.after(self.rng.randrange(20 * MS), seeker.start)
        return seeker

    def add_listener(self) -> Listener:
        name = self._name("listener")
        listener = Listener(
            self.agenda,
            self._random(name),
            name,
            self.host,
            self.history,
            is_tight=bool(self.plan.memory_bytes),
            is_small=self.plan.small,
        )
        self.listeners.append(listener)
        self.agenda.after(listener.rng.randrange(20 * MS), listener.start)
        return listener

    def add_operator(self) -> Operator:
        name = self._name("operator")
        operator = Operator(self.agenda, self._random(name), name, self.host)
        self.operators.append(operator)
        self.agenda.after(self.rng.randrange(20 * MS), operator.start)
        return operator

    def send_leaver(self) -> None:
        """Somebody binds a job for much later to itself, and dies."""
        leaver = self.add_producer()
        self.producers.remove(leaver)  # it cannot be asked for anything else
        later = Terms(task=next(iter(EXECUTORS)), queue=QUEUES[0], delay_ms=60_000)
        job: NewJob = (leaver.rng.randbytes(16), later, b"bound", {"bind": leaver.session}, 0)
        self.agenda.after(SECOND, lambda: leaver.say([job], fresh=True))
        self.agenda.after(2 * SECOND, lambda: self.lose_producer(leaver))
        self.agenda.run_until(self.agenda.us + 3 * SECOND)

    def lose_producer(self, producer: Producer) -> None:
        """It dies, and what is bound to it is not wanted any more."""
        producer.kill()
        self.agenda.after(_BINDING_US, lambda: self._is_unbound(producer))

    def _is_unbound(self, producer: Producer) -> None:
        if not self.host.is_up or self.agenda.us - self.host.started_us < _BINDING_US:
            self.agenda.after(_BINDING_US, lambda: self._is_unbound(producer))
            return
        for job in self.host.broker.state.jobs.values():
            if (job.ext or {}).get("bind") == producer.session:
                raise Violation("L1", f"job {job.id.hex()} is bound to {producer.name}, which is dead")

    # -- busy and faulty --------------------------------------------------------------------------

    def make_trouble(self) -> None:
        span_us = self.plan.seconds * SECOND
        for _ in range(self.plan.actions):
            self.agenda.at(self.rng.randrange(span_us), self._act)
        for operator in self.operators:
            for _ in range(self.plan.decisions):
                self.agenda.at(self.rng.randrange(span_us), partial(operator.do, operator.act))
        for seeker in self.seekers:
            for _ in range(self.plan.searches):
                self.agenda.at(self.rng.randrange(span_us), partial(seeker.do, seeker.act))
        for listener in self.listeners:
            for _ in range(listener.rng.randrange(2, 20)):
                self.agenda.at(listener.rng.randrange(span_us), partial(self._listen, listener))
        for overseer in self.overseers:
            for _ in range(self.plan.overseeing):
                self.agenda.at(overseer.rng.randrange(span_us), partial(overseer.do, overseer.act))
        for _ in range(self.plan.steering):
            self.agenda.at(self._clockwork.randrange(span_us), self._steer)
        faults = Faults(self, self._random("faults"), wall=self.plan.wall, power=self.plan.power)
        for _ in range(self.plan.faults):
            self.agenda.at(self.rng.randrange(50 * MS, span_us), faults.strike)

    def _act(self) -> None:
        alive = [producer for producer in self.producers if producer.is_alive]
        if not alive:
            return
        producer = self.rng.choice(alive)
        others: list[NewJob] = self.rng.choice(self.producers).jobs
        producer.do(lambda: producer.act(others))

    def _listen(self, listener: Listener) -> None:
        # Who waits for a job over another connection than its producer's must come later than that.
        known = self.history.asked
        ids = [job[0] for each in self.producers for job in each.jobs if known[job[0]].is_confirmed]
        listener.do(partial(listener.act, ids))

    def _steer(self) -> None:
        alive = [producer for producer in self.producers if producer.is_alive]
        if alive:
            spec = self._schedule(self._clockwork.choice(RUNTIME))
            self._clockwork.choice(alive).steer((*RUNTIME, *DECLARED), spec)

    def _schedule(self, name: str) -> ScheduleSpec:
        return self.taste.schedule(self._clockwork, name, wall_is_steady=not self.plan.wall)

    def _declared(self) -> list[str]:
        """What a worker's code declares: nothing once there is to be rest."""
        if not self.plan.declaring or self.is_healed:
            return []
        return [name for name in DECLARED if self._clockwork.random() < 0.7]

    def _replace(self, worker: SimWorker) -> None:
        leases = list(self.history.custody.open_leases(worker.session))
        self.agenda.after(_DETECTION_US, lambda: self._is_detected(worker, leases))
        supervisor = worker.supervisor
        if supervisor is not None and not supervisor.is_frozen and supervisor.link.is_sound:
            wire = supervisor.link.wire
            self.agenda.after(_EXIT_US, lambda: self._is_told(worker, leases, wire))
        if self.is_healed:
            return
        if supervisor is None or supervisor.is_alive:
            self.agenda.after(self.rng.randrange(SECOND), lambda: self._successor(supervisor))

    def _successor(self, supervisor: SimSupervisor | None) -> None:
        if supervisor is None or supervisor.is_alive:
            self.add_worker(supervisor)

    def _is_told(self, worker: SimWorker, leases: list[tuple[bytes, int]], wire: Wire | None) -> None:
        """Its supervisor, who was there all the time, has said so."""
        supervisor = worker.supervisor
        assert supervisor is not None
        link = supervisor.link
        if not supervisor.is_frozen and link.is_sound and link.wire is wire and self.host.is_up:
            self._is_free(worker, leases)

    def _is_detected(self, worker: SimWorker, leases: list[tuple[bytes, int]]) -> None:
        """What a dead worker held is free within the detection bound, if the broker was there to see."""
        if not self.host.is_up or self.agenda.us - self.host.started_us < _DETECTION_US:
            self.agenda.after(_DETECTION_US, lambda: self._is_detected(worker, leases))
            return
        self._is_free(worker, leases)

    def _is_free(self, worker: SimWorker, leases: list[tuple[bytes, int]]) -> None:
        for id, lease in leases:
            job = self.host.broker.state.jobs.get(id)
            if job is not None and job.state is RUNNING and job.lease == lease:
                raise Violation("V2", f"job {id.hex()} is still held by {worker.name}, which is dead")

    # -- healed -----------------------------------------------------------------------------------

    def heal(self) -> None:
        """From here on nothing new goes wrong; what was broken may take its time to be noticed."""
        self.agenda.note("healed")
        self.is_healed = True
        self.host.is_reachable = True
        self.host.trouble = []
        self.host.slow_commits = 0
        self.host.doom = ""
        self.host.snip = None
        # What is to run at a calendar time would wait for days if the clock had been ahead of itself.
        self.agenda.jump_wall(max(self.agenda.latest_wall_ms() - self.agenda.now.wall_ms, 0))
        self.add_worker(able=True)
        if self.taste.intake and self.rng.random() < 0.3:
            self.send_leaver()
        # Somebody who waits for nothing else: the other producers wait for jobs.
        self.caretaker = self.add_producer()
        for operator in self.operators:
            operator.do(operator.give_up)
        for listener in self.listeners:
            # With small limits some have held tasks back until now: let that take as long as it may.
            wait_us = 40 * SECOND if self.plan.small else 0
            listener.after(wait_us, listener.hurry)
        for supervisor in self.supervisors:
            supervisor.is_obedient = False
        for worker in self._living():  # after what it was told before
            worker.after(SECOND, worker.release)
        self.agenda.at(self.agenda.us + 60 * SECOND, self._enlarge)

    def _enlarge(self) -> None:
        """Dead jobs have bounds of their own, and alone may take all of so small a budget: then what waits
        for room waits until somebody sees that, and gives the broker more memory."""
        if self.host.is_up:
            state = self.host.broker.state
            if self.host.memory_bytes and state.dead_bytes > self.host.memory_bytes // 2:
                self.host.set_memory(0)

    def rest(self) -> None:
        """Every call has ended, and every job has an outcome, within the bound."""
        deadline_us = self.agenda.us + REST_BOUND_US
        while not self._is_at_rest():
            self._pause_schedules()
            if self.agenda.us > deadline_us:
                self._explain()
            self.agenda.run_until(self.agenda.us + SECOND // 4)
        self.agenda.run_until(self.agenda.us + SECOND)
        for id, asked in self.history.asked.items():
            if asked.is_confirmed and not self.history.audit.state_of(id):
                raise Violation("I1", f"job {id.hex()} was confirmed, and has no outcome")
        for worker in self._living():
            if worker.asks:
                raise Violation(
                    "V5", f"{worker.name} was never told what became of {worker.asks} checkpoints"
                )
        self.history.books.nobody_idles(self.host)
        self.history.books.at_rest(self.host)

    def _pause_schedules(self) -> None:
        """Or there would be no rest; again and again, for somebody may only now be heard."""
        caretaker = self.caretaker
        if caretaker is None or not self.host.is_up or caretaker.calls:
            return
        for name, schedule in self.host.broker.state.schedules.items():
            if not schedule.is_paused:
                caretaker.put(partial(PauseSchedule, name=name, reason="rest"))

    def _is_at_rest(self) -> bool:
        if (
            not self.host.is_up
            or self.host.broker.state.jobs
            or not all(each.is_paused for each in self.host.broker.state.schedules.values())
            or self.host.broker.ledger.newest > self.host.engine.committed
        ):
            return False
        if any(process.is_frozen or process.is_leaving for process in self.workers if process.is_alive):
            return False
        # What it has heard and not done yet may still stop a worker, long after the broker has answered.
        if any(each.is_frozen or each.errands for each in self.supervisors if each.is_alive):
            return False
        callers: list[Producer | Operator | Seeker | Listener | Overseer] = [*self.producers, *self.operators]
        callers += [*self.seekers, *self.listeners, *self.overseers]
        if any(caller.calls for caller in callers if caller.is_alive):
            return False
        if self.agenda.us - self.host.started_us < limits.RESUME_GRACE_MS * MS:
            return False  # it still expects workers back
        if not all(peer.wire.down.is_flowing for peer in self.host.peers.values()):
            return False  # somebody is gone, or does not read, and the broker has yet to notice
        return all(worker.speaker.idle and worker.link.is_sound for worker in self._living())

    def _explain(self) -> None:
        """Who is not at rest?"""
        jobs = self.host.broker.state.jobs if self.host.is_up else {}
        for id, job in jobs.items():
            raise Violation("V1", f"job {id.hex()} never ended: {job}")
        for producer in self.producers:
            if producer.is_alive and producer.calls:
                raise Violation("V5", f"{producer.calls} calls of {producer.name} never ended")
        for listener in self.listeners:
            if listener.is_alive and listener.calls:
                raise Violation("V5", f"{listener.name} still follows {listener.calls} jobs")
        for worker in self._living():
            if not worker.speaker.idle:
                raise Violation("V5", f"{worker.name} still holds {worker.speaker.held}")
        raise Violation("V3", "the broker or a worker never came back")

    # -- and is everything as it was? -------------------------------------------------------------

    def probe(self) -> None:
        """Every slot of every living worker can still be used, and nothing is left over afterwards."""
        self.temper.steady(_PROBE_MS)
        workers = self._living()
        producer = self.add_producer()
        self.host.set_memory(0)
        self.agenda.run_until(self.agenda.us + SECOND)
        if self.taste.intake:
            for queue in QUEUES:
                producer.bound(queue)
        # Enough for what they ask for beyond their slots, too.
        count = sum(lane.slots + lane.extra for worker in workers for lane in worker.lanes.values())
        self.agenda.run_until(self.agenda.us + SECOND)
        for task in EXECUTORS:
            for queue in QUEUES:
                producer.submit(count, terms=Terms(task=task, queue=queue, keep_ms=0))
        self.agenda.run_until(self.agenda.us + SECOND)
        for worker in workers:
            for executor in dict.fromkeys(worker.tasks.values()):
                lane = worker.lanes[executor]
                if lane.free or (lane.waiting and not worker.greed):
                    text = f"{lane.free} free slots of {executor} and {len(lane.waiting)} waiting jobs"
                    raise Violation("V4", f"{worker.name} has {text}; there is work for all")
        self.rest()
        if self.rng.random() < 0.2:
            self.agenda.run_until(self.agenda.us + 25 * SECOND)
            self.history.books.timers_at_rest(self.host)

    # -- parts ------------------------------------------------------------------------------------

    def _living(self) -> list[SimWorker]:
        return [worker for worker in self.workers if worker.is_alive]

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")
