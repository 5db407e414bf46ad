"""Who follows which feed, what each is sent now, and how far the attempts that fill them may go on."""

from taskq import limits
from taskq.core.effects import Now
from taskq.core.job import RUNNING
from taskq.core.lines.workers import Roster, Worker
from taskq.core.outbox import Outbox
from taskq.core.state import State
from taskq.core.telling.feed import Feed, Follower
from taskq.core.telling.feeds import Feeds
from taskq.core.telling.news import News, attempt_of
from taskq.core.timers import Timers
from taskq.protocol.messages import Chunk, Fed, Follow, Mark, Refusal, Told, Took


class Following:
    """Feeds are filled by workers and by the news; at the end of a turn their followers are told.

    A worker goes on with an attempt's stream as far as it hears that we took what there was. That is
    not said while a follower does not take what it was sent, for at most STREAM_HOLD_MS: after that
    the oldest go, and the follower sees it by the numbers.
    """

    def __init__(
        self,
        state: State,
        roster: Roster,
        timers: Timers,
        news: News,
        out: Outbox,
    ) -> None:
        self._state = state
        self._roster = roster
        self._timers = timers
        self._news = news
        self._feeds: Feeds = news.feeds
        self._out = out
        self._by_peer: dict[int, dict[int, tuple[Feed, Follower]]] = {}
        self._count = 0
        self._marks: dict[int, list[Mark]] = {}  # for workers, by peer

    def __len__(self) -> int:
        """How many follows there are."""
        return self._count

    @property
    def has_work(self) -> bool:
        return bool(self._feeds.touched or self._marks)

    # -- consumers --------------------------------------------------------------------------------

    def follow(self, peer: int, follow: Follow, now: Now) -> None:
        mine = self._by_peer.setdefault(peer, {})
        if follow.request in mine:
            self._leave(peer, follow.request)
        refusal = self._refusal(follow, len(mine))
        if refusal is not None:
            self._out.say(peer, refusal)
            return
        feed = self._feeds.open(follow.kind, follow.id)
        if not feed.series:
            self._begin(feed, now)
        feed.is_over = follow.id not in self._state.jobs
        follower = Follower(
            peer,
            follow.request,
            series=follow.series,
            number=follow.number,
            taken=follow.taken,
            live=follow.live,
        )
        if follower.series == feed.series:
            follower.begin(feed)
        feed.followers.append(follower)
        mine[follow.request] = (feed, follower)
        self._count += 1
        self._feeds.touch(feed)

    def _refusal(self, follow: Follow, mine: int) -> Refusal | None:
        if mine >= limits.FOLLOWS_PER_PEER_MAX or self._count >= limits.FOLLOWS_MAX:
            text = f"{mine} jobs are followed over this connection, {self._count} in all; that is the limit"
            return Refusal(follow.request, "busy", text)
        state = self._state
        if follow.id in state.jobs or follow.id in state.outcomes:
            return None
        if self._feeds.get(follow.kind, follow.id) is not None:
            return None  # its outcome is not kept, but somebody is still told the rest
        text = f"no job {follow.id.hex()}: it never was, or its outcome is no longer kept"
        return Refusal(follow.request, "not_found", text)

    def _begin(self, feed: Feed, now: Now) -> None:
        if feed.kind == "events":
            self._news.begin_events(feed, now.wall_ms)
        elif feed.kind == "logs":
            self._feeds.begin(feed, self._news.series, 0)
        elif (job := self._state.jobs.get(feed.id)) is not None and job.state is RUNNING:
            self._feeds.begin(feed, job.lease, attempt_of(job))
        elif (kept := self._state.outcomes.get(feed.id)) is not None:
            self._feeds.begin(feed, kept.item.lease, max(kept.item.failures + kept.item.crashes, 1))

    def unfollow(self, peer: int, requests: list[int]) -> None:
        for request in requests:
            self._leave(peer, request)

    def taken(self, peer: int, marks: list[Mark]) -> None:
        mine = self._by_peer.get(peer, {})
        for mark in marks:
            found = mine.get(mark.request)
            if found is not None and found[1].series == mark.series:
                feed, follower = found
                follower.take(mark.number)
                self._feeds.touch(feed)

    def lost(self, peer: int) -> None:
        """A connection is gone, and whoever followed over it."""
        for request in list(self._by_peer.get(peer, ())):
            self._leave(peer, request)
        self._by_peer.pop(peer, None)
        self._marks.pop(peer, None)

    def _leave(self, peer: int, request: int) -> None:
        found = self._by_peer.get(peer, {}).pop(request, None)
        if found is None:
            return
        feed, follower = found
        feed.followers.remove(follower)
        self._count -= 1
        self._feeds.touch(feed)  # whoever was held back by this one goes on
        if not feed.followers and feed.id not in self._state.jobs and feed.id not in self._state.outcomes:
            self._feeds.forget(feed.id)

    # -- workers ----------------------------------------------------------------------------------

    def items(self, worker: Worker, items: list[Told]) -> None:
        """What attempts have yielded. Under a stale lease it is nobody's."""
        for told in items:
            if not told.chunks:
                continue
            job = self._state.jobs.get(told.id)
            if job is None or job.state is not RUNNING or job.lease != told.lease:
                self._mark(worker.peer, told.lease, _end(told.chunks[-1]))
                continue
            feed = self._feeds.open("items", told.id)
            if feed.series != told.lease:
                self._feeds.begin(feed, told.lease, attempt_of(job))
            feed.teller = worker.session
            if told.chunks[0].first < feed.next:
                feed.took = 0  # said again: it does not know how far we are
            for chunk in told.chunks:
                self._feeds.add(feed, chunk)

    def logs(self, items: list[Told]) -> None:
        """What was logged inside attempts. The numbers are theirs; in the job's log there are others."""
        for told in items:
            if not self._is_of(told):
                continue
            feed = self._feeds.open("logs", told.id)
            if not feed.series:
                self._feeds.begin(feed, self._news.series, 0)
            for chunk in told.chunks:
                missing = max(chunk.first - feed.leases.get(told.lease, 1), 0)
                feed.leases[told.lease] = _end(chunk)
                self._feeds.add(feed, Chunk(feed.next + missing, chunk.count, chunk.data))
            while len(feed.leases) > limits.PAST_LEASES_MAX:
                del feed.leases[next(iter(feed.leases))]

    def _is_of(self, told: Told) -> bool:
        job = self._state.jobs.get(told.id)
        if job is not None:
            return job.had(told.lease)
        kept = self._state.outcomes.get(told.id)
        return kept is not None and kept.item.lease == told.lease

    def hold_is_over(self, job_id: bytes, now: Now) -> None:
        """A task has been held back for a while: whoever is that slow does not count any more."""
        feed = self._feeds.get("items", job_id)
        if feed is None:
            return
        feed.has_timer = False
        if not feed.held_ms:
            return
        over_ms = feed.held_ms + limits.STREAM_HOLD_MS
        if over_ms > now.boot_ms:  # it went on a little meanwhile
            self._set_timer(feed, over_ms)
            return
        for follower in feed.followers:
            follower.is_given_up = follower.is_given_up or follower.is_behind(feed)
        self._feeds.touch(feed)

    def is_streaming(self, job_id: bytes) -> bool:
        """Is there a stream of this job, which may be held back?"""
        return self._feeds.get("items", job_id) is not None

    def _set_timer(self, feed: Feed, boot_ms: int) -> None:
        feed.has_timer = True
        self._timers.after(boot_ms, "hold", feed.id)

    # -- at the end of a turn -----------------------------------------------------------------------

    def step(self, now: Now) -> None:
        """Tell followers what there is, and workers how far they may go on."""
        self._tell(now)
        self._feeds.trim()  # afterwards: who has room need not miss what goes
        self._tell(now)
        marks, self._marks = self._marks, {}
        for peer, items in marks.items():
            for at in range(0, len(items), limits.BATCH_MAX):
                self._out.say_at_once(peer, Took(items[at : at + limits.BATCH_MAX]))

    def _tell(self, now: Now) -> None:
        touched = self._feeds.touched
        self._feeds.touched = {}
        for feed in touched.values():
            for follower in list(feed.followers):
                self._feed(feed, follower)
            if feed.kind == "items" and feed.series:
                self._look(feed, now)

    def _feed(self, feed: Feed, follower: Follower) -> None:
        if feed.series and follower.series != feed.series:
            is_new = follower.series != 0
            follower.begin(feed)
            if is_new and not feed.chunks:
                self._say(feed, follower, [])  # what it has heard so far is void
        while feed.series and (part := follower.next_part(feed)):
            self._say(feed, follower, part)
        if follower.place < feed.end:
            return
        follower.is_given_up = False
        if (feed.is_over or not follower.live) and not follower.is_told_end:
            follower.is_told_end = True
            # After the commit: what has ended for somebody must not begin again.
            end = Fed(follower.request, feed.series, feed.attempt, [], feed.next, end=True)
            self._out.say(follower.peer, end)
            if not follower.live:
                self._leave(follower.peer, follower.request)

    def _say(self, feed: Feed, follower: Follower, chunks: list[Chunk]) -> None:
        follower.is_told_end = False  # a dead job that runs again has another end
        fed = Fed(follower.request, feed.series, feed.attempt, chunks, follower.sent)
        if feed.kind == "events":
            self._out.say(follower.peer, fed)  # states: never before the disk holds them
        else:
            self._out.say_at_once(follower.peer, fed)

    def _look(self, feed: Feed, now: Now) -> None:
        """How far may the attempt go on?"""
        slow = [each.sent for each in feed.followers if each.is_behind(feed) and not each.is_given_up]
        if feed.is_over:
            slow = []  # whoever still runs it was told to stop, and need not wait for that
        number = min(slow, default=feed.next)
        if number > feed.took:
            feed.took = number
            feed.held_ms = 0
            self._tell_worker(feed, number)
        if not slow:
            feed.held_ms = 0
        elif not feed.held_ms:
            feed.held_ms = max(now.boot_ms, 1)
            if not feed.has_timer:
                self._set_timer(feed, feed.held_ms + limits.STREAM_HOLD_MS)

    def _tell_worker(self, feed: Feed, number: int) -> None:
        worker = self._roster.workers.get(feed.teller)
        if worker is not None and worker.peer:
            self._mark(worker.peer, feed.series, number)

    def _mark(self, peer: int, lease: int, number: int) -> None:
        self._marks.setdefault(peer, []).append(Mark(lease, number))


def _end(chunk: Chunk) -> int:
    return chunk.first + chunk.count
