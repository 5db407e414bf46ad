"""What people ask: how is this job, how is the broker. Built when asked; nothing is kept for it."""

from taskq.core.effects import Now
from taskq.core.job import RUNNING, Job
from taskq.core.lines.gates import Gate
from taskq.core.lines.lanes import Lane
from taskq.core.lines.queues import Queues
from taskq.core.lines.workers import Roster
from taskq.core.peers import Peers
from taskq.core.records import SuccessItem
from taskq.core.state import Kept, State
from taskq.protocol.messages import JobReport, ProgressItem, QueueReport, WorkerReport


def job_report(request: int, job: Job, roster: Roster, progress: ProgressItem | None, why: str) -> JobReport:
    """A job that has no outcome yet."""
    worker = roster.workers.get(job.holder)
    running = job.state is RUNNING
    return JobReport(
        request=request,
        id=job.id,
        task=job.terms.task,
        queue=job.terms.queue,
        state=job.state,
        attempts=job.failures + job.crashes + running,
        failures=job.failures,
        crashes=job.crashes,
        max_attempts=job.terms.retry.max_attempts,
        submitted_ms=job.submitted_ms,
        due_ms=job.due_ms,
        started_ms=job.started_ms,
        worker=worker.name if worker is not None and running else "",
        progress=progress,
        why=why,
        history=list(job.story),
        ext=job.ext,
    )


def outcome_report(request: int, kept: Kept) -> JobReport:
    """A job that has ended."""
    item = kept.item
    return JobReport(
        request=request,
        id=item.id,
        task=kept.terms.task,
        queue=kept.terms.queue,
        state=kept.state,
        max_attempts=kept.terms.retry.max_attempts,
        submitted_ms=item.submitted_ms,
        started_ms=item.started_ms,
        finished_ms=item.finished_ms,
        attempts=item.failures + item.crashes + isinstance(item, SuccessItem),
        failures=item.failures,
        crashes=item.crashes,
        fault=None if isinstance(item, SuccessItem) else item.fault,
        reason="" if isinstance(item, SuccessItem) else item.reason,
        history=list(item.story),
    )


def queue_reports(state: State, queues: Queues, roster: Roster, now: Now) -> list[QueueReport]:
    """Counts by queue; costs nothing per waiting job."""
    ready: dict[str, int] = {}
    startable: dict[str, int] = {}
    rooms: dict[Gate, int] = {}
    oldest: dict[str, int] = {}
    for lane in queues.lanes.values():
        ready[lane.queue] = ready.get(lane.queue, 0) + len(lane)
        startable[lane.queue] = startable.get(lane.queue, 0) + _startable(lane, rooms, now)
        head = lane.head()
        if head is not None:
            oldest[lane.queue] = max(oldest.get(lane.queue, 0), now.wall_ms - head.submitted_ms)
    running: dict[str, int] = {}
    serving: dict[str, int] = {}
    for worker in roster.workers.values():
        for queue in worker.queues:
            serving[queue] = serving.get(queue, 0) + 1
        for lease, job in worker.held.items():
            if job.state is RUNNING and job.lease == lease:
                running[job.terms.queue] = running.get(job.terms.queue, 0) + 1
    return [
        QueueReport(
            name=name,
            ready=ready.get(name, 0),
            running=running.get(name, 0),
            scheduled=max(state.unfinished.get(name, 0) - ready.get(name, 0) - running.get(name, 0), 0),
            dead=state.dead.get(name, 0),
            oldest_ms=oldest.get(name, 0),
            workers=serving.get(name, 0),
            startable=startable.get(name, 0),
        )
        for name in sorted({**state.unfinished, **state.dead, **serving})
    ]


def _startable(lane: Lane, rooms: dict[Gate, int], now: Now) -> int:
    """How many of its jobs wait for nothing but a slot. `rooms`: what other lanes have left of gates."""
    count = len(lane)
    for gate in lane.gates:
        if gate not in rooms:
            rooms[gate] = max(gate.room(now.boot_ms), 0)
        count = min(count, rooms[gate])
    for gate in lane.gates:
        rooms[gate] -= count
    return count


def worker_reports(roster: Roster, peers: Peers, now: Now) -> list[WorkerReport]:
    reports = []
    for worker in roster.workers.values():
        peer = peers.peers.get(worker.peer)
        reports.append(
            WorkerReport(
                session=worker.session,
                name=worker.name,
                queues=worker.queues,
                slots=sum(slots.capacity - slots.extra for slots in worker.slots.values()),
                running=len(worker.held),
                beat_ms=now.boot_ms - peer.heard_ms if peer else -1,
                connected=peer is not None,
            )
        )
    return reports
