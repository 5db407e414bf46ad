"""New job ids: the clock and the chance that `protocol.ids` does not have. One maker per producer."""

import os
import struct
import time
from collections.abc import Callable, Iterator

from taskq.protocol.ids import make_id

_POOL_STEPS = 512


class IdMaker:
    """UUIDv7 ids of one slot after another, each greater than the last within a slot.

    Inside a millisecond an id is the one before plus a random step (RFC 9562, section 6.2, method
    2): one `urandom` for hundreds of ids instead of one each. Not for several threads.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.time_ns,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock_ns = clock_ns
        self._random_bytes = random_bytes
        self._unix_ms = 0
        self._slot = -1
        self._last = 0
        self._steps: Iterator[int] = iter(())

    def new_id(self, slot: int) -> bytes:
        unix_ms = self._clock_ns() // 1_000_000
        if unix_ms > self._unix_ms or slot != self._slot:
            # A clock that was set back must not bring back ids: the later time stays.
            self._begin(max(unix_ms, self._unix_ms), slot)
        step = next(self._steps, None)
        if step is None:
            step = self._refill()
        self._last += step + 1
        return self._last.to_bytes(16, "big")

    def _begin(self, unix_ms: int, slot: int) -> None:
        self._unix_ms = unix_ms
        self._slot = slot
        # 61 of the 62 bits: room above for all the steps of a millisecond.
        random61 = int.from_bytes(self._random_bytes(8), "big") >> 3
        self._last = int.from_bytes(make_id(unix_ms, slot, random61), "big")

    def _refill(self) -> int:
        self._steps = iter(struct.unpack(f">{_POOL_STEPS}I", self._random_bytes(4 * _POOL_STEPS)))
        return next(self._steps)
