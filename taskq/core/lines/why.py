"""Why a job is not running: the exact reason, read off the state that decides."""

from collections.abc import Iterator

from taskq.core.effects import Now
from taskq.core.job import READY, RUNNING, SCHEDULED, Job
from taskq.core.lines.gates import Gate
from taskq.core.lines.lanes import Lane
from taskq.core.lines.queues import Queues
from taskq.core.lines.registry import Registry
from taskq.core.lines.workers import Roster, Worker
from taskq.core.state import State

# Enough to act on; a text is no list.
NAMED_MAX = 3
# Looked at before an answer is given that is less exact: an answer takes well under a millisecond.
LOOKS_MAX = 1_000


class Why:
    """Answers for one job at a time. Changes nothing."""

    def __init__(self, state: State, queues: Queues, roster: Roster, registry: Registry) -> None:
        self._state = state
        self._queues = queues
        self._roster = roster
        self._registry = registry

    def of(self, job: Job, now: Now) -> str:
        """One sentence or more, for people."""
        if job.state is RUNNING:
            return self._running(job, now)
        if job.state is SCHEDULED:
            return _scheduled(job, now)
        assert job.state is READY, f"nobody can say why a job is {job.state}"
        if self._queues.is_aside(job):
            return "the broker has restarted, and a worker that may be running it has a moment to come back"
        reasons = [*self._closed(job, now), *self._without_worker(job)]
        return "; ".join(reasons) or self._in_line(job)

    # -- states -------------------------------------------------------------------------------

    def _running(self, job: Job, now: Now) -> str:
        worker = self._roster.workers.get(job.holder)
        if worker is None or not worker.peer:
            return "it was running; its worker is expected back"
        return f"it runs on {worker.name}, for {_span(now.wall_ms - job.started_ms)}"

    def _in_line(self, job: Job) -> str:
        lane = self._queues.lane(job)
        able = [worker for worker in self._roster.workers.values() if not _lacks(worker, lane)]
        starved = [each for each in able if lane.needs and not each.has(lane.needs)]
        if lane.needs and len(starved) == len(able):
            return (
                f"it needs {_pairs(lane.needs)}, which is in use on {_named(worker.name for worker in able)}"
            )
        ahead = self._ahead(lane, job)
        before = f"; at most {ahead:,} jobs are before it" if ahead else "; it is the next one"
        return f"it waits for room on {len(able)} worker{'s' if len(able) > 1 else ''}{before}"

    def _ahead(self, lane: Lane, job: Job) -> int:
        places = [sight.ahead(lane, job, LOOKS_MAX) for sight in self._queues.sights_of(lane)]
        return min([*places, self._state.unfinished.get(lane.queue, 1) - 1])

    # -- gates --------------------------------------------------------------------------------

    def _closed(self, job: Job, now: Now) -> Iterator[str]:
        for gate in self._queues.lane(job).gates:
            if gate.is_paused:
                yield self._paused(gate, now)
            elif gate.running >= gate.running_max:
                yield f"{gate.spot} may run {gate.running_max:,} at once: {self._holders(gate)}"
            elif not gate.is_open(now.boot_ms):
                wait_ms = gate.next_ms(now.boot_ms) - now.boot_ms
                pace = f"{gate.rate_count:,} in {_span(gate.rate_ms)}"
                yield f"{gate.spot} may start {pace}: the next in {_span(wait_ms)}"

    def _paused(self, gate: Gate, now: Now) -> str:
        setting = self._registry.pause_of(gate.spot)
        if setting is None:
            return f"{gate.spot} is paused"
        by = f" by {setting.by}" if setting.by else ""
        why = f": {setting.reason}" if setting.reason else ""
        left = f" for another {_span(setting.until_ms - now.wall_ms)}" if setting.until_ms else ""
        return f"{gate.spot} is paused{by}{left}{why}"

    def _holders(self, gate: Gate) -> str:
        """Who runs what counts there: as many as fit a sentence."""
        if gate.running_max == 0:
            return "none run"
        jobs: list[str] = []
        for looked, (lease, gates) in enumerate(self._registry.taken.items()):
            if len(jobs) == NAMED_MAX or looked == LOOKS_MAX:
                break
            if gate in gates and (job := self._roster.held(lease)) is not None:
                jobs.append(job.id.hex())
        more = f" and {gate.running - len(jobs):,} more" if gate.running > len(jobs) else ""
        return f"{', '.join(jobs)}{more} run" if jobs else f"{gate.running:,} run"

    # -- workers ------------------------------------------------------------------------------

    def _without_worker(self, job: Job) -> Iterator[str]:
        """Why no worker that is here can run it; nothing if one can. Says who is nearest."""
        lane = self._queues.lane(job)
        workers = [worker for worker in self._roster.workers.values() if worker.peer]
        lacks = {worker.name: _lacks(worker, lane) for worker in workers}
        if any(not lack for lack in lacks.values()):
            return
        knowing = [worker for worker in workers if lane.task in worker.by_task]
        serving = [worker for worker in knowing if lane.queue in worker.queues]
        if not knowing:
            yield f"no connected worker knows task {lane.task!r}"
        elif not serving:
            who = _named(worker.name for worker in knowing)
            yield f"{who} know task {lane.task!r}, but none of them serves queue {lane.queue!r}"
        else:
            near = _named(f"{worker.name} {lacks[worker.name]}" for worker in serving)
            yield f"no worker has what it asks for: {near}"


def _lacks(worker: Worker, lane: Lane) -> str:
    """What keeps a worker from this lane's jobs altogether; empty: nothing."""
    route = lane.route
    if lane.task not in worker.by_task:
        return f"does not know task {lane.task!r}"
    if lane.queue not in worker.queues:
        return f"does not serve queue {lane.queue!r}"
    for name, value in route.labels:
        has = worker.labels.get(name)
        if has != value:
            has_it = f"no label {name}" if has is None else f"{name}={has}"
            return f"has {has_it}, and {name}={value} is asked for"
    for name, count in route.resources:
        if worker.capacities.get(name, 0) < count:
            return f"has {worker.capacities.get(name, 0)} of {name}, not {count}"
    if worker.is_drained:
        return "takes no more: it was drained, or is stopping"
    return ""


def _scheduled(job: Job, now: Now) -> str:
    again = f", after {job.failures + job.crashes} attempts" if job.failures + job.crashes else ""
    return f"it is due in {_span(max(job.due_ms - now.wall_ms, 0))}{again}"


def _named(names: Iterator[str]) -> str:
    named = list(names)
    more = f" and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
    return ", ".join(named[:NAMED_MAX]) + more


def _pairs(needs: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in needs)


def _span(ms: int) -> str:
    """Milliseconds as people say them."""
    if ms < 1_000:
        return f"{max(ms, 0)} ms"
    seconds = ms / 1_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
