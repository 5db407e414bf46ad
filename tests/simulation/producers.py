"""Producers: the real ClientSession, and somebody who submits, waits, cancels and asks at random."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from taskq import limits
from taskq.client.session import Answer, ClientSession, NewJob, Submission
from taskq.protocol.ext import ACTIVE, QUEUED, SECONDS, Unique, above
from taskq.protocol.messages import (
    FSYNC,
    MEMORY,
    OS,
    Callback,
    CatchUp,
    DropSchedule,
    Durability,
    Ext,
    ListSchedules,
    Message,
    Outcome,
    Overlap,
    PauseSchedule,
    ResumeSchedule,
    RetryTerms,
    RunSchedule,
    ScheduleSpec,
    SetSchedule,
    Terms,
    Verdict,
)
from tests.simulation.agenda import MS, Agenda
from tests.simulation.process import House, Process, SimLink
from tests.simulation.workers import EXECUTORS, QUEUES


class Diary(Protocol):
    """Whoever keeps the books of what producers asked for and were told."""

    def on_submitted(self, producer: "Producer", first: int, jobs: list[NewJob], *, fresh: bool) -> None: ...
    def on_decided(self, producer: "Producer", jobs: list[NewJob], verdicts: list[Verdict]) -> None: ...
    def on_cancelling(self, ids: list[bytes]) -> None: ...
    def on_outcome(self, producer: "Producer", outcome: Outcome) -> None: ...


class Taste:
    """What jobs of this run look like."""

    def __init__(self, rng: Random) -> None:
        kinds: tuple[tuple[Durability, ...], ...] = ((FSYNC,), (FSYNC,), (FSYNC, OS), (FSYNC, OS, MEMORY))
        self.durabilities = rng.choice(kinds)
        self.delays = rng.random() < 0.5
        self.expires = rng.random() < 0.3
        self.timeouts = rng.random() < 0.4
        self.retries = rng.random() < 0.8
        self.priorities = rng.choice(((0,), (0, 0, 5, -50)))
        self.callbacks = rng.random() < 0.4
        # Uniqueness, trees, bound jobs, edits, bounded queues: in half of all runs.
        self.intake = rng.random() < 0.5
        self.keeps = rng.choice(((3_600_000,), (3_600_000, 0), (3_600_000, 1_000, 0)))

    def terms(self, rng: Random, wall_ms: int) -> Terms:
        delay_ms = at_ms = expires_ms = 0
        if self.delays and rng.random() < 0.3:
            if rng.random() < 0.7:
                delay_ms = rng.randrange(1, 4_000)
            else:
                at_ms = wall_ms + rng.randrange(-1_000, 4_000)
        if self.expires and rng.random() < 0.3:
            expires_ms = rng.choice((rng.randrange(50, 6_000), 60_000))
        return Terms(
            task=rng.choice(tuple(EXECUTORS)),
            queue=rng.choice(QUEUES),
            priority=rng.choice(self.priorities),
            delay_ms=delay_ms,
            at_ms=at_ms,
            expires_ms=expires_ms,
            timeout_ms=rng.randrange(20, 2_000) if self.timeouts and rng.random() < 0.5 else 0,
            keep_ms=rng.choice(self.keeps),
            durability=rng.choice(self.durabilities),
            retry=self._retry(rng),
            on_failure=self._callback(rng),
            on_dead=self._callback(rng),
        )

    def _callback(self, rng: Random) -> Callback | None:
        if not self.callbacks or rng.random() < 0.5:
            return None
        retry = RetryTerms(rng.choice((1, 2)), base_ms=20)
        return Callback(rng.choice(tuple(EXECUTORS)), rng.choice(QUEUES), retry=retry)

    def schedule(self, rng: Random, name: str, *, wall_is_steady: bool) -> ScheduleSpec:
        """Due every second or so; rarely, where the wall clock jumps by a day and all is made up for."""
        catch_up: CatchUp = rng.choice(("skip", "last", "all"))
        overlap: Overlap = rng.choice(("allow", "skip", "queue", "cancel"))
        interval_ms = rng.choice((1_000, 1_100, 2_500))
        cron = rng.choice(("", "* * * * * *", "*/2 * * * * *"))
        if catch_up == "all" and not wall_is_steady:
            cron, interval_ms = "", 1_800_000
        return ScheduleSpec(
            name,
            Terms(
                task=rng.choice(tuple(EXECUTORS)),
                queue=rng.choice(QUEUES),
                durability=OS if OS in self.durabilities and rng.random() < 0.5 else FSYNC,
                keep_ms=rng.choice(self.keeps),
                retry=self._retry(rng),
            ),
            rng.randbytes(3),
            cron=cron,
            interval_ms=0 if cron else interval_ms,
            zone=rng.choice(("UTC", "Europe/Berlin")),
            catch_up=catch_up,
            overlap=overlap,
            jitter_ms=rng.choice((0, 0, 700)),
        )

    def ext(self, rng: Random, session: bytes, above: list[bytes]) -> Ext | None:
        """What is rare of a job; `above` is a line of jobs under which it may be submitted."""
        if not self.intake:
            return None
        ext: Ext = {}
        if rng.random() < 0.2:
            ext["key"] = rng.choice((b"ann", b"bob"))
        if rng.random() < 0.4:
            scope = rng.choice((QUEUED, ACTIVE, SECONDS))
            window_ms = rng.choice((50, 1_500, 5_000)) if scope == SECONDS else 0
            digest = rng.choice((b"one", b"two", b"three")).ljust(16, b".")
            ext["unique"] = Unique(scope, digest, window_ms, rng.random() < 0.3).pack()
        if rng.random() < 0.15:
            ext["bind"] = session
        if above and rng.random() < 0.4:
            ext["parent"] = above[0]
            if above[1:]:
                ext["ancestors"] = b"".join(above[1:])
        return ext or None

    def _retry(self, rng: Random) -> RetryTerms:
        if not self.retries:
            return RetryTerms()
        return RetryTerms(
            max_attempts=rng.choice((1, 2, 3, 5)),
            base_ms=rng.choice((0, 20, 500)),
            factor=2.0,
            max_delay_ms=2_000,
            jitter=rng.random() < 0.5,
            max_crashes=rng.choice((0, 1, 5)),
            on_timeout=rng.random() < 0.7,
        )


class Producer(Process):
    """One producing process."""

    def __init__(
        self, agenda: Agenda, rng: Random, name: str, house: House, diary: Diary, taste: Taste
    ) -> None:
        super().__init__(agenda, rng, name)
        self.session = rng.randbytes(16)
        self.calls = 0  # that have not ended
        self.jobs: list[NewJob] = []
        self.speaker = ClientSession()
        self._diary = diary
        self._taste = taste
        self._next_seq = 0
        self.link = SimLink(self, house, session=self.session, role="producer", speaker=self.speaker)

    def start(self) -> None:
        self.link.start()

    def submit(self, count: int, *, terms: Terms | None = None) -> list[NewJob]:
        """A group of new jobs, some of them sharing their terms; mostly watched."""
        rng = self.rng
        jobs: list[NewJob] = []
        chosen = terms
        for _ in range(count):
            if terms is None and (chosen is None or rng.random() < 0.4):
                chosen = self._taste.terms(rng, self.agenda.now.wall_ms)
            assert chosen is not None
            ext = self._taste.ext(rng, self.session, self._line())
            jobs.append((rng.randbytes(16), chosen, rng.randbytes(rng.randrange(1, 40)), ext, 0))
        self.say(jobs, fresh=True)
        self.jobs += jobs
        if rng.random() < 0.8:
            self.watch([job[0] for job in jobs])
        return jobs

    def _line(self) -> list[bytes]:
        """A job of ours, and those above it."""
        if not self.jobs:
            return []
        id, _, _, ext, _ = self.rng.choice(self.jobs)
        return [id, *above(ext or {})][: limits.ANCESTORS_MAX]

    def say(self, jobs: list[NewJob], *, fresh: bool) -> None:
        """Submit these, known or not."""
        self.calls += 1
        self.agenda.note(self.name, "submits", len(jobs), "new" if fresh else "again", jobs[0][0])
        self._diary.on_submitted(self, self._next_seq, jobs, fresh=fresh)
        self._next_seq += len(jobs)
        self.speaker.submit(jobs, lambda submission: self._decided(jobs, submission))
        self.link.wake()

    def again(self, others: list[NewJob]) -> None:
        """The same ids once more: what one did and what others did; sometimes as another job."""
        known = others or self.jobs
        if not known:
            return
        id, terms, payload, ext, flags = self.rng.choice(known)
        if self.rng.random() < 0.3:
            payload += b"!"
        if ext:  # it is bound to one session, and this may be another
            ext = {name: value for name, value in ext.items() if name != "bind"}
        self.say([(id, terms, payload, ext, flags)], fresh=False)

    def watch(self, ids: list[bytes]) -> None:
        pending = dict.fromkeys(ids)
        self.calls += len(pending)

        def on_outcome(outcome: Outcome) -> None:
            del pending[outcome.id]
            self.calls -= 1
            self._diary.on_outcome(self, outcome)

        self.speaker.watch(ids, on_outcome)
        self.link.wake()
        if self.rng.random() < 0.1:
            self.after(self.rng.randrange(2_000 * MS), lambda: self._unwatch(pending, on_outcome))

    def cancel(self) -> None:
        if not self.jobs:
            return
        ids = [job[0] for job in self.rng.sample(self.jobs, min(len(self.jobs), self.rng.randrange(1, 4)))]
        tree = self._taste.intake and self.rng.random() < 0.4
        self.agenda.note(self.name, "cancels", *ids, "tree" if tree else "")
        self._diary.on_cancelling(ids)
        self._ask(lambda on_answer: self.speaker.cancel(ids, "no longer wanted", on_answer, tree=tree))

    def edit(self) -> None:
        """Change one of our jobs, if it still waits."""
        if not self.jobs:
            return
        rng = self.rng
        id = rng.choice(self.jobs)[0]
        changes: dict[str, Any] = {}
        if rng.random() < 0.6:
            changes["delay_ms"] = rng.choice((0, rng.randrange(3_000)))
        if rng.random() < 0.3:
            changes["queue"] = rng.choice(QUEUES)
        if rng.random() < 0.3:
            changes["payload"] = rng.randbytes(rng.randrange(1, 40))
        if rng.random() < 0.2:
            changes["expires_ms"] = rng.choice((0, rng.randrange(50, 6_000)))
        self.agenda.note(self.name, "edits", id, changes)
        self._ask(lambda on_answer: self.speaker.edit(id, changes, on_answer))

    def bound(self, queue: str, **bound: Any) -> None:
        """So much may wait in a queue."""
        self.agenda.note(self.name, "bounds", queue, bound)
        self._ask(lambda on_answer: self.speaker.bound(queue, bound, on_answer))

    def bound_somehow(self) -> None:
        rng = self.rng
        bound: dict[str, Any] = {"when_full": rng.choice(("reject", "wait", "wait", "drop_oldest"))}
        if rng.random() < 0.8:
            bound["max_jobs"] = rng.randrange(1, 8)
        if rng.random() < 0.3:
            bound["max_bytes"] = rng.randrange(30, 300)
        self.bound(rng.choice(QUEUES), **bound)

    def ask(self) -> None:
        """How is the broker, or one job?"""
        if self.jobs and self.rng.random() < 0.8:
            id = self.rng.choice(self.jobs)[0]
            self._ask(lambda on_answer: self.speaker.inspect(id, on_answer))
        else:
            self._ask(self.speaker.status)

    def act(self, others: list[NewJob]) -> None:
        """One thing that producers do."""
        if self._taste.intake and self.rng.random() < 0.2:
            self.edit() if self.rng.random() < 0.6 else self.bound_somehow()
            return
        dice = self.rng.random()
        if dice < 0.62:
            self.submit(self.rng.choice((1, 1, 2, 5, 12)))
        elif dice < 0.72:
            self.again(others if self.rng.random() < 0.5 else [])
        elif dice < 0.88:
            self.cancel()
        else:
            self.ask()

    # -- schedules --------------------------------------------------------------------------------

    def steer(self, names: Sequence[str], spec: ScheduleSpec) -> None:
        """One thing that people do with schedules: with that one, or with one of these names."""
        name, dice = self.rng.choice((*names, spec.name)), self.rng.random()
        if dice < 0.4:
            self.put(lambda number: SetSchedule(number, spec))
        elif dice < 0.55:
            self.put(lambda number: PauseSchedule(number, name, "for a while"))
        elif dice < 0.75:
            self.put(lambda number: ResumeSchedule(number, name))
        elif dice < 0.8:
            self.put(lambda number: DropSchedule(number, name))
        elif dice < 0.95:
            id = self.rng.randbytes(16)
            self.put(lambda number: RunSchedule(number, name, id))
        else:
            self.put(lambda number: ListSchedules(number, ticks=3))

    def put(self, question: Callable[[int], Message]) -> None:
        self.agenda.note(self.name, "asks", question(0))
        self._ask(lambda on_answer: self.speaker.question(question, on_answer))

    # -- answers ----------------------------------------------------------------------------------

    def _unwatch(self, pending: dict[bytes, None], on_outcome: Callable[[Outcome], None]) -> None:
        self.calls -= len(pending)
        self.speaker.unwatch(list(pending), on_outcome)
        self.link.wake()

    def _ask(self, ask: Callable[[Callable[[Answer], None]], int]) -> None:
        self.calls += 1
        ask(self._answered)
        self.link.wake()

    def _answered(self, answer: Answer) -> None:
        self.calls -= 1

    def _decided(self, jobs: list[NewJob], submission: Submission) -> None:
        self.calls -= 1
        self._diary.on_decided(self, jobs, submission.verdicts)
