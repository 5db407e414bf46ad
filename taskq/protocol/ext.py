"""The rare things of a job that the broker reads: what stands in `ext` under which name, and in what form."""

import struct
from typing import Final, NamedTuple

from taskq import limits
from taskq.protocol.messages import Ext

KEY: Final = "key"  # UTF-8: jobs of one queue take turns between keys
UNIQUE: Final = "unique"  # see `Unique`
PARENT: Final = "parent"  # 16 bytes: the job in which it was submitted
ANCESTORS: Final = "ancestors"  # those above the parent, nearest first, 16 bytes each
BIND: Final = "bind"  # 16 bytes: the session with which it is cancelled
META: Final = "meta"  # a MessagePack map of texts, for people

# These change nothing about whether a job is accepted; the others are looked at one by one.
HARMLESS: Final = frozenset({KEY, META, PARENT, ANCESTORS, "traceparent", "tracestate"})

# For how long nobody else may have the same digest: until it is started, until it has an outcome,
# or so long after its submission.
QUEUED: Final = 0
ACTIVE: Final = 1
SECONDS: Final = 2

_UNIQUE: Final = struct.Struct(">BBQ16s")
_REPLACE: Final = 1
_ID_BYTES: Final = 16
_KEY_BYTES_MAX: Final = 4 * limits.KEY_CHARS_MAX


class Unique(NamedTuple):
    """What a job may be alone with. 26 bytes: scope, flags (1: replace), window in ms, digest."""

    scope: int
    digest: bytes
    window_ms: int = 0  # with SECONDS
    is_replacing: bool = False  # what waits becomes what was submitted now

    def pack(self) -> bytes:
        return _UNIQUE.pack(self.scope, self.is_replacing, self.window_ms, self.digest)


def read_unique(data: bytes) -> Unique:
    """The uniqueness in these bytes, which were checked when they came in."""
    scope, flags, window_ms, digest = _UNIQUE.unpack(data)
    return Unique(scope, digest, window_ms, bool(flags & _REPLACE))


def above(ext: Ext) -> list[bytes]:
    """The jobs below which this one was submitted, the nearest first."""
    line = ext.get(PARENT, b"") + ext.get(ANCESTORS, b"")
    return [line[at : at + _ID_BYTES] for at in range(0, len(line), _ID_BYTES)]


def is_key(key: bytes) -> bool:
    """Is this 1 to 200 printable characters?"""
    if not 0 < len(key) <= _KEY_BYTES_MAX:
        return False
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return False
    return len(text) <= limits.KEY_CHARS_MAX and text.isprintable()


def fault_in(ext: Ext) -> str:
    """What is wrong with these; nothing: they can be read."""
    if KEY in ext and not is_key(ext[KEY]):
        return f"key is UTF-8, of 1 to {limits.KEY_CHARS_MAX} printable characters"
    for name in (PARENT, BIND):
        if name in ext and len(ext[name]) != _ID_BYTES:
            return f"{name} is {_ID_BYTES} bytes, not {len(ext[name])}"
    size = len(ext.get(ANCESTORS, b""))
    if size % _ID_BYTES or size > limits.ANCESTORS_MAX * _ID_BYTES:
        return f"ancestors are at most {limits.ANCESTORS_MAX} ids of {_ID_BYTES} bytes, not {size} bytes"
    return _fault_in_unique(ext[UNIQUE]) if UNIQUE in ext else ""


def _fault_in_unique(data: bytes) -> str:
    if len(data) != _UNIQUE.size:
        return f"unique is {_UNIQUE.size} bytes, not {len(data)}"
    unique = read_unique(data)
    if unique.scope not in (QUEUED, ACTIVE, SECONDS):
        return f"the scope of unique is {QUEUED}, {ACTIVE} or {SECONDS}, not {unique.scope}"
    is_window = unique.scope == SECONDS
    if not is_window <= unique.window_ms <= is_window * limits.HORIZON_MS:
        return f"the window of unique is up to {limits.HORIZON_MS} ms with scope {SECONDS}, else 0"
    return ""
