"""Jobs that the broker submits itself: the callbacks of attempts that failed and of jobs that are dead.

They are written in the batch that says what they are for, under ids that follow from it: neither a
restart nor a repetition makes a second one.
"""

from hashlib import blake2b
from typing import Final, Literal

import msgspec

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.job import Job
from taskq.core.ledger import Ledger
from taskq.core.running.retry import UNCOUNTED
from taskq.protocol.messages import Callback, Failure, Fault, JobSpec, Terms

Cause = Literal["failure", "death"]

_encode: Final = msgspec.msgpack.Encoder().encode
_one_value: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Callbacks:
    """A callback has no callbacks of its own, so there is an end to it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.made = 0

    def make(self, job: Job, failure: Failure, *, is_dead: bool, now: Now) -> list[Job]:
        """The jobs to be made because an attempt of this one ended so."""
        terms = job.terms
        made: list[Job] = []
        if terms.on_failure is not None and failure.ending not in UNCOUNTED:
            made += self._make(terms.on_failure, "failure", job, failure, now)
        if terms.on_dead is not None and is_dead:
            made += self._make(terms.on_dead, "death", job, failure, now)
        self.made += len(made)
        return made

    def _make(self, callback: Callback, cause: Cause, job: Job, failure: Failure, now: Now) -> list[Job]:
        # By its number too: a lease that was lost may be taken up again, and be lost again.
        attempt = job.failures + job.crashes + 1
        id, state = callback_id(job.id, failure.lease, attempt, cause), self._ledger.state
        if id in state.jobs or id in state.outcomes:
            return []
        terms = Terms(
            task=callback.task,
            queue=callback.queue,
            priority=callback.priority,
            timeout_ms=callback.timeout_ms,
            durability=job.terms.durability,
            retry=callback.retry,
        )
        spec = JobSpec(id, 0, _call(job, failure))
        return self._ledger.make(r.Made(now.wall_ms, [terms], [spec]), terms.durability)


def callback_id(job_id: bytes, lease: int, attempt: int, cause: Cause) -> bytes:
    """Of the time and in the hash slot of the job that it is for; the rest follows from the attempt."""
    words = job_id + lease.to_bytes(8, "big") + attempt.to_bytes(8, "big") + cause.encode()
    digest = blake2b(words, digest_size=8).digest()
    return job_id[:8] + bytes([0x80 | digest[0] & 0x3F]) + digest[1:]


def _call(job: Job, failure: Failure) -> bytes:
    """The call `(job_id, arguments, error)`. The arguments are nested as they were packed."""
    arguments = msgspec.Raw(job.payload) if _can_be_nested(job) else None
    return _encode(((job.id.hex(), arguments, _error(failure)), {}))


def _can_be_nested(job: Job) -> bool:
    """Nobody looks into it; but bytes that are no MessagePack would make those around them unreadable."""
    if job.flags or len(job.payload) > limits.PAYLOAD_BYTES_MAX - 4 * limits.TEXT_CHARS_MAX:
        return False
    try:
        _one_value.decode(b"\x91" + job.payload)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _error(failure: Failure) -> str:
    fault: Fault | None = failure.fault
    return f"{fault.type}: {fault.message}" if fault is not None else failure.ending
