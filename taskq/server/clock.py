"""The two clocks of this machine, read together."""

import time

from taskq.core.effects import Now

# CLOCK_BOOTTIME counts on while the machine sleeps; where it is missing, the monotonic clock must do.
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def read_clocks() -> Now:
    """Both clocks, in ms."""
    return Now(time.clock_gettime_ns(_BOOT) // 1_000_000, time.time_ns() // 1_000_000)
