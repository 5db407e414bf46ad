"""Jobs that are submitted when the task they are submitted in succeeds: `current().outbox()`."""

from collections.abc import Sequence
from contextvars import ContextVar, Token
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from taskq.client.context import Context
from taskq.client.ids import IdMaker
from taskq.client.job import Job
from taskq.client.making import new_job, outgoing_of, with_ext
from taskq.client.middleware import Middleware, submit_through
from taskq.client.session import NewJob
from taskq.errors import TooLarge
from taskq.limits import OUTBOX_BYTES_MAX, OUTBOX_JOBS_MAX
from taskq.protocol.messages import Durability

if TYPE_CHECKING:
    from taskq.client.task import Task

R = TypeVar("R")

# Over all outboxes: their tasks may submit in several threads.
_lock: Final = Lock()


class Outbox:
    """One block. It gives its jobs to the block around it, the outermost to the attempt."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs: list[NewJob] = []
        self._ids = IdMaker()
        self._outer: Outbox | None = None
        self._token: Token[Outbox | None] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many jobs were submitted in this block."""
        return len(self._jobs)

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this outbox was used before; current().outbox() makes another")
        self._outer = outbox_var.get(None)
        self._token = outbox_var.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None, "left before it was entered"
        outbox_var.reset(self._token)
        with _lock:
            self._is_closed = True
        if error is not None:
            self._forget()
        elif self._outer is not None:
            self._outer._jobs += self._jobs
        elif self._jobs:
            self._context.on_outbox(self._jobs)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def submit(self, task: "Task[..., R]", payload: bytes) -> Job[R]:
        """For tasks of an app without middleware around submissions; else as `submit_through`."""
        job = self._make(task, payload, None)
        self._add([job])
        return task.kind_of_job(task.app, job[0], task.read_result)

    async def submit_through(
        self,
        chain: Sequence[Middleware],
        calls: "Sequence[tuple[Task[..., R], bytes]]",
        durability: Durability | None = None,
    ) -> list[Job[R]]:
        """For TaskQ: submit these calls later, inside of all middleware. The handles stay unconfirmed.

        Raises TooLarge when the attempt's outbox is full, RuntimeError when the block has ended,
        ValueError for what a worker cannot submit for others; then none of them is in it.
        """
        jobs = [self._make(task, payload, durability) for task, payload in calls]
        if chain:
            outgoing = [outgoing_of(task, job) for (task, _), job in zip(calls, jobs, strict=True)]

            async def submit() -> None:
                self._add(with_ext(jobs, outgoing))

            await submit_through(chain, outgoing, submit)
        else:
            self._add(jobs)
        return [
            task.kind_of_job(task.app, job[0], task.read_result)
            for (task, _), job in zip(calls, jobs, strict=True)
        ]

    def _make(self, task: "Task[..., R]", payload: bytes, durability: Durability | None) -> NewJob:
        if self._context.urls is not None and task.app.urls != self._context.urls:
            raise ValueError(
                f"{task.name} is a task of another broker: it cannot be submitted together with the "
                "success of this job. Submit it outside the block of current().outbox()"
            )
        if task.settings.extras.is_bound:
            raise ValueError(
                f"{task.name}: a job that is bound to its client cannot be in an outbox; leave bind=True out"
            )
        with _lock:
            return new_job(task, payload, self._ids, b"", durability)

    def _add(self, jobs: list[NewJob]) -> None:
        enclosed, size = self._context.enclosed, sum(map(_size, jobs))
        with _lock:
            if self._is_closed:
                raise RuntimeError("the block of current().outbox() has ended: nothing can be added to it")
            if len(enclosed.ids) + len(jobs) > OUTBOX_JOBS_MAX or enclosed.bytes + size > OUTBOX_BYTES_MAX:
                raise TooLarge(
                    f"the outbox of this attempt holds {len(enclosed.ids)} jobs of {enclosed.bytes} bytes, "
                    f"and {len(jobs)} of {size} are to be added; the limits are {OUTBOX_JOBS_MAX} and "
                    f"{OUTBOX_BYTES_MAX}. Submit one job that submits the rest"
                )
            enclosed.ids.update(dict.fromkeys(job[0] for job in jobs))
            enclosed.bytes += size
            self._jobs += jobs

    def _forget(self) -> None:
        enclosed = self._context.enclosed
        with _lock:
            for job in self._jobs:
                enclosed.ids.pop(job[0], None)
                enclosed.bytes -= _size(job)


def _size(job: NewJob) -> int:
    ext: dict[str, Any] = job[3] or {}
    return len(job[2]) + sum(len(name) + len(value) for name, value in ext.items())


outbox_var: ContextVar[Outbox | None] = ContextVar("taskq_outbox", default=None)
