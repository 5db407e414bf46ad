"""Workers: the real WorkerSession, with attempts that take virtual time and end as chance has it; and
supervisors: the real SupervisorSession over processes that live and die.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final, Protocol

from taskq import limits
from taskq.client.session import NewJob
from taskq.protocol.ext import ACTIVE, QUEUED, Unique, above
from taskq.protocol.messages import (
    MEMORY,
    Announce,
    CheckpointItem,
    Chunk,
    Delivery,
    Ending,
    Ext,
    Failure,
    Fault,
    FromBroker,
    Instruction,
    LogItem,
    Message,
    Obeyed,
    ProgressItem,
    Recall,
    Saved,
    ScheduleSpec,
    Stop,
    Terms,
    Told,
    Welcome,
    WorkerText,
)
from taskq.worker.executors.line import Line
from taskq.worker.session import Start, WorkerSession
from taskq.worker.telling.outflow import Lines, Stream
from taskq.worker.vouching import SupervisorSession
from tests.simulation.agenda import MS, SECOND, Agenda
from tests.simulation.process import House, Process, SimLink

EXECUTORS: Final = {"add": "async", "mail": "async", "crunch": "thread"}
QUEUES: Final = ("default", "slow")
# What a supervisor says of a process that it killed itself.
PUT_DOWN: Final = "put down"


class Attempt:
    """One delivery at a worker."""

    def __init__(self, delivery: Delivery, terms: Terms, executor: str) -> None:
        self.delivery = delivery
        self.terms = terms
        self.executor = executor
        self.is_waiting = False
        self.is_reported = False
        self.is_told_to_stop = False
        self.checkpoints = 0


class Observer(Protocol):
    """Whoever keeps the books of what workers really did."""

    def on_arrived(self, lease: int) -> None: ...
    def on_begun(self, worker: "SimWorker", attempt: Attempt) -> None: ...
    def on_reported(self, worker: "SimWorker", attempt: Attempt, ending: str, outcome: object) -> None: ...
    def on_checkpoint(self, worker: "SimWorker", attempt: Attempt, value: bytes) -> None: ...
    def on_enclosed(self, worker: "SimWorker", attempt: Attempt, jobs: list[NewJob]) -> None: ...
    def on_died(self, worker: "SimWorker") -> None: ...
    def on_put_down(self, worker: "SimWorker", leases: list[int]) -> None: ...
    def on_yielded(self, lease: int, count: int) -> None: ...
    def on_given_up(self, lease: int) -> None: ...


class Temper:
    """How attempts go: probabilities in per cent, times in ms."""

    def __init__(self, rng: Random, *, kind: bool = False) -> None:
        self.shortest_ms = 0
        self.longest_ms = rng.choice((5, 50, 400, 2_000, 6_000))
        self.fails = 0 if kind else rng.choice((0, 10, 40))
        self.overruns = 0 if kind else rng.choice((0, 3))
        self.hangs = 0 if kind else rng.choice((0, 20))  # of those that run out of time
        self.talks = False  # attempts say how far they have come, and what is to come of their success
        self.tells = True  # they yield items and log lines

    def steady(self, ms: int) -> None:
        """From now on every attempt succeeds after exactly so long, and has nothing to tell."""
        self.shortest_ms = ms
        self.longest_ms = ms
        self.fails = self.overruns = self.hangs = 0
        self.tells = False


class SimWorker(Process):
    """One worker process. A Speaker, and what `worker/runner.py` does without a loop."""

    def __init__(
        self,
        agenda: Agenda,
        rng: Random,
        name: str,
        house: House,
        observer: Observer,
        *,
        tasks: Sequence[str],
        queues: Sequence[str],
        slots: dict[str, int],
        temper: Temper,
        schedules: Sequence[ScheduleSpec] = (),
    ) -> None:
        super().__init__(agenda, rng, name)
        self.session = rng.randbytes(16)
        self.tasks = {task: EXECUTORS[task] for task in tasks}
        self.queues = tuple(queues)
        self.slots = slots
        self.words = Random(f"{self.session.hex()} words")
        self.asks = 0  # for the broker's word that a checkpoint is recorded
        self.supervisor: SimSupervisor | None = None
        self.attempts: dict[int, Attempt] = {}
        self.temper = temper
        self.is_leaving = False
        self.when_dead: Callable[[], None] = lambda: None
        self._observer = observer
        announce = Announce(self.tasks, list(queues), dict(slots), app="app", schedules=list(schedules))
        self.speaker = WorkerSession(announce)
        self._voice = Random(f"{self.session.hex()} voice")
        self._lines: dict[int, Lines] = {}
        self._yielding: dict[int, bool] = {}  # by lease: has its time come, and it only waits for room?
        self.lanes = {name: Line(name, count, self._begin, 0.0) for name, count in slots.items()}
        # How much more than it has slots for it asks for, in per cent. Whether its jobs are tiny does not
        # matter here: what it has not begun must never wait for long beside a worker with room.
        self.greed = rng.choice((0, 100, 200))
        self.ask_for_more(rng.random())
        self.link = SimLink(self, house, session=self.session, role="worker", speaker=self)

    def start(self) -> None:
        self.agenda.note("worker", self.name, "is", self.session)
        self.link.start()

    def kill(self) -> None:
        if self.is_alive:
            super().kill()
            self.when_dead()
            self._observer.on_died(self)
            if self.supervisor is not None:
                self.supervisor.on_child_died(self)

    def ask_for_more(self, part: float) -> None:
        """Announce so large a part of what its greed allows beyond its slots."""
        for lane in self.lanes.values():
            lane.extra = round(lane.slots * self.greed * part) // 100
            self.speaker.resize(lane.name, lane.slots, lane.extra)

    def leave(self, grace_us: int) -> None:
        """SIGTERM: drain, finish within the grace, hand back, go."""
        if self.is_leaving or not self.is_alive:
            return
        self.is_leaving = True
        self.agenda.note("leave", self.name)
        self.speaker.drain()
        for lane in self.lanes.values():
            for attempt in list(lane.waiting):
                lane.waiting.remove(attempt)
                self._report(attempt, Failure(*_held(attempt), "returned"))
        self.link.wake()
        self.after(grace_us, self._hand_back)
        self._go_when_idle()

    def hold(self) -> None:
        """Take no more, until it is released."""
        self.speaker.hold()
        for lane in self.lanes.values():
            for attempt in list(lane.waiting):
                lane.waiting.remove(attempt)
                self._report(attempt, Failure(*_held(attempt), "returned"))
        self.link.wake()

    def release(self) -> None:
        self.speaker.release()
        self.link.wake()

    @property
    def can_take(self) -> bool:
        """Nothing keeps it from being given jobs, and from giving them back."""
        return self.is_alive and not self.is_frozen and not self.speaker.draining and self.link.is_sound

    # -- Speaker ----------------------------------------------------------------------------------

    def on_welcome(self, welcome: Welcome) -> None:
        self.speaker.on_welcome(welcome)

    def on_message(self, message: FromBroker) -> None:
        self.speaker.on_message(message)
        for event in self.speaker.take_events():
            if isinstance(event, Start):
                self._take(event)
            elif isinstance(event, Stop):
                self._stop(event)
            else:
                self._hand_over(event)

    def on_lost(self) -> None:
        self.speaker.on_lost()

    def outgoing(self) -> list[Message]:
        return self.speaker.outgoing()

    # -- attempts ---------------------------------------------------------------------------------

    def _take(self, start: Start) -> None:
        self._observer.on_arrived(start.delivery.lease)
        executor = self.tasks[start.terms.task]
        attempt = Attempt(start.delivery, start.terms, executor)
        self.attempts[start.delivery.lease] = attempt
        if self.speaker.draining:
            self._report(attempt, Failure(*_held(attempt), "returned"))
            return
        lane = self.lanes[executor]
        if lane.free > 0:
            lane.free -= 1
            self._begin(attempt)
        else:
            attempt.is_waiting = True
            lane.waiting.append(attempt)

    def _begin(self, attempt: Attempt) -> None:
        self._observer.on_begun(self, attempt)
        temper, rng, terms = self.temper, self.rng, attempt.terms
        if temper.tells:
            self._find_words(attempt)
        run_us = rng.randrange(temper.shortest_ms * MS, temper.longest_ms * MS + 1)
        if rng.random() * 100 < temper.overruns:
            run_us += 10 * SECOND
        if rng.random() < 0.05 and not attempt.is_reported:
            self.speaker.progress(ProgressItem(*_held(attempt), 1, 2))
            self.link.wake()
        if temper.talks and self.words.random() < 0.5:
            for _ in range(self.words.randrange(1, 4)):
                self.after(self.words.randrange(run_us + 1), lambda: self._checkpoint(attempt))
        if terms.timeout_ms and run_us > terms.timeout_ms * MS:
            if rng.random() < 0.3:
                self.speaker.extend(*_held(attempt), run_us // MS + 1_000)
                self.link.wake()
            elif self.supervisor is not None and rng.random() * 100 < temper.hangs:
                self.after(terms.timeout_ms * MS, lambda: self._hang(attempt))
                return
            else:
                fault = Fault("TimeoutError", "too long")
                self.after(
                    terms.timeout_ms * MS,
                    lambda: self._end(attempt, Failure(*_held(attempt), "timed_out", fault)),
                )
                return
        self.after(run_us, lambda: self._finish(attempt))

    def _hang(self, attempt: Attempt) -> None:
        """It holds up its process, and does not hear that its time is up; the supervisor sees that."""
        if attempt.is_reported or self.supervisor is None:
            return
        self.freeze(3600 * SECOND)
        supervisor, lease = self.supervisor, attempt.delivery.lease
        supervisor.after(limits.UNREACHED_MS * MS, lambda: supervisor.put_down(self, [lease]))

    def put_down(self, leases: list[int]) -> None:
        """Killed by its supervisor, for these."""
        self._observer.on_put_down(self, leases)
        self.kill()

    def _checkpoint(self, attempt: Attempt) -> None:
        """Bytes that are larger the later they were said."""
        if attempt.is_reported:
            return
        id, lease = _held(attempt)
        attempt.checkpoints += 1
        value = lease.to_bytes(8, "big") + attempt.checkpoints.to_bytes(4, "big")
        self._observer.on_checkpoint(self, attempt, value)
        self.speaker.checkpoint(CheckpointItem(id, lease, Saved(value)))
        if self.words.random() < 0.3:
            self.asks += 1
            self.speaker.when_saved(lease, self._saved)
        self.link.wake()

    def _saved(self, code: str) -> None:
        self.asks -= 1

    def _enclose(self, attempt: Attempt) -> None:
        """Some jobs are to come of its success. Those have none of their own, so there is an end to it."""
        id, terms = attempt.delivery.id, attempt.terms
        ext = attempt.delivery.ext or {}
        if terms.durability == MEMORY or "child" in ext or self.words.random() < 0.6:
            return
        line = [id, *above(ext)][: limits.ANCESTORS_MAX + 1]
        jobs: list[NewJob] = []
        for _ in range(self.words.randrange(1, 4)):
            own: Ext = {"child": b"", "parent": line[0]}
            if line[1:]:
                own["ancestors"] = b"".join(line[1:])
            if self.words.random() < 0.2:
                digest = self.words.choice((b"one", b"two", b"six")).ljust(16, b".")
                own["unique"] = Unique(self.words.choice((QUEUED, ACTIVE)), digest).pack()
            delay_ms = self.words.choice((0, 0, self.words.randrange(1, 2_000)))
            mine = Terms(self.words.choice(tuple(EXECUTORS)), self.words.choice(QUEUES), delay_ms=delay_ms)
            jobs.append((self.words.randbytes(16), mine, self.words.randbytes(9), own, 0))
        self._observer.on_enclosed(self, attempt, jobs)
        self.speaker.enclose(attempt.delivery.lease, jobs)

    # -- what attempts tell -----------------------------------------------------------------------

    def _find_words(self, attempt: Attempt) -> None:
        """Some yield items, in bursts or one by one; some log lines."""
        if self._voice.random() < 0.4:
            stream = self.speaker.outflow.open(*_held(attempt))
            self._yielding[attempt.delivery.lease] = False
            self._yield_soon(attempt, stream, self._voice.choice((3, 30, 200)))
        if self._voice.random() < 0.3:
            self._lines[attempt.delivery.lease] = Lines(attempt.delivery.id)
            self._log_soon(attempt, self._voice.randrange(1, 20))

    def _yield_soon(self, attempt: Attempt, stream: Stream, count: int) -> None:
        wait_us = self._voice.choice((MS, 5 * MS, 100 * MS)) if count < 100 else 100
        self.after(self._voice.randrange(wait_us), lambda: self._yield(attempt, stream, count))

    def _yield(self, attempt: Attempt, stream: Stream, count: int) -> None:
        if attempt.is_reported:
            return
        lease = attempt.delivery.lease
        for _ in range(min(count, self._voice.choice((1, 1, 10)))):
            if not stream.has_room:
                # As a generator that is not resumed: it goes on when there is room, if there ever is.
                stream.on_room = partial(self._go_on, attempt, stream, count)
                self._give_up_later(attempt, stream)
                return
            count -= 1
            if stream.put(lease.to_bytes(8, "big") + (stream.count + 1).to_bytes(4, "big")):
                self.speaker.outflow.is_due(stream)
                self.link.wake()
            self._observer.on_yielded(lease, stream.count)
        if count:
            self._yield_soon(attempt, stream, count)
        elif self._yielding.pop(lease, False):
            self._finish(attempt)

    def _give_up_later(self, attempt: Attempt, stream: Stream) -> None:
        """Nobody takes anything: the broker may be away, or the attempt be nobody's any more."""
        count = stream.count

        def look() -> None:
            if not attempt.is_reported and stream.count == count and not stream.has_room:
                stream.give_up()
                self._observer.on_given_up(attempt.delivery.lease)
                self._give_up_later(attempt, stream)

        self.after(limits.STREAM_ALONE_MS * MS, look)

    def _go_on(self, attempt: Attempt, stream: Stream, count: int) -> None:
        stream.on_room = _nobody_waits
        self._yield_soon(attempt, stream, count)

    def _log_soon(self, attempt: Attempt, count: int) -> None:
        self.after(self._voice.randrange(50 * MS), lambda: self._log(attempt, count))

    def _log(self, attempt: Attempt, count: int) -> None:
        lines = self._lines.get(attempt.delivery.lease)
        if lines is None or attempt.is_reported:
            return
        for _ in range(min(count, self._voice.choice((1, 5)))):
            count -= 1
            number = lines.next + len(lines.items)
            lines.put(LogItem(0, 20, "sim", f"{attempt.delivery.lease} {number}"))
        self._say_lines(attempt)
        if count:
            self._log_soon(attempt, count)

    def _say_lines(self, attempt: Attempt) -> None:
        lines = self._lines[attempt.delivery.lease]
        chunks: list[Chunk] = lines.cut()
        if chunks:
            self.speaker.outflow.log(Told(lines.id, attempt.delivery.lease, chunks))
            self.link.wake()

    def _hand_over(self, recall: Recall) -> None:
        """What has not begun goes to others; the session takes no more than there are slots from now on."""
        leases = {held.lease: None for held in recall.items}
        for lane in self.lanes.values():
            lane.extra = 0
            for attempt in lane.take_out(leases):
                self._report(attempt, Failure(*_held(attempt), "returned"))
        self.link.wake()
        if self.rng.random() < 0.5:
            self.after(self.rng.randrange(3 * SECOND), self._ask_again)

    def _ask_again(self) -> None:
        if not self.is_leaving:
            self.ask_for_more(self.rng.random())
            self.link.wake()

    def _finish(self, attempt: Attempt) -> None:
        """It came to its end, well or not."""
        if attempt.delivery.lease in self._yielding and not attempt.is_reported:
            self._yielding[attempt.delivery.lease] = True
            return
        rng = self.rng
        if rng.random() * 100 >= self.temper.fails:
            self._end(attempt, None)
            return
        kind = rng.random()
        fault = Fault("ValueError", "bad luck")
        ending: Ending = "failed"
        after_ms, final, hold_ms = -1, False, 0
        if kind < 0.2:
            after_ms = rng.randrange(3_000)
        elif kind < 0.4:
            ending, after_ms = "snoozed", rng.randrange(2_000)
            hold_ms = rng.choice((0, after_ms, rng.randrange(3_000)))
        elif kind < 0.5:
            ending, final = "discarded", True
        elif kind < 0.55:
            final = True
        elif kind < 0.65:
            ending = "returned"
        hold_key = "busy" if hold_ms else ""
        self._end(attempt, Failure(*_held(attempt), ending, fault, final, after_ms, hold_key, hold_ms))

    def _stop(self, stop: Stop) -> None:
        attempt = self.attempts.get(stop.lease)
        if attempt is None or attempt.is_told_to_stop:
            return
        attempt.is_told_to_stop = True
        cancelled = Failure(*_held(attempt), "cancelled", Fault("cancelled", stop.reason))
        if attempt.is_waiting:
            attempt.is_waiting = False
            self.lanes[attempt.executor].waiting.remove(attempt)
            self._report(attempt, cancelled)
        elif attempt.executor == "thread":
            # A thread cannot be stopped: its attempt is reported, its slot is not there for a while.
            self._resize(attempt.executor, -1)
            self._report(attempt, cancelled)
        elif self.rng.random() < 0.8:  # the others swallow it, and end as they would have
            self.after(self.rng.randrange(2 * MS), lambda: self._end(attempt, cancelled))

    def _hand_back(self) -> None:
        for attempt in list(self.attempts.values()):
            attempt.is_told_to_stop = True
            self._report(attempt, Failure(*_held(attempt), "returned"))

    def _end(self, attempt: Attempt, failure: Failure | None) -> None:
        if attempt.is_reported:
            if attempt.executor == "thread":
                self._resize(attempt.executor, +1)
                self._release(attempt.executor)
            return
        self._report(attempt, failure)
        self._release(attempt.executor)

    def _report(self, attempt: Attempt, failure: Failure | None) -> None:
        attempt.is_reported = True
        del self.attempts[attempt.delivery.lease]
        self._lines.pop(attempt.delivery.lease, None)
        self._yielding.pop(attempt.delivery.lease, None)
        stream = self.speaker.outflow.streams.get(attempt.delivery.lease)
        if stream is not None:
            stream.is_over = True
        if failure is None:
            if self.temper.talks:
                self._enclose(attempt)
            result = result_of(attempt.delivery.id, attempt.delivery.lease)
            self._observer.on_reported(self, attempt, "succeeded", result)
            self.speaker.succeed(*_held(attempt), result)
        else:
            self._observer.on_reported(self, attempt, failure.ending, failure)
            self.speaker.fail(failure)
        self.link.wake()

    def _release(self, executor: str) -> None:
        lane = self.lanes[executor]
        lane.free += 1
        if lane.waiting:
            lane.free -= 1
            attempt = lane.waiting.popleft()
            attempt.is_waiting = False
            self._begin(attempt)

    def _resize(self, executor: str, change: int) -> None:
        lane = self.lanes[executor]
        lane.slots += change
        lane.extra = min(lane.extra, lane.slots)
        self.speaker.resize(executor, lane.slots, lane.extra)
        self.link.wake()

    def _go_when_idle(self) -> None:
        if not self.speaker.idle:
            self.after(50 * MS, self._go_when_idle)
            return
        self.link.close()
        self.after(5 * MS, self.kill)


