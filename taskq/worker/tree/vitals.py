"""What the system says of a process: how much memory it takes, and whether it stands still.

From /proc, some 10 us a look. Where there is none, nothing is known, and nobody is replaced for it.
"""

import contextlib
import os
from typing import Final, NamedTuple

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES: Final = 4096
# Stopped by a signal; asleep in the kernel so deeply that no signal wakes it. Not `t`: who debugs a process
# knows why it stands still.
_STILL: Final = (b"T", b"D")
# Fields of /proc/PID/stat behind the name in brackets, which may hold anything.
_STATE: Final = 0
_RESIDENT_PAGES: Final = 21


class Seen(NamedTuple):
    """One look. `switches`: how often it was given the processor, while it seems to stand still."""

    resident_bytes: int
    is_still: bool
    switches: bytes


class Vitals:
    """Of one process of ours."""

    def __init__(self, pid: int) -> None:
        self._files: list[int] = []
        with contextlib.suppress(OSError):  # it is gone already, or there is no /proc
            for name in ("stat", "status"):
                self._files.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))

    def look(self) -> Seen | None:
        """None when it is gone, or where the system does not say."""
        try:
            stat, status = self._files
            fields = os.pread(stat, _READ_BYTES, 0).rpartition(b")")[2].split()
            is_still = fields[_STATE] in _STILL
            # One that reads from a slow disk is mostly found in state D, and goes on all the same.
            switches = _switches(os.pread(status, _READ_BYTES, 0)) if is_still else b""
            return Seen(int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES, is_still, switches)
        except (OSError, IndexError, ValueError):
            return None

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []


def _switches(status: bytes) -> bytes:
    return b" ".join(line for line in status.splitlines() if b"ctxt_switches" in line)
