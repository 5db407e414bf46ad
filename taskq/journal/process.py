"""The SQLite journal in a child process of its own: an append costs the event loop one write and one read.

In a thread of a busy broker a commit takes 5 to 16 ms instead of 0.3, because every blocking call
has to win the GIL back. If the child dies, everything pending fails with JournalFailed.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, cast

from taskq.errors import (
    ConfigError,
    JournalCorrupt,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    TaskqError,
)
from taskq.journal import child
from taskq.journal.child import BATCH, OPENED, REPLY, REQUEST, Answer, Ask
from taskq.journal.inline import disk_free_bytes

# Up to here joining header and blob is cheaper than a second write.
JOIN_BYTES_MAX: Final = 256 * 1024
# Closing copies at most one full WAL into the main file.
CLOSE_WAIT_S: Final = 30.0
KILL_WAIT_S: Final = 5.0
# What the child may answer with.
ERRORS: Final[dict[str, type[TaskqError]]] = {
    error.__name__: error
    for error in (ConfigError, JournalError, JournalCorrupt, JournalFailed, JournalFull, JournalLocked)
}


class ProcessJournal:
    """A Journal whose SqliteLog lives in a child process; made by `open_journal`."""

    def __init__(self, pipe: "_Pipe", path: Path, url: str, opened: bytes) -> None:
        self._pipe = pipe
        self._path = path
        self.url = url
        self.epoch: int
        self.cluster: bytes
        self.epoch, self.cluster = OPENED.unpack(opened)
        self._file = _identity(path)

    @classmethod
    async def open(cls, path: Path, *, url: str, lock_wait_ms: int) -> "ProcessJournal":
        pipe = await _Pipe.start(path, lock_wait_ms)
        try:
            opened = await pipe.opened
        except BaseException:
            await pipe.end()
            raise
        return cls(pipe, path, url, opened)

    @property
    def pid(self) -> int:
        """The child process."""
        return self._pipe.process.pid

    @property
    def last_seq(self) -> int:
        return self._pipe.last_seq

    @property
    def size_bytes(self) -> int:
        return self._pipe.size_bytes

    def free_bytes(self) -> int | None:
        return disk_free_bytes(self._path)

    async def acquire(self) -> int:
        return self.epoch

    async def renew(self) -> bool:
        # A file that was deleted can still be written to, and would be gone with the process.
        return self._pipe.failed is None and _identity(self._path) == self._file

    async def release(self) -> None:
        pass

    def append(self, seq: int, blob: bytes, durability: int) -> "asyncio.Future[bytes]":
        return self._pipe.ask(Ask.APPEND, seq, durability, blob)

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        ahead = self._pipe.ask(Ask.READ, 0)
        try:
            while batches := _batches(await ahead):
                # The child reads and checks the next slice while this one is used.
                ahead = self._pipe.ask(Ask.READ, batches[-1][0])
                for batch in batches:
                    yield batch
        finally:
            ahead.cancel()

    async def trim(self, before_seq: int) -> None:
        await self._pipe.ask(Ask.TRIM, before_seq)

    async def close(self) -> None:
        await self._pipe.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is at this path; None: none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Pipe(asyncio.Protocol):
    """The broker's end of the socket, and the process at the other end."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process = process
        self.failed: JournalFailed | None = None
        self.last_seq = 0
        self.size_bytes = 0
        self._path = path
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[bytes]] = {0: self.opened}
        self._number = 0
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._burial: asyncio.Task[None] | None = None
        self._buried = asyncio.Event()

    @classmethod
    async def start(cls, path: Path, lock_wait_ms: int) -> "_Pipe":
        ours, theirs = socket.socketpair()
        with theirs:
            # Its own session, so that Ctrl-C in a terminal reaches the broker alone. No site, no
            # environment: it needs the standard library only, and is up in a few milliseconds.
            process = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond, once
                [sys.executable, "-I", "-S", child.__file__, str(path), str(lock_wait_ms)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        pipe = cls(process, path)
        try:
            ours.setblocking(False)
            await pipe._loop.create_unix_connection(lambda: pipe, sock=ours)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        return pipe

    def ask(self, kind: Ask, value: int = 0, extra: int = 0, body: bytes = b"") -> asyncio.Future[bytes]:
        if self.failed is not None:
            raise self.failed
        # Number 0 is the child's word that the file is open.
        self._number = self._number % 0xFFFFFFFF + 1
        answer = self._waiting[self._number] = self._loop.create_future()
        header = REQUEST.pack(kind, self._number, value, extra, len(body))
        if len(body) <= JOIN_BYTES_MAX:
            self._transport.write(header + body)
        else:
            self._transport.write(header)
            self._transport.write(body)
        return answer

    async def close(self) -> None:
        """Let the child finish what it has and close the file; then wait for its end."""
        if self.failed is None:
            done = self.ask(Ask.CLOSE)
            self.failed = JournalFailed(f"the journal {self._path} is closed")
            with contextlib.suppress(TaskqError, TimeoutError):
                async with asyncio.timeout(CLOSE_WAIT_S):
                    await done
        await self.end()

    async def end(self) -> None:
        """End the child, whatever it is doing, and wait until it is gone."""
        self._transport.abort()
        await self._buried.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= REPLY.size:
            kind, number, last_seq, size_bytes, length = REPLY.unpack_from(buffer)
            end = REPLY.size + length
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[REPLY.size : end])
            del buffer[:end]
            self.last_seq, self.size_bytes = last_seq, size_bytes
            self._settle(kind, number, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._burial = self._loop.create_task(self._bury())

    def _settle(self, kind: int, number: int, body: bytes) -> None:
        answer = self._waiting.pop(number)
        error = None if kind == Answer.DONE else _error(body)
        if isinstance(error, JournalFailed):
            self.failed = self.failed or error
        if answer.done():  # nobody waits for it any more
            return
        if error is None:
            answer.set_result(body)
        else:
            answer.set_exception(error)

    async def _bury(self) -> None:
        # Without its socket it has nothing left to do; if it is on its way out, this changes nothing.
        self.process.kill()
        # Only a disk that does not answer keeps a killed process; then the system has to bury it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, KILL_WAIT_S)
        self.failed = self.failed or JournalFailed(
            f"the process that writes the journal {self._path} (pid {self.process.pid}) ended: "
            f"{_ending(self.process.returncode)}"
        )
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self.failed)
        self._waiting.clear()
        self._buried.set()


def _batches(body: bytes) -> list[tuple[int, bytes]]:
    batches: list[tuple[int, bytes]] = []
    start = 0
    while start < len(body):
        seq, length = BATCH.unpack_from(body, start)
        start += BATCH.size
        batches.append((seq, body[start : start + length]))
        start += length
    return batches


def _error(body: bytes) -> TaskqError:
    name, _, text = body.decode().partition("\n")
    return ERRORS[name](text)


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return "killed, and not gone yet"
    return signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"
