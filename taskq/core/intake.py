"""Submissions: which are accepted, which are known already, which are refused and why."""

from zlib import crc32

from msgspec import structs

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.job import Job, ext_bytes
from taskq.core.ledger import Ledger
from taskq.core.state import Session
from taskq.protocol.messages import Confirm, JobSpec, Submit, Terms, Verdict


class Intake:
    """Decides a Submit message: a job by its id is one job, however often it is submitted."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self.closed_because = ""  # not empty: nothing new is accepted, and why

    def submit(self, session: bytes, submit: Submit, now: Now) -> tuple[list[Job], Confirm]:
        """The jobs made, and the confirm to be sent when they are durable."""
        specs = submit.jobs
        known = self._state.sessions.get(session)
        is_repeated = known is not None and submit.first < known.floor
        horizon_ms = now.wall_ms + limits.HORIZON_MS
        if is_repeated or self.closed_because or not self._are_plain(submit, horizon_ms):
            fresh, verdicts = self._sift(known, submit, horizon_ms)
        else:
            fresh, verdicts = specs, []
        made = self._write(session, submit, fresh, verdicts, now)
        return made, Confirm(submit.first, len(specs), verdicts)

    def _are_plain(self, submit: Submit, horizon_ms: int) -> bool:
        """Are all of these new jobs that nothing speaks against? Nearly always: so it is quick."""
        jobs, outcomes = self._state.jobs, self._state.outcomes
        terms_count = len(submit.terms)
        if any(terms.at_ms > horizon_ms for terms in submit.terms):
            return False
        for spec in submit.jobs:
            job_id = spec.id
            if job_id in jobs or job_id in outcomes or spec.ext or spec.terms >= terms_count:
                return False
            if len(spec.payload) > limits.PAYLOAD_BYTES_MAX:
                return False
        return len({spec.id for spec in submit.jobs}) == len(submit.jobs)

    # -- one by one ---------------------------------------------------------------------------

    def _sift(
        self, known: Session | None, submit: Submit, horizon_ms: int
    ) -> tuple[list[JobSpec], list[Verdict]]:
        """Item by item: repeated, wrong or plain."""
        fresh: dict[bytes, JobSpec] = {}
        verdicts = []
        for seq, spec in enumerate(submit.jobs, submit.first):
            verdict = self._verdict(known, submit.terms, seq, spec, fresh)
            if verdict is None and submit.terms[spec.terms].at_ms > horizon_ms:
                verdict = Verdict(seq, "invalid", "at is more than ten years ahead, which is the most")
            if verdict is None:
                fresh[spec.id] = spec
            elif verdict.code != "accepted":
                verdicts.append(verdict)
        return list(fresh.values()), verdicts

    def _verdict(
        self, known: Session | None, terms: list[Terms], seq: int, spec: JobSpec, fresh: dict[bytes, JobSpec]
    ) -> Verdict | None:
        """None: a new job. `accepted`: a known one, submitted again."""
        if spec.terms >= len(terms):
            return Verdict(seq, "invalid", f"terms {spec.terms} of {len(terms)}")
        if (there := self._there(spec, terms, fresh)) is not None:
            if there == (terms[spec.terms].task, crc32(spec.payload)):
                return Verdict(seq, "accepted")
            return Verdict(
                seq, "conflict", f"job {spec.id.hex()} exists with other arguments or another task"
            )
        if known is not None and seq < known.floor and seq not in known.refused:
            return Verdict(seq, "accepted")  # decided before, and its outcome is no longer kept
        if len(spec.payload) > limits.PAYLOAD_BYTES_MAX:
            return Verdict(
                seq,
                "too_large",
                f"{len(spec.payload)} bytes of arguments; the limit is {limits.PAYLOAD_BYTES_MAX}",
            )
        if spec.ext and ext_bytes(spec.ext) > limits.EXT_BYTES_MAX:
            return Verdict(seq, "too_large", f"ext is over its limit of {limits.EXT_BYTES_MAX} bytes")
        if self.closed_because:
            return Verdict(seq, "busy", self.closed_because)
        return None

    def _there(
        self, spec: JobSpec, terms: list[Terms], fresh: dict[bytes, JobSpec]
    ) -> tuple[str, int] | None:
        """Task and digest of the job that has this id already. The digest tells a mistake from a
        repetition; it is not against malice: who may submit may submit."""
        job = self._state.jobs.get(spec.id)
        if job is not None:
            return job.terms.task, crc32(job.payload)
        kept = self._state.outcomes.get(spec.id)
        if kept is not None:
            return kept.terms.task, kept.item.digest
        twin = fresh.get(spec.id)
        return None if twin is None else (terms[twin.terms].task, crc32(twin.payload))

    # -- what is written ----------------------------------------------------------------------

    def _write(
        self, session: bytes, submit: Submit, fresh: list[JobSpec], verdicts: list[Verdict], now: Now
    ) -> list[Job]:
        """One record for each durability in the message; the strictest carries the floor."""
        end = submit.first + len(submit.jobs)
        known = self._state.sessions.get(session)
        is_new_to_session = len(verdicts) < len(submit.jobs) and (known is None or end > known.floor)
        if not fresh and not is_new_to_session:
            return []
        record = r.Submitted(
            session=session,
            floor=end if known is None else max(end, known.floor),
            settled=submit.settled if known is None else max(submit.settled, known.settled),
            wall_ms=now.wall_ms,
            terms=submit.terms,
            jobs=fresh,
            refused=_refused_by_now(known, submit, verdicts),
        )
        kinds = {terms.durability: None for terms in submit.terms}
        if len(kinds) == 1:
            return self._ledger.submit(record, next(iter(kinds)))
        made = []
        for durability in sorted(kinds, reverse=True):
            part = [spec for spec in fresh if submit.terms[spec.terms].durability == durability]
            if part:
                made += self._ledger.submit(structs.replace(record, jobs=part), durability)
        return made


def _refused_by_now(known: Session | None, submit: Submit, verdicts: list[Verdict]) -> list[int]:
    """All refusals that the client may not know of, so that each record says it all. What lies
    between the last record and this one was refused, or there would be a record; what is submitted
    here again is no longer refused, unless it is refused again."""
    floor = known.floor if known is not None else 0
    between = range(max(floor, submit.settled), submit.first)
    if not verdicts and not between and (known is None or not known.refused):
        return []
    again = range(submit.first, submit.first + len(submit.jobs))
    before = known.refused if known is not None else ()
    refused = [seq for seq in before if seq >= submit.settled and seq not in again]
    refused += between[-limits.SESSION_REFUSED_MAX :]
    refused += [verdict.seq for verdict in verdicts]
    return refused[-limits.SESSION_REFUSED_MAX :]
