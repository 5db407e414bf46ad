"""One child of a supervisor: its process, the line to it, and what is known of its health."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from taskq.worker.control import Ask, Begin, FromChild, Order, decode_from_child, encode_line
from taskq.worker.settings import WorkerSettings
from taskq.worker.tree.docket import DocketView, make_docket
from taskq.worker.tree.vitals import Seen, Vitals

_READ_BYTES: Final = 64 * 1024


class Offspring:
    """Started when it is made. `on_word` hears what it says."""

    def __init__(
        self,
        place: int,
        settings: WorkerSettings,
        module: str,
        on_word: Callable[["Offspring", FromChild], None],
    ) -> None:
        self.place = place
        self.session = os.urandom(16)
        # The one that it follows, and that goes when it is ready itself.
        self.predecessor: Offspring | None = None
        self.is_retiring = False
        self.why_spent = ""  # it should be replaced, once nothing stands in the way
        self.is_bloated = False  # that is why
        self.groups: list[int] = []  # of the processes that it runs jobs in
        self.alarm: asyncio.TimerHandle | None = None
        self._on_word = on_word
        self._loop = asyncio.get_running_loop()
        self.started_at = self._loop.time()
        self._still_since: float | None = None
        self._switches = b""
        self._buffer = b""
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        docket = make_docket(sum(settings.capacity.values()))
        with theirs:
            # A group of its own: a Ctrl-C at the terminal is for the supervisor, who passes it on.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), docket],
                process_group=0,
            )
        self.docket = DocketView(docket)
        os.close(docket)
        self.pid = self._process.pid
        self.vitals = Vitals(self.pid)
        self._loop.add_reader(self._socket, self._read)
        self._send(encode_line(Begin(settings, self.session, docket)))

    def order(self, order: Order) -> None:
        self._send(encode_line(order))

    def ask(self, number: int, lease: int) -> None:
        """What runs there? Answered by Told."""
        self._send(encode_line(Ask(number, lease)))

    def kill(self) -> None:
        """It and what it started."""
        for group in (self.pid, *self.groups):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def status(self) -> int | None:
        """Its exit code, or minus the signal; None while it lives."""
        return self._process.poll()

    def close(self) -> None:
        """After its end, or after `kill`."""
        self.rest()
        self._read()  # its last words
        self._process.wait()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self.vitals.close()

    def rest(self) -> None:
        """Nothing is expected of it any more."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm = None

    @property
    def lived_ms(self) -> float:
        return (self._loop.time() - self.started_at) * 1_000

    def stood_still_ms(self, seen: Seen) -> float:
        """For how long it has done nothing at all, and could not, as far as all looks until this one tell."""
        if not seen.is_still or (self._still_since is not None and seen.switches != self._switches):
            self._still_since = None
        if not seen.is_still:
            return 0.0
        self._switches = seen.switches
        if self._still_since is None:
            self._still_since = self._loop.time()
        return (self._loop.time() - self._still_since) * 1_000

    def _send(self, line: bytes) -> None:
        # Some kB at most: they fit into the socket's buffer, or the child is gone.
        with contextlib.suppress(OSError):
            self._socket.send(line)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._on_word(self, decode_from_child(line))


def exit_text(status: int) -> str:
    """For people: `exit code 3`, or `signal SIGSEGV`."""
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"
