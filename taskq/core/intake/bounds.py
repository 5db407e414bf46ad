"""How much may wait in a queue: who fits, who waits for room, and who makes it.

Running jobs do not count; a job that goes back to waiting always fits, and so does what the broker makes
itself. Queues without a bound cost nothing: what waits is counted only where somebody asked for it.
"""

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.indexes import Line
from taskq.core.intake.held import HeldBack
from taskq.core.ledger import Ledger
from taskq.core.outbox import Outbox
from taskq.core.running.endings import Endings
from taskq.protocol.messages import Bound, Bounded, Refusal, Terms


class Bounds:
    """The bounds of queues, and what is over them."""

    def __init__(self, ledger: Ledger, endings: Endings, held: HeldBack, out: Outbox) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._endings = endings
        self._held = held
        self._out = out
        self.swollen: dict[str, None] = {}  # queues whose oldest may have to go
        self.dropped = 0

    def configure(self, peer: int, command: Bound) -> None:
        """Bound a queue, change its bound, or take it away."""
        queue, lines = command.queue, self._state.lines
        if queue not in lines and len(lines) >= limits.BOUNDED_QUEUES_MAX:
            text = f"{len(lines)} queues have bounds; no more may. Take those away that are not needed"
            self._out.say(peer, Refusal(command.request, "busy", text))
            return
        self._ledger.bound(r.Bound(queue, command.max_jobs, command.max_bytes, command.when_full))
        if queue in lines:
            self.swollen[queue] = None
        self._out.say(peer, self._figures(command))

    def _figures(self, command: Bound) -> Bounded:
        line = self._state.lines.get(command.queue)
        waiting = self._held.by_queue.get(command.queue, ())
        return Bounded(
            request=command.request,
            queue=command.queue,
            max_jobs=command.max_jobs,
            max_bytes=command.max_bytes,
            when_full=command.when_full,
            jobs=line.jobs if line is not None else 0,
            bytes=line.bytes if line is not None else 0,
            held=len(waiting),
        )

    # -- who fits -----------------------------------------------------------------------------

    def is_no_matter(self, terms: list[Terms]) -> bool:
        """Is there room for any job with these terms, without looking at it?"""
        lines, held = self._state.lines, self._held.by_queue
        if not lines and not held:
            return True
        return not any(each.queue in lines or each.queue in held for each in terms)

    def has_room(self, queue: str, size: int) -> bool:
        """Can the first that waits for room in this queue be decided?"""
        line = self._state.lines.get(queue)
        if line is None or line.bound.when_full != "wait" or fits(line, 1, size):
            return True
        # The bound was lowered meanwhile: it will never fit, and is told so.
        return 0 < line.bound.max_bytes < size

    # -- who makes room -----------------------------------------------------------------------

    def make_room(self, now: Now) -> None:
        """Drop the oldest of queues that want it so, at most a slice of them in a turn."""
        budget = limits.CANCEL_SLICE
        for queue in list(self.swollen):
            line = self._state.lines.get(queue)
            if line is None or line.order is None:
                del self.swollen[queue]
                continue
            while budget > 0 and line.is_over:
                self._drop_oldest(line, now)
                budget -= 1
            if not line.is_over:
                del self.swollen[queue]

    def _drop_oldest(self, line: Line, now: Now) -> None:
        assert line.order is not None
        job = self._state.jobs[next(iter(line.order))]
        self._endings.cancel([job], f"dropped for a newer job: {full_text(line)}", now)
        self.dropped += 1


class Room:
    """The room in bounded queues while one message is decided, whose jobs are not in the books yet."""

    def __init__(
        self, lines: dict[str, Line], held: HeldBack, *, is_next: bool, is_patient: bool = True
    ) -> None:
        self._lines = lines
        self._held = held.by_queue
        self._is_next = is_next  # it waited for this room: those behind it do not matter
        self._is_patient = is_patient  # what cannot wait for room is let in where others would
        self._taken: dict[str, tuple[int, int]] = {}
        self.swollen: dict[str, None] = {}

    def take(self, queue: str, size: int, jobs: int = 1) -> tuple[str, str]:
        """The verdict's code and text for one job more (0: for a larger one); empty: it has its place."""
        line = self._lines.get(queue)
        is_behind = queue in self._held and not self._is_next
        if line is None:
            # Its bound was taken away this turn: those who waited for that are let in first.
            return ("held", "") if is_behind else ("", "")
        bound = line.bound
        if bound.max_bytes and size > bound.max_bytes:
            text = f"{size} bytes; queue {queue!r} takes no job over its bound of {bound.max_bytes} bytes"
            return "too_large", text
        if bound.when_full == "drop_oldest":
            self.swollen[queue] = None
            return "", ""
        taken_jobs, taken_bytes = self._taken.get(queue, (0, 0))
        is_pressing = bound.when_full == "wait" and not self._is_patient
        if not is_pressing and (is_behind or not fits(line, taken_jobs + jobs, taken_bytes + size)):
            return ("held", "") if bound.when_full == "wait" else ("queue_full", full_text(line, taken_jobs))
        self._taken[queue] = (taken_jobs + jobs, taken_bytes + size)
        return "", ""


def fits(line: Line, jobs: int, size: int) -> bool:
    """Is there room for so many jobs of so many bytes together?"""
    bound = line.bound
    if bound.max_jobs and line.jobs + jobs > bound.max_jobs:
        return False
    return not bound.max_bytes or line.bytes + size <= bound.max_bytes


def full_text(line: Line, more: int = 0) -> str:
    bound = line.bound
    parts = []
    if bound.max_jobs:
        parts.append(f"{line.jobs + more} of at most {bound.max_jobs} jobs wait")
    if bound.max_bytes:
        parts.append(f"they take {line.bytes} of at most {bound.max_bytes} bytes")
    return f"queue {bound.queue!r} is full: {', '.join(parts)}"
