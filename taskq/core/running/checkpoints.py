"""How far running attempts have come, as they say themselves: kept for the attempt after them."""

from taskq.core import records as r
from taskq.core.intake.intake import Intake
from taskq.core.job import RUNNING
from taskq.core.ledger import Ledger
from taskq.core.lines.workers import Worker
from taskq.core.outbox import Outbox
from taskq.protocol.messages import Checkpoint, Checkpointed, CheckpointItem, Unsaved


class Checkpoints:
    """Records them. What is kept stands with the job (see `Before`), and goes with it."""

    def __init__(self, ledger: Ledger, intake: Intake, out: Outbox) -> None:
        self._ledger = ledger
        self._intake = intake
        self._out = out
        self.recorded = 0

    def save(self, worker: Worker, command: Checkpoint) -> None:
        """Under a stale lease, that changes nothing: the attempt that runs now has its own."""
        is_closed = bool(self._intake.why_closed)
        unsaved: list[Unsaved] = []
        parts: dict[int, list[CheckpointItem]] = {}
        for item in command.items:
            job = worker.held.get(item.lease)
            is_mine = job is not None and job.id == item.id and job.lease == item.lease
            if job is None or not is_mine or job.state is not RUNNING:
                unsaved.append(Unsaved(item.lease, "stale"))
            elif is_closed:
                unsaved.append(Unsaved(item.lease, "busy"))
            else:
                parts.setdefault(job.terms.durability, []).append(item)
        for durability, items in parts.items():
            self._ledger.checkpoint(r.Checkpointed(items), durability)
            self.recorded += len(items)
        self._out.say(worker.peer, Checkpointed(command.seq, unsaved))
