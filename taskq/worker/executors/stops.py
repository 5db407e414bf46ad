"""Attempts that were told to stop, until they have: each gets a grace, and who ignores it is named."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from taskq.limits import STOP_GRACE_MS
from taskq.worker.attempts import Attempt
from taskq.worker.executors.deadlines import Deadlines
from taskq.worker.tree.docket import Docket

logger = logging.getLogger("taskq.worker")

# Waiting ends in there; the line that people can change is the one before.
_ASYNCIO: Final = str(Path(asyncio.__file__).parent)


class Stops:
    """`on_ignored` is called with an attempt that has not ended, and with what is to be said of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        docket: Docket | None,
        on_ignored: Callable[[Attempt, str], None],
    ) -> None:
        self._on_ignored = on_ignored
        self._told: dict[int, Attempt] = {}
        # In the docket, too: who hears that it should stop may then block the loop.
        self._graces = Deadlines(loop, self._on_due, docket)
        self.ignored = 0  # attempts that go on although their grace is over

    def watch(self, attempt: Attempt) -> None:
        """It has just been told."""
        lease = attempt.delivery.lease
        self._told[lease] = attempt
        self._graces.set(lease, STOP_GRACE_MS)

    def ended(self, attempt: Attempt) -> None:
        lease = attempt.delivery.lease
        if self._told.pop(lease, None) is None:
            return
        if self._graces.left(lease) is None:
            self.ignored -= 1
        self._graces.clear(lease)

    def close(self) -> None:
        self._graces.close()

    def _on_due(self, lease: int) -> None:
        attempt = self._told[lease]
        self.ignored += 1
        what = f"; it has ignored that for {STOP_GRACE_MS / 1_000:g} s{_place(attempt)}"
        fields = {"job": attempt.delivery.id.hex(), "task": attempt.terms.task}
        logger.warning(
            "job %s of task %s was told to stop (%s)%s",
            attempt.delivery.id.hex(),
            attempt.terms.task,
            attempt.stopped,
            what,
            extra=fields,
        )
        self._on_ignored(attempt, what)


def _place(attempt: Attempt) -> str:
    """The line of the user's code at which an async attempt waits."""
    place = ""
    waits: Any = attempt.coroutine
    while waits is not None:
        frame = getattr(waits, "cr_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_ASYNCIO):
            place = f", in {frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}"
        waits = getattr(waits, "cr_await", None)
    return place
