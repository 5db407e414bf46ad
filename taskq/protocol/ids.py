"""Job ids: 16-byte UUIDv7 that carry their partition. Pure: the time and the chance are the caller's.

    48 bits unix_ms | 4 bits version 7 | 12 bits slot | 2 bits variant | 62 random bits

RFC 9562, section 5.7, leaves the 12 bits after the version (`rand_a`) to us. They hold a hash slot,
so that any id tells which broker owns the job, whoever holds it and whatever they know of its queue.
"""

from hashlib import blake2b
from typing import Final

ID_BYTES: Final = 16
SLOT_BITS: Final = 12
SLOTS: Final = 1 << SLOT_BITS
RANDOM_BITS: Final = 62

_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << 62


def job_slot(namespace: str, queue: str, key: str | None = None) -> int:
    """The top 12 bits of the 8-byte BLAKE2b of `namespace NUL queue`, or of `namespace NUL queue NUL key`.

    `key` is for queues that are spread over partitions by key; a plain queue lies in one slot.
    """
    words = (namespace, queue) if key is None else (namespace, queue, key)
    digest = blake2b("\0".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SLOT_BITS)


def make_id(unix_ms: int, slot: int, random62: int) -> bytes:
    """The id of a job made at this time, in this slot, told apart by 62 random bits."""
    assert 0 <= unix_ms < 1 << 48, unix_ms
    assert 0 <= slot < SLOTS, slot
    assert 0 <= random62 < 1 << RANDOM_BITS
    return (unix_ms << 80 | _VERSION | slot << 64 | _VARIANT | random62).to_bytes(ID_BYTES, "big")


def slot_of(id: bytes) -> int:
    """The hash slot in an id, 0 to 4095."""
    return int.from_bytes(id[6:8], "big") & (SLOTS - 1)


def partition_of(id: bytes, partitions: int) -> int:
    """The partition that owns this job, 0 to partitions - 1."""
    return slot_of(id) % partitions
