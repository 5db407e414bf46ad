"""`q.workers`: who runs the jobs, what runs there now, and telling them to stop."""

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from taskq.client.background import run
from taskq.client.job import moment
from taskq.client.options import id_of, reason_of
from taskq.client.producer import ASK_TIMEOUT
from taskq.errors import Refused
from taskq.limits import TEXT_CHARS_MAX
from taskq.protocol.messages import (
    Instruct,
    Instructed,
    ListWorkers,
    Message,
    WorkerDetail,
    WorkerList,
    WorkerState,
    WorkerVerb,
)

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.session import Answer

_UNANSWERED: Final = "unanswered"


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker runs."""

    id: str
    task: str
    queue: str
    attempt: int
    started: datetime | None
    done: int = 0  # its progress, if it has told any
    total: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One process that runs jobs. Those of one `taskq worker` have the same name and supervisor.

    `state`: "ready"; "drained": it was told to take nothing more; "coming": it has just connected; "deaf": it
    does not read; "gone": its connection was lost, and it may yet come back. `tasks` (each with its
    executor) and `jobs` (the first hundred that run) only from `show`.
    """

    name: str
    session: str  # 32 hex digits
    supervisor: str  # the same of the process that looks after it; empty if none is connected
    state: WorkerState
    host: str
    pid: int
    version: str
    started: datetime | None
    silent_for: timedelta | None  # since it was heard last; None: it is not connected
    queues: list[str]
    slots: dict[str, int]  # by executor
    running: int
    labels: dict[str, str]
    resources: dict[str, int]
    tasks: dict[str, str]
    jobs: list[RunningJob]


@dataclass(frozen=True, slots=True)
class Told:
    """A worker has been told; `sessions` are the processes that this is about."""

    name: str
    sessions: list[str]


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs in one process, as text for people."""

    session: str
    text: str


class Workers:
    """Made by TaskQ. A worker is named by its name, by the number behind its name's last colon, or by the
    first digits (4 or more) of its session or its supervisor's. NotFound when there is none; Refused
    (`conflict`) when that names more than one, or one whose supervisor is not connected; TimeoutError when
    it does not answer within 5 s.
    """

    def __init__(self, app: "TaskQ") -> None:
        self._app = app

    async def list(self) -> "builtins.list[WorkerInfo]":
        """All worker processes that the broker knows, by name."""
        return await self._pages("")

    async def show(self, name: str) -> "builtins.list[WorkerInfo]":
        """The processes of this worker, with their tasks and what runs there."""
        return await self._pages(_checked(name))

    async def drain(self, name: str, *, reason: str = "") -> Told:
        """Let it take no more jobs; what runs goes on, and it stays connected, until `resume`.

        By its name all of its processes, and those that replace them; by a session that one process only.
        """
        return _told(await self._instruct("drain", name, reason))

    async def resume(self, name: str, *, reason: str = "") -> Told:
        """Let it take jobs again after `drain`."""
        return _told(await self._instruct("resume", name, reason))

    async def stop(self, name: str, *, reason: str = "") -> Told:
        """Let it end as after SIGTERM, with all of its processes: it takes no more, finishes what runs within
        its grace, and hands the rest back. Returns when it has been told."""
        return _told(await self._instruct("stop", name, reason))

    async def stack(self, name: str) -> "builtins.list[Stack]":
        """What runs there, process by process: jobs, threads and asyncio tasks, line by line. `name` may also
        be the id of a running job; then that one alone. Answered also while the event loop is blocked."""
        answer = await self._instruct("stack", name, "")
        return [Stack(each.session.hex(), each.text) for each in answer.texts]

    async def _instruct(self, verb: WorkerVerb, name: str, reason: str) -> Instructed:
        text = reason_of(reason)
        try:
            answer = await self._ask(lambda number: Instruct(number, verb, _checked(name), text))
        except Refused as error:
            if error.code == _UNANSWERED:
                raise TimeoutError(str(error)) from None
            raise
        assert isinstance(answer, Instructed)
        return answer

    async def _pages(self, name: str) -> "builtins.list[WorkerInfo]":
        found: list[WorkerDetail] = []
        while True:
            after = found[-1].session if found else b""
            page = await self._ask(lambda number, after=after: ListWorkers(number, name, after))  # type: ignore[misc]
            assert isinstance(page, WorkerList)
            found += page.items
            if not page.more or not page.items:
                return [_info(each) for each in sorted(found, key=_place)]

    async def _ask(self, make: Callable[[int], Message]) -> "Answer":
        producer = self._app._producer()
        return await producer.ask(lambda heard: producer.session.question(make, heard), ASK_TIMEOUT)


class SyncWorkers:
    """`q.workers` for code without asyncio: the same verbs, which block."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def list(self) -> "builtins.list[WorkerInfo]":
        return run(self._workers.list())

    def show(self, name: str) -> "builtins.list[WorkerInfo]":
        return run(self._workers.show(name))

    def drain(self, name: str, *, reason: str = "") -> Told:
        return run(self._workers.drain(name, reason=reason))

    def resume(self, name: str, *, reason: str = "") -> Told:
        return run(self._workers.resume(name, reason=reason))

    def stop(self, name: str, *, reason: str = "") -> Told:
        return run(self._workers.stop(name, reason=reason))

    def stack(self, name: str) -> "builtins.list[Stack]":
        return run(self._workers.stack(name))


def _checked(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a worker's name is a text, not {name!r:.80}")
    if not 0 < len(name) <= TEXT_CHARS_MAX:
        raise ValueError(f"a worker's name has 1 to {TEXT_CHARS_MAX} characters, not {len(name)}")
    try:
        return id_of(name).hex()  # a job's, or a session's, however it is written
    except ValueError:
        return name


def _told(answer: Instructed) -> Told:
    return Told(answer.name, [session.hex() for session in answer.sessions])


def _place(detail: WorkerDetail) -> tuple[str, bytes, int, bytes]:
    return detail.name, detail.supervisor, detail.pid, detail.session


def _info(detail: WorkerDetail) -> WorkerInfo:
    return WorkerInfo(
        name=detail.name,
        session=detail.session.hex(),
        supervisor=detail.supervisor.hex(),
        state=detail.state,
        host=detail.host,
        pid=detail.pid,
        version=detail.version,
        started=moment(detail.started_ms),
        silent_for=None if detail.beat_ms < 0 else timedelta(milliseconds=detail.beat_ms),
        queues=detail.queues,
        slots=detail.slots,
        running=detail.running,
        labels=detail.labels,
        resources=detail.resources,
        tasks=detail.tasks,
        jobs=[
            RunningJob(
                id=job.id.hex(),
                task=job.task,
                queue=job.queue,
                attempt=job.attempt,
                started=moment(job.started_ms),
                done=job.progress.done if job.progress else 0,
                total=job.progress.total if job.progress else 0,
                message=job.progress.text if job.progress else "",
            )
            for job in detail.jobs
        ],
    )
