"""`--reload`: one worker that is started anew whenever a source file is saved. For development only.

This process never imports the user's code: a save that breaks it cannot break what waits for the next one.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from threading import Thread
from typing import IO, Final

from msgspec import Struct
from msgspec.json import Decoder, Encoder

from taskq.errors import ConfigError
from taskq.worker.settings import WorkerSettings

# Saves that come together, such as those of a checkout, are one.
GATHER_MS: Final = 400
STEP_MS: Final = 50
# What the worker may take beyond its grace before it is killed; it kills its own children much earlier.
KILL_AFTER_MS: Final = 10_000

OnLine = Callable[[str, bool], None]


class Start(Struct):
    """The first line that the worker's process reads. When its standard input ends, so must it."""

    settings: WorkerSettings
    debug: bool


_encode: Final = Encoder().encode
_start: Final = Decoder(Start)


def read_start(line: bytes) -> Start:
    return _start.decode(line)


def run(settings: WorkerSettings, module: str, *, say: Callable[[str], None], debug: bool = False) -> int:
    """Run the worker until signals stop it, anew on each save in or below the current directory.

    Returns 0. Raises ConfigError when watchfiles is not installed. Must be called in the main thread.
    """
    return asyncio.run(_run(Reloader(settings, module, folders=[Path()], say=say, debug=debug)))


async def _run(reloader: "Reloader") -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reloader.stop)
    await reloader.run()
    return 0


def check_installed() -> None:
    """Raises ConfigError when the extra is not there that watches files."""
    try:
        import watchfiles  # noqa: F401  # only whether it can be
    except ImportError:
        raise ConfigError(
            "reloading needs watchfiles, which is not installed: pip install 'taskqd[dev]'"
        ) from None


class Reloader:
    """Runs `module` as the worker's process, one at a time, from `run` until `stop`.

    `say` is told what happens, for people. With `on_line` the worker's lines go there (and whether they
    came from standard error), in other threads; else they go where ours go. Raises ConfigError when
    watchfiles is not installed.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        module: str,
        *,
        folders: Iterable[Path],
        say: Callable[[str], None],
        on_line: OnLine | None = None,
        environment: Mapping[str, str] | None = None,
        debug: bool = False,
    ) -> None:
        check_installed()
        self._first_line = Start(settings, debug)
        self._module = module
        self._folders = [folder.resolve() for folder in folders]
        self._say = say
        self._on_line = on_line
        self._environment = {
            **(os.environ if environment is None else environment),
            "PYTHONUNBUFFERED": "1",
            # Bytecode knows its source by the second and the size: a quick second save would not count.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._broken: dict[Path, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._signals = 0

    async def run(self) -> None:
        """Until `stop`. Raises ConfigError when a folder cannot be watched."""
        watching = asyncio.create_task(self._watch(watch(self._folders, self._stopping)), name="taskq reload")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set() and not watching.done():
                await self._one_life(watching, stopping)
            if watching.done():
                watching.result()
        finally:
            self._stopping.set()
            stopping.cancel()
            if self._process is not None:
                _kill(self._process)
            await asyncio.gather(watching, return_exceptions=True)

    def stop(self) -> None:
        """The first time: take no more, finish within the grace. The second: now. The third kills."""
        self._signals += 1
        self._stopping.set()
        if self._process is not None:
            if self._signals <= 2:
                self._process.terminate()
            else:
                self._process.kill()

    # -- the worker -------------------------------------------------------------------------------

    async def _one_life(self, watching: "asyncio.Task[None]", stopping: "asyncio.Task[bool]") -> None:
        """From the start of a worker until the next one may start."""
        self._changed.clear()
        self._process = process = self._spawn()
        changed = asyncio.create_task(self._changed.wait())
        ended = asyncio.create_task(asyncio.to_thread(process.wait))
        try:
            await asyncio.wait([changed, ended, stopping, watching], return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not self._stopping.is_set():
                self._say(f"the worker has ended ({_exit_text(ended.result())}); it starts at the next save")
                await asyncio.wait([changed, stopping, watching], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(process, ended)
        finally:
            changed.cancel()
            _kill(process)
            await ended
            self._process = None

    async def _end(self, process: "subprocess.Popen[str]", ended: "asyncio.Task[int]") -> None:
        if not self._signals:
            process.terminate()
        patience_ms = self._first_line.settings.grace_ms + KILL_AFTER_MS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), patience_ms / 1_000)

    def _spawn(self) -> "subprocess.Popen[str]":
        pipe = None if self._on_line is None else subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            env=self._environment,
            process_group=0,  # a Ctrl-C at the terminal is for us, who pass it on
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(_encode(self._first_line).decode() + "\n")
            process.stdin.flush()
        for stream, is_error in ((process.stdout, False), (process.stderr, True)):
            if stream is not None:
                Thread(target=self._read, args=(stream, is_error), name="taskq output", daemon=True).start()
        return process

    def _read(self, stream: IO[str], is_error: bool) -> None:
        assert self._on_line is not None
        with stream:
            for line in stream:
                self._on_line(line.rstrip("\n"), is_error)

    # -- the sources ------------------------------------------------------------------------------

    async def _watch(self, changes: AsyncIterator[set[Path]]) -> None:
        async for paths in changes:
            names = sorted(_short(path) for path in paths)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self._broken = syntax_errors(paths | self._broken.keys())
            if self._broken:
                for text in self._broken.values():
                    self._say(f"{text}; the worker goes on as it was until the next save")
            else:
                self._say(f"{names[0]}{more} changed: the worker starts anew")
                self._changed.set()


async def watch(folders: Iterable[Path], until: asyncio.Event) -> AsyncIterator[set[Path]]:
    """The Python sources in and below these folders that were saved, each time some were.

    Hidden folders, virtual environments and caches are left out.
    """
    import watchfiles

    try:
        async for changes in watchfiles.awatch(
            *folders,
            watch_filter=watchfiles.PythonFilter(),
            debounce=GATHER_MS,
            step=STEP_MS,
            stop_event=until,
        ):
            yield {Path(path) for _, path in changes}
    except OSError as error:
        raise ConfigError(f"cannot watch {', '.join(map(str, folders))}: {error}") from error


def syntax_errors(paths: Iterable[Path]) -> dict[Path, str]:
    """Which of these sources Python cannot read, and why. Those that are gone are none."""
    found: dict[Path, str] = {}
    for path in sorted(paths):
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            where = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            found[path] = f"{_short(path)}{where}: {type(error).__name__}: {text}"
        except OSError:
            continue
    return found


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _kill(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.kill()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _exit_text(status: int) -> str:
    return f"exit code {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
