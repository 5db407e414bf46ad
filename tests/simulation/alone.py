"""Who was to be alone: read from the journal, record by record, by somebody who does not use the index."""

from msgspec import Struct

from taskq.core import records as r
from taskq.protocol.ext import ACTIVE, QUEUED, SECONDS, UNIQUE, read_unique
from taskq.protocol.messages import JobSpec
from tests.simulation.agenda import Violation

# Decided by another clock than the one that the records show.
_TICK_MS = 3


class Lone(Struct):
    """A job that is to be alone with its digest."""

    scope: int
    digest: bytes
    is_running: bool = False

    @property
    def holds(self) -> bool:
        return self.scope == ACTIVE or (self.scope == QUEUED and not self.is_running)


class Alone:
    """No two jobs hold a digest at once, and nobody takes it before a claim's time is over."""

    def __init__(self, *, wall_is_steady: bool) -> None:
        self._jobs: dict[bytes, Lone] = {}
        self._claims: dict[bytes, tuple[bytes, int]] = {}  # digest -> whose, until
        self._wall_is_steady = wall_is_steady

    def submitted(self, spec: JobSpec, wall_ms: int) -> None:
        self.ended(spec.id)  # an id that came back after it was forgotten
        if not spec.ext or UNIQUE not in spec.ext:
            return
        unique = read_unique(spec.ext[UNIQUE])
        self._check(unique.digest, spec.id)
        whose, until_ms = self._claims.get(unique.digest, (b"", 0))
        if self._wall_is_steady and wall_ms < until_ms - _TICK_MS:
            raise Violation("U1", f"job {spec.id.hex()} was accepted while {whose.hex()} is to be alone")
        if unique.scope == SECONDS:
            self._claims[unique.digest] = (spec.id, wall_ms + unique.window_ms)
        self._jobs[spec.id] = Lone(unique.scope, unique.digest)

    def revived(self, full: r.FullJob) -> None:
        """A dead job waits again; it has had its time."""
        if not full.ext or UNIQUE not in full.ext:
            return
        unique = read_unique(full.ext[UNIQUE])
        self._check(unique.digest, full.id)
        whose, until_ms = self._claims.get(unique.digest, (full.id, 0))
        if self._wall_is_steady and whose != full.id and full.submitted_ms < until_ms - _TICK_MS:
            raise Violation("U1", f"job {full.id.hex()} was revived while {whose.hex()} is to be alone")
        self._jobs[full.id] = Lone(unique.scope, unique.digest)

    def delivered(self, job_id: bytes) -> None:
        lone = self._jobs.get(job_id)
        if lone is not None:
            lone.is_running = True

    def released(self, job_id: bytes) -> None:
        lone = self._jobs.get(job_id)
        if lone is None:
            return
        if lone.scope == QUEUED:
            self._check(lone.digest, job_id)
        lone.is_running = False

    def ended(self, job_id: bytes) -> None:
        self._jobs.pop(job_id, None)

    def restated(self, jobs: list[r.FullJob]) -> None:
        """What a copy or an edit says must be as it was."""
        for full in jobs:
            lone = self._jobs.get(full.id)
            unique = read_unique(full.ext[UNIQUE]) if full.ext and UNIQUE in full.ext else None
            if lone is not None and (unique is None or unique.digest != lone.digest):
                raise Violation("U1", f"job {full.id.hex()} is no longer to be alone with its digest")

    def _check(self, digest: bytes, job_id: bytes) -> None:
        for other, lone in self._jobs.items():
            if lone.digest == digest and lone.holds and other != job_id:
                raise Violation("U1", f"job {job_id.hex()} waits beside {other.hex()}, which is to be alone")
