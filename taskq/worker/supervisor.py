"""`taskq worker`: starts the children, vouches for them, replaces the dead, stops them all together.

It never imports the user's code, so nothing that a task does can keep it from its word.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from taskq.client.link import Link
from taskq.errors import ConfigError, Refused, TaskqError
from taskq.limits import (
    CHILD_BACKOFF_FIRST_MS,
    CHILD_BACKOFF_MAX_MS,
    CHILD_STEADY_MS,
    LEAVE_MS,
    VOUCH_EVERY_MS,
)
from taskq.worker.control import Begin, Failed, Order, Ready, Serving, decode_from_child, encode_line
from taskq.worker.settings import WorkerSettings
from taskq.worker.stopping import HAND_BACK_MS, until_refused
from taskq.worker.vouching import SupervisorSession

logger = logging.getLogger("taskq.worker")

# What a child may take, after its grace, to hand back, leave its lifespan and end, before it is killed.
EXIT_MARGIN_MS: Final = HAND_BACK_MS + LEAVE_MS + 1_000
EXIT_INTERRUPTED: Final = 130
_READ_BYTES: Final = 64 * 1024


def run(settings: WorkerSettings, *, child_module: str = "taskq.worker.child") -> int:
    """Run the worker until it is stopped by signals, or, with `burst`, until nothing is left to do.

    Returns the exit code: 0, or 130 after a second signal. Raises ConfigError when the app cannot be
    imported, Refused when the broker does not want us. `child_module` is what children run, with
    the same arguments as `taskq.worker.child`. Must be called in the main thread.
    """
    if not settings.name:
        settings = replace(settings, name=f"{socket.gethostname()}:{os.getpid()}")
    # Plain asyncio: nothing here is hot, and uvloop keeps SIGCHLD for itself.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        return loop.run(_serve(settings, child_module))


async def _serve(settings: WorkerSettings, child_module: str) -> int:
    return await _Supervisor(settings, child_module).serve()


class _Child:
    """One process and the line to it."""

    def __init__(
        self, place: int, settings: WorkerSettings, module: str, on_line: Callable[["_Child", bytes], None]
    ) -> None:
        self.place = place
        self.session = os.urandom(16)
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self.started_at = self._loop.time()
        self._buffer = b""
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            # A group of its own: a Ctrl-C at the terminal is for the supervisor, who passes it on.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self.pid = self._process.pid
        self._loop.add_reader(self._socket, self._read)
        self._send(encode_line(Begin(settings, self.session)))

    def order(self, order: Order) -> None:
        self._send(encode_line(order))

    def kill(self) -> None:
        """It and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def status(self) -> int | None:
        """Its exit code, or minus the signal; None while it lives."""
        return self._process.poll()

    def close(self) -> None:
        """After its end, or after `kill`."""
        self._read()  # its last words
        self._process.wait()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _send(self, line: bytes) -> None:
        # Some kB at most: they fit into the socket's buffer, or the child is gone.
        with contextlib.suppress(OSError):
            self._socket.send(line)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._on_line(self, line)


