"""Payloads made smaller with zstd. Only an app that asks for it compresses; whoever can reads.

`compression.zstd` from Python 3.14 on, before that `backports.zstd`, which is the same: the extra `zstd`.
"""

from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from msgspec.structs import replace

from taskq.errors import ConfigError, DecodeError
from taskq.limits import COMPRESS_SAVING, EXT_ITEMS_MAX, PAYLOAD_BYTES_MAX, ZSTD_WINDOW_LOG_MAX
from taskq.protocol.messages import COMPRESSED, Terms

# What a worker that can read such payloads announces, and a job that has one asks for.
LABEL: Final = ("taskq.zstd", "yes")
# The quickest: it is done on the event loop, 1 MiB in about 2 ms.
_LEVEL: Final = 1


@lru_cache(maxsize=1)
def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def can_compress() -> bool:
    """Whether there is a zstd here."""
    return _zstd() is not None


def check_can_compress() -> None:
    """Raises ConfigError if not."""
    if not can_compress():
        raise ConfigError("compress=True needs zstd, and it is not installed: pip install 'taskqd[zstd]'")


def compressed(data: bytes) -> bytes | None:
    """The data, smaller; None when it is not worth it."""
    smaller: bytes = _zstd().compress(data, _LEVEL)
    return smaller if len(smaller) <= len(data) * (1 - COMPRESS_SAVING) else None


def inflated(data: bytes, flags: int) -> bytes:
    """The payload as it was before somebody did to it what the flags say. Raises DecodeError only."""
    if not flags:
        return data
    if flags != COMPRESSED:
        raise DecodeError(
            f"payload flags {flags:#x} are not known here: whoever packed it is newer than this"
        )
    zstd = _zstd()
    if zstd is None:
        raise DecodeError("the payload is compressed, and zstd is not installed: pip install 'taskqd[zstd]'")
    # The first bytes of a few kB may promise gigabytes.
    options = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX}
    reader = zstd.ZstdDecompressor(options=options)
    try:
        found: bytes = reader.decompress(data, max_length=PAYLOAD_BYTES_MAX + 1)
    except zstd.ZstdError as error:
        raise DecodeError(f"the payload is not what zstd makes: {error}") from error
    if len(found) > PAYLOAD_BYTES_MAX:
        raise DecodeError(f"the payload is more than {PAYLOAD_BYTES_MAX} bytes when it is not compressed")
    if not reader.eof or reader.unused_data:
        raise DecodeError("the payload is not one whole zstd frame")
    return found


@lru_cache(maxsize=1024)
def terms_of_compressed(terms: Terms) -> Terms:
    """Only for workers that can read it. The same object for the same terms: jobs share it on the wire."""
    return replace(terms, labels=tuple(sorted({**dict(terms.labels), LABEL[0]: LABEL[1]}.items())))


def smaller_call(payload: bytes, terms: Terms) -> tuple[bytes, Terms, int]:
    """The payload of a call, its terms and its flags: compressed if that is worth it."""
    if terms.on_dead is not None or terms.on_failure is not None:
        return payload, terms, 0  # the broker gives a callback only what everybody can read
    if len(terms.labels) >= EXT_ITEMS_MAX:
        return payload, terms, 0  # no room to say who can read it
    data = compressed(payload)
    return (payload, terms, 0) if data is None else (data, terms_of_compressed(terms), COMPRESSED)


def smaller_result(result: bytes, reads: int) -> tuple[bytes, int]:
    """The payload of a result and its flags: compressed if that is worth it, and its reader can read that."""
    data = compressed(result) if reads & COMPRESSED and can_compress() else None
    return (result, 0) if data is None else (data, COMPRESSED)
