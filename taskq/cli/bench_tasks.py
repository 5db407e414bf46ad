"""What the workers of `taskq bench` run: nothing, so that what is measured is the queue."""

from taskq.client.app import TaskQ
from taskq.client.task import Task


async def noop() -> None:
    """Return at once."""


def register(app: TaskQ) -> Task[[], None]:
    """The task, known to this app: the workers' own below, and the bench's, which has another address."""
    return app.task(name="taskq.bench.noop")(noop)


q = TaskQ()
register(q)
