"""What running tasks say of themselves that must be heard before their attempt's report."""

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Lock, get_ident

from taskq.client.saving import OnSaved
from taskq.client.session import NewJob
from taskq.protocol.messages import CheckpointItem, Delivery, Saved
from taskq.worker.session import WorkerSession


class Words:
    """Made on the worker's loop; any thread may speak. `wake` is called when there is something to say.

    What threads say is kept until the loop comes to it: of checkpoints the latest of each attempt, so that
    one in a tight loop does not fill the memory while the loop is busy.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, session: WorkerSession, wake: Callable[[], None]
    ) -> None:
        self.is_unheard = False  # something that another thread said
        self._loop = loop
        self._thread = get_ident()
        self._session = session
        self._wake = wake
        self._lock = Lock()
        self._checkpoints: dict[int, CheckpointItem] = {}
        self._rest: list[Callable[[], None]] = []  # as many as there are waiting threads and blocks

    def checkpoint(self, delivery: Delivery, saved: Saved) -> None:
        """How far the attempt has come, for the next one."""
        item = CheckpointItem(delivery.id, delivery.lease, saved)
        if get_ident() == self._thread:
            self._session.checkpoint(item)
            self._wake()
            return
        with self._lock:
            self._checkpoints[item.lease] = item
            self._call()

    def when_saved(self, delivery: Delivery, on_saved: OnSaved) -> None:
        """Call this, on the loop, when that is recorded."""
        self._say(partial(self._session.when_saved, delivery.lease, on_saved))

    def enclose(self, delivery: Delivery, jobs: list[NewJob]) -> None:
        """These jobs are to be submitted with the attempt's success."""
        self._say(partial(self._session.enclose, delivery.lease, jobs))

    def hear(self) -> None:
        """All that was said so far. To be called before the report of an attempt that ran in a thread:
        its result may come to the loop by the wake-up of another one's, before its last words."""
        with self._lock:
            checkpoints, self._checkpoints = self._checkpoints, {}
            rest, self._rest = self._rest, []
            self.is_unheard = False
        # First these: whoever waits wants to know of what was said before.
        for item in checkpoints.values():
            self._session.checkpoint(item)
        for word in rest:
            word()
        self._wake()

    def _say(self, word: Callable[[], None]) -> None:
        if get_ident() == self._thread:
            word()
            self._wake()
            return
        with self._lock:
            self._rest.append(word)
            self._call()

    def _call(self) -> None:
        if not self.is_unheard:
            self.is_unheard = True
            self._loop.call_soon_threadsafe(self.hear)
