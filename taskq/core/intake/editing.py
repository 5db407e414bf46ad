"""Changing a job that waits: when and where it runs, and what it is called with."""

from msgspec import structs

from taskq import limits
from taskq.core import records as r
from taskq.core.compaction import full_job
from taskq.core.effects import Now
from taskq.core.intake.bounds import fits, full_text
from taskq.core.job import READY, RUNNING, SCHEDULED, Job
from taskq.core.ledger import Ledger
from taskq.core.lines.queues import Queues
from taskq.core.outbox import Outbox
from taskq.core.records import TermsIndex
from taskq.core.running.attempts import Attempts
from taskq.core.timers import Timers
from taskq.protocol.messages import Edit, Edited, Ext, JobSpec, JobStateName, Refusal, Terms

# Of what a replacement carries beside its arguments, this becomes the job's; the rest is its identity.
_TAKEN_OVER = ("meta", "traceparent", "tracestate")


class Editing:
    """A job that runs or has ended is what it is."""

    def __init__(
        self, ledger: Ledger, queues: Queues, timers: Timers, attempts: Attempts, out: Outbox
    ) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._queues = queues
        self._timers = timers
        self._attempts = attempts
        self._out = out

    def edit(self, peer: int, command: Edit, now: Now) -> None:
        """What the message names becomes so; the rest stays."""
        job = self._state.jobs.get(command.id)
        if job is None or job.state is RUNNING:
            self._out.say(peer, self._refusal(command, job))
            return
        text = self._why_not(job, command)
        if text:
            self._out.say(peer, Refusal(command.request, "queue_full", text))
            return
        payload = job.payload if command.payload is None else command.payload
        if len(payload) > limits.PAYLOAD_BYTES_MAX:
            text = f"{len(payload)} bytes of arguments; the limit is {limits.PAYLOAD_BYTES_MAX}"
            self._out.say(peer, Refusal(command.request, "too_large", text))
            return
        if (command.at_ms or 0) > now.wall_ms + limits.HORIZON_MS:
            text = "at is more than ten years ahead, which is the most"
            self._out.say(peer, Refusal(command.request, "invalid", text))
            return
        flags = job.flags if command.payload is None else command.flags
        self._change(job, _edited_terms(job, command, now), payload, flags, job.ext, _due(command, now), now)
        self._out.say(peer, Edited(command.request, job.id, job.state, job.due_ms))

    def replace(self, job: Job, terms: Terms, spec: JobSpec, now: Now) -> None:
        """A job that waits becomes the one that was submitted now, under its own id."""
        due_ms = now.wall_ms + terms.delay_ms if terms.delay_ms else terms.at_ms
        if terms.expires_ms:  # from now
            terms = structs.replace(terms, expires_ms=_since(job, now) + terms.expires_ms)
        ext = dict(job.ext or {})
        ext |= {name: spec.ext[name] for name in _TAKEN_OVER if spec.ext and name in spec.ext}
        self._change(job, terms, spec.payload, spec.flags, ext, due_ms, now, is_anew=True)

    def _refusal(self, command: Edit, job: Job | None) -> Refusal:
        name = command.id.hex()
        if job is not None:
            return Refusal(command.request, "running", f"job {name} runs; only what waits can be changed")
        kept = self._state.outcomes.get(command.id)
        if kept is not None:
            return Refusal(command.request, "finished", f"job {name} has ended: it is {kept.state}")
        text = f"no job {name}: it never was, or its outcome is no longer kept"
        return Refusal(command.request, "not_found", text)

    def _why_not(self, job: Job, command: Edit) -> str:
        """A bounded queue is not to be filled from the side."""
        queue = job.terms.queue if command.queue is None else command.queue
        line = self._state.lines.get(queue)
        if line is None:
            return ""
        size = job.size
        if command.payload is not None:
            size += len(command.payload) - len(job.payload)
        is_other = queue != job.terms.queue
        more_bytes = size if is_other else max(size - job.size, 0)
        if (not is_other and not more_bytes) or fits(line, int(is_other), more_bytes):
            return ""
        return full_text(line)

    def _change(
        self,
        job: Job,
        terms: Terms,
        payload: bytes,
        flags: int,
        ext: Ext | None,
        due_ms: int,
        now: Now,
        *,
        is_anew: bool = False,
    ) -> None:
        """`due_ms` -1: as it was; the past: now. `is_anew`: what failed before was another call."""
        was_ready = job.state is READY
        before = job.terms
        # What is in the journal must not be forgotten by a change that is not.
        terms = structs.replace(terms, durability=min(terms.durability, before.durability))
        if due_ms == -1:
            state, due_ms = job.state, job.due_ms
        else:
            state, due_ms = (SCHEDULED, due_ms) if due_ms > now.wall_ms else (READY, 0)
        index = TermsIndex()
        full = structs.replace(
            full_job(job, index.index(terms)),
            payload=payload,
            flags=flags,
            ext=ext,
            state=state,
            due_ms=due_ms,
        )
        if is_anew:
            full = structs.replace(full, failures=0, crashes=0, story=())
        if is_anew or payload != job.payload:  # how far it came with other arguments is of no use
            full = structs.replace(full, checkpoint=None)
        if was_ready:
            self._queues.bury(job)
        old_expiry_ms = job.expires_at_ms
        self._ledger.edit(r.Edited(index.terms, [full]), terms.durability)
        if self._ledger.news:
            self._ledger.news.changed(job, now.wall_ms)
        self._wait(job, state, now)
        if job.expires_at_ms and job.expires_at_ms != old_expiry_ms:
            left_ms = max(job.expires_at_ms - now.wall_ms, 0)
            self._timers.after(now.boot_ms + left_ms, "expires", job.id, job.expires_at_ms)

    def _wait(self, job: Job, state: JobStateName, now: Now) -> None:
        if state is READY:
            self._attempts.ready(job)
        elif job.due_ms == job.terms.at_ms:
            self._timers.at(job.due_ms, "due", job.id, job.due_ms)
        else:
            wait_ms = max(job.due_ms - now.wall_ms, 0)
            self._timers.after(now.boot_ms + wait_ms, "due", job.id, job.due_ms)


def _due(command: Edit, now: Now) -> int:
    """When it is due by this message, in wall time; -1: as before."""
    if command.delay_ms is not None:
        return now.wall_ms + command.delay_ms
    return -1 if command.at_ms is None else command.at_ms


def _edited_terms(job: Job, command: Edit, now: Now) -> Terms:
    terms = job.terms
    if command.queue is not None:
        terms = structs.replace(terms, queue=command.queue)
    if command.priority is not None:
        terms = structs.replace(terms, priority=command.priority)
    if command.delay_ms is not None:
        terms = structs.replace(terms, delay_ms=command.delay_ms, at_ms=0)
    elif command.at_ms is not None:
        terms = structs.replace(terms, delay_ms=0, at_ms=command.at_ms)
    if command.expires_ms is not None:  # from now; 0: never
        expires_ms = _since(job, now) + command.expires_ms if command.expires_ms else 0
        terms = structs.replace(terms, expires_ms=expires_ms)
    return terms


def _since(job: Job, now: Now) -> int:
    """How long ago it was submitted, from which its expiry counts."""
    return max(now.wall_ms - job.submitted_ms, 0)
