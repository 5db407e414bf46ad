"""Searches: lists, counts, groups, and what is done to many jobs; a slice each turn, so that no search,
however large, holds up the loop.

A search looks at the jobs that were there when it began: their ids are its snapshot. It answers when
it has looked at all of them, and is dropped when its peer goes.
"""

from collections import deque

from taskq import limits
from taskq.core.asking.filters import Matcher, flaw_for, flaw_in, narrowed
from taskq.core.asking.search_kinds import BulkRun, Counting, Grouping, Listing, Search
from taskq.core.asking.snapshot import Snapshot
from taskq.core.asking.verbs import Verbs
from taskq.core.effects import Now
from taskq.core.job import Job
from taskq.core.ledger import Ledger
from taskq.core.lines.workers import Roster
from taskq.core.outbox import Outbox
from taskq.core.peers import Peers
from taskq.core.state import Kept
from taskq.protocol.messages import AboutJobs, Bulk, GroupDead, Query, Refusal, Tally

# What a job that is changed takes in a batch, about; one that takes more counts as several.
BYTES_OF_A_CHANGE = 1_000


class Searches:
    """All searches that run; each turn works on one of them."""

    def __init__(self, ledger: Ledger, peers: Peers, roster: Roster, verbs: Verbs, out: Outbox) -> None:
        self.running: deque[Search] = deque()
        self._ledger = ledger
        self._state = ledger.state
        self._peers = peers
        self._roster = roster
        self._verbs = verbs
        self._out = out
        self._listings: list[Listing] = []  # that have more pages, the latest last
        self._changed = 0  # about how many jobs, by searches, since batch `_changed_in` was opened
        self._changed_in = 0

    def begin(self, peer: int, asked: AboutJobs, now: Now) -> None:
        """Start a search, or say why not."""
        flaw = flaw_for(asked.verb, asked.filter) if isinstance(asked, Bulk) else flaw_in(asked.filter)
        if isinstance(asked, GroupDead) and any(state != "dead" for state in asked.filter.states):
            flaw = "groups are of dead jobs; leave the state out"
        if flaw:
            self._out.say(peer, Refusal(asked.request, "invalid", flaw))
        elif why := self._why_busy(peer):
            self._out.say(peer, Refusal(asked.request, "busy", why))
        else:
            self.running.append(self._search(peer, asked, now))

    def step(self, now: Now) -> None:
        """Work on the next search, a slice of it."""
        search = self.running[0]
        if search.peer not in self._peers.peers:
            self.running.popleft()
        elif not self._must_wait(search):
            self.running.rotate(-1)
            if self._advance(search, now):
                self.running.remove(search)

    def next_ms(self, now: Now) -> int:
        """The boot time at which to go on, while any search runs."""
        return now.boot_ms + self._must_wait(self.running[0])

    # -- parts --------------------------------------------------------------------------------

    def _why_busy(self, peer: int) -> str:
        mine = sum(search.peer == peer for search in self.running)
        if mine >= limits.SEARCHES_PER_PEER_MAX:
            return f"{mine} searches of this connection are running; wait for one of them"
        if len(self.running) >= limits.SEARCHES_MAX:
            return f"{len(self.running)} searches are running; the limit is {limits.SEARCHES_MAX}"
        return ""

    def _search(self, peer: int, asked: AboutJobs, now: Now) -> Search:
        match asked:
            case Query():
                return self._listing(peer, asked, now)
            case Tally():
                return Counting(peer, asked.request, Matcher(asked.filter, now))
            case GroupDead():
                return Grouping(peer, asked.request, Matcher(narrowed(asked.filter, "discard"), now))
            case Bulk():
                return BulkRun(peer, asked, Matcher(narrowed(asked.filter, asked.verb), now), self._verbs)

    def _listing(self, peer: int, query: Query, now: Now) -> Listing:
        """The one that goes on where the last page ended, or a new one."""
        self._listings = [listing for listing in self._listings if listing.peer in self._peers.peers]
        mine = [kept for kept in self._listings if kept.peer == peer and kept.filter == query.filter]
        for listing in mine:
            self._listings.remove(listing)
        # Of one filter a peer goes through one list at a time: an older one does not know the newest jobs.
        if mine and query.after and mine[-1].after == query.after:
            mine[-1].query = query
            return mine[-1]
        return Listing(peer, query, Matcher(query.filter, now), self._state, self._roster)

    def _advance(self, search: Search, now: Now) -> bool:
        """One slice; True when the search has been answered."""
        if search.snapshot is None:
            ids = self._ids(search.matcher)
            search.snapshot = Snapshot(ids)
            if len(ids) > limits.SEARCH_SLICE:
                return False  # ten milliseconds are gone, with a million jobs
        if not search.snapshot.is_packed:
            search.snapshot.pack()
            if not search.snapshot.is_packed:
                return False
        if not search.snapshot.is_over():
            found, looked = self._look(search, search.snapshot)
            search.take(found, now)
            # A page of a long list comes in the next turn.
            if not search.snapshot.is_over() or (
                looked >= limits.SEARCH_SLICE and isinstance(search, Listing)
            ):
                return False
        self._out.say(search.peer, search.answer())
        if isinstance(search, Listing) and search.has_more:
            self._keep(search)
        return True

    def _ids(self, matcher: Matcher) -> list[bytes]:
        if matcher.ids:
            return list(matcher.ids)
        # Both in one turn: what moves between the two is there once, and not missed.
        ids = list(self._state.jobs) if matcher.wants_jobs else []
        if matcher.wants_outcomes:
            ids += self._state.outcomes
        return ids

    def _look(self, search: Search, snapshot: Snapshot) -> tuple[list[Job | Kept], int]:
        """The next jobs that the search is for. Each is looked up anew: it may have changed since."""
        jobs, outcomes = self._state.jobs, self._state.outcomes
        fits = search.matcher.fits
        found: list[Job | Kept] = []
        ids = snapshot.take(limits.SEARCH_SLICE)
        looked = size = 0
        for job_id in ids:
            looked += 1
            job: Job | Kept | None = jobs.get(job_id) or outcomes.get(job_id)
            if job is None:
                search.missed += 1
            elif fits(job):
                found.append(job)
                size += job.size if isinstance(job, Kept) else 0  # a retry writes it all again
                if search.changes and (len(found) >= limits.BULK_SLICE or size > limits.BATCH_BYTES_TARGET):
                    break
        snapshot.put_back(len(ids) - looked)
        if search.changes:
            self._changed += len(found) + size // BYTES_OF_A_CHANGE
        return found, looked

    def _must_wait(self, search: Search) -> bool:
        """Has enough been changed that is not on its way to the disk yet?"""
        if self._changed_in != self._ledger.seq:
            self._changed_in, self._changed = self._ledger.seq, 0
        is_ahead = self._changed >= limits.BULK_AHEAD
        return search.changes and is_ahead and self._ledger.newest == self._ledger.seq

    def _keep(self, listing: Listing) -> None:
        self._listings.append(listing)
        while (
            len(self._listings) > limits.LISTINGS_KEPT_MAX
            or sum(kept.left for kept in self._listings) > limits.LISTED_IDS_MAX
        ):
            self._listings.pop(0)
