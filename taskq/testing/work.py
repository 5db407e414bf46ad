"""What there is to do in a test environment, what it waits for, and how to tell people."""

from collections.abc import Iterator
from typing import Final

from taskq.core.broker import Broker
from taskq.core.job import RUNNING, SCHEDULED, Job
from taskq.testing.clock import Clock
from taskq.testing.worker import TestWorker, place_of
from taskq.worker.attempts import Attempt
from taskq.worker.runner import ASYNC

_TOLD: Final = 3
# Timers of the worker's own are mostly for what it says together, or hands back: those are waited for.
# The later ones are timeouts, of attempts that may be over.
_SOON_US: Final = 1_000_000


class Work:
    """Looks at the broker and its worker, and changes neither."""

    def __init__(self, clock: Clock) -> None:
        self.core: Broker
        self.worker: TestWorker | None = None
        self.inside: dict[int, int] = {}  # attempts, by `id`, that wait for jobs: how often
        self._clock = clock
        self._witness = b""  # the job that waited for its next attempt when it was looked last

    def is_starting(self) -> bool:
        return self.worker is not None and self.worker.is_starting

    def outside(self) -> dict[object, bool]:
        """What runs and waits neither for a slot nor for a job; and whether a timer of its own wakes it."""
        owners = self._clock.owners()
        return {_moment(attempt): id(attempt) in owners for attempt in self._running()}

    def has_threads(self) -> bool:
        return any(each.definition.executor != ASYNC for each in self._running())

    def moves(self, *, retries: bool) -> bool:
        """Is there work in progress that the time alone takes further?

        Attempts that sleep or have a timeout, jobs that wait for their next attempt, or for a rate or
        a pause that ends by itself. Not what waits for its first time: that is for `advance`.
        """
        owners = self._clock.owners()
        if any(id(each) in owners or each.terms.timeout_ms for each in self._running()):
            return True
        if self._clock.is_working(_SOON_US):
            return True
        return self._is_gated() or (retries and self._is_to_be_tried_again()) or self._is_orphaned()

    def stuck(self) -> str:
        lines = list(self._lines())
        if not lines:
            return "there is no job without an outcome"
        more = "" if len(lines) <= _TOLD else f"; and {len(lines) - _TOLD} more"
        return "; ".join(lines[:_TOLD]) + more

    # -- parts --------------------------------------------------------------------------------

    def _running(self) -> Iterator[Attempt]:
        if self.worker is None:
            return
        for attempt in self.worker.running:
            has_begun = attempt.running is not None or attempt.definition.executor != ASYNC
            if has_begun and id(attempt) not in self.inside:
                yield attempt

    def _is_to_be_tried_again(self) -> bool:
        jobs = self.core.state.jobs
        if (known := jobs.get(self._witness)) is not None and _is_resting(known):
            return True
        self._witness = next((job.id for job in jobs.values() if _is_resting(job)), b"")
        return bool(self._witness)

    def _is_gated(self) -> bool:
        boot_ms = self._clock.now.boot_ms
        for gate in self.core.registry.gates.values():
            if not gate.has_waiting or not gate.waiting:
                continue
            pause = self.core.registry.pause_of(gate.spot)
            if pause is not None:
                if pause.until_ms:
                    return True
            elif gate.running < gate.running_max and not gate.is_open(boot_ms):
                return True
        return False

    def _is_orphaned(self) -> bool:
        """Is there a job whose worker is gone, or expected back?"""
        workers = self.core.roster.workers.values()
        return any(worker.held and not worker.peer for worker in workers) or self.core.queues.aside > 0

    # -- telling ------------------------------------------------------------------------------

    def _lines(self) -> Iterator[str]:
        """The jobs that are waited for, or else all that have no outcome."""
        jobs = self.core.state.jobs
        watched = [jobs[id] for id in self.core.watchers.by_job if id in jobs]
        attempts = {each.delivery.id: each for each in ([] if self.worker is None else self.worker.running)}
        for job in watched or jobs.values():
            yield f"job {job.id.hex()} ({job.terms.task}): {self._why(job, attempts.get(job.id))}"

    def _why(self, job: Job, attempt: Attempt | None) -> str:
        why = self.core.why.of(job, self._clock.now)
        if job.state is SCHEDULED:
            seconds = max(job.due_ms - self._clock.now.wall_ms, 0) / 1_000
            return f"{why}; `await env.advance({seconds:g})` gets there"
        if job.state is RUNNING:
            place = "" if attempt is None else place_of(attempt)
            return f"{why}, and is at {place}" if place else why
        if self.worker is None:
            return f"{why}; this environment runs nothing, as it was told to, or its app has no tasks"
        return why


def _is_resting(job: Job) -> bool:
    """Waits for another attempt, not for its first."""
    return job.state is SCHEDULED and job.lease != 0


def _moment(attempt: Attempt) -> object:
    """Another one each time that it waits for something else."""
    waits_for = attempt.waits_for if attempt.definition.executor == ASYNC else None
    return (attempt.delivery.lease, waits_for)
