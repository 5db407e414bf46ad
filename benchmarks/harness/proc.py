"""What the system knows of a process: CPU, memory, children. Linux only."""

import ctypes
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PTRACE_DETACH: Final = 17
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, also of those that ended. 0 when there is no such process.

    The process's own CPU clock (the formula is the kernel's MAKE_PROCESS_CPUCLOCK): it counts
    nanoseconds, where the figures in /proc/PID/stat count hundredths of a second.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def rss_bytes(pid: int) -> int:
    """Resident memory. 0 when there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def is_alive(pid: int) -> bool:
    """Whether it runs; one that ended and was not yet waited for does not."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def children(pid: int) -> list[int]:
    """The processes that it started and that run, oldest first."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = [(stat, number) for number in numbers if (stat := _stat(number)) is not None]
    mine = [
        (began, number) for (state, parent, began), number in found if parent == pid and state not in "ZX"
    ]
    return [number for _, number in sorted(mine)]


def is_running(pid: int, name: str) -> bool:
    """Whether this is what the process was started with, somewhere in its arguments."""
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def hold(pid: int) -> None:
    """Make a process stand still as a debugger does. Who is only stopped (SIGSTOP) is replaced after a while
    by its supervisor; who is debugged is let be."""
    _ptrace(_PTRACE_SEIZE, pid)
    _ptrace(_PTRACE_INTERRUPT, pid)
    os.waitpid(pid, _WALL)


def let_go(pid: int) -> None:
    _ptrace(_PTRACE_DETACH, pid)


def _ptrace(request: int, pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace of {pid}: {os.strerror(ctypes.get_errno())}")


@dataclass(frozen=True)
class CpuMeter:
    """CPU that named groups of processes have used since the meter was made."""

    pids: Mapping[str, tuple[int, ...]]
    began: Mapping[str, float]

    @staticmethod
    def start(pids: Mapping[str, Iterable[int]]) -> "CpuMeter":
        groups = {name: tuple(group) for name, group in pids.items()}
        return CpuMeter(groups, {name: _total(group) for name, group in groups.items()})

    def read(self) -> dict[str, float]:
        """Seconds, group by group."""
        return {name: _total(group) - self.began[name] for name, group in self.pids.items()}

    def per_job_us(self, jobs: int) -> dict[str, float]:
        return {name: seconds / jobs * 1e6 for name, seconds in self.read().items()}


def _total(pids: Iterable[int]) -> float:
    return sum(map(cpu_seconds, pids))


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name is in parentheses and may hold anything, so count from the last one.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])
