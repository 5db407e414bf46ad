"""Which job a log record is of: for users' own logging."""

import logging

from taskq.client.context import context_var


class JobFilter(logging.Filter):
    """Gives each record `job`, `task`, `attempt` and `queue`: those of the job that logged it, else "".

    Add it to handlers, not to loggers: a logger's filters do not see what its children log.
    What the record says of itself (`extra={"task": ...}`) stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        context = context_var.get(None)
        said = vars(record)
        if context is None:
            for name in ("job", "task", "attempt", "queue"):
                said.setdefault(name, "")
            return True
        said.setdefault("job", context.job_id)
        said.setdefault("task", context.task)
        said.setdefault("attempt", context.attempt)
        said.setdefault("queue", context.queue)
        return True
