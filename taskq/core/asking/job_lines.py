"""Jobs as they stand in lists."""

from msgspec import structs

from taskq.core.asking.filters import ext_of, fault_of, key_of
from taskq.core.job import RUNNING, Job
from taskq.core.lines.workers import Roster
from taskq.core.records import SuccessItem
from taskq.core.state import Kept
from taskq.protocol.messages import JobLine

# A line's own fields, about; what is heavy comes on top.
LINE_BYTES = 200


def line_of(job: Job | Kept, roster: Roster, *, full: bool) -> JobLine:
    """`full`: with arguments, ext and traceback."""
    return _of_job(job, roster, full=full) if isinstance(job, Job) else _of_outcome(job, full=full)


def line_bytes(line: JobLine) -> int:
    """What a line takes in a message, about."""
    size = LINE_BYTES + len(line.payload) + len(line.reason)
    if line.ext:
        size += sum(len(name) + len(value) for name, value in line.ext.items())
    if line.fault is not None:
        size += len(line.fault.message) + len(line.fault.traceback)
    return size


def _of_job(job: Job, roster: Roster, *, full: bool) -> JobLine:
    running = job.state is RUNNING
    worker = roster.workers.get(job.holder) if running else None
    terms = job.terms
    return JobLine(
        id=job.id,
        task=terms.task,
        queue=terms.queue,
        state=job.state,
        attempts=job.failures + job.crashes + running,
        failures=job.failures,
        crashes=job.crashes,
        max_attempts=terms.retry.max_attempts,
        submitted_ms=job.submitted_ms,
        due_ms=job.due_ms,
        started_ms=job.started_ms,
        key=key_of(job),
        worker=worker.name if worker is not None else "",
        fault=fault_of(job),
        payload=job.payload if full else b"",
        flags=job.flags if full else 0,
        ext=job.ext if full else None,
    )


def _of_outcome(kept: Kept, *, full: bool) -> JobLine:
    item = kept.item
    succeeded = isinstance(item, SuccessItem)
    fault = fault_of(kept)
    if fault is not None and not full:
        fault = structs.replace(fault, traceback="")
    return JobLine(
        id=item.id,
        task=kept.terms.task,
        queue=kept.terms.queue,
        state=kept.state,
        attempts=item.failures + item.crashes + succeeded,
        failures=item.failures,
        crashes=item.crashes,
        max_attempts=kept.terms.retry.max_attempts,
        submitted_ms=item.submitted_ms,
        started_ms=item.started_ms,
        finished_ms=item.finished_ms,
        key=key_of(kept),
        ending="" if isinstance(item, SuccessItem) else item.ending,
        fault=fault,
        reason="" if isinstance(item, SuccessItem) else item.reason,
        payload=item.payload if full and not isinstance(item, SuccessItem) else b"",
        flags=item.flags if full and not isinstance(item, SuccessItem) else 0,
        ext=ext_of(kept) if full else None,
    )
