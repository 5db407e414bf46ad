"""All feeds of all jobs, within a budget of bytes: what was written to longest ago goes first."""

from collections.abc import Iterator

from taskq import limits
from taskq.core.telling.feed import Feed
from taskq.protocol.messages import Chunk, FeedKind

Key = tuple[FeedKind, bytes]
KINDS: tuple[FeedKind, ...] = ("items", "events", "logs")


class Feeds:
    """`touched` are those of which somebody may have to hear."""

    def __init__(self, budget_bytes: int = 0) -> None:
        """`budget_bytes`: the broker's, for everything; 0: it has none."""
        share = budget_bytes // limits.FEEDS_SHARE if budget_bytes else limits.FEEDS_BYTES_MAX
        self.bytes_max = min(share, limits.FEEDS_BYTES_MAX)
        self.bytes = 0
        self.touched: dict[Key, Feed] = {}
        self._feeds: dict[Key, Feed] = {}  # what was written to longest ago is first

    def __len__(self) -> int:
        return len(self._feeds)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds.values())

    def get(self, kind: FeedKind, job_id: bytes) -> Feed | None:
        return self._feeds.get((kind, job_id))

    def open(self, kind: FeedKind, job_id: bytes) -> Feed:
        """The feed; an empty one without a series, if there is none."""
        feed = self._feeds.get((kind, job_id))
        if feed is None:
            feed = self._feeds[kind, job_id] = Feed(job_id, kind)
            self.bytes += limits.FEED_OVERHEAD_BYTES
        return feed

    def begin(self, feed: Feed, series: int, attempt: int) -> None:
        """A new series of this feed."""
        self.bytes -= feed.begin(series, attempt)
        self.touch(feed)

    def add(self, feed: Feed, chunk: Chunk) -> None:
        key = (feed.kind, feed.id)
        self._feeds[key] = self._feeds.pop(key)  # to the end
        self.bytes += feed.add(chunk)
        self.touched[key] = feed

    def touch(self, feed: Feed) -> None:
        self.touched[feed.kind, feed.id] = feed

    def trim(self) -> None:
        """Stay within the budget. What somebody follows stays known, if empty."""
        for _ in range(len(self._feeds)):
            if self.bytes <= self.bytes_max:
                return
            key = next(iter(self._feeds))
            feed = self._feeds.pop(key)
            while feed.chunks and self.bytes > self.bytes_max:
                self.bytes -= feed.drop_oldest()
            if feed.chunks or feed.followers:
                self._feeds[key] = feed
                self.touched[key] = feed
            else:
                self._remove(feed)

    def forget(self, job_id: bytes) -> None:
        """Nothing is known of this job any more. Who follows it is still told the rest."""
        for kind in KINDS:
            feed = self._feeds.get((kind, job_id))
            if feed is not None and not feed.followers:
                del self._feeds[kind, job_id]
                self._remove(feed)

    def _remove(self, feed: Feed) -> None:
        self.bytes -= feed.bytes + limits.FEED_OVERHEAD_BYTES
        self.touched.pop((feed.kind, feed.id), None)
