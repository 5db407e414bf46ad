"""Sees to it that nothing outlives a supervisor, even one that was killed: neither its children nor what
their tasks have started, which no signal of the system's own would reach.

A process of a few MB that sleeps in a read. Run by its path, so that it imports nothing of ours.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


class Undertaker:
    """The supervisor's end: names the process groups there are."""

    def __init__(self) -> None:
        self._said = b"\n"
        self._pid = 0
        self._pipe = -1
        self._start()

    def tell(self, groups: Iterable[int]) -> None:
        """These are all there are; replaces what was said before."""
        line = b" ".join(b"%d" % group for group in groups) + b"\n"
        if line != self._said:
            self._said = line
            self._say()

    def check(self) -> None:
        """After a SIGCHLD: somebody may have killed it."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG) != (0, 0):
            os.close(self._pipe)
            self._start()
            self._say()

    def close(self) -> None:
        """There is nobody left to see to."""
        pid, self._pid = self._pid, 0
        # Not asked to go: one that is stopped would never answer.
        os.kill(pid, signal.SIGKILL)
        os.close(self._pipe)
        os.waitpid(pid, 0)

    def _start(self) -> None:
        theirs, self._pipe = os.pipe()
        try:
            # In a group of its own, so that what is sent to the supervisor's does not reach it.
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", __file__],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)],
                setpgroup=0,
            )
        finally:
            os.close(theirs)

    def _say(self) -> None:
        with suppress(BrokenPipeError):  # it is dead, and `check` comes
            os.write(self._pipe, self._said)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the supervisor has
    groups: list[int] = []
    while line := sys.stdin.buffer.readline():
        groups = [int(group) for group in line.split()]
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