class SimSupervisor(Process):
    """Runs no jobs: starts children, vouches for them, says when they ended."""

    def __init__(self, agenda: Agenda, rng: Random, name: str, house: House) -> None:
        super().__init__(agenda, rng, name)
        self.session = rng.randbytes(16)
        self.children: list[SimWorker] = []
        self._put_down: dict[bytes, list[int]] = {}
        self.is_obedient = True  # else it drains nobody any more
        self.errands = 0  # what it was told and will do later, when whoever said so may have given up
        self.speaker = SupervisorSession(self._on_instruction)
        self.link = SimLink(self, house, session=self.session, role="supervisor", speaker=self.speaker)

    def start(self) -> None:
        self.link.start()
        self._vouch()

    def adopt(self, worker: SimWorker) -> None:
        worker.supervisor = self
        self.children.append(worker)
        self.speaker.started(worker.session)
        self.link.wake()

    def kill(self) -> None:
        """Children never outlive it: they see their line to it close, and end."""
        if not self.is_alive:
            return
        super().kill()
        for child in list(self.children):
            self.agenda.after(self.rng.randrange(50 * MS), child.kill)

    def on_child_died(self, worker: SimWorker) -> None:
        """SIGCHLD, some moments later."""
        self.after(self.rng.randrange(1, 5 * MS), lambda: self._bury(worker))

    def put_down(self, worker: SimWorker, leases: list[int]) -> None:
        """The time of these is up, and their process does not answer."""
        if worker.is_alive:
            self._put_down[worker.session] = leases
            worker.put_down(leases)

    def _on_instruction(self, instruction: Instruction) -> None:
        """Mostly it does what it is told, soon; sometimes too late, and sometimes it never says so."""
        late_us = self.rng.choice((0, 1, 100, 100, 3_000, 7_000)) * MS
        if self.rng.random() < 0.9:
            self.errands += 1
            self.after(self.rng.randrange(late_us + 1), lambda: self._obey(instruction))

    def _obey(self, instruction: Instruction) -> None:
        self.errands -= 1
        self.agenda.note(self.name, "obeys", instruction.verb, *instruction.sessions)
        children = [child for child in self.children if child.session in instruction.sessions]
        answer = Obeyed(instruction.number)
        match instruction.verb:
            case "drain" if not self.is_obedient:
                answer = Obeyed(instruction.number, code="conflict", text="no more of that")
            case "drain":
                for child in children:  # whose loop may stand still for a while
                    child.after(self.rng.choice((0, 0, 500)) * MS, child.hold)
            case "resume":
                for child in children:
                    child.do(child.release)
            case "stop":
                for child in children:
                    child.do(partial(child.leave, self.rng.randrange(2 * SECOND)))
            case "stack":
                texts = [WorkerText(child.session, "it works") for child in children]
                answer = Obeyed(instruction.number, texts)
        self.after(self.rng.choice((0, 0, 300, 2_000)) * MS, lambda: self._say(answer))

    def _say(self, answer: Obeyed) -> None:
        self.speaker.obeyed(answer)
        self.link.wake()

    def _bury(self, worker: SimWorker) -> None:
        self.children.remove(worker)
        if worker.session in self._put_down:
            leases = self._put_down.pop(worker.session)
            self.speaker.exited(worker.session, -9, PUT_DOWN, timed_out=leases, uncounted=True)
        else:
            self.speaker.exited(worker.session, 0 if worker.is_leaving else -9, "killed")
        self.link.wake()

    def _vouch(self) -> None:
        self.speaker.vouch()
        self.link.wake()
        self.after(limits.VOUCH_EVERY_MS * MS, self._vouch)


def result_of(job_id: bytes, lease: int) -> bytes:
    """What an attempt returns: it tells who made it."""
    return job_id[-4:] + lease.to_bytes(8, "big")


def item_of(item: bytes) -> tuple[int, int]:
    """Which attempt yielded it, and as which."""
    return int.from_bytes(item[:8], "big"), int.from_bytes(item[8:], "big")


def told_by(text: str) -> tuple[int, int]:
    """Which attempt logged it, and as which line."""
    lease, number = text.split()
    return int(lease), int(number)


def _nobody_waits() -> None:
    """It goes on by itself."""


def _held(attempt: Attempt) -> tuple[bytes, int]:
    return attempt.delivery.id, attempt.delivery.lease
