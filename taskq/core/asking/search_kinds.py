"""What searches do with the jobs that they find: list, count, group, change."""

from collections import Counter
from collections.abc import Iterator
from heapq import merge
from typing import Protocol

from msgspec import Struct

from taskq import limits
from taskq.core.asking.filters import STATES_FOR, Matcher, error_type_of, fault_of
from taskq.core.asking.job_lines import line_bytes, line_of
from taskq.core.asking.snapshot import Snapshot, unpacked
from taskq.core.asking.verbs import Verbs
from taskq.core.effects import Now
from taskq.core.job import Job
from taskq.core.lines.workers import Roster
from taskq.core.state import Kept, State
from taskq.protocol.messages import (
    Bulk,
    BulkReport,
    Counted,
    DeadGroup,
    DeadGroups,
    JobLine,
    JobStateName,
    Page,
    Query,
)


class Search(Protocol):
    """One search: whose, for what, and how far it has come."""

    peer: int
    matcher: Matcher
    snapshot: Snapshot | None  # what it looks at; None: it has not begun
    missed: int  # ids whose jobs are gone
    changes: bool  # it writes records, which must not run ahead of the disk

    def take(self, found: list[Job | Kept], now: Now) -> None:
        """Of the slice just looked at, these match."""

    def answer(self) -> Page | Counted | DeadGroups | BulkReport:
        """When all has been looked at."""


class Counting:
    """How many, by state."""

    changes = False

    def __init__(self, peer: int, request: int, matcher: Matcher) -> None:
        self.peer = peer
        self.matcher = matcher
        self.snapshot: Snapshot | None = None
        self.missed = 0
        self._request = request
        self._states: Counter[str] = Counter()

    def take(self, found: list[Job | Kept], now: Now) -> None:
        self._states.update([each.state for each in found])

    def answer(self) -> Counted:
        return Counted(self._request, self._states.total(), dict(sorted(self._states.items())))


class Listing:
    """Pages of jobs in the order of their ids. What the scan found is kept for the pages that follow."""

    changes = False

    def __init__(self, peer: int, query: Query, matcher: Matcher, state: State, roster: Roster) -> None:
        self.peer = peer
        self.query = query
        self.matcher = matcher
        self.snapshot: Snapshot | None = None
        self.missed = 0
        self.left = 0  # ids that no page has been made of yet
        self._state = state
        self._roster = roster
        self.filter = query.filter
        self._runs: list[bytes] = []  # ids, each run in order; packed as in a snapshot, for the same reason
        self._sorted: Iterator[bytes] | None = None
        self._next: bytes | None = None  # the first of the next page
        self.after = b""  # where the last page ended

    @property
    def has_more(self) -> bool:
        return self._next is not None

    def take(self, found: list[Job | Kept], now: Now) -> None:
        after = self.query.after
        ids = sorted(id for each in found if (id := _id_of(each)) > after)
        if ids:
            self._runs.append(b"".join(ids))
            self.left += len(ids)

    def answer(self) -> Page:
        if self._sorted is None:
            self._sorted = merge(*map(unpacked, self._runs))
            self._next = next(self._sorted, None)
        items: list[JobLine] = []
        size = looked = 0
        # Many may be gone since the scan: who looks at too many in one turn gives a shorter page.
        while (
            self._next is not None
            and len(items) < self.query.limit
            and looked < limits.SEARCH_SLICE
            and size < limits.BATCH_BYTES_TARGET
        ):
            looked += 1
            line = self._line(self._next)
            if line is not None:
                items.append(line)
                size += line_bytes(line)
            self._advance()
        return Page(self.query.request, items, self.after if self._next is not None else b"")

    def _line(self, job_id: bytes) -> JobLine | None:
        """A job as it is now, if it is still looked for."""
        job = self._state.jobs.get(job_id) or self._state.outcomes.get(job_id)
        if job is None or not self.matcher.fits(job):
            return None
        return line_of(job, self._roster, full=self.query.full)

    def _advance(self) -> None:
        assert self._sorted is not None
        assert self._next is not None
        self.after = self._next
        self._next = next(self._sorted, None)
        self.left -= 1


class _Group(Struct):
    sample: bytes
    message: str
    oldest_ms: int
    newest_ms: int
    count: int = 0


class Grouping:
    """Dead jobs by task and type of error."""

    changes = False

    def __init__(self, peer: int, request: int, matcher: Matcher) -> None:
        self.peer = peer
        self.matcher = matcher
        self.snapshot: Snapshot | None = None
        self.missed = 0
        self._request = request
        self._groups: dict[tuple[str, str], _Group] = {}
        self._others = 0

    def take(self, found: list[Job | Kept], now: Now) -> None:
        for each in found:
            if isinstance(each, Kept):
                self._add(each)

    def _add(self, kept: Kept) -> None:
        key = (kept.terms.task, error_type_of(kept))
        died_ms = kept.item.finished_ms
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= limits.DEAD_GROUPS_MAX:
                self._others += 1
                return
            fault = fault_of(kept)
            message = fault.message if fault is not None else ""
            group = self._groups[key] = _Group(kept.item.id, message, died_ms, died_ms)
        group.count += 1
        group.oldest_ms = min(group.oldest_ms, died_ms)
        group.newest_ms = max(group.newest_ms, died_ms)

    def answer(self) -> DeadGroups:
        items = [
            DeadGroup(task, kind, group.count, group.oldest_ms, group.newest_ms, group.sample, group.message)
            for (task, kind), group in self._groups.items()
        ]
        items.sort(key=lambda item: (-item.count, item.task, item.error_type))
        return DeadGroups(self._request, items, self._others)


class BulkRun:
    """One verb for all that match."""

    def __init__(self, peer: int, bulk: Bulk, matcher: Matcher, verbs: Verbs) -> None:
        self.peer = peer
        self.matcher = matcher
        self.changes = not bulk.dry_run
        self.snapshot: Snapshot | None = None
        self.missed = 0
        self._bulk = bulk
        self._states: tuple[JobStateName, ...] = STATES_FOR[bulk.verb]
        self._verbs = verbs
        self._matched = 0
        self._done = 0
        self._skipped: Counter[str] = Counter()

    def take(self, found: list[Job | Kept], now: Now) -> None:
        able = [each for each in found if each.state in self._states]
        self._matched += len(found)
        self._skipped.update([each.state for each in found if each.state not in self._states])
        if able and not self._bulk.dry_run:
            left = self._verbs.do(self._bulk.verb, able, self._bulk.reason, now)
            self._done += len(able) - left
            if left:
                self._skipped["exists"] += left

    def answer(self) -> BulkReport:
        skipped = dict(sorted(self._skipped.items()))
        if self._bulk.filter.ids and self.missed:
            skipped["unknown"] = self.missed
        return BulkReport(self._bulk.request, self._matched, self._done, skipped)


def _id_of(found: Job | Kept) -> bytes:
    return found.id if isinstance(found, Job) else found.item.id
