"""Workers, as people look for them and look at them. Built when asked; nothing is kept for it."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from msgspec import Struct

from taskq import limits
from taskq.core.effects import Now
from taskq.core.job import RUNNING
from taskq.core.lines.workers import Roster, Worker
from taskq.core.peers import Peers
from taskq.core.state import State
from taskq.protocol.messages import (
    ListWorkers,
    Refusal,
    RunningJob,
    WorkerDetail,
    WorkerList,
    WorkerState,
)

# A part of a session that is shorter names too many.
_PREFIX_CHARS_MIN: Final = 4
_ID_CHARS: Final = 32
# Of those that a name may mean, so many are told.
_TOLD_MAX: Final = 10


class Missed(Struct, frozen=True):
    """No worker is meant, or more than one."""

    code: str
    text: str


class Found(Struct, frozen=True):
    """Sessions of one supervisor; `lease`: only this attempt of theirs is meant."""

    name: str
    supervisor: bytes  # empty: nobody vouches for them
    workers: list[Worker]
    lease: int = 0
    is_whole: bool = False  # all of that supervisor's are meant


class Directory:
    """Answers who is meant by a name, and what is known of them."""

    def __init__(self, state: State, roster: Roster, peers: Peers) -> None:
        self._state = state
        self._roster = roster
        self._peers = peers

    def page(self, command: ListWorkers, now: Now) -> WorkerList | Refusal:
        """A page of all, or of those of one name with all that is known of them."""
        workers: Iterable[Worker] = self._roster.workers.values()
        most = limits.WORKERS_PER_PAGE
        if command.name:
            workers, most = self._named(command.name), limits.WORKERS_SHOWN_PER_PAGE
            if not workers:
                return Refusal(command.request, "not_found", _no_worker(command.name))
        after = sorted((each for each in workers if each.session > command.after), key=_session)
        items = [self._info(worker, now, full=bool(command.name)) for worker in after[:most]]
        return WorkerList(command.request, items, len(after) > most)

    def find(self, name: str) -> Found | Missed:
        """The one worker, or running job, that is meant."""
        if len(name) == _ID_CHARS and (found := self._of_job(name)) is not None:
            return found
        workers = self._named(name)
        if not workers:
            return Missed("not_found", _no_worker(name))
        owners = dict.fromkeys(self._owner(worker) for worker in workers)
        if len(owners) > 1:
            some = ", ".join(f"{each.name} ({each.session.hex()[:8]})" for each in workers[:_TOLD_MAX])
            return Missed("conflict", f"{name!r} is the name of more than one worker: {some}; say which")
        is_one = any(_is_process(worker, name) for worker in workers)
        return Found(workers[0].name, self._supervisor(workers[0]), workers, is_whole=not is_one)

    def of_supervisor(self, session: bytes) -> list[Worker]:
        """All that it vouches for."""
        return [each for each in self._roster.workers.values() if self._supervisor(each) == session]

    def _of_job(self, name: str) -> Found | Missed | None:
        try:
            id = bytes.fromhex(name)
        except ValueError:
            return None
        job = self._state.jobs.get(id)
        if job is None:
            if id in self._state.outcomes:
                return Missed("finished", f"job {name} has ended: it runs nowhere")
            return None
        worker = self._roster.workers.get(job.holder)
        if job.state is not RUNNING or worker is None:
            return Missed("conflict", f"job {name} is {job.state}: it runs nowhere now")
        return Found(worker.name, self._supervisor(worker), [worker], job.lease)

    def _named(self, name: str) -> list[Worker]:
        """By the whole name; else by the number behind its last colon; else by the beginning of a session,
        theirs or their supervisor's."""
        workers = list(self._roster.workers.values())
        return (
            [each for each in workers if each.name == name]
            or [each for each in workers if each.name.endswith(f":{name}")]
            or [each for each in workers if _is_process(each, name)]
            or [each for each in workers if _begins(self._supervisor(each), name)]
        )

    def _owner(self, worker: Worker) -> bytes:
        return self._supervisor(worker) or worker.session

    def _supervisor(self, worker: Worker) -> bytes:
        peer = self._peers.supervisor_of(worker.session)
        return peer.hello.session if peer is not None else b""

    def _info(self, worker: Worker, now: Now, *, full: bool) -> WorkerDetail:
        peer = self._peers.peers.get(worker.peer)
        return WorkerDetail(
            session=worker.session,
            name=worker.name,
            state=_state(worker),
            supervisor=self._supervisor(worker),
            host=worker.host,
            pid=worker.pid,
            version=worker.version,
            started_ms=worker.started_ms,
            beat_ms=now.boot_ms - peer.heard_ms if peer else -1,
            queues=worker.queues,
            slots={name: slots.capacity - slots.extra for name, slots in worker.slots.items()},
            running=len(worker.held),
            labels=worker.labels,
            resources=worker.capacities,
            tasks=_tasks(worker) if full else {},
            jobs=list(islice(_running(worker), limits.RUNNING_SHOWN_MAX)) if full else [],
        )


def _running(worker: Worker) -> Iterable[RunningJob]:
    for lease, job in worker.held.items():
        if job.state is RUNNING and job.lease == lease:
            attempt = job.failures + job.crashes + 1
            progress = worker.progress.get(lease)
            yield RunningJob(job.id, job.terms.task, job.terms.queue, attempt, job.started_ms, progress)


def _tasks(worker: Worker) -> dict[str, str]:
    """Each with its executor."""
    return {
        task: executor
        for executor, slots in worker.slots.items()
        for task, its in worker.by_task.items()
        if its is slots
    }


def _state(worker: Worker) -> WorkerState:
    if not worker.peer:
        return "gone"
    if worker.is_drained:
        return "drained"
    if worker.blocked:
        return "deaf"
    return "ready" if worker.resumed else "coming"


def _is_process(worker: Worker, name: str) -> bool:
    """Is this one process meant, and not all that share its name?"""
    is_named = worker.name == name or worker.name.endswith(f":{name}")
    return not is_named and (str(worker.pid) == name or _begins(worker.session, name))


def _begins(session: bytes, part: str) -> bool:
    return len(part) >= _PREFIX_CHARS_MIN and session.hex().startswith(part.lower())


def _session(worker: Worker) -> bytes:
    return worker.session


def _no_worker(name: str) -> str:
    return (
        f"no worker {name[: limits.NAME_CHARS_MAX]!r}: a name, its number, or the first digits of a session"
    )
