"""What was submitted in a test environment, as tests want to look at it."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from taskq.client.app import TaskQ
from taskq.client.extras import read_meta
from taskq.client.job import Job, moment
from taskq.client.payload import unpack_call
from taskq.client.task import Task
from taskq.client.values.compression import inflated
from taskq.core.job import Job as Kept
from taskq.protocol.ext import PARENT
from taskq.protocol.messages import Terms


@dataclass(frozen=True, slots=True)
class Submitted:
    """One job, as it reached the broker. The arguments came over the wire, and are what the task gets."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str
    priority: int
    delay: float  # seconds
    at: datetime | None
    key: str
    meta: dict[str, str]
    parent: str  # the id of the job that submitted it, if one did
    job: Job[Any]
    terms: Terms = field(repr=False)  # all other options, as the broker has them
    arguments: dict[str, Any] = field(repr=False)  # by the names of the parameters


def submitted(q: TaskQ, job: Kept) -> Submitted:
    """`job` as it was accepted. Raises DecodeError as a worker would, when its arguments cannot be read."""
    terms, ext = job.terms, job.ext or {}
    task = q.tasks.get(terms.task)
    payload = inflated(job.payload, job.flags)
    args, kwargs = unpack_call(payload) if task is None else task.signature.arguments(payload)
    named = {} if task is None else inspect.signature(task.fn).bind(*args, **kwargs).arguments
    handle = q.job(job.id.hex())
    if task is not None:
        handle._read = task.read_result
    return Submitted(
        task=terms.task,
        args=tuple(args),
        kwargs=kwargs,
        queue=terms.queue,
        priority=terms.priority,
        delay=terms.delay_ms / 1_000,
        at=moment(terms.at_ms),
        key=job.key,
        meta=read_meta(ext),
        parent=ext.get(PARENT, b"").hex(),
        job=handle,
        terms=terms,
        arguments=dict(named),
    )


def named(
    task: "str | Task[..., Any]", declared: Mapping[str, Task[..., Any]], seen: Iterable[str]
) -> set[str]:
    """The names of tasks that are meant: the task, its whole name, or the last parts of it.

    Raises LookupError when there is none: a name that is mistyped must not pass for "nothing was sent".
    """
    if isinstance(task, Task):
        return {task.name}
    known = dict.fromkeys((*declared, *seen))
    found = {name for name in known if name == task or name.endswith((f".{task}", f":{task}"))}
    if not found:
        short = {name.rpartition(".")[2]: name for name in known}
        near = get_close_matches(task, [*short, *known], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
        raise LookupError(f"no task is called {task!r}; {hint}")
    return found


def aware(name: str, value: datetime) -> datetime:
    """A moment in UTC. ValueError without a time zone."""
    if value.tzinfo is None:
        raise ValueError(f"{name}: {value.isoformat()} has no time zone; write datetime(..., tzinfo=UTC)")
    return value.astimezone(UTC)
