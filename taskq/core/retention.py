"""How long outcomes and sessions are remembered: by time, and within a budget of bytes."""

from collections import deque

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.job import DEAD
from taskq.core.ledger import Ledger
from taskq.core.state import Kept
from taskq.core.timers import Timers

# Outcomes forgotten in one turn: bounds what a large budget overrun adds to it.
SLICE = 2_000
# Taken from one line before the others are looked at again: within so many, age is not exact.
RUN = 100
# How often what has grown old is looked for; outcomes may be kept this much longer than asked.
SWEEP_MS = 1_000


class Retention:
    """Forgets outcomes: the oldest of those kept equally long, when their time or the budget is over."""

    def __init__(self, ledger: Ledger, timers: Timers, budget_bytes: int) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._timers = timers
        self._budget_bytes = budget_bytes
        self._began_ms = 0  # boot
        # Finished jobs by how long they are kept: each line is in the order of finishing.
        self._lines: dict[int, deque[bytes]] = {}

    def begin(self, now: Now) -> None:
        """After recovery: line up what is there."""
        for job_id, kept in sorted(self._state.outcomes.items(), key=_finished):
            self._line(kept).append(job_id)
        self._began_ms = now.boot_ms
        self._timers.after(now.boot_ms + SWEEP_MS, "retention", 0)

    def note(self, job_ids: list[bytes]) -> None:
        """These were finished now."""
        outcomes = self._state.outcomes
        terms, line = None, deque[bytes]()
        for job_id in job_ids:
            kept = outcomes.get(job_id)
            if kept is None:
                continue
            if kept.terms is not terms or kept.state == DEAD:
                terms = kept.terms
                line = self._line(kept)
            line.append(job_id)

    def trim(self, now: Now) -> None:
        """Stay within the budget. Cheap when there is nothing to do."""
        if self._state.outcome_bytes <= self._budget_bytes:
            return
        excess = self._state.outcome_bytes - self._budget_bytes
        gone: list[bytes] = []
        while excess > 0 and len(gone) < SLICE and (line := self._oldest_line()):
            for _ in range(min(RUN, len(line))):
                job_id = line.popleft()
                kept = self._state.outcomes.get(job_id)
                if kept is not None:
                    excess -= kept.size + limits.OUTCOME_OVERHEAD_BYTES
                    gone.append(job_id)
                if excess <= 0:
                    break
        self._forget(gone, [])

    def sweep(self, now: Now) -> None:
        """Forget what has been kept long enough; called by its own timer."""
        gone: list[bytes] = []
        for keep_ms, line in self._lines.items():
            while line and len(gone) < SLICE:
                kept = self._state.outcomes.get(line[0])
                if kept is not None and kept.item.finished_ms + keep_ms > now.wall_ms:
                    break
                job_id = line.popleft()
                if kept is not None:
                    gone.append(job_id)
        self._lines = {keep_ms: line for keep_ms, line in self._lines.items() if line}
        self._forget(gone, self._old_sessions(now))
        again_ms = 0 if len(gone) >= SLICE else SWEEP_MS
        self._timers.after(now.boot_ms + again_ms, "retention", 0)

    # -- parts --------------------------------------------------------------------------------

    def _line(self, kept: Kept) -> deque[bytes]:
        return self._lines.setdefault(_keep_ms(kept), deque())

    def _oldest_line(self) -> deque[bytes] | None:
        """The line whose head was finished first."""
        lines = [line for line in self._lines.values() if line]
        return min(lines, key=self._head_finished_ms, default=None)

    def _head_finished_ms(self, line: deque[bytes]) -> int:
        kept = self._state.outcomes.get(line[0])
        return kept.item.finished_ms if kept is not None else 0  # forgotten already: take it out first

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


def _keep_ms(kept: Kept) -> int:
    return limits.KEEP_DEAD_MS if kept.state == DEAD else kept.terms.keep_ms


def _finished(pair: tuple[bytes, Kept]) -> int:
    return pair[1].item.finished_ms
