"""What a supervisor and its child say to each other: one JSON value a line, over a socket pair.

The socket is also how a child notices that its supervisor is gone.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from threading import Lock, Thread
from typing import Final, Literal

from msgspec import Struct
from msgspec.json import Decoder, Encoder

from taskq.worker.settings import WorkerSettings

_PR_SET_PDEATHSIG: Final = 1
_LINE_BYTES_MAX: Final = 1024 * 1024

# `drain` ends the process when what runs has ended, `now` at once; `hold` takes no more, until `release`.
Order = Literal["drain", "now", "hold", "release"]


class Begin(Struct, tag=True):
    """supervisor: what you are. The token travels here, never in arguments or the environment."""

    settings: WorkerSettings
    session: bytes
    docket: int  # the descriptor of the memory that both share


class Ready(Struct, tag=True):
    """child: the app is imported, and this is how its broker is reached."""

    urls: list[str]
    token: str | None


class Serving(Struct, tag=True):
    """child: the lifespan has been entered, and jobs may come."""


class Failed(Struct, tag=True):
    """child: starting me again will not help; `code` is "config" or the broker's refusal."""

    code: str
    text: str


class Look(Struct, tag=True):
    """child: the time of an attempt is up at `at`; look then whether it is over."""

    at: float


class Groups(Struct, tag=True):
    """child: the process groups of the jobs that it runs in processes, all of them."""

    groups: list[int]


class Spent(Struct, tag=True):
    """child: I had better be replaced by another; `why` is for people."""

    why: str


class Ask(Struct, tag=True):
    """supervisor: what runs there? `lease`: only this attempt."""

    number: int
    lease: int


class Told(Struct, tag=True):
    """child: this."""

    number: int
    text: str


FromChild = Ready | Serving | Failed | Look | Groups | Spent | Told

ToChild = Order | Ask

_encode: Final = Encoder().encode
_from_child: Final[Decoder[FromChild]] = Decoder(FromChild)
_begin: Final = Decoder(Begin)
_order: Final[Decoder[ToChild]] = Decoder(ToChild)


def encode_line(value: Begin | Order | Ask | FromChild) -> bytes:
    return _encode(value) + b"\n"


def decode_begin(line: bytes) -> Begin:
    return _begin.decode(line)


def decode_from_child(line: bytes) -> FromChild:
    return _from_child.decode(line)


class Control:
    """The child's end. Blocking: it must work while the child's event loop does not."""

    def __init__(self, fd: int, parent: int) -> None:
        os.set_inheritable(fd, False)  # what a task starts must not hold the line open
        self._socket = socket.socket(fileno=fd)
        self._lines = self._socket.makefile("rb")
        self._saying = Lock()
        die_with_parent(parent)

    def begin(self) -> Begin:
        """The first line; ends the process when there is none."""
        line = self._lines.readline(_LINE_BYTES_MAX)
        if not line:
            os._exit(1)
        return decode_begin(line)

    def say(self, value: FromChild) -> None:
        """From any thread."""
        with self._saying:
            self._socket.sendall(encode_line(value))

    def listen(self, on_order: Callable[[Order], None], stacks: Callable[[int], str]) -> None:
        """From now on orders are given to `on_order`, and what runs is told as `stacks` has it, in another
        thread; the end of the line ends us."""
        Thread(target=self._listen, args=(on_order, stacks), name="taskq-control", daemon=True).start()

    def _listen(self, on_order: Callable[[Order], None], stacks: Callable[[int], str]) -> None:
        with contextlib.suppress(OSError):
            for line in self._lines:
                order = _order.decode(line)
                if isinstance(order, str):
                    on_order(order)
                else:
                    self.say(Told(order.number, stacks(order.lease)))
        # Nobody vouches for us any more and nobody would stop us: what we run is run again elsewhere.
        # Our tasks' own processes go with us; that ends us too.
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def die_with_parent(parent: int) -> None:
    """Where the system can do it, die with the parent even while a task holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked
