"""Hard limits, and leases of the blocked: how late a job is killed that keeps the interpreter to itself, and
whether jobs of a process that is only busy are given to another.

What is killed never yields: a number is computed in C, and no thread or signal handler of Python runs
meanwhile. The job writes down when its time was up; whoever watches the process, when it was gone.
"""

import asyncio
import contextlib
import os
import select
import time
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

from benchmarks import hogs
from benchmarks.harness import evidence
from benchmarks.harness.fleet import Fleet, Worker, wait_until
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile
from benchmarks.tasks import EVIDENCE
from taskq import Task, TaskQ
from taskq.errors import JobTimedOut

P = ParamSpec("P")
R = TypeVar("R")

SLOTS: Final = 100
TIMEOUT_S: Final = 0.5
APP: Final = "benchmarks.hogs:q"
SPINS: Final[dict[str, Task[[], int]]] = {
    "on the loop": hogs.spin_async,
    "in a thread": hogs.spin_thread,
    "in a process of its own": hogs.spin_process,
}
BLOCKED_JOBS: Final = 50
WAIT_S: Final = 1.0
BLOCKED_S: Final = 60.0
BLOCKED_S_QUICK: Final = 3.0

LATE_MS: Final = Bound(due=250.0, goal=100.0, at_most=True)
NONE: Final = Bound(due=0, goal=0, at_most=True)


async def measure(options: Options) -> Report:
    report = Report("limits", 1)
    blocked_s = BLOCKED_S_QUICK if options.quick else BLOCKED_S
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        theirs = fleet.folder / "theirs.txt"
        theirs.touch()
        async with TaskQ(broker.url) as app:
            worker = _worker(fleet, broker.url, "worker", theirs)
            for where, spin in SPINS.items():
                say(f"{options.count} jobs that spin {where}")
                late = [await _killed_after(app, spin, theirs) for _ in range(options.count)]
                report.add(
                    f"a job that spins in C {where}: killed, p50", "fsync", "ms", [percentile(late, 50)]
                )
                report.add("  slowest", "fsync", "ms", [max(late)], bound=LATE_MS)
            worker.end()
            elsewhere, ended_ms = await _given_away(fleet, app, broker.url, theirs, blocked_s)
    what = f"{BLOCKED_JOBS} jobs of a process that was blocked for {blocked_s:g} s"
    report.add(f"{what}: given to another worker", "fsync", "", [elsewhere], bound=NONE)
    report.add("  until all of them had ended, once it answered", "fsync", "ms", [ended_ms])
    report.notes.append(
        f"{options.count} kills each, a timeout of {TIMEOUT_S:g} s. From when the time was up, counted from "
        "the job's first line, until its process was gone."
    )
    return report


def _worker(fleet: Fleet, url: str, name: str, theirs: Path) -> Worker:
    return fleet.start_worker(url, name, app=APP, slots=SLOTS, env={EVIDENCE: str(theirs)})


async def _killed_after(app: TaskQ, spin: Task[[], int], theirs: Path) -> float:
    """How many ms after its time was up the process of one job that never yields was gone."""
    os.truncate(theirs, 0)
    job = await _of(app, spin).options(timeout=TIMEOUT_S).submit()
    await wait_until(lambda: bool(evidence.read([theirs]).runs), "the job has started")
    ((started, *_),) = evidence.read([theirs]).runs.values()
    gone_ns = await asyncio.to_thread(_wait_gone, started.pid)
    with contextlib.suppress(JobTimedOut):
        await job.result(timeout=30)
        raise AssertionError("a job that never ends has ended")
    return (gone_ns - started.began_ns) / 1e6 - TIMEOUT_S * 1_000


def _wait_gone(pid: int) -> int:
    """Until the process has ended; then, in ns since the boot."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            select.select([fd], [], [])
        finally:
            os.close(fd)
    return time.monotonic_ns()


async def _given_away(
    fleet: Fleet, app: TaskQ, url: str, theirs: Path, blocked_s: float
) -> tuple[int, float]:
    """How many of a blocked process's jobs ran elsewhere too, and how long they took once it was free."""
    os.truncate(theirs, 0)
    _worker(fleet, url, "blocked", theirs)
    waits = _of(app, hogs.waits)
    jobs = await app.submit_many([waits.call(WAIT_S) for _ in range(BLOCKED_JOBS)])
    await wait_until(lambda: len(evidence.read([theirs]).runs) == BLOCKED_JOBS, "all jobs have started")
    blocker = await _of(app, hogs.hold).submit(blocked_s)
    say(f"blocked for {blocked_s:g} s, beside a worker that is free")
    _worker(fleet, url, "other", theirs)
    await blocker.result(timeout=blocked_s + 60)
    began = time.monotonic()
    await app.gather(*jobs)
    ended_ms = (time.monotonic() - began) * 1_000
    runs = evidence.read([theirs]).runs
    return sum(len(each) > 1 for each in runs.values()), ended_ms


def _of(app: TaskQ, task: Task[P, R]) -> Task[P, R]:
    """The task as a producer knows it that is connected elsewhere than its own app."""
    known = app.tasks.get(task.name)
    return cast("Task[P, R]", known or app.task(name=task.name, executor=task.executor)(task.fn))


def main() -> None:
    run(measure, __doc__, runs=1, count=Count("--kills", full=20, quick=2))


if __name__ == "__main__":
    main()
