"""Submissions: which are accepted, which are known already, which are refused and why."""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import structs

from taskq import limits
from taskq.core import ranges
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.intake.bounds import Bounds, Room
from taskq.core.intake.editing import Editing
from taskq.core.intake.held import Held, HeldBack
from taskq.core.intake.sieve import Sieve
from taskq.core.intake.uniqueness import Uniqueness
from taskq.core.job import RUNNING, Job, ext_bytes
from taskq.core.ledger import Ledger
from taskq.core.memory import Memory
from taskq.core.peers import Peer
from taskq.core.state import Session
from taskq.protocol.ext import HARMLESS, KEY, SECONDS, UNIQUE, fault_in, is_key, read_unique
from taskq.protocol.messages import Confirm, Ext, JobSpec, Submit, Terms, Verdict

Admitted = tuple[Held, list[Job], Confirm]


class Enclosed(NamedTuple):
    """Jobs that all may be there, and what is to be done when they are."""

    sieve: Sieve
    room: Room
    terms: list[Terms]


class Intake:
    """Decides a Submit message: a job by its id is one job, however often it is submitted."""

    def __init__(
        self,
        ledger: Ledger,
        uniqueness: Uniqueness,
        editing: Editing,
        bounds: Bounds,
        held: HeldBack,
        memory: Memory,
    ) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._uniqueness = uniqueness
        self._editing = editing
        self._bounds = bounds
        self._held = held
        self._memory = memory
        self.closed_because = ""  # not empty: nothing new is accepted, and why

    def submit(self, peer: Peer, submit: Submit, now: Now) -> tuple[list[Job], Confirm]:
        """The jobs made, and the confirm to be sent when they are durable."""
        specs = submit.jobs
        session = peer.hello.session
        known = self._state.sessions.get(session)
        is_repeated = known is not None and submit.first < known.floor
        horizon_ms = now.wall_ms + limits.HORIZON_MS
        if is_repeated or self.closed_because or not self._are_plain(submit, horizon_ms):
            room = Room(self._state.lines, self._held, is_next=False)
            fresh, verdicts = self._sift(known, peer.number, session, submit, room, now)
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
        if self._state.closed and any(terms.queue in self._state.closed for terms in submit.terms):
            return False
        for spec in submit.jobs:
            job_id = spec.id
            if job_id in jobs or job_id in outcomes or spec.terms >= terms_count:
                return False
            if len(spec.payload) > limits.PAYLOAD_BYTES_MAX:
                return False
            if spec.ext and not _is_harmless(spec.ext):
                return False
        if len({spec.id for spec in submit.jobs}) != len(submit.jobs):
            return False
        return self._memory.has_room(submit.jobs) and self._bounds.is_no_matter(submit.terms)

    @property
    def why_closed(self) -> str:
        """Why nothing new is accepted at all; nothing: it is."""
        return self.closed_because or self._memory.why_full()

    # -- on other ways in ---------------------------------------------------------------------

    def admits(self, job_id: bytes, ext: Ext | None) -> Verdict | None:
        """What speaks against a job that the broker itself would make now; None: nothing. What it makes
        always fits into its queue: a tick must not be lost because others have filled that.

        Verdicts: `exists` with the id of the job that is to be alone, or `busy`.
        """
        other = self._uniqueness.other(job_id, ext)
        if other is not None:
            return Verdict(0, "exists", f"job {other.hex()} is there, and is to be alone", other)
        return Verdict(0, "busy", self.why_closed) if self.why_closed else None

    def claim(self, ext: Ext | None, now: Now) -> None:
        """The broker has made a job with this: it may be alone for a time."""
        if ext and UNIQUE in ext and (unique := read_unique(ext[UNIQUE])).scope == SECONDS:
            self._uniqueness.claimed(unique, now)

    # -- with an attempt's success --------------------------------------------------------------

    def enclosed(
        self, terms: list[Terms], specs: list[JobSpec], parent: bytes, now: Now
    ) -> Enclosed | Verdict:
        """May all of these be there, once the job `parent` has ended? Else the first reason why not.

        Changes nothing. Where others wait for room in a bounded queue, these do not: the work that they
        come from is done.
        """
        submit = Submit(0, terms, specs)
        room = Room(self._state.lines, self._held, is_next=True, is_patient=False)
        sieve = self._sieve(room, b"", submit, ending=parent)
        for seq, spec in enumerate(specs):
            verdict = sieve.verdict(None, seq, spec, now)
            if verdict is None:
                sieve.fresh[spec.id] = spec
            elif verdict.code not in ("accepted", "exists"):
                return verdict
        return Enclosed(sieve, room, submit.terms)

    def write_enclosed(self, enclosed: Enclosed, now: Now) -> list[Job]:
        """In nobody's session: their numbers are the leases of those whose success they came with."""
        sieve, room, terms = enclosed
        made: list[Job] = []
        for durability in sorted({terms[spec.terms].durability: None for spec in sieve.fresh.values()}):
            part = [spec for spec in sieve.fresh.values() if terms[spec.terms].durability == durability]
            made += self._ledger.make(r.Made(now.wall_ms, terms, part), durability)
        self._replace(sieve, now)
        for unique in sieve.claims:
            self._uniqueness.claimed(unique, now)
        self._bounds.swollen.update(room.swollen)
        return made

    # -- one by one ---------------------------------------------------------------------------

    def _sift(
        self, known: Session | None, peer: int, session: bytes, submit: Submit, room: Room, now: Now
    ) -> tuple[list[JobSpec], list[Verdict]]:
        """Item by item: repeated, wrong, in the way of another, too many, or new."""
        sieve = self._sieve(room, session, submit)
        verdicts = []
        for seq, spec in enumerate(submit.jobs, submit.first):
            verdict = sieve.verdict(known, seq, spec, now)
            if verdict is None:
                sieve.fresh[spec.id] = spec
            elif verdict.code == "held":
                held = Held(peer, session, seq, submit.terms[spec.terms], spec)
                verdicts.append(verdict if self._held.hold(held) else self._too_many_wait(held))
            elif verdict.code != "accepted":
                verdicts.append(verdict)
            if sieve.replacing:
                self._replace(sieve, now)
        for unique in sieve.claims:
            self._uniqueness.claimed(unique, now)
        self._bounds.swollen.update(room.swollen)
        return list(sieve.fresh.values()), verdicts

    def _replace(self, sieve: Sieve, now: Now) -> None:
        """What waits becomes what was submitted, before the next one is decided."""
        replacing, sieve.replacing = sieve.replacing, []
        for job, terms, spec in replacing:
            # It may be the very job that has ended just now, with these others in its success.
            if job.id in self._state.jobs and job.state is not RUNNING:
                self._editing.replace(job, terms, spec, now)

    def _sieve(self, room: Room, session: bytes, submit: Submit, ending: bytes = b"") -> Sieve:
        closed = self.why_closed
        return Sieve(self._state, self._uniqueness, room, self._memory, session, submit, closed, ending)

    def _too_many_wait(self, held: Held) -> Verdict:
        text = (
            f"queue {held.terms.queue!r} is full, and {self._held.jobs} submissions wait for room already; "
            "the broker holds no more"
        )
        return Verdict(held.seq, "queue_full", text)

    # -- those that waited for room -----------------------------------------------------------

    def can_admit(self) -> bool:
        """Does one wait for room that is there?"""
        if not self._held.jobs or self.closed_because or self._memory.is_full:
            return False
        firsts = ((queue, self._held.first(queue)) for queue in self._held.by_queue)
        return any(first is not None and self._bounds.has_room(queue, first.size) for queue, first in firsts)

    def admit_held(self, now: Now) -> Iterator[Admitted]:
        """Decide those that wait for room, as far as there is some, at most a slice in a turn. Line up
        each before the next is taken: that may want to replace it."""
        if self.closed_because or self._memory.is_full:
            return
        count = 0
        for queue in list(self._held.by_queue):
            while count < limits.ADMIT_SLICE and (first := self._held.first(queue)) is not None:
                if not self._bounds.has_room(queue, first.size):
                    break
                self._held.take(queue)
                count += 1
                yield self._admit(first, Room(self._state.lines, self._held, is_next=True), now)

    def admit_to_cancel(self, ids: list[bytes], now: Now) -> Iterator[Admitted]:
        """Of these jobs, those that wait for room: they need none, nor to be alone, for they will be
        cancelled at once."""
        for job_id in ids:
            for held in self._held.take_all(job_id):
                rest = {name: value for name, value in (held.spec.ext or {}).items() if name != UNIQUE}
                held = structs.replace(held, spec=structs.replace(held.spec, ext=rest or None))
                yield self._admit(held, Room({}, self._held, is_next=True), now)

    def _admit(self, held: Held, room: Room, now: Now) -> Admitted:
        spec = structs.replace(held.spec, terms=0)
        submit = Submit(held.seq, [held.terms], [spec])
        known = self._state.sessions.get(held.session)
        fresh, verdicts = self._sift(known, held.peer, held.session, submit, room, now)
        jobs = self._write(held.session, submit, fresh, verdicts, now)
        return held, jobs, Confirm(held.seq, 1, verdicts)

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
    if not verdicts and max(floor, submit.settled) >= submit.first and (known is None or not known.refused):
        return []
    refused = list(known.refused) if known is not None else []
    refused = ranges.removed(refused, 0, submit.settled)
    refused = ranges.removed(refused, submit.first, submit.first + len(submit.jobs))
    refused = ranges.added(refused, max(floor, submit.settled), submit.first)
    for verdict in verdicts:
        refused = ranges.added(refused, verdict.seq, verdict.seq + 1)
    return refused[-2 * limits.SESSION_REFUSED_MAX :]


def _is_harmless(ext: Ext) -> bool:
    """Does nothing in it bear on whether the job is accepted?"""
    if len(ext) == 1 and (key := ext.get(KEY)) is not None:  # nearly always
        return is_key(key)
    return ext.keys() <= HARMLESS and not fault_in(ext) and ext_bytes(ext) <= limits.EXT_BYTES_MAX
