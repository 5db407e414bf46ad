"""One message's jobs, one by one: which are new, which are there already, which do not fit."""

from zlib import crc32

from msgspec import structs

from taskq import limits
from taskq.core import ranges
from taskq.core.effects import Now
from taskq.core.intake.bounds import Room
from taskq.core.intake.uniqueness import Uniqueness
from taskq.core.job import RUNNING, Job, ext_bytes
from taskq.core.memory import Memory, cost
from taskq.core.state import Session, State
from taskq.protocol.ext import BIND, SECONDS, UNIQUE, Unique, fault_in, read_unique
from taskq.protocol.messages import Durability, JobSpec, Submit, Terms, Verdict

Replacing = tuple[Job, Terms, JobSpec]


class Sieve:
    """Decides the jobs of one Submit in their order, each with those before it in mind. Changes nothing.

    `ending` is a job that will have ended when these are there: it keeps nobody out.
    """

    def __init__(
        self,
        state: State,
        uniqueness: Uniqueness,
        room: Room,
        memory: Memory,
        session: bytes,
        submit: Submit,
        closed_because: str,
        ending: bytes,
    ) -> None:
        self.fresh: dict[bytes, JobSpec] = {}
        self.claims: list[Unique] = []
        self.replacing: list[Replacing] = []  # what waits, and what it is to become
        self._state = state
        self._uniqueness = uniqueness
        self._room = room
        self._memory = memory
        self._left_bytes = memory.left_bytes  # while this message is decided
        self._session = session
        self._terms = submit.terms
        self._terms_count = len(submit.terms)  # as they came: more may be needed
        self._closed_because = closed_because
        self._ending = ending
        self._alone: dict[bytes, bytes] = {}  # digest -> the new job that has it

    def verdict(self, known: Session | None, seq: int, spec: JobSpec, now: Now) -> Verdict | None:
        """None: a new job. `accepted`: a known one, submitted again."""
        if spec.terms >= self._terms_count:
            return Verdict(seq, "invalid", f"terms {spec.terms} of {self._terms_count}")
        # Before its id: it may have been edited since.
        if known is not None and seq < known.floor and not ranges.has(known.refused, seq):
            return Verdict(seq, "accepted")
        terms = self._terms[spec.terms]
        if (there := self._there(spec)) is not None:
            if there == (terms.task, crc32(spec.payload)):
                return Verdict(seq, "accepted")
            return Verdict(
                seq, "conflict", f"job {spec.id.hex()} exists with other arguments or another task"
            )
        return self._fault(seq, spec, terms, now) or self._decide(seq, spec, terms, now)

    def _there(self, spec: JobSpec) -> tuple[str, int] | None:
        """Task and digest of the job that has this id already. The digest tells a mistake from a
        repetition; it is not against malice: who may submit may submit."""
        job = self._state.jobs.get(spec.id)
        if job is not None:
            return job.terms.task, crc32(job.payload)
        kept = self._state.outcomes.get(spec.id)
        if kept is not None:
            return kept.terms.task, kept.item.digest
        twin = self.fresh.get(spec.id)
        return None if twin is None else (self._terms[twin.terms].task, crc32(twin.payload))

    def _fault(self, seq: int, spec: JobSpec, terms: Terms, now: Now) -> Verdict | None:
        """What is wrong with the job itself."""
        if terms.at_ms > now.wall_ms + limits.HORIZON_MS:
            return Verdict(seq, "invalid", "at is more than ten years ahead, which is the most")
        if len(spec.payload) > limits.PAYLOAD_BYTES_MAX:
            text = f"{len(spec.payload)} bytes of arguments; the limit is {limits.PAYLOAD_BYTES_MAX}"
            return Verdict(seq, "too_large", text)
        if not spec.ext:
            return None
        if ext_bytes(spec.ext) > limits.EXT_BYTES_MAX:
            return Verdict(seq, "too_large", f"ext is over its limit of {limits.EXT_BYTES_MAX} bytes")
        text = fault_in(spec.ext)
        if not text and spec.ext.get(BIND, self._session) != self._session:
            text = "a job can be bound to the session that submits it, and to no other"
        return Verdict(seq, "invalid", text) if text else None

    def _decide(self, seq: int, spec: JobSpec, terms: Terms, now: Now) -> Verdict | None:
        """Nothing is wrong with it: may it be there, and is there room?"""
        unique = read_unique(spec.ext[UNIQUE]) if spec.ext and UNIQUE in spec.ext else None
        if unique is not None and (other := self._other(unique)) is not None:
            text = f"job {other.hex()} is there, and is to be alone"
            if not unique.is_replacing:
                return Verdict(seq, "exists", text, other)
            return self._replace(seq, other, spec) or Verdict(seq, "exists", text, other)
        if self._closed_because:
            return Verdict(seq, "busy", self._closed_because)
        if (closed := why_closed(self._state, terms.queue)) != "":
            return Verdict(seq, "busy", closed)
        size = len(spec.payload) + ext_bytes(spec.ext)
        self._left_bytes -= cost(size)
        if self._left_bytes < 0:
            return Verdict(seq, "busy", self._memory.figures())
        code, text = self._room.take(terms.queue, size)
        if code:
            return Verdict(seq, code, text)
        if unique is not None:
            self._alone[unique.digest] = spec.id
            if unique.scope == SECONDS:
                self.claims.append(unique)
        return None

    def _other(self, unique: Unique) -> bytes | None:
        # A job that was here before under this id had its time as any other.
        return self._alone.get(unique.digest) or self._uniqueness.holder(unique, b"", self._ending)

    def _replace(self, seq: int, other: bytes, spec: JobSpec) -> Verdict | None:
        """What waits is to become what was submitted, if there is room for that; None: so it is, or there
        is nothing to do, for what runs or has ended stays as it is."""
        twin = self.fresh.get(other)
        job = None if twin is not None else self._state.jobs.get(other)
        if twin is not None:
            queue, size = self._terms[twin.terms].queue, len(twin.payload) + ext_bytes(twin.ext)
        elif job is not None and job.state is not RUNNING:
            queue, size = job.terms.queue, job.size
        else:
            return None
        if self._closed_because:
            return Verdict(seq, "busy", self._closed_because)
        terms = self._terms[spec.terms]
        new_size = len(spec.payload) + ext_bytes(spec.ext)
        is_moved = terms.queue != queue
        if is_moved or new_size > size:
            more = new_size if is_moved else new_size - size
            code, text = self._room.take(terms.queue, more, int(is_moved))
            if code:
                return Verdict(seq, code, text)
        if twin is not None:
            index = self._no_weaker(spec.terms, self._terms[twin.terms].durability)
            self.fresh[other] = JobSpec(other, index, spec.payload, spec.flags, twin.ext)
        elif job is not None:
            self.replacing.append((job, terms, spec))
        return None

    def _no_weaker(self, index: int, durability: Durability) -> int:
        """Where terms like these stand that are at least as durable."""
        terms = self._terms[index]
        if terms.durability <= durability:
            return index
        self._terms.append(structs.replace(terms, durability=durability))
        return len(self._terms) - 1


def why_closed(state: State, queue: str) -> str:
    """Why this queue accepts nothing new; nothing: it does."""
    setting = state.closed.get(queue)
    if setting is None:
        return ""
    by = f" by {setting.by}" if setting.by else ""
    return f"queue {queue!r} is drained{by}" + (f": {setting.reason}" if setting.reason else "")
