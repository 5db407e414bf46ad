"""Hears from the ledger what becomes of jobs, and puts it into the feeds of those that somebody follows."""

from collections.abc import Iterable
from typing import Final

from msgspec.msgpack import Encoder

from taskq.core import records as r
from taskq.core.job import RUNNING, Job
from taskq.core.lines.workers import Roster
from taskq.core.state import Kept, State
from taskq.core.telling.feed import Feed
from taskq.core.telling.feeds import KINDS, Feeds
from taskq.protocol.messages import Chunk, EventItem, Fault, ProgressItem

_pack: Final = Encoder().encode


class News:
    """Jobs that nobody follows cost one look into a table, and that only while there are any feeds."""

    def __init__(self, state: State, roster: Roster, feeds: Feeds) -> None:
        self.feeds = feeds
        self.series = 0  # of events and log lines: the broker's epoch
        self._state = state
        self._roster = roster

    def __len__(self) -> int:
        """Is there anybody to tell?"""
        return len(self.feeds)

    # -- what the ledger says ---------------------------------------------------------------------

    def delivered(self, record: r.Delivered, jobs: Iterable[Job]) -> None:
        get = self.feeds.get
        for job in jobs:
            stream = get("items", job.id)
            if stream is not None and stream.series != job.lease:
                self.feeds.begin(stream, job.lease, attempt_of(job))
            events = get("events", job.id)
            if events is not None:
                events.is_over = False  # an id may come back, as another job
                self._add(events, self.state_of(job, record.wall_ms))
            lines = get("logs", job.id)
            if lines is not None:
                lines.is_over = False

    def released(self, record: r.Released) -> None:
        for item in record.items:
            events = self.feeds.get("events", item.id)
            job = self._state.jobs.get(item.id)
            if events is None or job is None:
                continue
            told = item.told
            event = self.state_of(job, record.wall_ms)
            if told is not None:
                event = EventItem(
                    at_ms=record.wall_ms,
                    kind="failed",
                    state=job.state,
                    attempt=told.attempt,
                    worker=told.worker,
                    text=told.ending,
                    error=told.error,
                    due_ms=job.due_ms,
                )
            self._add(events, event)

    def ended(self, record: r.Succeeded | r.Ended) -> None:
        outcomes = self._state.outcomes
        for item in record.items:
            for kind in KINDS:
                feed = self.feeds.get(kind, item.id)
                if feed is None:
                    continue
                if kind == "events":
                    self._add(feed, outcome_event(Kept(item, record.terms[item.terms], 0, 0)))
                elif kind == "items" and isinstance(item, r.SuccessItem) and feed.series != item.lease:
                    # An older attempt has succeeded after all, and what it yielded is gone.
                    self.feeds.begin(feed, item.lease, item.failures + item.crashes + 1)
                feed.is_over = True
                self.feeds.touch(feed)
            if item.id not in outcomes:
                self.feeds.forget(item.id)

    def revived(self, jobs: list[Job]) -> None:
        for job in jobs:
            for kind in KINDS:
                feed = self.feeds.get(kind, job.id)
                if feed is not None:
                    feed.is_over = False
            self.changed(job, job.submitted_ms)

    def changed(self, job: Job, wall_ms: int) -> None:
        """A job is in another state, without having run."""
        events = self.feeds.get("events", job.id)
        if events is not None:
            self._add(events, self.state_of(job, wall_ms))

    def forgotten(self, ids: list[bytes]) -> None:
        for job_id in ids:
            self.feeds.forget(job_id)

    # -- and what workers say ---------------------------------------------------------------------

    def progressed(self, items: list[ProgressItem], wall_ms: int) -> None:
        """How far attempts have come."""
        for item in items:
            events = self.feeds.get("events", item.id)
            job = self._state.jobs.get(item.id)
            if events is not None and job is not None and job.state is RUNNING and job.lease == item.lease:
                self._add(
                    events,
                    EventItem(
                        at_ms=wall_ms,
                        kind="progress",
                        state=job.state,
                        attempt=attempt_of(job),
                        worker=self._worker(job),
                        done=item.done,
                        total=item.total,
                        text=item.text,
                    ),
                )

    # -- present states ---------------------------------------------------------------------------

    def begin_events(self, feed: Feed, wall_ms: int) -> None:
        """Somebody follows a job whose events were of no interest so far: how is it now?"""
        self.feeds.begin(feed, self.series, 0)
        job = self._state.jobs.get(feed.id)
        kept = self._state.outcomes.get(feed.id)
        if job is not None:
            self._add(feed, self.state_of(job, wall_ms))
        elif kept is not None:
            self._add(feed, outcome_event(kept))

    def state_of(self, job: Job, wall_ms: int) -> EventItem:
        is_running = job.state is RUNNING
        return EventItem(
            at_ms=wall_ms,
            kind="state",
            state=job.state,
            attempt=job.failures + job.crashes + is_running,
            worker=self._worker(job) if is_running else "",
            due_ms=job.due_ms,
        )

    def _worker(self, job: Job) -> str:
        worker = self._roster.workers.get(job.holder)
        return worker.name if worker is not None else ""

    def _add(self, feed: Feed, event: EventItem) -> None:
        self.feeds.add(feed, Chunk(feed.next, 1, _pack([event])))


def attempt_of(job: Job) -> int:
    """The number of the attempt that runs."""
    return job.failures + job.crashes + 1


def outcome_event(kept: Kept) -> EventItem:
    """The last event of a job."""
    item = kept.item
    if isinstance(item, r.SuccessItem):
        attempts = item.failures + item.crashes + 1
        return EventItem(item.finished_ms, "state", "succeeded", attempts)
    return EventItem(
        at_ms=item.finished_ms,
        kind="state",
        state=item.state,
        attempt=item.failures + item.crashes,
        text=item.reason,
        error=_error(item.fault),
    )


def _error(fault: Fault | None) -> str:
    return "" if fault is None else f"{fault.type}: {fault.message}"
