"""What the journal says, read batch by batch as it is committed, by somebody who does not use `fold`."""

from msgspec.structs import replace

from taskq.core import records as r
from taskq.protocol.messages import MEMORY, AttemptReport, JobReport, JobSpec, Terms
from tests.simulation.agenda import Violation
from tests.simulation.alone import Alone
from tests.simulation.blame import Blame
from tests.simulation.continuity import Continuity
from tests.simulation.stories import Stories
from tests.simulation.ticks import Ticks


class Life:
    """One job in the journal."""

    def __init__(self, wall_ms: int, spec: JobSpec, terms: Terms, before: "Life | None") -> None:
        self.before = before  # one that ended, and was forgotten or revived, before its id came back
        self.spec = spec
        self.terms = terms
        self.submitted_ms = wall_ms
        self.failures = 0
        self.crashes = 0
        self.failed_under: list[int] = []
        self.lease = 0  # the one that was recorded last; one that is taken up again may be an older one
        self.started_ms = 0
        self.checkpoint = b""
        self.story: list[AttemptReport] = []
        self.told: list[AttemptReport] = []  # all there ever were
        self.end: r.SuccessItem | r.EndedItem | None = None
        self.is_forgotten = False

    @property
    def state(self) -> str:
        """Its outcome, or nothing."""
        if self.end is None:
            return ""
        return "succeeded" if isinstance(self.end, r.SuccessItem) else self.end.state

    @property
    def is_kept(self) -> bool:
        """Its outcome is still known to the broker."""
        if self.end is None or self.is_forgotten:
            return False
        return bool(self.terms.keep_ms) or self.state == "dead"


