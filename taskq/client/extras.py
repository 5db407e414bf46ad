"""What a job carries beside its arguments and terms: key, uniqueness, meta, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec

from taskq import limits
from taskq.client.context import context_var
from taskq.client.payload import pack_value, unpack_call
from taskq.client.seconds import millis_of
from taskq.client.values.secrets import Secret
from taskq.client.values.serializers import foreign_of
from taskq.protocol.ext import (
    ACTIVE,
    ANCESTORS,
    BIND,
    KEY,
    META,
    PARENT,
    QUEUED,
    SECONDS,
    UNIQUE,
    Unique,
    is_key,
)
from taskq.protocol.messages import Ext

UniqueScope = Literal["queued", "active"]
_SCOPES: Final = {"queued": QUEUED, "active": ACTIVE}
_DIGEST_BYTES: Final = 16
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Extras:
    """The options among them, checked."""

    key: str = ""
    scope: int = -1  # -1: need not be alone
    window_ms: int = 0
    is_replacing: bool = False
    is_bound: bool = False
    meta: bytes = b""

    def shared(self, task: str, session: bytes) -> Ext | None:
        """What all jobs of a task with these options have alike; see `own`."""
        if self is PLAIN:  # mostly
            return lineage()
        ext: Ext = {}
        if self.key:
            ext[KEY] = self.key.encode()
            if self.scope >= 0:
                ext[UNIQUE] = self._unique(b"\0key\0" + ext[KEY], task)
        if self.meta:
            ext[META] = self.meta
        if self.is_bound:
            ext[BIND] = session
        return ext | (lineage() or {}) or None

    @property
    def is_by_arguments(self) -> bool:
        """Is it each job's own what it is alone with? Then `own` says it."""
        return self.scope >= 0 and not self.key

    def own(self, shared: Ext | None, task: str, payload: bytes) -> Ext:
        """For one that is to be alone with its arguments."""
        return {**(shared or {}), UNIQUE: self._unique(b"\0call\0" + _canonical_call(payload), task)}

    def _unique(self, what: bytes, task: str) -> bytes:
        digest = blake2b(task.encode() + what, digest_size=_DIGEST_BYTES).digest()
        return Unique(self.scope, digest, self.window_ms, self.is_replacing).pack()


PLAIN: Final = Extras()


def lineage() -> Ext | None:
    """Whose child a job is that is submitted here: inside a running task, that one's job."""
    context = context_var.get(None)
    if context is None:
        return None
    parent = bytes.fromhex(context.job_id)
    above = context.ext or {}
    ancestors = (above.get(PARENT, b"") + above.get(ANCESTORS, b""))[: limits.ANCESTORS_MAX * _ID_BYTES]
    return {PARENT: parent, ANCESTORS: ancestors} if ancestors else {PARENT: parent}


def key_of(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"key is a text, not {value!r}")
    # Before it is looked at closely: it may be a megabyte.
    if len(value) > limits.KEY_CHARS_MAX or not is_key(value.encode(errors="surrogatepass")):
        raise ValueError(
            f"key is 1 to {limits.KEY_CHARS_MAX} printable characters, not {value[:40]!r} "
            f"({len(value)} characters)"
        )
    return value


def unique_of(value: object) -> tuple[int, int]:
    """Scope and window of the option `unique`."""
    if isinstance(value, str) and value in _SCOPES:
        return _SCOPES[value], 0
    try:
        window_ms = millis_of("unique", value)  # type: ignore[arg-type]  # checked there
    except (TypeError, ValueError):
        window_ms = 0
    if not window_ms:
        raise ValueError(
            f"unique is 'queued', 'active', or for how long: seconds, a timedelta or text like '5m', up to "
            f"ten years; not {value!r}"
        )
    return SECONDS, window_ms


def flag_of(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")
    return value


def meta_of(value: object) -> bytes:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(text, str) for name, text in value.items()
    ):
        raise TypeError(f"meta is a dict of texts by name, not {value!r}")
    packed = msgspec.msgpack.encode(dict(value)) if value else b""
    if len(packed) > limits.META_BYTES_MAX:
        raise ValueError(
            f"meta takes {len(packed)} bytes; the limit is {limits.META_BYTES_MAX}. "
            "Data for the task belongs into its arguments"
        )
    return packed


def read_meta(ext: Ext | None) -> dict[str, str]:
    """The meta of a job; empty when it has none, or one that nobody here wrote."""
    if not ext or META not in ext:
        return {}
    try:
        return msgspec.msgpack.decode(ext[META], type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def _canonical_call(payload: bytes) -> bytes:
    """The same bytes for the same arguments, in whatever order dicts and sets hold them.

    Of another serializer's nobody knows: the same are those that it packs alike.
    """
    if foreign_of(payload) is not None:
        return payload
    args, kwargs = unpack_call(payload)
    return pack_value(_canonical([args, kwargs]))


def _canonical(value: Any) -> Any:
    if isinstance(value, Secret):
        return _canonical(value.reveal())
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(pack_value(_canonical(item)) for item in value)
    if isinstance(value, dict):
        pairs = [[pack_value(_canonical(name)), _canonical(item)] for name, item in value.items()]
        return sorted(pairs, key=lambda pair: pair[0])
    return value
