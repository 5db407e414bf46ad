"""From a call to the job that is submitted. The hot paths of TaskQ have it written out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskq.client.ids import IdMaker
from taskq.client.middleware import Outgoing
from taskq.client.options import with_durability
from taskq.client.session import NewJob
from taskq.client.values.compression import smaller_call
from taskq.limits import COMPRESS_BYTES_MIN
from taskq.protocol.messages import Durability

if TYPE_CHECKING:
    from taskq.client.task import Task


def new_job(
    task: "Task[..., Any]",
    payload: bytes,
    ids: IdMaker,
    session: bytes,
    durability: Durability | None = None,
) -> NewJob:
    """One call of this task, to be submitted by this session; `durability` overrides the task's."""
    extras = task.settings.extras
    ext = extras.shared(task.name, session)
    if extras.is_by_arguments:
        ext = extras.own(ext, task.name, payload)
    terms = task.terms if durability is None else with_durability(task.terms, durability)
    job: NewJob = (task.settings.id or ids.new_id(task.slot), terms, payload, ext, 0)
    return smaller(job) if task.app.compresses and len(payload) > COMPRESS_BYTES_MIN else job


def smaller(job: NewJob) -> NewJob:
    """The job with its call compressed, if that is worth it."""
    id, terms, payload, ext, _ = job
    payload, terms, flags = smaller_call(payload, terms)
    return id, terms, payload, ext, flags


def outgoing_of(task: "Task[..., Any]", job: NewJob) -> Outgoing:
    """The job, as middleware sees it."""
    return Outgoing(job[0].hex(), task.name, task.settings, dict(job[3] or {}))


def with_ext(jobs: Sequence[NewJob], outgoing: Sequence[Outgoing]) -> list[NewJob]:
    """The jobs, with what middleware has added to them."""
    return [
        (id, terms, payload, job.packed(), flags)
        for (id, terms, payload, _, flags), job in zip(jobs, outgoing, strict=True)
    ]