class Audit:
    """The whole history of the journal, also what was trimmed. Checks each record against those before."""

    def __init__(self, repeated: dict[bytes, int], *, wall_is_steady: bool) -> None:
        self.lives: dict[bytes, Life] = {}
        self.recorded: dict[int, bytes] = {}  # lease -> session
        # A second life under one id is right only for ids that were submitted more than once.
        self._repeated = repeated
        self.wall_is_steady = wall_is_steady
        self.alone = Alone(wall_is_steady=wall_is_steady)
        # In the batch that was read last: leases that crashed, jobs that are new, those of them that the
        # broker made itself, and those that are again.
        self.crashed: list[int] = []
        self.submitted: list[bytes] = []
        self.made: list[bytes] = []
        self.revived: list[bytes] = []
        self._stories = Stories()
        self.blame = Blame()
        self.ticked: list[r.Ticked] = []  # what made some of those
        self.continuity = Continuity()
        self.come: list[bytes] = []  # jobs that are new, and come of a success
        self.ticks = Ticks(wall_is_steady=wall_is_steady)
        self._forgotten_sessions: dict[bytes, None] = {}
        self._batches: list[tuple[int, bytes]] = []

    def read(self, seq: int, blob: bytes) -> None:
        """A batch was committed."""
        self._batches.append((seq, blob))
        self.crashed = []
        self.submitted = []
        self.made = []
        self.revived = []
        self.ticked = []
        self.come = []
        self._fold(seq, blob)
        self._stories.are_told(self.lives, self.made)
        self.continuity.batch_ends()

    def cut_after(self, last_seq: int) -> None:
        """The power failed, and what came after this batch is lost: as if it had never been."""
        batches = [(seq, blob) for seq, blob in self._batches if seq <= last_seq]
        self._batches = []
        self.lives = {}
        self.recorded = {}
        self.ticks.forget()
        self.alone = Alone(wall_is_steady=self.wall_is_steady)
        for seq, blob in batches:
            self.read(seq, blob)

    def state_of(self, job_id: bytes) -> str:
        life = self.lives.get(job_id)
        return life.state if life is not None else ""

    def has_ended(self, job_id: bytes, state: str) -> bool:
        """Has a job of this id ended so? What was said of a former life may be heard after its end."""
        life = self.lives.get(job_id)
        while life is not None:
            if life.state == state:
                return True
            life = life.before
        return False

    def has_ever_ended(self, job_id: bytes) -> bool:
        life = self.lives.get(job_id)
        return life is not None and (life.end is not None or life.before is not None)

    def is_told(self, report: JobReport) -> None:
        """What somebody is told of a job's attempts is in the journal; that may say more by now."""
        life = self.lives.get(report.id)
        if life is None or life.before is not None or life.terms.durability == MEMORY:
            return
        for told in report.history:
            if told not in life.told:
                raise Violation("I16", f"job {report.id.hex()} tells {told}; the journal has {life.told}")

    # -- one method a record ----------------------------------------------------------------------

    def _fold(self, seq: int, blob: bytes) -> None:
        for record in r.decode(seq, blob):
            match record:
                case r.Submitted():
                    self._made(record.session, record)
                case r.Made():
                    for spec in record.jobs:
                        if spec.id in self.continuity.parents:
                            self._comes_of_a_success(spec, record)
                            continue
                        if spec.id in self.lives:
                            raise Violation("I16", f"callback {spec.id.hex()} was made twice")
                        self.made.append(spec.id)
                        self._born(record.wall_ms, spec, record.terms)
                case r.Ticked():
                    self.ticks.ticked(record, self.state_of)
                    self._made(b"", record)
                    if record.jobs:
                        self.ticked.append(record)
                case r.ScheduleSet():
                    self.ticks.set(record)
                case r.ScheduleRemoved():
                    self.ticks.removed(record)
                case r.Delivered():
                    self._delivered(record)
                case r.Released():
                    self._released(record)
                case r.Checkpointed():
                    for item in record.items:
                        self.continuity.checkpointed(self.lives.get(item.id), item)
                case r.Succeeded() | r.Ended():
                    for item in record.items:
                        self._ended(item)
                case r.Forgotten():
                    self._forgotten_sessions.update(dict.fromkeys(record.sessions))
                    for job_id in record.ids:
                        if job_id in self.lives:
                            self.lives[job_id].is_forgotten = True
                case r.Revived():
                    for full in record.jobs:
                        self._revived(full, record.terms[full.terms])
                case r.Edited():
                    self._edited(record)
                case r.Restated():
                    self.alone.restated(record.jobs)
                case r.SessionRestated() | r.Bound() | r.Claimed() | r.Lapsed():
                    pass  # nothing new: that the fold does not change is checked elsewhere

    def _made(self, session: bytes, record: r.Submitted | r.Ticked) -> None:
        for spec in record.jobs:
            old = self.lives.get(spec.id)
            if old is not None:
                if old.end is None or old.is_kept:
                    raise Violation(
                        "I9", f"job {spec.id.hex()} was submitted over what is there ({old.state})"
                    )
                is_forgotten = session in self._forgotten_sessions
                if self._repeated.get(spec.id, 1) < 2 and not is_forgotten:
                    raise Violation("I9", f"job {spec.id.hex()} was submitted once and is there twice")
            self.alone.submitted(spec, record.wall_ms)
            self._born(record.wall_ms, spec, record.terms)

    def _comes_of_a_success(self, spec: JobSpec, record: r.Made) -> None:
        self.continuity.made(spec, is_new=spec.id not in self.lives)
        self.alone.submitted(spec, record.wall_ms)
        self.come.append(spec.id)
        self._born(record.wall_ms, spec, record.terms)

    def _born(self, wall_ms: int, spec: JobSpec, terms: list[Terms]) -> None:
        self.submitted.append(spec.id)
        self.lives[spec.id] = Life(wall_ms, spec, terms[spec.terms], self.lives.get(spec.id))

    def _delivered(self, record: r.Delivered) -> None:
        for held in record.items:
            is_first = held.lease not in self.recorded
            self.recorded[held.lease] = record.session
            life = self.lives.get(held.id)
            if life is None:
                raise Violation("I2", f"lease {held.lease} is for {held.id.hex()}, which nobody submitted")
            if life.end is not None:
                raise Violation("I3", f"job {held.id.hex()} is {life.state}, and was given away again")
            self.continuity.delivered(life, held.lease, is_first=is_first)
            life.lease = held.lease
            life.started_ms = record.wall_ms
            self.alone.delivered(held.id)
            expires_ms = life.terms.expires_ms
            if self.wall_is_steady and expires_ms and record.wall_ms > life.submitted_ms + expires_ms + 2:
                raise Violation("I7", f"job {held.id.hex()} had expired when it was given away")

    def _edited(self, record: r.Edited) -> None:
        self.alone.restated(record.jobs)
        for full in record.jobs:
            life = self.lives.get(full.id)
            if life is None or (life.end is not None and life.terms.durability == MEMORY):
                # It was in memory only, and is not any more.
                spec = JobSpec(full.id, 0, full.payload, full.flags, full.ext)
                life = self.lives[full.id] = Life(full.submitted_ms, spec, record.terms[full.terms], life)
                life.story, life.told, life.started_ms = list(full.story), list(full.story), full.started_ms
                life.failures, life.crashes, life.lease = full.failures, full.crashes, full.lease
                life.checkpoint = full.checkpoint.value if full.checkpoint is not None else b""
            if life.end is not None or full.state == "running":
                raise Violation("I3", f"job {full.id.hex()} is {life.state or full.state}, and was changed")
            life.terms = record.terms[full.terms]
            kept = full.checkpoint.value if full.checkpoint is not None else b""
            if kept not in (b"", life.checkpoint):
                raise Violation(
                    "K1", f"job {full.id.hex()} was changed, and has {kept!r}: {life.checkpoint!r}"
                )
            life.checkpoint = kept
            life.spec = replace(life.spec, payload=full.payload)
            is_anew = not full.story
            if not is_anew and list(full.story) != life.story:
                raise Violation("I16", f"job {full.id.hex()} tells {full.story}, and it was {life.story}")
            life.story = list(full.story)
            if full.failures or full.crashes:
                self._count(life, full.id, 0, full.failures, full.crashes)
            life.failures, life.crashes = full.failures, full.crashes  # none: it is another call now

    def _released(self, record: r.Released) -> None:
        for item in record.items:
            life = self.lives.get(item.id)
            if life is None:
                raise Violation("I2", f"job {item.id.hex()} was released, and nobody submitted it")
            if life.end is not None:
                raise Violation("I3", f"job {item.id.hex()} is {life.state}, and waits again")
            expected = {
                "crashed": (life.failures, life.crashes + 1),
                "returned": (life.failures, life.crashes),
                "snoozed": (life.failures, life.crashes),
            }.get(item.ending, (life.failures + 1, life.crashes))
            if (item.failures, item.crashes) != expected:
                raise Violation(
                    "I5", f"job {item.id.hex()}: failures and crashes should be {expected}: {item}"
                )
            self.alone.released(item.id)
            self.continuity.ended_badly(life, item.lease, item.ending, item.told)
            self._stories.released(life, item, record.wall_ms)
            self.blame.released(item)
            self._count(life, item.id, item.lease, item.failures, item.crashes)
            if item.ending == "crashed":
                self.crashed.append(item.lease)
            retry = life.terms.retry
            is_too_slow = item.ending == "timed_out" and not retry.on_timeout
            if item.failures >= retry.max_attempts or item.crashes > retry.max_crashes or is_too_slow:
                raise Violation("I5", f"job {item.id.hex()} is to run again after {item}")

    def _ended(self, item: r.SuccessItem | r.EndedItem) -> None:
        life = self.lives.get(item.id)
        if life is None:
            raise Violation("I2", f"job {item.id.hex()} has ended, and nobody submitted it")
        if life.end is not None:
            if _without_terms(item) != _without_terms(life.end):
                raise Violation("I3", f"job {item.id.hex()} has two outcomes: {life.end} and {item}")
            return
        self._stories.ended(life, item)
        self.blame.ended(item)
        life.end = item
        self.alone.ended(item.id)
        if isinstance(item, r.SuccessItem):
            self.continuity.succeeded(item)
        elif item.state == "dead":
            self.continuity.ended_badly(life, item.lease, item.ending or "dead", item.story[-1])
            self.continuity.died(life, item)
            self._count(life, item.id, item.lease, item.failures, item.crashes)
            retry = life.terms.retry
            if item.failures > retry.max_attempts or item.crashes > retry.max_crashes + 1:
                raise Violation("I5", f"job {item.id.hex()} was run too often: {item}")

    def _revived(self, full: r.FullJob, terms: Terms) -> None:
        """A dead job begins anew, as it was submitted."""
        old = self.lives.get(full.id)
        if old is None or old.state != "dead" or old.is_forgotten:
            there = "nobody" if old is None else old.state or "a job without outcome"
            raise Violation("I3", f"job {full.id.hex()} was revived, and is {there}")
        if terms != old.terms:
            raise Violation("I2", f"job {full.id.hex()} came back with other terms")
        self.revived.append(full.id)
        self._repeated[full.id] = self._repeated.get(full.id, 1) + 1
        self.alone.revived(full)
        life = self.lives[full.id] = Life(full.submitted_ms, old.spec, terms, old)
        life.story, life.told = list(old.story), list(old.told)
        life.checkpoint = full.checkpoint.value if full.checkpoint is not None else b""
        if life.checkpoint != old.checkpoint:
            raise Violation("K1", f"job {full.id.hex()} was revived with {full.checkpoint}")

    def _count(self, life: Life, job_id: bytes, lease: int, failures: int, crashes: int) -> None:
        """Each attempt fails at most once."""
        if failures > life.failures:
            if failures > life.failures + 1 or lease in life.failed_under:
                raise Violation("I5", f"job {job_id.hex()}: lease {lease} was counted as a failure twice")
            life.failed_under.append(lease)
        if failures < life.failures or not life.crashes <= crashes <= life.crashes + 1:
            raise Violation(
                "I5", f"job {job_id.hex()}: {life.failures}, {life.crashes} -> {failures}, {crashes}"
            )
        life.failures, life.crashes = failures, crashes


def _without_terms(item: r.SuccessItem | r.EndedItem) -> tuple[object, ...]:
    """What an outcome says; where its terms stand in the record is not part of it."""
    return tuple(getattr(item, name) for name in item.__struct_fields__ if name != "terms")
