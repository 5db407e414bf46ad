"""Real brokers and workers as processes of ours, in a temporary folder, all ended when the block is left."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.harness import proc

ROOT: Final = Path(__file__).resolve().parents[2]
APP: Final = "benchmarks.tasks:q"
# A broker that reads a million jobs back is slow to listen on a busy machine.
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
LOG_LINES_SHOWN: Final = 15
LISTENING: Final = "listening on "
UNDERTAKER: Final = "undertaker.py"


class FleetError(Exception):
    """A process of ours did not do what it should; the text ends with what it logged."""


class Fleet:
    """Use as a context manager: leaving it ends every process by its number, also after an error."""

    def __init__(self) -> None:
        self._temp = tempfile.TemporaryDirectory(prefix="taskq-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._temp.name)
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_all()
        self._temp.cleanup()

    async def start_broker(self, name: str = "broker", *, journal: str = "", url: str = "") -> "Broker":
        """A broker that serves. `url`, and the same name: again where it was, with what it had."""
        began = time.monotonic()
        port = url.rpartition(":")[2] or "0"
        journal = journal or f"sqlite:{self.folder / name}.db"
        broker = Broker(self.folder, name, ["broker", "--port", port, "--journal", journal])
        self._started.append(broker)
        await broker.wait_listening()
        broker.start_seconds = time.monotonic() - began
        return broker

    def start_worker(
        self,
        url: str,
        name: str = "worker",
        *,
        slots: int,
        processes: int = 1,
        env: Mapping[str, str] | None = None,
        app: str = APP,
    ) -> "Worker":
        """`taskq worker` for the tasks of the benchmarks; it connects by itself."""
        words = ["worker", app, "--url", url, "--name", name, "-c", str(slots), "-w", str(processes)]
        worker = Worker(self.folder, name, words, env or {})
        self._started.append(worker)
        return worker

    def end_all(self) -> None:
        """End every process, and keep the folder until the block is left."""
        # Last started, first ended: workers say goodbye to a broker that is still there.
        for process in reversed(self._started):
            process.end()
        self._started.clear()


class Process:
    """One `python -m taskq ...`, the leader of its own process group, with its log in the folder."""

    def __init__(
        self, folder: Path, name: str, words: Iterable[str], env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        # Those that it started and that we have seen: they are ended with it even when it is killed.
        self._seen: set[int] = set()
        with self._log.open("a") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "taskq", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=_environment(env or {}),
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def children(self) -> list[int]:
        found = proc.children(self.pid)
        self._seen.update(found)
        return found

    def check(self) -> None:
        """Raises FleetError when it has ended."""
        if self._popen.poll() is not None:
            raise FleetError(f"{self.name} ended by itself with {self._popen.returncode}\n{self.log_tail()}")

    def log_tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return (
            "\n".join(f"  {self.name}: {line}" for line in lines[-LOG_LINES_SHOWN:])
            or f"  {self.name}: (no log)"
        )

    def kill(self) -> None:
        """SIGKILL it and nothing else; its children must notice by themselves."""
        self.children()
        self._popen.kill()
        self._popen.wait()

    def end(self) -> None:
        """SIGTERM, then SIGKILL; returns when it and its children are gone."""
        if self._popen.poll() is None:
            self.children()
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
            if self._popen.poll() is None:
                self.kill()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        _bury(self._seen)


class Broker(Process):
    url = ""
    start_seconds = 0.0

    async def wait_listening(self) -> None:
        stdout = self._popen.stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = (await asyncio.to_thread(stdout.readline)).decode()
        except BaseException:
            # The thread that reads ends only when the pipe does.
            self.kill()
            raise
        if not line.startswith(LISTENING):
            raise FleetError(f"{self.name} did not start\n{self.log_tail()}")
        self.url = line.removeprefix(LISTENING).strip()

    def groups(self) -> dict[str, list[int]]:
        """Its processes by what they do, for a CpuMeter."""
        return {"broker": [self.pid], "journal": self.children()}


class Worker(Process):
    def __init__(
        self, folder: Path, name: str, words: Iterable[str], env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, name, words, env)
        self._held: list[int] = []

    def running(self) -> list[int]:
        """The processes that run tasks."""
        return [pid for pid in self.children() if not proc.is_running(pid, UNDERTAKER)]

    def stand_still(self) -> None:
        """The processes that run tasks do nothing more; their supervisor still vouches for them."""
        for pid in self.running():
            proc.hold(pid)
            self._held.append(pid)

    def go_on(self) -> None:
        for pid in self._held:
            with contextlib.suppress(ProcessLookupError):
                proc.let_go(pid)
        self._held = []

    def end(self) -> None:
        # What stands still cannot stop when it is told to.
        self.go_on()
        super().end()

    def groups(self) -> dict[str, list[int]]:
        running = self.running()
        others = [pid for pid in self.children() if pid not in running]
        return {"worker": running, "supervisor": [self.pid], "undertaker": others}


async def wait_until(is_so: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Look every few milliseconds: for what other processes do and nobody tells us."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise FleetError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.005)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without TASKQ_*, which would change what is measured; `taskq` and `benchmarks` are importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH", ""))))
    return {**kept, **more}


def _bury(pids: Iterable[int]) -> None:
    """Wait until they are gone; those that stay too long are killed."""
    until = time.monotonic() + STOP_SECONDS
    for pid in pids:
        while proc.is_alive(pid) and time.monotonic() < until:
            time.sleep(0.005)
        # A number may have been given to another process by now: only our own interpreter's is ours.
        if proc.is_alive(pid) and Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
