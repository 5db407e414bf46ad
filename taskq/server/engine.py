"""The loop without its waiting: decide, commit, speak, in the order that makes promises hold.

The daemon drives it with sockets and a real journal, the simulator with neither.
"""

from collections.abc import Iterable

from taskq.core.broker import Broker, Event
from taskq.core.effects import Batch, Close, Effect, Now, Send


class Engine:
    """Holds back what must not be said before it is committed. One commit runs at a time; while it
    does, deciding goes on and the next batch fills: that is the whole of group commit."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.committed = broker.ledger.newest
        self.committing: Batch | None = None
        self._held: dict[int, list[Send]] = {}  # by the batch that they wait for

    def turn(self, events: Iterable[Event], now: Now) -> list[Effect]:
        """Decide what has happened; returns what may be said at once."""
        handle = self.broker.handle
        for event in events:
            handle(event, now)
        return [effect for effect in self.broker.settle(now) if self._may_go(effect)]

    def next_batch(self) -> Batch | None:
        """What to append now; None when a commit is running or there is nothing to commit."""
        if self.committing is None:
            self.committing = self.broker.cut()
            return self.committing
        return None

    def on_committed(self) -> list[Send]:
        """The running commit is durable; returns what waited for it."""
        assert self.committing is not None
        self.committed = self.committing.seq
        self.committing = None
        return self._held.pop(self.committed, [])

    def trim_before(self) -> int | None:
        """The batch below which the journal may forget, if that has grown."""
        return self.broker.compaction.trim_before(self.committed)

    def _may_go(self, effect: Effect) -> bool:
        # Commit before speaking: a peer must never hear of what the disk does not hold.
        if isinstance(effect, Close) or effect.after <= self.committed:
            return True
        self._held.setdefault(effect.after, []).append(effect)
        return False
