"""How the command's processes log: text on a terminal, else lines of JSON; always on standard error."""

import json
import logging
import os
import sys
from typing import Final

from taskq.errors import ConfigError

# "text" or "json": how to log, whoever reads standard error.
FORMAT: Final = "TASKQ_LOG_FORMAT"

# What a log record carries of its own; the rest was added by us (job, task, attempt, queue) and is shown.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(*, debug: bool) -> None:
    """Send what `taskq.*` says to standard error, once. The library itself never configures logging.

    Raises ConfigError when $TASKQ_LOG_FORMAT is neither text nor json.
    """
    logger = logging.getLogger("taskq")
    logger.handlers[:] = [_handler()]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False


def adopt() -> None:
    """In a worker, once the app is imported: every line that is logged inside a job tells which job it is.

    An app that has set up logging keeps what it has, and its formats may name %(job)s, %(task)s,
    %(attempt)s and %(queue)s. One that has not is shown as we are, from INFO on.
    """
    from taskq.client.job_filter import JobFilter

    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_handler())
        if root.level == logging.WARNING:  # as Python leaves it
            root.setLevel(logging.INFO)
    loggers = [root, *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    for handler in dict.fromkeys(handlers):
        handler.addFilter(JobFilter())


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter())
    return handler


def _formatter() -> logging.Formatter:
    wanted = os.environ.get(FORMAT) or ("text" if sys.stderr.isatty() else "json")
    if wanted not in ("text", "json"):
        raise ConfigError(f"{FORMAT} is text or json, not {wanted!r}")
    return Text() if wanted == "text" else Lines()


class Text(logging.Formatter):
    """For people: `10:02:11 INFO taskq.server: text  job=...`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        added = "".join(f"  {key}={value}" for key, value in extras(record).items())
        return super().formatMessage(record) + added


class Lines(logging.Formatter):
    """For machines: one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def extras(record: logging.LogRecord) -> dict[str, object]:
    """What was said beside the message: `extra=`, and what the worker's filter adds of the running job."""
    return {key: value for key, value in vars(record).items() if key not in _OWN and value not in (None, "")}
