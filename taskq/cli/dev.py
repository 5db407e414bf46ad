"""`taskq dev`: a broker and workers in one terminal, for whoever writes tasks."""

import asyncio
import logging
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import click

from taskq.cli import logs
from taskq.cli.main import Talk
from taskq.cli.values import COUNT, DURATION
from taskq.errors import ConfigError

if TYPE_CHECKING:
    from taskq.server.settings import BrokerSettings
    from taskq.worker.reloading import Reloader
    from taskq.worker.settings import WorkerSettings

FOLDER: Final = Path(".taskq")
PORT: Final = 7700
# After Ctrl-C nobody wants to wait out the grace.
CTRL_C_SECONDS: Final = 1.0
NAMES: Final = ("dev", "broker", "worker")
COLOURS: Final = {"dev": "green", "broker": "magenta", "worker": "cyan"}

EXAMPLES: Final = """\b
Examples:
  taskq dev tasks:q
  taskq dev shop.tasks:q -w 4 --watch shop --watch lib
  taskq dev tasks:q --journal memory:
"""


@click.command(epilog=EXAMPLES)
@click.argument("app", envvar="TASKQ_DEV_APP")
@click.option("-w", "--processes", type=COUNT, default=1, show_default=True, help="Processes that run jobs.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"The broker's port; 0 picks a free one.  [default: {PORT}, or a free one if it is taken]",
)
@click.option(
    "--journal",
    default=f"sqlite:{FOLDER}/dev.db",
    show_default=True,
    help="What jobs are kept in: sqlite:PATH, or memory: (they survive saves, but not the end).",
)
@click.option(
    "--watch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Start the workers anew when a .py in or below it is saved; may be repeated.  "
    "[default: the current directory]",
)
@click.option(
    "--grace",
    type=DURATION,
    default="2s",
    show_default=True,
    help="How long running jobs may take to end when a source is saved; then they are handed back.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    app: str,
    processes: int,
    port: int | None,
    journal: str,
    watch: tuple[Path, ...],
    grace: int,
) -> int:
    """Run a broker and workers for APP in this terminal, and start the workers anew on each save.

    APP is module:object, such as tasks:q. The broker is of its own and never another one: the workers
    get its address as TASKQ_URL. Its jobs are kept in ./.taskq and are there the next time.
    """
    from taskq.server.settings import BrokerSettings
    from taskq.worker.reloading import check_installed
    from taskq.worker.settings import WorkerSettings

    check_installed()
    debug = ctx.ensure_object(Talk).debug
    lines = Lines()
    lines.configure_logging(debug=debug)
    chosen = _port(port, lines)
    if FOLDER in Path(journal.removeprefix("sqlite:")).parents:
        _make_folder()
    if other := os.environ.get("TASKQ_URL"):
        lines.say("dev", f"TASKQ_URL ({other}) is not used here: this broker is of its own")
    return asyncio.run(
        _Dev(
            BrokerSettings(port=chosen, journal=journal, debug=debug),
            WorkerSettings(app=app, processes=processes, grace_ms=grace, name="dev"),
            watch or (Path(),),
            lines,
            debug,
        ).run()
    )


class Lines:
    """Lines of several sources in one terminal, each with its name in front."""

    def __init__(self) -> None:
        self._lock = Lock()
        is_coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        self._fronts = {name: _front(name, is_coloured) for name in NAMES}

    def say(self, name: str, line: str, is_error: bool = True) -> None:
        """From any thread."""
        stream = sys.stderr if is_error else sys.stdout
        with self._lock:
            stream.write(f"{self._fronts[name]}{line}\n")
            stream.flush()

    def configure_logging(self, *, debug: bool) -> None:
        """What this process logs is the broker's."""
        logs.configure(debug=debug)
        handler = _BrokerLines(self)
        handler.setFormatter(logs.Text())
        logging.getLogger("taskq").handlers[:] = [handler]


class _BrokerLines(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._lines.say("broker", line)


class _Dev:
    """The broker in this process, and the worker that is started anew; both end together."""

    def __init__(
        self,
        broker: "BrokerSettings",
        worker: "WorkerSettings",
        folders: tuple[Path, ...],
        lines: Lines,
        debug: bool,
    ) -> None:
        self._broker = broker
        self._worker = worker
        self._folders = folders
        self._lines = lines
        self._debug = debug

    async def run(self) -> int:
        """Until a signal, or until one of the two cannot go on. The exit code."""
        from taskq.server.daemon import Daemon

        daemon = Daemon(self._broker)
        serving = asyncio.create_task(daemon.run(), name="taskq dev broker")
        started = asyncio.create_task(daemon.serving.wait())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if serving.done():
            return serving.result()  # or raises why it did not start
        try:
            await self._work(serving, "taskq://{}:{}".format(*daemon.address))
        finally:
            daemon.stop()
            code = await serving
        return code

    async def _work(self, serving: "asyncio.Task[int]", url: str) -> None:
        from taskq.worker.reloading import Reloader

        reloader = Reloader(
            replace(self._worker, urls=(url,)),
            "taskq.cli.worker_reloaded",
            folders=self._folders,
            say=partial(self._lines.say, "dev"),
            on_line=partial(self._lines.say, "worker"),
            environment=_environment(url),
            debug=self._debug,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, reloader)
        count = self._worker.processes
        self._lines.say(
            "dev",
            f"listening on {url}; {self._worker.app} runs in {count} process{'' if count == 1 else 'es'} and "
            "starts anew on each save; Ctrl-C ends all",
            is_error=False,
        )
        reloading = asyncio.create_task(reloader.run(), name="taskq dev worker")
        await asyncio.wait([serving, reloading], return_when=asyncio.FIRST_COMPLETED)
        if not reloading.done():  # the broker has failed, and has said why
            reloader.stop()
        await reloading

    def _stop(self, reloader: "Reloader") -> None:
        self._lines.say("dev", "stopping")
        reloader.stop()
        asyncio.get_running_loop().call_later(CTRL_C_SECONDS, reloader.stop)


def _front(name: str, is_coloured: bool) -> str:
    front = f"{name:<6} | "
    return click.style(front, fg=COLOURS[name]) if is_coloured else front


def _port(wanted: int | None, lines: Lines) -> int:
    """The one that was asked for, else ours, else 0."""
    from taskq.server.listen import bind

    if wanted is not None:
        return wanted
    try:
        bind("127.0.0.1", PORT).close()
    except ConfigError:
        lines.say("dev", f"port {PORT} is taken, perhaps by another broker: this one takes a free port")
        return 0
    return PORT


def _make_folder() -> None:
    FOLDER.mkdir(exist_ok=True)
    ignore = FOLDER / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _environment(url: str) -> dict[str, str]:
    """The worker's: what it or its tasks submit comes to this broker too, which knows no tokens."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_TOKEN")}
    return {**kept, "TASKQ_URL": url, logs.FORMAT: "text"}
