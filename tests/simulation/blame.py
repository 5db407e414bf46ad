"""Who is to blame when a supervisor puts a process down: those whose time was up, and no others (V3)."""

from taskq.core import records as r
from taskq.protocol.messages import AttemptReport
from tests.simulation.agenda import Violation
from tests.simulation.workers import PUT_DOWN


class Blame:
    """Knows for which leases processes were killed, and reads what the journal says of such deaths."""

    def __init__(self) -> None:
        self._guilty: dict[int, None] = {}
        self._reported: dict[int, None] = {}

    def put_down(self, leases: list[int]) -> None:
        self._guilty.update(dict.fromkeys(leases))

    def reported(self, lease: int) -> None:
        """Its worker has said itself how it ended."""
        self._reported[lease] = None

    def released(self, item: r.Release) -> None:
        if item.ending == "returned" and item.lease in self._guilty and item.lease not in self._reported:
            raise Violation("V3", f"lease {item.lease} has cost a process its life, and counts for nothing")
        if item.told is not None:
            self._is_just(item.lease, item.told)

    def ended(self, item: r.SuccessItem | r.EndedItem) -> None:
        if isinstance(item, r.EndedItem) and item.state == "dead" and item.story:
            self._is_just(item.lease, item.story[-1])

    def _is_just(self, lease: int, told: AttemptReport) -> None:
        if PUT_DOWN not in told.error:
            return
        if told.ending != "timed_out":
            raise Violation("V3", f"lease {lease}: its supervisor killed its process, and it counts: {told}")
        if lease not in self._guilty:
            raise Violation("V3", f"lease {lease} is said to be why its process was killed")
