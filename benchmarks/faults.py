"""SIGKILL a worker that runs jobs: how long until they run in another one.

In one half of the kills it is the process that runs the tasks, whose supervisor tells the broker; in the
other the supervisor is killed with it, and the broker hears no more than that the connections closed.
"""

import asyncio
import os
import signal
import time
from typing import Final

from benchmarks.harness import evidence
from benchmarks.harness.evidence import Stretch
from benchmarks.harness.fleet import Fleet, Worker, wait_until
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile
from benchmarks.tasks import EVIDENCE, declare
from taskq import Task, TaskQ

# One is killed, and the jobs have a choice of two. A killed one is replaced before the next kill: its own
# supervisor would start its child again, but later and later, as it must for a crash loop.
WORKERS: Final = 3
SLOTS: Final = 50
JOBS: Final = 15
# Long enough to be running when the kill comes, short enough for hundreds of kills.
RUN_S: Final = 0.25
SAY_EVERY: Final = 20

ELSEWHERE_MS: Final = Bound(due=100.0, goal=20.0, at_most=True)


class Hunt:
    """The workers, and what was measured so far, in ms."""

    def __init__(self, fleet: Fleet, app: TaskQ, url: str) -> None:
        self._fleet = fleet
        self._app = app
        self._url = url
        self._occupy: Task[[float], tuple[int, int, int]] = declare(app).occupy
        self._theirs = fleet.folder / "theirs.txt"
        self._theirs.touch()
        self._workers: list[Worker] = []
        self._number = 0

    async def kill_one(self, *, with_supervisor: bool) -> list[float]:
        """Kill a worker that runs some of the jobs; for each of these, ms until it ran elsewhere."""
        await self._complete()
        # Nothing runs now, so nobody writes.
        os.truncate(self._theirs, 0)
        jobs = await self._app.submit_many([self._occupy.call(RUN_S) for _ in range(JOBS)])
        await wait_until(lambda: len(self._runs()) == JOBS, "all jobs have started")
        pids = {id: runs[-1].pid for id, runs in self._runs().items()}
        victim, child = self._busy(set(pids.values()))
        killed_ns = time.monotonic_ns()
        for pid in (victim.pid, child) if with_supervisor else (child,):
            os.kill(pid, signal.SIGKILL)
        await self._app.gather(*jobs)
        self._workers.remove(victim)
        victim.end()
        runs = self._runs()
        return [(runs[id][1].began_ns - killed_ns) / 1e6 for id, pid in pids.items() if pid == child]

    async def _complete(self) -> None:
        """As many workers as there should be, all of them known to the broker."""
        while len(self._workers) < WORKERS:
            self._number += 1
            env = {EVIDENCE: str(self._theirs)}
            name = f"worker-{self._number}"
            self._workers.append(self._fleet.start_worker(self._url, name, slots=SLOTS, env=env))
        while sum(peer.connected for peer in (await self._app.status()).workers) < WORKERS:
            await asyncio.sleep(0.01)

    def _busy(self, running: set[int]) -> tuple[Worker, int]:
        """The worker that has been there longest of those that run jobs, and its process."""
        return next(
            (worker, child) for worker in self._workers for child in worker.running() if child in running
        )

    def _runs(self) -> dict[str, list[Stretch]]:
        return evidence.read([self._theirs]).runs


async def measure(options: Options) -> Report:
    report = Report("faults", 1)
    kinds = {"SIGKILL of its process": False, "SIGKILL of process and supervisor": True}
    slowest: dict[str, list[float]] = {what: [] for what in kinds}
    killed = 0
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        async with TaskQ(broker.url) as app:
            hunt = Hunt(fleet, app, broker.url)
            for number in range(options.count):
                for what, with_supervisor in kinds.items():
                    taken = await hunt.kill_one(with_supervisor=with_supervisor)
                    slowest[what].append(max(taken))
                    killed += len(taken)
                if (number + 1) % SAY_EVERY == 0:
                    say(f"{number + 1} of {options.count} kills of each kind")
    for what, times in slowest.items():
        report.add(f"{what}, p50", "fsync", "ms", [percentile(times, 50)])
        report.add(f"{what}, p99", "fsync", "ms", [percentile(times, 99)], bound=ELSEWHERE_MS)
        report.add(f"{what}, slowest", "fsync", "ms", [max(times)])
    report.notes += [
        "From the kill until the last of the worker's jobs runs in another one.",
        f"{options.count} kills of each kind, {killed} jobs; {JOBS} jobs over {WORKERS} workers at a time.",
    ]
    return report


def main() -> None:
    run(measure, __doc__, runs=1, count=Count("--kills", full=200, quick=3))


if __name__ == "__main__":
    main()
