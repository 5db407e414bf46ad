"""`taskq demo`: real processes, a real workload, and two of them killed on the way."""

import asyncio
import os
import signal
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from taskq.cli import output
from taskq.cli.exits import Exit

if TYPE_CHECKING:
    from taskq.cli.demo_report import Board, Tally
    from taskq.client.app import TaskQ
    from taskq.testing.fleet import Fleet

WORKERS: Final = 3
SLOTS: Final = 4
# The whole is to end within a minute; what is left of it is for ending the processes.
LIMIT_SECONDS: Final = 50.0
# When so many parts of the work are done.
KILL_WORKER_AT: Final = 0.25
KILL_BROKER_AT: Final = 0.55

EXAMPLES: Final = """\b
Examples:
  taskq demo
  taskq demo | cat
"""


@click.command(epilog=EXAMPLES)
def command() -> int:
    """See it work, in under a minute.

    Starts a broker and three workers on a free port and in a temporary folder, and counts lines,
    functions and classes of each source file of Python's standard library: a job per file. On the
    way a busy worker and the broker are killed with SIGKILL. Exit code 0 means that each file was
    counted exactly once. Everything that was started is ended.
    """
    return asyncio.run(_demo())


async def _demo() -> int:
    from taskq.cli.demo_report import Tally, board
    from taskq.client.app import TaskQ
    from taskq.testing.fleet import Fleet

    root = Path(sysconfig.get_path("stdlib"))
    names = source_files(root)
    output.say(f"counting {len(names):,} files of {root}")
    with Fleet() as fleet:
        output.say(f"broker {await fleet.start_broker()} listens on {fleet.url}")
        workers = fleet.start_workers(WORKERS, "taskq.cli.demo_tasks:q", "-c", str(SLOTS))
        output.say(f"workers {', '.join(map(str, workers))} run {SLOTS} jobs each at once")
        tally = Tally(root, names, time.time())
        try:
            async with asyncio.timeout(LIMIT_SECONDS), TaskQ(fleet.url) as app:
                with board(len(names)) as shown:
                    await _count(app, fleet, tally, shown)
        except TimeoutError:
            logs = "\n".join(fleet.log(name) for name in ("broker", "worker-1", "worker-2", "worker-3"))
            raise TimeoutError(f"{len(tally)} of {len(names)} after {LIMIT_SECONDS:g} s\n{logs}") from None
    output.table(["TOTAL", ""], tally.rows(), left=2)
    mistakes = tally.mistakes()
    for mistake in mistakes:
        output.say(f"taskq: error: {mistake}")
    if mistakes:
        return Exit.FAILED
    output.data(f"each of the {len(names):,} files was counted exactly once, through both kills")
    return Exit.OK


def source_files(root: Path) -> list[str]:
    """The Python sources of the standard library below `root`, without what others installed there."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(root).parts)
    )


async def _count(app: "TaskQ", fleet: "Fleet", tally: "Tally", shown: "Board") -> None:
    """Submit a job per file and collect the results, killing what is to be killed when it is time."""
    from taskq.cli.demo_tasks import register

    count_file = register(app)
    jobs = await app.submit_many([count_file.call(str(tally.root), name) for name in tally.names])
    shown.say(f"submitted {len(jobs):,} jobs; each is on disk")
    kills = [
        (int(len(jobs) * KILL_BROKER_AT), _kill_broker),
        (int(len(jobs) * KILL_WORKER_AT), _kill_worker),
    ]
    async for job in app.as_completed(jobs):
        counted = await job.result()
        tally.add(counted)
        shown.done(len(tally))
        if kills and len(tally) >= kills[-1][0]:
            _, kill = kills.pop()
            await kill(fleet, counted.pid, shown)
        fleet.check()


async def _kill_worker(fleet: "Fleet", busy: int, shown: "Board") -> None:
    """The process whose result has just come: more jobs wait than it has slots, so it has the next ones."""
    os.kill(busy, signal.SIGKILL)
    shown.say(f"killed {busy}, a worker's process, in the middle of its jobs: others get them")


async def _kill_broker(fleet: "Fleet", busy: int, shown: "Board") -> None:
    killed = await fleet.kill_broker()
    shown.say(f"killed {killed}, the broker: what it had confirmed is on disk")
    began = time.monotonic()
    started = await fleet.start_broker()
    shown.say(f"broker {started} serves again after {time.monotonic() - began:.2f} s, with all jobs")
