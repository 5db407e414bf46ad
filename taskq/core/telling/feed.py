"""One feed of one job: numbered entries in chunks, of which the oldest go, and those who follow it."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from msgspec import Struct

from taskq import limits
from taskq.protocol.messages import Chunk, FeedKind


class FeedBounds(Struct, frozen=True):
    """What one feed may keep."""

    entries: int
    bytes: int


BOUNDS: dict[FeedKind, FeedBounds] = {
    "items": FeedBounds(limits.STREAM_ENTRIES_MAX, limits.STREAM_BYTES_MAX),
    "events": FeedBounds(limits.EVENT_ENTRIES_MAX, limits.EVENT_BYTES_MAX),
    "logs": FeedBounds(limits.LOG_ENTRIES_MAX, limits.LOG_BYTES_MAX),
}


def chunk_bytes(chunk: Chunk) -> int:
    """What it costs to keep."""
    return len(chunk.data) + limits.CHUNK_OVERHEAD_BYTES


class Feed:
    """Entries are numbered from 1 in each series; a new series begins anew, and forgets the one before.

    Of the items of a stream, a series is an attempt, by its lease; of the rest it is the broker's life.
    What is missing shows in the numbers.
    """

    __slots__ = (
        "attempt",
        "bytes",
        "chunks",
        "entries",
        "followers",
        "gone",
        "has_timer",
        "held_ms",
        "id",
        "is_over",
        "kind",
        "leases",
        "next",
        "series",
        "teller",
        "took",
    )

    def __init__(self, id: bytes, kind: FeedKind, series: int = 0, attempt: int = 0) -> None:
        self.id = id
        self.kind: FeedKind = kind
        self.series = series
        self.attempt = attempt
        self.next = 1  # the number of the entry that comes next
        self.chunks: deque[Chunk] = deque()
        self.gone = 0  # chunks that were here and are not: tells those that are apart by their places
        self.entries = 0
        self.bytes = 0
        self.is_over = False  # nothing more comes, unless a new series begins
        self.followers: list[Follower] = []
        self.teller = b""  # of items: the session of the worker that said them
        self.took = 0  # of items: what the worker was last told that we have taken
        self.held_ms = 0  # boot: since when it was not told more, for somebody is slow; 0: nobody is
        self.has_timer = False  # which will look whether that takes too long
        self.leases: dict[int, int] = {}  # of log lines: the number that an attempt's next line has

    def begin(self, series: int, attempt: int) -> int:
        """A new series: nothing of the one before matters any more. Returns the bytes that became free."""
        freed = self.bytes
        self.gone += len(self.chunks)
        self.chunks.clear()
        self.series, self.attempt, self.next = series, attempt, 1
        self.entries = self.bytes = self.took = self.held_ms = 0
        self.is_over = False
        return freed

    def add(self, chunk: Chunk) -> int:
        """Put it at the end, and let the oldest go. Returns by how many bytes it has grown.

        A chunk that was said before adds nothing. One that begins beyond `next` leaves a gap.
        """
        before = self.bytes
        if chunk.first < self.next:
            # Senders say a chunk again as it was; one that overlaps is a stranger's, and cannot be cut.
            self.next = max(self.next, chunk.first + chunk.count)
            return 0
        self.next = chunk.first + chunk.count
        self.chunks.append(chunk)
        self.entries += chunk.count
        self.bytes += chunk_bytes(chunk)
        bounds = BOUNDS[self.kind]
        while self.chunks and (self.entries > bounds.entries or self.bytes > bounds.bytes):
            self.drop_oldest()
        return self.bytes - before

    def drop_oldest(self) -> int:
        """Returns the bytes that became free."""
        chunk = self.chunks.popleft()
        freed = chunk_bytes(chunk)
        self.gone += 1
        self.entries -= chunk.count
        self.bytes -= freed
        return freed

    def place_of(self, number: int) -> int:
        """The place of the first chunk with entries from `number` on."""
        for at, chunk in enumerate(self.chunks):
            if chunk.first + chunk.count > number:
                return self.gone + at
        return self.gone + len(self.chunks)

    def number_at(self, place: int) -> int:
        """What begins at this place, or will: all entries before it have another place, or are gone."""
        at = place - self.gone
        return self.chunks[at].first if at < len(self.chunks) else self.next

    def after(self, place: int) -> Iterator[Chunk]:
        """The chunks from this place on, as far as they are still here."""
        return islice(self.chunks, max(place - self.gone, 0), None)

    @property
    def end(self) -> int:
        """The place of the chunk that comes next."""
        return self.gone + len(self.chunks)


class Follower:
    """One who follows a feed: what it was sent, and what of that it has not taken yet."""

    __slots__ = (
        "flight",
        "flight_bytes",
        "flight_entries",
        "is_given_up",
        "is_told_end",
        "live",
        "peer",
        "place",
        "request",
        "sent",
        "series",
    )

    def __init__(self, peer: int, request: int, *, series: int, number: int, taken: int, live: bool) -> None:
        self.peer = peer
        self.request = request
        self.live = live
        self.series = series
        self.place = 0  # of the chunk that it is sent next
        self.sent = number  # all entries before this one were sent, or are gone
        # What was sent and not taken: its end, entries, bytes.
        self.flight: deque[tuple[int, int, int]] = deque()
        self.flight_entries = self.flight_bytes = 0
        if taken < number:  # over an earlier connection
            self.flight.append((number, number - taken, 0))
            self.flight_entries = number - taken
        self.is_given_up = False  # it was too slow, and counts again when it has caught up
        self.is_told_end = False

    @property
    def has_room(self) -> bool:
        return self.flight_entries < limits.FOLLOW_ENTRIES_MAX and self.flight_bytes < limits.FOLLOW_BYTES_MAX

    def is_behind(self, feed: Feed) -> bool:
        """There is more than it has room for."""
        return self.place < feed.end and not self.has_room

    def begin(self, feed: Feed) -> None:
        """It follows this feed from where it has come to: or from the beginning, when that is another."""
        if self.series != feed.series:
            self.series = feed.series
            self.sent = 1
            self.flight.clear()
            self.flight_entries = self.flight_bytes = 0
            self.is_given_up = False
        self.is_told_end = False
        self.place = feed.place_of(self.sent)

    def take(self, number: int) -> None:
        """It has taken all entries before this one."""
        flight = self.flight
        while flight and flight[0][0] <= number:
            _, entries, size = flight.popleft()
            self.flight_entries -= entries
            self.flight_bytes -= size

    def next_part(self, feed: Feed) -> list[Chunk]:
        """What to send it now, as far as it has room, and no more than fits into one message."""
        part: list[Chunk] = []
        size = passed = 0
        for chunk in feed.after(self.place):
            if not self.has_room or size > limits.BATCH_BYTES_TARGET or len(part) >= limits.BATCH_MAX:
                break
            passed += 1
            if chunk.first + chunk.count <= self.sent:
                continue  # a new broker hears again what this one has heard from the old one
            part.append(chunk)
            size += len(chunk.data)
            self.flight.append((chunk.first + chunk.count, chunk.count, len(chunk.data)))
            self.flight_entries += chunk.count
            self.flight_bytes += len(chunk.data)
        self.place = max(self.place, feed.gone) + passed
        self.sent = max(self.sent, feed.number_at(self.place))
        return part
