"""The process that holds the SQLite file: requests in and replies out over standard input, a socket.

Run by its path, not as a module: importing the `taskq` package would bring the client and asyncio,
of which this process needs nothing. It ends when the other end of the socket closes, after doing
all that it was asked, and so takes the lock with it whenever its broker dies.
"""

import os
import select
import signal
import socket
import sys
from collections import deque
from enum import IntEnum
from pathlib import Path
from struct import Struct
from types import ModuleType
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":
    package = ModuleType("taskq")
    package.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["taskq"] = package

from taskq.errors import JournalError, JournalFull, TaskqError

if TYPE_CHECKING:
    from taskq.journal.sqlite import SqliteLog


class Ask(IntEnum):
    APPEND = 1  # value: seq, extra: durability, body: the blob
    READ = 2  # value: the last seq that was read
    TRIM = 3  # value: before_seq
    CLOSE = 4


class Answer(IntEnum):
    DONE = 1
    ERROR = 2  # body: the error's class name, a line feed, its text


# kind, number, value, extra, length of the body
REQUEST: Final = Struct("<BIQBI")
# kind, number of the request, last_seq, size_bytes, length of the body
REPLY: Final = Struct("<BIQQI")
# The first reply (number 0) tells that the file is open: epoch, cluster
OPENED: Final = Struct("<Q16s")
# A batch in the reply to READ: seq, length of the blob that follows
BATCH: Final = Struct("<QI")

RECEIVE_BYTES: Final = 256 * 1024
# After this long without a request the WAL is copied into the main file.
IDLE_MS: Final = 1_000


class Channel:
    """The child's end of the socket: whole requests in, whole replies out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._buffer = bytearray()

    def is_waiting(self, timeout_ms: int | None) -> bool:
        """Whether there is something to receive, or the end of it."""
        return bool(self._buffer) or bool(self._poll.poll(timeout_ms))

    def receive(self) -> tuple[int, int, int, int, bytearray] | None:
        """The next request: kind, number, value, extra, body. None: the broker is gone."""
        if not self._fill(REQUEST.size):
            return None
        kind, number, value, extra, length = REQUEST.unpack_from(self._buffer)
        del self._buffer[: REQUEST.size]
        body = self._take(length)
        return None if body is None else (kind, number, value, extra, body)

    def send(self, kind: Answer, number: int, log: "SqliteLog | None", body: bytes = b"") -> None:
        last_seq, size_bytes = (log.last_seq, log.size_bytes) if log else (0, 0)
        data = REPLY.pack(kind, number, last_seq, size_bytes, len(body)) + body
        try:
            self._sock.sendall(data)
        except ConnectionError:
            # Nobody is left to hear it; what was asked before is done all the same.
            return

    def send_error(self, number: int, log: "SqliteLog | None", error: TaskqError) -> None:
        self.send(Answer.ERROR, number, log, f"{type(error).__name__}\n{error}".encode())

    def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = self._receive()
            if not data:
                return False
            self._buffer += data
        return True

    def _take(self, size: int) -> bytearray | None:
        body = self._buffer[:size]
        del self._buffer[:size]
        have = len(body)
        if have == size:
            return body
        # A large body goes where it will stay.
        body.extend(bytes(size - have))
        rest = memoryview(body)
        while have < size:
            received = self._receive_into(rest[have:])
            if not received:
                return None
            have += received
        return body

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(RECEIVE_BYTES)
        except ConnectionError:
            return b""

    def _receive_into(self, view: memoryview) -> int:
        try:
            return self._sock.recv_into(view)
        except ConnectionError:
            return 0


class Keeper:
    """Does what is asked; trims, gives space back and checkpoints between the requests."""

    def __init__(self, channel: Channel, log: "SqliteLog") -> None:
        self._channel = channel
        self._log = log
        self._trims: deque[tuple[int, int]] = deque()
        # The last owner may have been closed before it was done.
        self._gives_back = True
        self._is_full = False

    def run(self) -> None:
        while True:
            if not self._channel.is_waiting(self._patience_ms()):
                self._tidy(idle=True)
                continue
            request = self._channel.receive()
            if request is None or request[0] == Ask.CLOSE:
                break
            self._serve(*request)
            # One slice after each request, so that a busy journal is trimmed as well.
            self._tidy(idle=False)
        for number, _ in self._trims:
            self._channel.send(Answer.DONE, number, self._log)
        if request is not None:
            self._log.close()
            self._channel.send(Answer.DONE, request[1], self._log)

    def _patience_ms(self) -> int | None:
        if self._log.failed is not None:
            return None
        if self._trims or self._gives_back:
            return 0
        return IDLE_MS if self._log.wal_bytes else None

    def _serve(self, kind: int, number: int, value: int, extra: int, body: bytearray) -> None:
        answer = b""
        try:
            match kind:
                case Ask.APPEND:
                    self._append(value, body, extra)
                case Ask.READ:
                    answer = self._read(value)
                case Ask.TRIM:
                    self._trims.append((number, value))
                    return
                case _:
                    raise AssertionError(f"request of kind {kind}")
        except JournalError as error:
            self._channel.send_error(number, self._log, error)
        else:
            self._channel.send(Answer.DONE, number, self._log, answer)

    def _append(self, seq: int, body: bytearray, durability: int) -> None:
        if self._is_full and seq > self._log.last_seq + 1:
            # Sent before the refusal of an earlier one was heard.
            raise JournalFull(f"batch {seq} follows one for which the journal had no room")
        try:
            self._log.append(seq, body, durability)
        except JournalFull:
            self._is_full = True
            raise
        self._is_full = False

    def _read(self, after_seq: int) -> bytes:
        parts: list[bytes] = []
        for seq, blob in self._log.read_slice(after_seq):
            parts.append(BATCH.pack(seq, len(blob)))
            parts.append(blob)
        return b"".join(parts)

    def _tidy(self, *, idle: bool) -> None:
        try:
            if self._trims:
                self._trim()
            elif self._gives_back:
                self._gives_back = self._log.give_back_slice()
            elif idle:
                self._log.checkpoint()
            self._log.checkpoint_when_large()
        except JournalError as error:
            self._gives_back = False
            while self._trims:
                self._channel.send_error(self._trims.popleft()[0], self._log, error)

    def _trim(self) -> None:
        number, before_seq = self._trims[0]
        if self._log.trim_slice(before_seq):
            return
        self._trims.popleft()
        self._gives_back = True
        self._channel.send(Answer.DONE, number, self._log)


def main() -> None:
    # A signal to the whole group means the broker, which still has batches to commit when it comes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from taskq.journal.sqlite import SqliteLog

    path, lock_wait_ms = sys.argv[1:]
    channel = Channel(socket.socket(fileno=0))
    try:
        log = SqliteLog(Path(path), lock_wait_ms=int(lock_wait_ms))
    except TaskqError as error:
        channel.send_error(0, None, error)
        return
    channel.send(Answer.DONE, 0, log, OPENED.pack(log.epoch, log.cluster))
    Keeper(channel, log).run()
    if log.failed is None:
        log.close()
    # Straight out: closing a file that has failed would sync it once more.
    os._exit(0)


if __name__ == "__main__":
    main()
