"""Damage in a write-ahead log, which SQLite takes for the torn end of a crash and drops in silence.

SQLite uses a WAL up to its first bad frame. After a power cut that is right. But a process that was
killed leaves no holes: whatever its system accepted is all there. Commits behind a bad frame then
mean that bytes were changed, and batches that were confirmed would be gone without a word.
"""

from os import SEEK_END
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final

WAL_HEADER_BYTES: Final = 32
SALTS_AT: Final = 16
SALTS: Final = Struct(">II")
# page number, size of the database after a commit (0: more frames follow), salts, checksums
FRAME_HEADER: Final = Struct(">IIIIII")


def wal_path(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def commits_behind(wal: Path, frames: int, page_bytes: int) -> int:
    """How many commits the file holds behind the `frames` that SQLite could use."""
    try:
        with wal.open("rb") as file:
            return _count(file, frames, page_bytes)
    except FileNotFoundError:
        return 0


def boot_id() -> str:
    """Names this run of the operating system; empty where that cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _count(file: BinaryIO, frames: int, page_bytes: int) -> int:
    size = file.seek(0, SEEK_END)
    file.seek(SALTS_AT)
    salts = file.read(SALTS.size)
    if len(salts) < SALTS.size:
        return 0
    first, second = SALTS.unpack(salts)
    stride = FRAME_HEADER.size + page_bytes
    commits = 0
    # A frame that is not there to its end is what a killed process leaves.
    for at in range(WAL_HEADER_BYTES + frames * stride, size - stride + 1, stride):
        file.seek(at)
        _, size_after, one, two, _, _ = FRAME_HEADER.unpack(file.read(FRAME_HEADER.size))
        # Frames of an earlier run of the file share neither salt. One is enough: the other, here or
        # in the file's header, may be what was changed.
        if size_after and (one == first or two == second):
            commits += 1
    return commits
