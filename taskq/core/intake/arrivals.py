"""New jobs, from where they were accepted to where they wait; and those that waited to be accepted."""

from collections.abc import Iterable

from taskq.core.asking.watchers import Watchers
from taskq.core.effects import Now
from taskq.core.intake.bounds import Bounds
from taskq.core.intake.held import HeldBack
from taskq.core.intake.intake import Admitted, Intake
from taskq.core.job import Job
from taskq.core.outbox import Outbox
from taskq.core.peers import Peer
from taskq.core.running.attempts import Attempts
from taskq.core.running.cancels import Cancels
from taskq.core.timers import Timers
from taskq.protocol.messages import Submit

# How often in one turn deliveries may make room for what is let in, and delivered in its turn.
_ROUNDS = 10


class Arrivals:
    """Every new job comes through here, whoever made it."""

    def __init__(
        self,
        intake: Intake,
        attempts: Attempts,
        timers: Timers,
        bounds: Bounds,
        held: HeldBack,
        cancels: Cancels,
        watchers: Watchers,
        out: Outbox,
    ) -> None:
        self._intake = intake
        self._attempts = attempts
        self._timers = timers
        self._bounds = bounds
        self._held = held
        self._cancels = cancels
        self._watchers = watchers
        self._out = out
        self.count = 0

    def submit(self, peer: Peer, submit: Submit, now: Now) -> None:
        jobs, confirm = self._intake.submit(peer, submit, now)
        self._out.say(peer.number, confirm)
        self.line_up(jobs, now)

    def line_up(self, jobs: list[Job], now: Now) -> None:
        """New jobs wait for a worker, or for their time."""
        self.count += len(jobs)
        self._attempts.admit(jobs, now)
        if self._cancels.felled:
            self._cancels.cancel_late(jobs, now)

    def admit_to_cancel(self, ids: list[bytes], now: Now) -> None:
        """These are to be cancelled next: those that wait for room become jobs first."""
        if self._held.ids:
            self._let_in(self._intake.admit_to_cancel(ids, now), now)

    def _let_in(self, admitted: Iterable[Admitted], now: Now) -> int:
        count = 0
        for held, jobs, confirm in admitted:
            count += 1
            self._out.say(held.peer, confirm)
            self.line_up(jobs, now)
            if not jobs:
                self._watchers.not_accepted([held.spec.id])
        return count

    def forget(self, peer: int) -> None:
        """A peer is gone: what it submitted and has not heard of, it sends again."""
        self._watchers.not_accepted(self._held.forget(peer))

    @property
    def is_behind(self) -> bool:
        """Does anything wait for room, or have to make some?"""
        return bool(self._held.jobs or self._bounds.swollen)

    def catch_up(self, now: Now) -> None:
        """What waits for room is let in where deliveries have made some, and may be delivered itself."""
        for _ in range(_ROUNDS):
            if not self._let_in(self._intake.admit_held(now), now):
                break
            self._attempts.deliver(now)
        self._bounds.make_room(now)
        if self._bounds.swollen or self._intake.can_admit():
            self._timers.after(now.boot_ms, "again", 0)
