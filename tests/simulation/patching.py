"""Changes to modules and classes that can be taken back: planted bugs, and limits made small."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taskq import limits
from taskq.core import shelves
from taskq.core.asking import snapshot
from taskq.core.telling import feed
from taskq.worker import session as worker_session


class Patch:
    """Remembers what was there before."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    def undo(self) -> None:
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)


@contextmanager
def patched(change: Callable[[Patch], None] | None) -> Iterator[None]:
    """With this change; None: with none."""
    patch = Patch()
    try:
        if change is not None:
            change(patch)
        yield
    finally:
        patch.undo()


def small_limits(patch: Patch) -> None:
    """Batches and slices so small that messages are split and compaction takes many steps."""
    patch.set(limits, "BATCH_MAX", 3)
    patch.set(worker_session, "BATCH_MAX", 3)
    patch.set(limits, "FOLLOW_ENTRIES_MAX", 6)
    patch.set(limits, "STREAM_AHEAD_ENTRIES", 8)
    patch.set(limits, "CHUNK_ENTRIES", 3)
    patch.set(feed, "BOUNDS", dict.fromkeys(feed.BOUNDS, feed.FeedBounds(24, 100_000)))
    patch.set(limits, "COMPACT_SLICE", 2)
    patch.set(limits, "PAST_LEASES_MAX", 3)
    patch.set(limits, "STORY_FIRST", 1)
    patch.set(limits, "STORY_LAST", 2)
    patch.set(limits, "DELIVERIES_PER_TURN", 2)
    patch.set(shelves, "SLICE", 2)
    patch.set(shelves, "TIMERS_BEFORE_SWEEP", 10)
    patch.set(limits, "SEARCH_SLICE", 3)
    patch.set(limits, "BULK_SLICE", 2)
    patch.set(limits, "BULK_AHEAD", 4)
    patch.set(limits, "LISTED_IDS_MAX", 20)
    patch.set(snapshot, "PACKED_PER_TURN", 5)
    patch.set(limits, "TICKS_PER_TURN", 1)
