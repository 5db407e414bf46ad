"""Jobs that live no longer than the client that submitted them: who of those has gone."""

from taskq import limits
from taskq.core.effects import Now
from taskq.core.running.cancels import Cancels
from taskq.core.state import State
from taskq.core.timers import Timers

REASON = "the client that it is bound to has gone"


class Bindings:
    """Watches the sessions that jobs are bound to. A goodbye ends them at once, a loss after a while."""

    def __init__(self, state: State, timers: Timers, cancels: Cancels) -> None:
        self._bound = state.kin.bound
        self._timers = timers
        self._cancels = cancels
        self._here: dict[bytes, int] = {}  # session -> its newest connection
        self._gone_ms: dict[bytes, int] = {}  # session -> boot; only of those with bound jobs

    def begin(self, now: Now) -> None:
        """After a restart nobody is here yet."""
        for session in self._bound:
            self._miss(session, now)

    def connected(self, session: bytes, peer: int) -> int:
        """Returns the connection that this one follows, and that is not known to be lost; 0: none."""
        earlier = self._here.get(session, 0)
        self._here[session] = peer
        self._gone_ms.pop(session, None)
        return earlier

    def lost(self, session: bytes, peer: int, now: Now, *, parted: bool) -> None:
        """A connection is gone; with `parted` its client said that it will not come back."""
        if self._here.get(session) != peer:
            return  # it has a newer one
        del self._here[session]
        if session not in self._bound:
            return
        if parted:
            self._cancel(session)
        else:
            self._miss(session, now)

    def is_over(self, session: bytes, gone_ms: int) -> None:
        """It had its time to come back."""
        if self._gone_ms.get(session) == gone_ms:
            self._cancel(session)

    def is_missed(self, session: bytes, gone_ms: int) -> bool:
        return self._gone_ms.get(session) == gone_ms

    def _miss(self, session: bytes, now: Now) -> None:
        self._gone_ms[session] = now.boot_ms
        self._timers.after(now.boot_ms + limits.BIND_GRACE_MS, "bound", session, now.boot_ms)

    def _cancel(self, session: bytes) -> None:
        self._gone_ms.pop(session, None)
        self._cancels.cancel_all(list(self._bound.get(session, ())), REASON)
