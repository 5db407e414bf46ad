"""What has arrived and is not decided yet: peers take turns, so that nobody waits behind another's flood."""

from collections import deque
from typing import Protocol

from taskq import limits
from taskq.core.broker import Event


class Source(Protocol):
    """A peer's connection, as far as it can be held up."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Inbox:
    """What one peer said stays in order. Who says more than is decided is not read for a while."""

    def __init__(self) -> None:
        self._lines: dict[Source, deque[tuple[list[Event], int]]] = {}  # in the order of their turns
        self._waiting: dict[Source, int] = {}  # bytes
        self._bytes = 0
        self._paused: dict[Source, None] = {}

    def __len__(self) -> int:
        """Of how many peers there is something."""
        return len(self._lines)

    def post(self, events: list[Event], size: int, peer: Source) -> None:
        line = self._lines.get(peer)
        if line is None:
            line = self._lines[peer] = deque()
        line.append((events, size))
        self._bytes += size
        waiting = self._waiting[peer] = self._waiting.get(peer, 0) + size
        if waiting > limits.PEER_INBOX_BYTES_MAX or self._bytes > limits.INBOX_BYTES_MAX:
            peer.pause_reading()
            self._paused[peer] = None

    def take(self, bytes_max: int) -> tuple[list[Event], int]:
        """As much as one turn decides, one piece of each peer in turn; and its size."""
        lines = self._lines
        events: list[Event] = []
        size = 0
        while lines and size < bytes_max:
            peer = next(iter(lines))
            line = lines.pop(peer)
            more, more_bytes = line.popleft()
            if more_bytes > bytes_max - size and len(more) > 1:
                # What came in one read may be many messages: the rest another time.
                part = max(len(more) * (bytes_max - size) // more_bytes, 1)
                part_bytes = more_bytes * part // len(more)
                line.appendleft((more[part:], more_bytes - part_bytes))
                more, more_bytes = more[:part], part_bytes
            events += more
            size += more_bytes
            if line:
                lines[peer] = line  # behind the others
                self._waiting[peer] -= more_bytes
            else:
                self._is_heard_out(peer)
        self._bytes -= size
        return events, size

    def _is_heard_out(self, peer: Source) -> None:
        del self._waiting[peer]
        if peer in self._paused:
            del self._paused[peer]
            peer.resume_reading()

    def forget_pauses(self) -> None:
        """Nobody is read any more."""
        self._paused.clear()
