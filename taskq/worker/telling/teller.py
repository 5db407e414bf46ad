"""What the runner has to do with all that its attempts tell: one object, a few calls."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskq.protocol.messages import ProgressItem, Told
from taskq.worker.session import WorkerSession
from taskq.worker.telling.logs import LogCapture
from taskq.worker.telling.outflow import Lines
from taskq.worker.telling.progress import LatestProgress
from taskq.worker.telling.streaming import Pipe

if TYPE_CHECKING:
    from taskq.worker.attempts import Attempt


class Teller:
    """Streams, progress and log lines of one runner. `wake` says that the session has something to say."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: WorkerSession,
        wake: Callable[[], None],
        host: object,
        log_level: int | None,
    ) -> None:
        """`host` is the runner itself; log lines at `log_level` and above are caught, None: none are."""
        self._loop = loop
        self._session = session
        self._wake = wake
        self._progress = LatestProgress(loop, self._say_progress)
        self._logs: LogCapture | None = None
        # What has not been said, by lease: mostly there is nothing, and nobody need be asked.
        self.latest = self._progress.latest
        self.lines: dict[int, Lines] = {}
        self.streams = session.outflow.streams
        if log_level is not None:
            self._logs = LogCapture(loop, log_level, host, self._say_logs)
            self.lines = self._logs.lines
            self._logs.install()

    def progress(self, attempt: "Attempt", done: int, total: int, text: str) -> None:
        """How far the attempt has come. From any thread."""
        if not attempt.is_reported:
            self._progress.note(attempt, done, total, text)

    def open_stream(self, attempt: "Attempt") -> Pipe:
        """For what an attempt yields. From any thread."""
        outflow = self._session.outflow
        stream = outflow.open(attempt.delivery.id, attempt.delivery.lease)

        def wake() -> None:
            outflow.is_due(stream)
            self._wake()

        return Pipe(self._loop, stream, wake)

    def end(self, attempt: "Attempt") -> None:
        """The attempt is about to be reported: its last words go before that."""
        lease = attempt.delivery.lease
        last = self._progress.last_word(lease)
        if last is not None:
            self._session.progress(last)
        if self._logs is not None:
            lines = self._logs.last_words(lease)
            if lines is not None:
                self._session.outflow.log(lines)
        stream = self._session.outflow.streams.get(lease)
        if stream is not None:
            stream.is_over = True
            self._session.outflow.is_due(stream)
            stream.on_room()

    def close(self) -> None:
        """Nothing more is told."""
        self._progress.close()
        if self._logs is not None:
            self._logs.remove()

    def _say_progress(self, items: list[ProgressItem]) -> None:
        for item in items:
            self._session.progress(item)
        self._wake()

    def _say_logs(self, told: list[Told]) -> None:
        for each in told:
            self._session.outflow.log(each)
        self._wake()
