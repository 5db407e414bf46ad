"""One process that runs jobs, as its worker sees it: the pipe to it, and its end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from threading import Thread
from typing import Final

from taskq.worker.attempts import Attempt
from taskq.worker.executors.pipe import Frames, FromProcess, ToProcess, framed, from_process
from taskq.worker.tree.vitals import Vitals

_READ_BYTES: Final = 256 * 1024
_MODULE: Final = "taskq.worker.executors.job_main"


class JobProcess:
    """Started when it is made. `on_word` hears what it says, `on_exit` how it ended; both on the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_word: Callable[["JobProcess", FromProcess], None],
        on_exit: Callable[["JobProcess", int], None],
    ) -> None:
        self.attempt: Attempt | None = None
        self.is_ready = False
        self.is_killed = False
        self._is_closed = False
        self._loop = loop
        self._on_word = on_word
        self._on_exit = on_exit
        self._frames = Frames()
        self._unsent = bytearray()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            # A group of its own: what a job has started is killed with it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self.pid = self._process.pid
        self.vitals = Vitals(self.pid)
        self._fd = self._socket.fileno()
        loop.add_reader(self._fd, self._read)
        # The end of the pipe is not the end of the process: what a job has started may hold it open.
        Thread(target=self._wait, name="taskq-job-process", daemon=True).start()

    def say(self, message: ToProcess) -> None:
        is_waiting = bool(self._unsent)
        self._unsent += framed(message)
        if not is_waiting:
            self._write()

    def kill(self) -> None:
        """It and what it started. `on_exit` follows."""
        self.is_killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, and hear no more of it: not even `on_exit`."""
        self.kill()
        self._is_closed = True
        self._loop.remove_writer(self._fd)
        self._loop.remove_reader(self._fd)
        self._socket.close()
        self.vitals.close()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is dead, and `_wait` is about to say so
            self._unsent.clear()
            sent = 0
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._fd, self._write)
        else:
            self._loop.remove_writer(self._fd)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._fd)
            return
        self._hear(data)

    def _hear(self, data: bytes) -> None:
        try:
            words = [from_process.decode(frame) for frame in self._frames.feed(data)]
        except ValueError:  # a job has written into a pipe that is not its own
            self._loop.remove_reader(self._fd)
            self.kill()
            return
        for word in words:
            self._on_word(self, word)

    def _wait(self) -> None:
        """In a thread."""
        status = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(self._end, status)

    def _end(self, status: int) -> None:
        if self._is_closed:
            return
        self.kill()  # what it left behind
        self._loop.remove_writer(self._fd)
        self._loop.remove_reader(self._fd)
        with contextlib.suppress(OSError):
            while data := self._socket.recv(_READ_BYTES):
                self._hear(data)  # its last words
        self._socket.close()
        self.vitals.close()
        self._on_exit(self, status)
