"""What the attempts of a worker yield and log, until the broker has taken it. Pure: waits for nothing.

Of a stream everything is kept and said again after a reconnect until it is taken; log lines are said once.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import msgpack

from taskq import limits
from taskq.protocol.messages import Chunk, Items, LogItem, Logs, Mark, Message, Told

_pack: Final = msgpack.Encoder().encode


class Stream:
    """What one attempt yields, numbered from 1. `put` may be called in another thread than the rest."""

    __slots__ = (
        "_fresh",
        "_next",
        "_taken",
        "_taken_bytes",
        "_unsaid",
        "_untaken",
        "_weights",
        "bytes",
        "count",
        "id",
        "is_over",
        "lease",
        "on_room",
    )

    def __init__(self, id: bytes, lease: int) -> None:
        self.id = id
        self.lease = lease
        self.count = 0  # yielded, in all
        self.bytes = 0
        self.is_over = False  # nobody wants more: its attempt is reported
        self.on_room: Callable[[], None] = _nobody_waits
        self._fresh: deque[bytes] = deque()  # in no chunk yet
        self._next = 1  # the number that the next chunk begins with
        self._unsaid: deque[Chunk] = deque()
        self._untaken: deque[Chunk] = deque()  # said, and to be said again until they are taken
        # Entries and bytes that the broker has, or that were given up.
        self._taken = 0
        self._taken_bytes = 0
        self._weights: deque[int] = deque()  # of the items in each chunk that is not taken

    def put(self, item: bytes) -> bool:
        """One more. True: it is the first that waits to be said, and somebody should say so."""
        self.bytes += len(item)
        self.count += 1
        self._fresh.append(item)
        return len(self._fresh) == 1

    @property
    def has_room(self) -> bool:
        """May the attempt go on? Else the broker has to take something first."""
        return (
            self.count - self._taken < limits.STREAM_AHEAD_ENTRIES
            and self.bytes - self._taken_bytes < limits.STREAM_AHEAD_BYTES
        )

    @property
    def is_taken(self) -> bool:
        """Everything."""
        return self._taken >= self.count

    def take(self, number: int) -> None:
        """The broker has all entries before this one."""
        for part in (self._untaken, self._unsaid):
            while part and part[0].first + part[0].count <= number:
                self._drop(part.popleft())
        if self.has_room:
            self.on_room()

    def give_up(self) -> None:
        """The broker has taken nothing for far too long: the oldest half will never be said."""
        self.pack()
        chunks = [*self._untaken, *self._unsaid]
        half = len(chunks) // 2 + 1
        if chunks:
            last = chunks[min(half, len(chunks)) - 1]
            self.take(last.first + last.count)

    def say_again(self) -> None:
        """Over a new connection."""
        self._unsaid = self._untaken + self._unsaid
        self._untaken = deque()

    def cut(self) -> list[Chunk]:
        """What is to be said now."""
        self.pack()
        said = list(self._unsaid)
        self._untaken += self._unsaid
        self._unsaid = deque()
        return said

    def pack(self) -> None:
        """Put what is fresh into chunks."""
        fresh = self._fresh
        while fresh:
            items: list[bytes] = []
            size = 0
            while fresh and len(items) < limits.CHUNK_ENTRIES and size < limits.CHUNK_BYTES:
                item = fresh.popleft()
                items.append(item)
                size += len(item)
            self._unsaid.append(Chunk(self._next, len(items), _pack(items)))
            self._weights.append(size)
            self._next += len(items)

    def _drop(self, chunk: Chunk) -> None:
        self._taken += chunk.count
        self._taken_bytes += self._weights.popleft()


class Lines:
    """What one attempt logs, until it is said."""

    __slots__ = ("id", "items", "next")

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.items: deque[LogItem] = deque()
        self.next = 1  # the number of the first of them

    def put(self, item: LogItem) -> None:
        self.items.append(item)
        if len(self.items) > limits.LOG_LINES_AHEAD:
            self.drop_oldest()

    def drop_oldest(self) -> LogItem:
        """The numbers tell that it is missing."""
        self.next += 1
        return self.items.popleft()

    def cut(self) -> list[Chunk]:
        """What is to be said now."""
        chunks: list[Chunk] = []
        while self.items:
            part = [self.items.popleft() for _ in range(min(len(self.items), limits.CHUNK_ENTRIES))]
            chunks.append(Chunk(self.next, len(part), _pack(part)))
            self.next += len(part)
        return chunks


class Outflow:
    """All streams of a worker, and log lines that are due."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self._due: dict[int, Stream] = {}  # those of them with something to say
        self._logs: list[Told] = []

    def __bool__(self) -> bool:
        """Is there anything at all? Mostly not."""
        return bool(self.streams or self._logs)

    def is_due(self, stream: Stream) -> None:
        """It has something to say."""
        self._due[stream.lease] = stream

    def open(self, id: bytes, lease: int) -> Stream:
        """The stream of an attempt."""
        stream = self.streams.get(lease)
        if stream is None:
            stream = self.streams[lease] = Stream(id, lease)
        return stream

    def log(self, told: Told) -> None:
        """These lines are to be said now."""
        self._logs.append(told)

    def on_took(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            stream = self.streams.get(mark.series)
            if stream is not None:
                stream.take(mark.number)
                if stream.is_over and stream.is_taken:
                    del self.streams[mark.series]

    def recorded(self, lease: int) -> None:
        """The broker has the attempt's report: it wants no more of it."""
        self.streams.pop(lease, None)

    def on_welcome(self) -> None:
        for stream in list(self.streams.values()):  # a thread may open another one meanwhile
            stream.say_again()
        self._due = dict(self.streams)

    def outgoing(self) -> list[Message]:
        """In messages of about the size that frames should have."""
        said: list[Message] = []
        told: list[Told] = []
        size = 0
        due, self._due = self._due, {}
        for stream in due.values():
            for part in _parts(stream.cut()):
                told.append(Told(stream.id, stream.lease, part))
                size += sum(len(chunk.data) for chunk in part)
                if size > limits.BATCH_BYTES_TARGET or len(told) >= limits.BATCH_MAX:
                    said.append(Items(told))
                    told, size = [], 0
        if told:
            said.append(Items(told))
        if self._logs:
            said += [Logs(part) for part in _log_parts(self._logs)]
            self._logs = []
        return said


def _parts(chunks: list[Chunk]) -> Iterable[list[Chunk]]:
    """Of so many bytes that a message with one of them stays far below a frame's bound."""
    part: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if part and size + len(chunk.data) > limits.BATCH_BYTES_TARGET:
            yield part
            part, size = [], 0
        part.append(chunk)
        size += len(chunk.data)
    if part:
        yield part


def _log_parts(logs: list[Told]) -> Iterable[list[Told]]:
    part: list[Told] = []
    size = 0
    for told in logs:
        weight = sum(len(chunk.data) for chunk in told.chunks)
        if part and (size + weight > limits.BATCH_BYTES_TARGET or len(part) >= limits.BATCH_MAX):
            yield part
            part, size = [], 0
        part.append(told)
        size += weight
    if part:
        yield part


def _nobody_waits() -> None:
    """Stands in until an attempt waits for room."""
