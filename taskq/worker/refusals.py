"""Deliveries that a worker does not take, and why."""

import logging

from taskq.limits import TASKS_PER_WORKER_MAX
from taskq.protocol.messages import Failure
from taskq.worker.attempts import unknown_task
from taskq.worker.session import Start

logger = logging.getLogger("taskq.worker")


class Refusals:
    """Of one worker."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()

    def report(self, start: Start, *, draining: bool) -> Failure:
        """What to report of it. A task that we do not have is warned of once."""
        delivery, task = start.delivery, start.terms.task
        if draining:
            return Failure(delivery.id, delivery.lease, "returned")
        self._warn_unknown(task)
        return unknown_task(delivery, task)

    def _warn_unknown(self, task: str) -> None:
        if task not in self._unknown and len(self._unknown) < TASKS_PER_WORKER_MAX:
            self._unknown.add(task)
            logger.warning("the broker delivered a job of task %r, which this worker does not have", task)
