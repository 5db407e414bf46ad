"""Bounded queues and the memory budget, watched from turn to turn; looks into the broker's books."""

from collections.abc import Callable

from msgspec import Struct

from taskq.core import records as r
from taskq.core.job import RUNNING
from taskq.protocol.messages import Confirm
from tests.simulation.agenda import MS, Agenda, Violation
from tests.simulation.host import BrokerHost

# What edits and callbacks may add in the same turn.
_OVERSHOOT_BYTES = 3_000
# Once there is room, what waits for it is decided in the same turn, or the next ones.
_ADMIT_US = 200 * MS


class Allowed(Struct):
    """What may wait in a queue: its bound, or what was there when that was set."""

    bound: r.Bound
    jobs: int


class Rooms:
    """Submissions never fill a queue over its bound; who waits for room gets it."""

    def __init__(self, agenda: Agenda, is_asked: Callable[[bytes], bool]) -> None:
        self._agenda = agenda
        self._is_asked = is_asked  # did somebody submit this job? What the broker makes always fits
        self._allowed: dict[str, Allowed] = {}
        self._life = 0
        self._room_since_us = 0
        self._accepted = 0
        self._decided: dict[tuple[int, int], None] = {}  # (connection, seq) decided by a confirm of its own
        self._held: dict[tuple[int, int], None] = {}

    def on_confirm(self, number: int, confirm: Confirm) -> None:
        """Nothing that waits for room is decided twice over one connection."""
        codes = {verdict.seq: verdict.code for verdict in confirm.verdicts}
        for seq in range(confirm.first, confirm.first + confirm.count):
            place = (number, seq)
            if codes.get(seq) == "held":
                self._held[place] = None
                self._decided.pop(place, None)
            elif place in self._held:
                if place in self._decided:
                    raise Violation("H1", f"number {seq} waited for room, and was decided twice")
                self._decided[place] = None

    def on_turn(self, host: BrokerHost) -> None:
        if host.starts != self._life:
            self._life = host.starts
            self._allowed = {}
            self._room_since_us = 0
            self._accepted = 0
        state = host.broker.state
        self._is_admitting(host)
        if host.memory_bytes:
            taken = host.broker.memory.taken_bytes - state.outcome_bytes
            # What was in the journal is there again after a crash, however much it is.
            accepted, self._accepted = self._accepted, host.broker.arrivals.count
            if taken > host.memory_bytes + _OVERSHOOT_BYTES and self._accepted > accepted:
                raise Violation("M1", f"{taken} bytes are held; the budget is {host.memory_bytes}")
        if state.lines:
            self._are_within(host)

    def _are_within(self, host: BrokerHost) -> None:
        state = host.broker.state
        fresh = dict.fromkeys(state.lines, 0)
        waiting = dict.fromkeys(state.lines, 0)
        for job in state.jobs.values():
            queue = job.terms.queue
            if queue in waiting and job.state is not RUNNING:
                waiting[queue] += 1
                fresh[queue] += job.lease == 0 and self._is_asked(job.id)
        for queue, line in state.lines.items():
            if line.jobs != waiting[queue]:
                raise Violation(
                    "I11", f"{line.jobs} jobs are counted in {queue}; {waiting[queue]} wait there"
                )
            allowed = self._allowed.get(queue)
            most = line.bound.max_jobs
            if allowed is None or allowed.bound is not line.bound:
                self._allowed[queue] = Allowed(line.bound, max(most, fresh[queue]))
                continue
            if most and fresh[queue] > allowed.jobs:
                raise Violation("B1", f"{fresh[queue]} new jobs wait in {queue}: {line.bound}")
            allowed.jobs = max(most, min(allowed.jobs, fresh[queue]))

    def _is_admitting(self, host: BrokerHost) -> None:
        us = self._agenda.us
        if not host.broker.intake.can_admit():
            self._room_since_us = 0
        elif not self._room_since_us:
            self._room_since_us = us
        elif us - self._room_since_us > _ADMIT_US:
            raise Violation("H1", "there is room, and who waits for it is not let in")
