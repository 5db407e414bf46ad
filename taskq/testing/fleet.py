"""A broker and workers as processes of our own, in a temporary folder, all ended when the block is left.

Each process leads its own process group, so that ending the
group also ends what it started, and Ctrl-C reaches only us.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from taskq.errors import TaskqError

START_SECONDS: Final = 15.0
# A broker commits in milliseconds and these workers hold nothing that is worth waiting for.
STOP_SECONDS: Final = 5.0
LOG_LINES_SHOWN: Final = 15

_LISTENING: Final = "listening on "


class FleetError(TaskqError):
    """A process that we started did not do what it should; the text ends with what it logged."""


class Fleet:
    """Use as a context manager: leaving it ends every process, also after an error or Ctrl-C.

    With a `url`, the broker there is somebody else's: only workers are ours, and they get our token.
    """

    def __init__(self, url: str = "") -> None:
        self._is_guest = bool(url)
        self._temp = tempfile.TemporaryDirectory(prefix="taskq-", ignore_cleanup_errors=True)
        self.folder = Path(self._temp.name)
        self.url = url
        self.broker: subprocess.Popen[str] | None = None
        self.workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def start_broker(self) -> int:
        """Start the broker, again on the port and the journal that it had; its pid once it serves."""
        port = self.url.rpartition(":")[2] or "0"
        process = self._spawn(
            "broker", "broker", "--port", port, "--journal", f"sqlite:{self.folder / 'taskq.db'}"
        )
        self.broker = process
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await asyncio.to_thread(process.stdout.readline)
        except TimeoutError:
            # The thread that reads ends only when the pipe does, so this must not wait for `close`.
            _kill_group(process)
            raise FleetError(
                f"the broker did not start within {START_SECONDS:g} s\n{self.log('broker')}"
            ) from None
        if not line.startswith(_LISTENING):
            raise FleetError(f"the broker did not start\n{self.log('broker')}")
        self.url = line.removeprefix(_LISTENING).strip()
        return process.pid

    def start_workers(self, count: int, app: str, *flags: str) -> list[int]:
        """Start so many `taskq worker` processes; their pids. They connect by themselves."""
        started = [
            self._spawn(
                f"worker-{number}", "worker", app, "--url", self.url, "--name", f"worker-{number}", *flags
            )
            for number in range(len(self.workers) + 1, len(self.workers) + count + 1)
        ]
        self.workers += started
        return [process.pid for process in started]

    async def kill_broker(self) -> int:
        """SIGKILL the broker, and only it: its journal's process must notice by itself. Its pid."""
        killed = self.broker
        assert killed is not None and killed.stdout is not None
        killed.kill()
        await asyncio.to_thread(killed.wait)
        killed.stdout.close()
        return killed.pid

    def check(self) -> None:
        """Raises FleetError when a process has ended that nobody ended."""
        names = [f"worker-{number}" for number in range(1, len(self.workers) + 1)]
        for name, process in zip(["broker", *names], [self.broker, *self.workers], strict=True):
            if process is not None and process.poll() is not None:
                raise FleetError(f"{name} ended by itself with {process.returncode}\n{self.log(name)}")

    def log(self, name: str) -> str:
        """The last lines that the process logged."""
        path = self.folder / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"  {name}: {line}" for line in lines[-LOG_LINES_SHOWN:]) or f"  {name}: (no log)"

    def close(self) -> None:
        """End every process: workers first, so that they can say goodbye; what does not end is killed."""
        _end(self.workers)
        if self.broker is not None:
            _end([self.broker])
        self._temp.cleanup()

    def _spawn(self, name: str, *words: str) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "taskq", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if name == "broker" else log,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=_environment(with_token=self._is_guest),
                start_new_session=True,
            )


def _environment(*, with_token: bool) -> dict[str, str]:
    """Ours without TASKQ_*: the caller's settings are not those of the fleet.

    What we can import, they can: this package, when it is not installed, and the tasks beside a test, which
    pytest has put on our path. They run in another folder, so relative places are made absolute.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")}
    places = [Path(__file__).parents[2], *map(Path, sys.path)]
    kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(str(place.resolve()) for place in places))
    if with_token and "TASKQ_TOKEN" in os.environ:
        kept["TASKQ_TOKEN"] = os.environ["TASKQ_TOKEN"]
    if with_token and "TASKQ_TOKEN_FILE" in os.environ:
        # They run in another folder.
        kept["TASKQ_TOKEN_FILE"] = str(Path(os.environ["TASKQ_TOKEN_FILE"]).resolve())
    return kept


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(process)
        if process.stdout is not None:
            process.stdout.close()


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it started. Once it is reaped, its number may be another's: left alone."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
