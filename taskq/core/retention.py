"""How long outcomes and sessions are remembered: by time, and within a budget of bytes."""

from collections import deque
from typing import Final

from msgspec import Struct

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.job import DEAD
from taskq.core.ledger import Ledger
from taskq.core.line import Line
from taskq.core.memory import Memory
from taskq.core.state import Kept
from taskq.core.timers import Timers

# Outcomes forgotten in one turn: bounds what a large budget overrun adds to it.
SLICE = 2_000
# Taken from one line before the others are looked at again: within so many, age is not exact.
RUN = 100
# How often what has grown old is looked for; outcomes may be kept this much longer than asked.
SWEEP_MS = 1_000


class DeadBounds(Struct, frozen=True):
    """How long dead jobs are kept, how many, and what they may weigh. The oldest go."""

    keep_ms: int = limits.KEEP_DEAD_MS
    jobs: int = limits.DEAD_JOBS_MAX
    bytes: int = limits.DEAD_BYTES_BUDGET


DEAD_BOUNDS: Final = DeadBounds()


class Retention:
    """Forgets outcomes: the oldest of those kept equally long, when their time or the budget is over.
    Dead jobs are kept for people, whatever was asked, and have bounds of their own."""

    def __init__(
        self,
        ledger: Ledger,
        timers: Timers,
        budget_bytes: int,
        dead: DeadBounds,
        memory: Memory,
    ) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._timers = timers
        self._budget_bytes = budget_bytes
        self._bounds = dead
        self._memory = memory
        self._began_ms = 0  # boot
        # Finished jobs by how long they are kept: each line is in the order of finishing.
        self._lines: dict[int, Line[bytes]] = {}
        # Dead ones, and when they died: one that is run again may die again.
        self._dead: Line[tuple[int, bytes]] = Line(self._is_dead)

    def begin(self, now: Now) -> None:
        """After recovery: line up what is there."""
        for _, kept in sorted(self._state.outcomes.items(), key=_finished):
            self._line_up(kept)
        self._began_ms = now.boot_ms
        self._timers.after(now.boot_ms + SWEEP_MS, "retention", 0)

    def note(self, job_ids: list[bytes]) -> None:
        """These were finished now."""
        outcomes = self._state.outcomes
        terms, tail = None, deque[bytes]()
        for job_id in job_ids:
            kept = outcomes.get(job_id)
            if kept is None:
                continue
            if kept.state == DEAD:
                self._dead.append((kept.item.finished_ms, job_id))
                continue
            if kept.terms is not terms:
                terms = kept.terms
                tail = self._line(terms.keep_ms).tail
            tail.append(job_id)

    def left(self, kept: list[Kept]) -> None:
        """The outcomes of these are gone by somebody else's hand."""
        for outcome in kept:
            if outcome.state == DEAD:
                self._dead.left(1)
            elif (line := self._lines.get(outcome.terms.keep_ms)) is not None:
                line.left(1)

    def trim(self, now: Now) -> None:
        """Stay within the budgets. Cheap when there is nothing to do."""
        state = self._state
        excess = state.outcome_bytes - state.dead_bytes - self._memory.outcome_budget(self._budget_bytes)
        if excess > 0:
            self._trim_lines(excess)
        if state.dead_jobs > self._bounds.jobs or state.dead_bytes > self._bounds.bytes:
            self._trim_dead()

    def _trim_lines(self, excess: int) -> None:
        outcomes = self._state.outcomes
        gone: list[bytes] = []
        while excess > 0 and len(gone) < SLICE and (line := self._oldest_line()):
            first = line.first
            for _ in range(min(RUN, len(first))):
                job_id = first.popleft()
                kept = outcomes.get(job_id)
                if kept is not None:
                    excess -= kept.size + limits.OUTCOME_OVERHEAD_BYTES
                    gone.append(job_id)
                if excess <= 0:
                    break
        self._forget(gone, [])

    def _trim_dead(self) -> None:
        jobs = self._state.dead_jobs - self._bounds.jobs
        excess = self._state.dead_bytes - self._bounds.bytes
        gone: list[bytes] = []
        while (jobs > 0 or excess > 0) and len(gone) < SLICE and (first := self._dead.head()):
            self._dead.popleft()
            jobs -= 1
            excess -= self._state.outcomes[first[1]].size + limits.OUTCOME_OVERHEAD_BYTES
            gone.append(first[1])
        self._forget(gone, [])

    def sweep(self, now: Now) -> None:
        """Forget what has been kept long enough; called by its own timer."""
        gone: list[bytes] = []
        outcomes = self._state.outcomes
        for keep_ms, line in self._lines.items():
            while len(gone) < SLICE and (first := line.first):
                kept = outcomes.get(first[0])
                if kept is not None and kept.item.finished_ms + keep_ms > now.wall_ms:
                    break
                job_id = first.popleft()
                if kept is not None:
                    gone.append(job_id)
        while len(gone) < SLICE and (dead := self._dead.head()) is not None:
            if dead[0] + self._bounds.keep_ms > now.wall_ms:
                break
            self._dead.popleft()
            gone.append(dead[1])
        self._lines = {keep_ms: line for keep_ms, line in self._lines.items() if len(line)}
        self._forget(gone, self._old_sessions(now))
        again_ms = 0 if len(gone) >= SLICE else SWEEP_MS
        self._timers.after(now.boot_ms + again_ms, "retention", 0)

    # -- parts --------------------------------------------------------------------------------

    def _line_up(self, kept: Kept) -> None:
        if kept.state == DEAD:
            self._dead.append((kept.item.finished_ms, kept.item.id))
        else:
            self._line(kept.terms.keep_ms).append(kept.item.id)

    def _line(self, keep_ms: int) -> Line[bytes]:
        line = self._lines.get(keep_ms)
        if line is None:
            line = self._lines[keep_ms] = self._new_line()
        return line

    def _new_line(self) -> Line[bytes]:
        return Line(self._state.outcomes.__contains__)

    def _is_dead(self, entry: tuple[int, bytes]) -> bool:
        kept = self._state.outcomes.get(entry[1])
        return kept is not None and kept.item.finished_ms == entry[0]

    def _oldest_line(self) -> Line[bytes] | None:
        """The line whose head was finished first."""
        oldest, oldest_ms = None, 0
        for line in self._lines.values():
            job_id = line.head()
            if job_id is None:
                continue
            finished_ms = self._state.outcomes[job_id].item.finished_ms
            if oldest is None or finished_ms < oldest_ms:
                oldest, oldest_ms = line, finished_ms
        return oldest

    def _old_sessions(self, now: Now) -> list[bytes]:
        """The sessions seen longest ago, when there are too many or their time is over."""
        sessions = self._state.sessions
        excess = len(sessions) - limits.SESSIONS_MAX
        old: list[bytes] = []
        # By the wall clock alone, setting that forward would forget sessions that are here now.
        is_time = now.boot_ms - self._began_ms >= limits.SESSION_KEEP_MS
        for name, session in sessions.items():  # in the order in which they last submitted
            is_old = is_time and session.seen_ms + limits.SESSION_KEEP_MS < now.wall_ms
            if len(old) >= SLICE or not (is_old or len(old) < excess):
                break
            old.append(name)
        return old

    def _forget(self, ids: list[bytes], sessions: list[bytes]) -> None:
        if ids or sessions:
            self._ledger.forget(r.Forgotten(ids, sessions))


def _finished(pair: tuple[bytes, Kept]) -> int:
    return pair[1].item.finished_ms
