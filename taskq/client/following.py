"""One feed of one job as it arrives: what is new, what was missed, what began anew. Pure."""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from taskq.errors import Refused
from taskq.protocol.messages import Chunk, Fed, FeedKind, Follow, Mark


class Restarted(Struct, frozen=True):
    """The job was tried again, and streams from its beginning: what came before this is void."""

    attempt: int


class Missed(Struct, frozen=True):
    """So many items, events or lines are gone that should stand here: this consumer came late, or was too
    slow. None: nobody knows how many, if any; the broker was restarted."""

    count: int | None


class Following:
    """What one consumer has heard of a feed. The session says what `question` and `mark` return."""

    def __init__(self, id: bytes, kind: FeedKind, *, live: bool = True) -> None:
        self.id = id
        self.kind: FeedKind = kind
        self.live = live
        self.request = 0
        self.series = 0
        self.next = 1  # the entry that is to arrive next
        self.taken = 1  # the one that the consumer takes next
        self.is_ended = False  # the broker has nothing more
        self.refused: Refused | None = None
        self.on_news: Callable[[], None] = _nobody_waits
        self._arrived: deque[tuple[int, Chunk | Restarted | Missed]] = deque()  # with the series
        self._at = 0  # the series of what was taken last
        self._is_marked = False

    # -- the session ------------------------------------------------------------------------------

    def question(self) -> Follow:
        """What to ask, for the first time or over a new connection."""
        self.is_ended = False
        self._is_marked = False
        return Follow(self.request, self.id, self.kind, self.series, self.next, self.taken, self.live)

    def on_fed(self, fed: Fed) -> None:
        if fed.series != self.series:
            self._begin(fed)
        for chunk in fed.chunks:
            self._miss(chunk.first)
            if chunk.first == self.next:
                self._put(chunk)
                self.next += chunk.count
            # Else it was said before: who asks for it again asks from its beginning.
        self._miss(fed.position)
        self.is_ended = fed.end
        self.on_news()

    def on_refused(self, refused: Refused) -> None:
        self.refused = refused
        self.is_ended = True
        self.on_news()

    def mark(self) -> Mark:
        """How far the consumer has come."""
        self._is_marked = False
        return Mark(self.series, self.taken, self.request)

    def _begin(self, fed: Fed) -> None:
        was = self.series
        self.series = fed.series
        self.next = self.taken = 1
        if self.kind != "items":
            if was:
                self._put(Missed(None))
        elif fed.attempt > 1 or was:
            self._arrived.clear()  # void
            self._put(Restarted(fed.attempt))

    def _miss(self, number: int) -> None:
        """All before this entry has arrived, or will not."""
        if number > self.next:
            self._put(Missed(number - self.next))
            self.next = number

    def _put(self, entry: Chunk | Restarted | Missed) -> None:
        self._arrived.append((self.series, entry))

    # -- the consumer -----------------------------------------------------------------------------

    def take(self) -> Chunk | Restarted | Missed | None:
        """What comes next; None when all that has arrived was taken."""
        if not self._arrived:
            return None
        self._at, entry = self._arrived.popleft()
        return entry

    def took(self, chunk: Chunk) -> bool:
        """The consumer is done with what it took last. True: the session should say so."""
        if self._at != self.series:
            return False
        self.taken = max(self.taken, chunk.first + chunk.count)
        is_news = not self._is_marked
        self._is_marked = True
        return is_news

    @property
    def has_more(self) -> bool:
        return bool(self._arrived)


def _nobody_waits() -> None:
    """Stands in until a consumer waits."""
