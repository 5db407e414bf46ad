"""How far attempts are: the latest word of each, at most every PROGRESS_EVERY_MS, and always the last."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskq.limits import PROGRESS_EVERY_MS
from taskq.protocol.messages import ProgressItem
from taskq.worker.telling.paced import Paced

if TYPE_CHECKING:
    from taskq.worker.attempts import Attempt


class LatestProgress:
    """`note` from any thread; `say` gets what is to be said, on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Callable[[list[ProgressItem]], None]) -> None:
        self.latest: dict[int, tuple[Attempt, int, int, str]] = {}  # by lease: what was not said yet
        self._say = say
        self._paced = Paced(loop, PROGRESS_EVERY_MS / 1_000, self._flush)

    def note(self, attempt: "Attempt", done: int, total: int, text: str) -> None:
        self.latest[attempt.delivery.lease] = (attempt, done, total, text)
        self._paced.poke()

    def last_word(self, lease: int) -> ProgressItem | None:
        """Of an attempt that is about to be reported, if it was not said."""
        latest = self.latest.pop(lease, None)
        return None if latest is None else _item(*latest)

    def close(self) -> None:
        self._paced.close()

    def _flush(self) -> None:
        latest, items = self.latest, []
        while latest:  # one by one: another thread may be writing
            _, noted = latest.popitem()
            items.append(_item(*noted))
        if items:
            self._say(items)


def _item(attempt: "Attempt", done: int, total: int, text: str) -> ProgressItem:
    return ProgressItem(attempt.delivery.id, attempt.delivery.lease, done, total, text)
