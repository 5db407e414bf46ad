"""A worker's child process as `taskq worker` runs it: it logs like the command, with the job's fields."""

import logging
import sys

from taskq.cli import logs
from taskq.client.context import context_var
from taskq.worker import child


class JobFields(logging.Filter):
    """Adds to each record which job was running when it was logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = context_var.get(None)
        if context is not None:
            record.job = context.job_id
            record.task = context.task
            record.attempt = context.attempt
            record.queue = context.queue
        return True


if __name__ == "__main__":
    logs.configure(debug=False)
    for handler in logging.getLogger("taskq").handlers:
        handler.addFilter(JobFields())
    sys.exit(child.main(int(sys.argv[1]), int(sys.argv[2])))
