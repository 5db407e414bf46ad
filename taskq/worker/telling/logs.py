"""Log records of running jobs, caught on their way and sent to the broker. `print` is not caught.

Nothing of it ever waits: what is too much is dropped, the oldest first, and the numbers tell.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import Final

from taskq.client.context import context_var
from taskq.errors import ConfigError
from taskq.limits import LOG_CHARS_AHEAD, LOGS_EVERY_MS, TEXT_CHARS_MAX
from taskq.protocol.messages import LogItem, Told
from taskq.worker.attempts import Attempt
from taskq.worker.telling.outflow import Lines
from taskq.worker.telling.paced import Paced

OFF: Final = "off"


def level_of(name: str) -> int | None:
    """The number of a level's name, such as `info`; None for `off`. ConfigError for another."""
    if name.lower() == OFF:
        return None
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigError(
            f"there is no log level {name!r}; debug, info, warning, error, critical, or off: keep none"
        )
    return level


class LogCapture(logging.Handler):
    """While installed: what is logged inside the jobs of `host`, a runner, at `level` and above.

    `say` gets what is to be said, on the loop, at most every LOGS_EVERY_MS.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        level: int,
        host: object,
        say: Callable[[list[Told]], None],
    ) -> None:
        super().__init__(level)
        self._host = host
        self._say = say
        self.lines: dict[int, Lines] = {}  # by lease
        self._chars = 0
        self._paced = Paced(loop, LOGS_EVERY_MS / 1_000, self._flush)
        self._root_level: int | None = None

    def install(self) -> None:
        root = logging.getLogger()
        if not root.handlers and root.level > self.level:
            # Nobody has configured logging: without this, what is below a warning never gets here.
            self._root_level = root.level
            root.setLevel(self.level)
        root.addHandler(self)

    def remove(self) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        if self._root_level is not None and root.level == self.level:
            root.setLevel(self._root_level)
        self._root_level = None
        self._paced.close()

    def handle(self, record: logging.LogRecord) -> bool:
        if self._root_level is not None and record.levelno >= logging.WARNING:
            self._show(record)
        attempt = context_var.get(None)
        # `taskq.*` may speak of the job, but it is not the job that speaks.
        if not isinstance(attempt, Attempt) or record.name.startswith("taskq."):
            return False
        return super().handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock."""
        attempt = context_var.get(None)
        if not isinstance(attempt, Attempt) or attempt.is_reported or attempt.host is not self._host:
            return
        try:
            text = _text(record)
        except Exception:
            text = f"a record that cannot be shown: {str(record.msg)[:TEXT_CHARS_MAX]}"
        delivery = attempt.delivery
        lines = self.lines.get(delivery.lease)
        if lines is None:
            lines = self.lines[delivery.lease] = Lines(delivery.id)
        at_ms = int(record.created * 1_000)
        lines.put(LogItem(at_ms, record.levelno, record.name, text, delivery.attempt))
        self._chars += len(text)
        if self._chars > LOG_CHARS_AHEAD:
            self._drop(lines)
        self._paced.poke()

    def last_words(self, lease: int) -> Told | None:
        """Of an attempt that is about to be reported: what was not said yet. Then it is forgotten."""
        self.acquire()
        try:
            lines = self.lines.pop(lease, None)
            if lines is None or not lines.items:
                return None
            self._chars -= _chars(lines)
            return Told(lines.id, lease, lines.cut())
        finally:
            self.release()

    def _drop(self, lines: Lines) -> None:
        """One that logs without end loses its own lines first."""
        while lines.items and self._chars > LOG_CHARS_AHEAD:
            self._chars -= len(lines.drop_oldest().text)

    def _flush(self) -> None:
        self.acquire()
        try:
            self._chars = 0
            told = [Told(lines.id, lease, lines.cut()) for lease, lines in self.lines.items() if lines.items]
        finally:
            self.release()
        if told:
            self._say(told)

    def _show(self, record: logging.LogRecord) -> None:
        """As logging does when nobody has configured it, and would still do if we were not here."""
        last = logging.lastResort
        if last is not None and not _is_handled(record.name, self):
            last.handle(record)


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    error = record.exc_info
    if error and error[0] is not None:
        # Not by a Formatter: it would leave its text in the record, for all handlers after us.
        text += "\n" + "".join(traceback.format_exception(*error)).rstrip()
    if len(text) > TEXT_CHARS_MAX:
        text = text[: TEXT_CHARS_MAX - 1] + "…"
    return text


def _chars(lines: Lines) -> int:
    return sum(len(item.text) for item in lines.items)


def _is_handled(name: str, but: logging.Handler) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(handler is not but for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
