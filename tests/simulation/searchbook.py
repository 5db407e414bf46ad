"""Checks searches: pages complete and in order, counts not too small, bulk verbs leave nobody out.

What may be expected of a search is told by the jobs that matched when it was heard and have not
changed since, by a matcher of our own. It looks into the broker's books for them, at each turn.
"""

from fnmatch import fnmatchcase

from taskq.core.job import Job
from taskq.core.state import Kept, State
from taskq.protocol.messages import (
    Bulk,
    BulkReport,
    Command,
    Counted,
    Filter,
    Message,
    Page,
    Query,
    Tally,
)
from tests.simulation.agenda import Violation
from tests.simulation.host import BrokerHost

UNFINISHED = ("scheduled", "blocked", "ready", "running")
FOR = {
    "cancel": UNFINISHED,
    "retry": ("dead",),
    "delete": ("succeeded", "cancelled", "expired", "dead"),
    "discard": ("dead",),
}
# What tells a job from the same one in another state or life: state, lease, times.
Print = tuple[object, ...]


class Watched:
    """The jobs that matched when it began, as far as they have not changed since."""

    def __init__(self, wanted: Filter, state: State, wall_ms: int) -> None:
        self.wanted = wanted
        everything = {**state.jobs, **state.outcomes}
        self.alike = {id: _print(job) for id, job in everything.items() if _matches(wanted, job, wall_ms)}

    def grow_older(self, state: State, wall_ms: int) -> None:
        """A later page of the same walk: ages are those of now."""
        everything = {**state.jobs, **state.outcomes}
        self.alike = {
            id: seen
            for id, seen in self.alike.items()
            if id in everything and _matches(self.wanted, everything[id], wall_ms)
        }

    def look(self, state: State) -> None:
        self.alike = {id: seen for id, seen in self.alike.items() if _print_of(state, id) == seen}


class SearchBook:
    """All searches that somebody waits for, by connection and request."""

    def __init__(self, *, wall_is_steady: bool) -> None:
        self._wall_is_steady = wall_is_steady
        self._asked: dict[tuple[int, int], tuple[Command, Watched]] = {}
        self._walks: dict[tuple[int, str], tuple[bytes, Watched]] = {}  # where the last page ended

    def on_crashed(self) -> None:
        self._asked = {}
        self._walks = {}

    def on_heard(self, host: BrokerHost, number: int, command: Command, wall_ms: int) -> None:
        if not isinstance(command, Query | Tally | Bulk):
            return
        watched = Watched(command.filter, host.broker.state, wall_ms)
        if isinstance(command, Query) and command.after:
            # A walk is complete for those that were there since its first page.
            after, first = self._walks.get((number, str(command.filter)), (b"", watched))
            if after == command.after:
                watched = first
                watched.grow_older(host.broker.state, wall_ms)
        if command.filter.younger_ms and not self._wall_is_steady:
            watched.alike = {}  # how old a job is when its turn comes, nobody can say
        self._asked[(number, command.request)] = (command, watched)

    def on_turn(self, host: BrokerHost) -> None:
        state = host.broker.state
        watched = {id(each): each for _, each in self._asked.values()}
        watched.update({id(each): each for _, each in self._walks.values()})
        for each in watched.values():
            each.look(state)

    def on_said(self, host: BrokerHost, number: int, message: Message) -> None:
        if not isinstance(message, Page | Counted | BulkReport):
            return
        command, watched = self._asked.pop((number, message.request), (None, None))
        if command is None or watched is None:
            raise Violation("search", f"{message} answers nothing that was asked")
        watched.look(host.broker.state)
        match message, command:
            case Page(), Query():
                self._page(number, command, message, watched)
            case Counted(), Tally():
                if message.count != sum(message.states.values()) or message.count < len(watched.alike):
                    raise Violation("search", f"{message}, and {len(watched.alike)} were there all the while")
            case BulkReport(), Bulk():
                self._bulk(command, message, watched)
            case _:
                raise Violation("search", f"{message} is no answer to {command}")

    def _page(self, number: int, query: Query, page: Page, watched: Watched) -> None:
        ids = [line.id for line in page.items]
        if ids != sorted(set(ids)) or any(id <= query.after for id in ids) or len(ids) > query.limit:
            raise Violation("search", f"a page after {query.after.hex()} is not in order: {ids}")
        if page.next and (page.next <= query.after or (ids and page.next < ids[-1])):
            raise Violation("search", f"a page goes on at {page.next.hex()}, before its end")
        there = set(ids)
        for id in watched.alike:
            if query.after < id and (not page.next or id <= page.next) and id not in there:
                raise Violation("search", f"job {id.hex()} was there all the while, and is on no page")
        walk = (number, str(query.filter))
        if page.next:
            self._walks[walk] = (page.next, watched)
        else:
            self._walks.pop(walk, None)

    def _bulk(self, bulk: Bulk, report: BulkReport, watched: Watched) -> None:
        if report.done > report.matched or (bulk.dry_run and report.done):
            raise Violation("search", f"{report} of {bulk}")
        left = [id for id, seen in watched.alike.items() if seen[0] in FOR[bulk.verb]]
        if left and not bulk.dry_run and not report.skipped.get("exists"):
            raise Violation("search", f"{bulk.verb} by {bulk.filter} has left out {left[0].hex()}")
        if bulk.dry_run and report.matched < len(left):
            raise Violation("search", f"{report} of a dry run, and {len(left)} were there all the while")


def _print(job: Job | Kept) -> Print:
    if isinstance(job, Job):
        return (job.state, job.lease, job.submitted_ms, job.terms)  # it may be edited
    return (job.state, job.item.lease, job.item.submitted_ms, job.item.finished_ms)


def _print_of(state: State, id: bytes) -> Print | None:
    job = state.jobs.get(id) or state.outcomes.get(id)
    return None if job is None else _print(job)


def _matches(wanted: Filter, job: Job | Kept, wall_ms: int) -> bool:
    submitted_ms = job.submitted_ms if isinstance(job, Job) else job.item.submitted_ms
    return (
        (not wanted.states or job.state in wanted.states)
        and fnmatchcase(job.terms.task, wanted.task or "*")
        and wanted.queue in ("", job.terms.queue)
        # A moment passes until it is decided.
        and (not wanted.younger_ms or submitted_ms >= wall_ms - wanted.younger_ms + 100)
    )
