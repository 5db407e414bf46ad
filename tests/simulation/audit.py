"""What the journal says, read batch by batch as it is committed, by somebody who does not use `fold`."""

from taskq.core import records as r
from taskq.protocol.messages import Terms
from tests.simulation.agenda import Violation
from tests.simulation.ticks import Ticks


class Life:
    """One job in the journal."""

    def __init__(self, session: bytes, wall_ms: int, terms: Terms, before: "Life | None") -> None:
        self.before = before  # one that ended and was forgotten, before its id came back
        self.session = session
        self.terms = terms
        self.submitted_ms = wall_ms
        self.failures = 0
        self.crashes = 0
        self.failed_under: list[int] = []
        self.lease = 0  # the one that was recorded last; one that is taken up again may be an older one
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
        # In the batch that was read last: leases that crashed, and jobs that are new.
        self.crashed: list[int] = []
        self.submitted: list[bytes] = []
        self.ticked: list[r.Ticked] = []  # what made some of those
        self.ticks = Ticks(wall_is_steady=wall_is_steady)
        self._forgotten_sessions: dict[bytes, None] = {}
        self._batches: list[tuple[int, bytes]] = []

    def read(self, seq: int, blob: bytes) -> None:
        """A batch was committed."""
        self._batches.append((seq, blob))
        self.crashed = []
        self.submitted = []
        self.ticked = []
        self._fold(seq, blob)

    def cut_after(self, last_seq: int) -> None:
        """The power failed, and what came after this batch is lost: as if it had never been."""
        batches = [(seq, blob) for seq, blob in self._batches if seq <= last_seq]
        self._batches = []
        self.lives = {}
        self.recorded = {}
        self.ticks.forget()
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

    # -- one method a record ----------------------------------------------------------------------

    def _fold(self, seq: int, blob: bytes) -> None:
        for record in r.decode(seq, blob):
            match record:
                case r.Submitted():
                    self._made(record.session, record)
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
                case r.Succeeded() | r.Ended():
                    for item in record.items:
                        self._ended(item)
                case r.Forgotten():
                    self._forgotten_sessions.update(dict.fromkeys(record.sessions))
                    for job_id in record.ids:
                        if job_id in self.lives:
                            self.lives[job_id].is_forgotten = True
                case r.Restated() | r.SessionRestated():
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
            self.submitted.append(spec.id)
            self.lives[spec.id] = Life(session, record.wall_ms, record.terms[spec.terms], old)

    def _delivered(self, record: r.Delivered) -> None:
        for held in record.items:
            self.recorded[held.lease] = record.session
            life = self.lives.get(held.id)
            if life is None:
                raise Violation("I2", f"lease {held.lease} is for {held.id.hex()}, which nobody submitted")
            if life.end is not None:
                raise Violation("I3", f"job {held.id.hex()} is {life.state}, and was given away again")
            life.lease = held.lease
            expires_ms = life.terms.expires_ms
            if self.wall_is_steady and expires_ms and record.wall_ms > life.submitted_ms + expires_ms + 2:
                raise Violation("I7", f"job {held.id.hex()} had expired when it was given away")

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
            self._count(life, item.id, item.lease, item.failures, item.crashes)
            if item.ending == "crashed":
                self.crashed.append(item.lease)
            retry = life.terms.retry
            if item.failures >= retry.max_attempts or item.crashes > retry.max_crashes:
                raise Violation("I5", f"job {item.id.hex()} is to run again after {item}")

    def _ended(self, item: r.SuccessItem | r.EndedItem) -> None:
        life = self.lives.get(item.id)
        if life is None:
            raise Violation("I2", f"job {item.id.hex()} has ended, and nobody submitted it")
        if life.end is not None:
            if _without_terms(item) != _without_terms(life.end):
                raise Violation("I3", f"job {item.id.hex()} has two outcomes: {life.end} and {item}")
            return
        life.end = item
        if isinstance(item, r.EndedItem) and item.state == "dead":
            self._count(life, item.id, item.lease, item.failures, item.crashes)
            retry = life.terms.retry
            if item.failures > retry.max_attempts or item.crashes > retry.max_crashes + 1:
                raise Violation("I5", f"job {item.id.hex()} was run too often: {item}")

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
