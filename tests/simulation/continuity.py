"""What attempts leave behind, read from the journal by somebody who knows what they said: checkpoints for
those after them (K1 to K4), and jobs that come of their success (O1, O2).
"""

from typing import TYPE_CHECKING

from taskq.client.session import NewJob
from taskq.core import records as r
from taskq.protocol.ext import UNIQUE
from taskq.protocol.messages import MEMORY, AttemptReport, CheckpointItem, JobSpec, Saved, Unsaved
from tests.simulation.agenda import Violation

if TYPE_CHECKING:
    from tests.simulation.audit import Life

# What the broker may end without having heard the last words.
_BY_THE_BROKER = ("crashed", "timed_out")


class Continuity:
    """Reads along with the audit, and hears what workers say and are given."""

    def __init__(self) -> None:
        self.epoch = 0
        self.may_refuse = False  # somewhere the disk or the memory was full: not all was recorded
        self.has_bounds = False  # somebody bounded or closed a queue: not all that comes is let in
        self._said: dict[int, bytes] = {}  # lease -> its latest checkpoint
        self._last_words: dict[int, bytes] = {}  # the same, of attempts that were reported
        self._all: dict[bytes, dict[bytes, None]] = {}  # job -> all that its attempts have said
        self._given: dict[int, bytes] = {}  # lease -> what it was given to begin with
        self._began: dict[int, bytes] = {}  # what it was to begin with, by the journal
        self._recorded: dict[int, bytes] = {}  # lease -> its latest checkpoint in the journal
        self._heard: dict[tuple[bytes, int], list[CheckpointItem]] = {}  # session, seq
        self._enclosed: dict[int, list[NewJob]] = {}
        self.parents: dict[bytes, tuple[bytes, int]] = {}  # child -> job and lease of which it comes
        # In the batch that is being read.
        self._made: list[bytes] = []
        self._succeeded: dict[int, bytes] = {}

    # -- what workers do and hear -----------------------------------------------------------------

    def on_checkpoint(self, job_id: bytes, lease: int, value: bytes) -> None:
        self._said[lease] = value
        self._all.setdefault(job_id, {})[value] = None

    def on_enclosed(self, job_id: bytes, lease: int, jobs: list[NewJob]) -> None:
        self._enclosed[lease] = jobs
        self.parents.update({job[0]: (job_id, lease) for job in jobs})

    def on_reported(self, lease: int, ending: str) -> None:
        is_final = ending == "succeeded" and lease not in self._enclosed
        if lease in self._said and not is_final:
            self._last_words[lease] = self._said[lease]

    def on_delivered(self, job_id: bytes, lease: int, saved: Saved | None) -> None:
        value = saved.value if saved is not None else b""
        if value and value not in self._all.get(job_id, {}):
            raise Violation("K1", f"job {job_id.hex()} was given {value!r}, which none of its attempts said")
        self._given[lease] = value
        self._compare(lease)

    def on_heard(self, session: bytes, seq: int, items: list[CheckpointItem]) -> None:
        self._heard[session, seq] = items

    def on_said(self, session: bytes, seq: int, unsaved: list[Unsaved], durable: dict[bytes, bool]) -> None:
        """The broker says that these are recorded: then the journal has them, or later ones."""
        odd = {each.lease for each in unsaved}
        for item in self._heard.pop((session, seq), []):
            is_in_journal = self._recorded.get(item.lease, b"") >= item.saved.value
            if item.lease not in odd and durable.get(item.id, False) and not is_in_journal:
                raise Violation(
                    "K3", f"a checkpoint of lease {item.lease} is said to be recorded, and is not"
                )

    # -- what the journal says --------------------------------------------------------------------

    def delivered(self, life: "Life", lease: int, *, is_first: bool) -> None:
        if is_first and lease >> 40 == self.epoch:
            self._began[lease] = life.checkpoint
            self._compare(lease)

    def checkpointed(self, life: "Life | None", item: CheckpointItem) -> None:
        if life is None or life.end is not None or life.lease != item.lease:
            raise Violation("K2", f"lease {item.lease} of {item.id.hex()} is over, and left a checkpoint")
        if item.saved.value not in self._all.get(item.id, {}):
            raise Violation("K1", f"{item} is in the journal, and no attempt said that")
        life.checkpoint = self._recorded[item.lease] = item.saved.value

    def ended_badly(self, life: "Life", lease: int, ending: str, told: AttemptReport | None) -> None:
        """A report is never heard before the checkpoints before it; and no outbox is refused for nothing."""
        is_refused = told is not None and told.error.startswith("taskq.errors.")
        if is_refused and (lease not in self._enclosed or not (self.may_refuse or self.has_bounds)):
            raise Violation("O2", f"lease {lease} succeeded, and is told to have failed: {told}")
        words = self._last_words.get(lease)
        if words is None or ending in _BY_THE_BROKER or self.may_refuse:
            return
        if life.checkpoint != words:
            raise Violation(
                "K4", f"lease {lease} is {ending}; {life.checkpoint!r} is kept, it said {words!r}"
            )

    def died(self, life: "Life", item: r.EndedItem) -> None:
        kept = item.checkpoint.value if item.checkpoint is not None else b""
        if kept != life.checkpoint:
            raise Violation("K1", f"job {item.id.hex()} died with {kept!r}; it had {life.checkpoint!r}")

    def succeeded(self, item: r.SuccessItem) -> None:
        if item.lease in self._enclosed:
            self._succeeded[item.lease] = item.id

    def made(self, spec: JobSpec, *, is_new: bool) -> None:
        if not is_new:
            raise Violation("O1", f"job {spec.id.hex()} came of a success twice")
        self._made.append(spec.id)

    def batch_ends(self) -> None:
        """Jobs that come of a success are there exactly if it is, from the same commit on."""
        made, self._made = dict.fromkeys(self._made), []
        succeeded, self._succeeded = self._succeeded, {}
        for id in made:
            parent, lease = self.parents[id]
            if succeeded.get(lease) != parent:
                raise Violation("O1", f"job {id.hex()} is there; lease {lease} of its parent did not succeed")
        for lease in succeeded:
            for id, terms, _, ext, _ in self._enclosed[lease]:
                may_be_another = ext is not None and UNIQUE in ext
                if id not in made and not may_be_another and terms.durability != MEMORY:
                    raise Violation("O1", f"lease {lease} succeeded, and its job {id.hex()} is not there")

    def _compare(self, lease: int) -> None:
        given, began = self._given.get(lease), self._began.get(lease)
        if given is not None and began is not None and given != began:
            raise Violation("K1", f"lease {lease} was given {given!r}; the last one recorded is {began!r}")
