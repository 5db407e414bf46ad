"""Tasks that do not let go, for `limits`: in an app of its own, for its workers start processes for jobs."""

import ctypes
from typing import Final

from benchmarks.tasks import note, occupy
from taskq import TaskQ

# Some 400 million digits: hours, all of them in one call of C that keeps the interpreter to itself.
_POWER: Final = 10**9

q = TaskQ()
waits = q.task(name="hogs.waits")(occupy)


@q.task(name="hogs.async")
async def spin_async() -> int:
    """Never yields."""
    return _spin()


@q.task(name="hogs.thread")
def spin_thread() -> int:
    """Never lets another thread run."""
    return _spin()


@q.task(name="hogs.process", executor="process")
def spin_process() -> int:
    """The same where it bothers nobody."""
    return _spin()


@q.task(name="hogs.hold")
async def hold(seconds: float) -> None:
    """Keeps the interpreter to itself for a while, and takes no processor: others measure meanwhile."""
    ctypes.PyDLL(None).usleep(ctypes.c_uint(round(seconds * 1e6)))


def _spin() -> int:
    note("start")
    return pow(7, _POWER) % 3