class _Supervisor:
    def __init__(self, settings: WorkerSettings, child_module: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._module = child_module
        self._session = SupervisorSession()
        self._link: Link | None = None
        self._changed = asyncio.Event()
        self._refused: asyncio.Task[None] | None = None
        self._children: dict[int, _Child] = {}
        self._restarts: dict[int, asyncio.TimerHandle] = {}
        # By place: how many children in a row died young there.
        self._short_lives = [0] * settings.processes
        self._has_served = False
        self._signals = 0
        self._error: TaskqError | None = None
        self._ended = asyncio.Event()

    async def serve(self) -> int:
        self._loop.add_signal_handler(signal.SIGCHLD, self._on_child_signal)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_stop_signal)
        vouching = self._loop.create_task(self._vouch(), name="taskq vouching")
        try:
            for place in range(self._settings.processes):
                self._start(place)
            await self._ended.wait()
        finally:
            self._loop.remove_signal_handler(signal.SIGCHLD)
            self._cancel_restarts()
            for child in self._children.values():
                child.kill()
                child.close()
            vouching.cancel()
            if self._refused is not None:
                self._refused.cancel()
            if self._link is not None:
                await self._link.close("the supervisor has stopped")
        if self._error is not None:
            raise self._error
        return EXIT_INTERRUPTED if self._signals > 1 else 0

    async def _vouch(self) -> None:
        while True:
            self._session.vouch()
            self._wake()
            await asyncio.sleep(VOUCH_EVERY_MS / 1_000)

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    # -- children ---------------------------------------------------------------------------------

    def _start(self, place: int) -> None:
        self._restarts.pop(place, None)
        child = _Child(place, self._settings, self._module, self._on_line)
        self._children[child.pid] = child
        self._session.started(child.session)
        self._wake()

    def _on_line(self, child: _Child, line: bytes) -> None:
        match decode_from_child(line):
            case Ready(urls, token):
                if self._link is None:
                    self._connect(urls, token)
            case Serving():
                is_first, self._has_served = not self._has_served, True
                if is_first:
                    self._say_ready()
            case Failed(code="config", text=text) if self._has_served:
                # It could be imported, and its lifespan entered, before: somebody is editing, or deploying.
                logger.error("%s", text)
            case Failed(code="config", text=text):
                self._fail(ConfigError(text))
            case Failed(code, text):
                self._fail(Refused.from_code(code, text))

    def _connect(self, urls: list[str], token: str | None) -> None:
        """The child has imported the app and knows the broker; only now do we."""
        self._link = Link(
            urls,
            session=os.urandom(16),
            role="supervisor",
            speaker=self._session,
            name=self._settings.name,
            token=token,
            on_change=self._on_change,
        )
        self._link.start()
        self._refused = self._loop.create_task(self._until_refused(self._link), name="taskq refusal")

    def _on_change(self) -> None:
        self._changed.set()
        self._say_ready()

    def _say_ready(self) -> None:
        if self._has_served and self._link is not None and self._link.connected:
            count = len(self._children)
            logger.info("ready: %d worker process%s", count, "" if count == 1 else "es")

    async def _until_refused(self, link: Link) -> None:
        try:
            await until_refused(link, self._changed)
        except Refused as error:
            self._fail(error)

    def _fail(self, error: TaskqError) -> None:
        if self._error is None:
            self._error = error
        self._ended.set()

    def _on_child_signal(self) -> None:
        for child in list(self._children.values()):
            status = child.status()
            if status is not None:
                self._on_exit(child, status)

    def _on_exit(self, child: _Child, status: int) -> None:
        del self._children[child.pid]
        self._session.exited(child.session, status, _exit_text(status))
        self._wake()
        if status != 0:
            child.kill()  # what its tasks had started: the jobs run again elsewhere
        child.close()
        if not self._signals and not (self._settings.burst and status == 0):
            self._replace(child, status)
        if not self._children and not self._restarts:
            self._ended.set()

    def _replace(self, child: _Child, status: int) -> None:
        lived_ms = (self._loop.time() - child.started_at) * 1_000
        is_short = status != 0 and lived_ms < CHILD_STEADY_MS
        short_lives = self._short_lives[child.place] = self._short_lives[child.place] + 1 if is_short else 0
        backoff_ms = 0 if not short_lives else CHILD_BACKOFF_FIRST_MS * 2 ** min(short_lives - 1, 30)
        backoff_ms = min(backoff_ms, CHILD_BACKOFF_MAX_MS)
        logger.warning(
            "worker process %d ended: %s; the next starts in %d ms", child.pid, _exit_text(status), backoff_ms
        )
        self._restarts[child.place] = self._loop.call_later(backoff_ms / 1_000, self._start, child.place)

    # -- stopping ---------------------------------------------------------------------------------

    def _on_stop_signal(self) -> None:
        self._signals += 1
        self._cancel_restarts()
        if not self._children:
            self._ended.set()
        elif self._signals == 1:
            logger.info(
                "stopping: running jobs get %g s; a second signal stops now", self._settings.grace_ms / 1_000
            )
            self._order("drain", self._settings.grace_ms + EXIT_MARGIN_MS)
        elif self._signals == 2:
            self._order("now", EXIT_MARGIN_MS)
        else:
            self._kill_all()

    def _order(self, order: Order, patience_ms: int) -> None:
        for child in self._children.values():
            child.order(order)
        self._loop.call_later(patience_ms / 1_000, self._kill_all)

    def _cancel_restarts(self) -> None:
        for restart in self._restarts.values():
            restart.cancel()
        self._restarts = {}

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.kill()


def _exit_text(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"
