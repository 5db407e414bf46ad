"""SIGKILL the broker at random moments under load and start it again, many times.

Tasks, submitters and the killer each write down what they saw, in files that taskq knows nothing of. At the
end these are compared: every confirmed job must have one outcome, the same for whoever asks, and the jobs
that ran when a broker was killed must have been left to run: no worker is killed here.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.harness import evidence
from benchmarks.harness.evidence import Evidence, Findings, Seen
from benchmarks.harness.fleet import Broker, Fleet, wait_until
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.tasks import EVIDENCE, declare
from taskq import Task, TaskQ
from taskq.client.ids import IdMaker
from taskq.core.records import Ended, Succeeded, decode
from taskq.errors import ConfirmTimeout, JobError, TaskqError
from taskq.journal.base import open_journal

PRODUCERS: Final = 2
CALLERS: Final = 32  # of each producer
WORKERS: Final = 2
PROCESSES: Final = 2
SLOTS: Final = 50
# Kills fall into submits, deliveries, runs, reports and restarts alike.
KILL_AFTER_S: Final = (0.005, 0.5)
RUN_S: Final = (0.005, 0.3)
SETTLE_SECONDS: Final = 60.0
ASKED_AT_ONCE: Final = 2_000
SHOWN: Final = 10
SAY_EVERY: Final = 20

Occupy = Task[[float], tuple[int, int, int]]

NONE: Final = Bound(due=0, goal=0, at_most=True)
RUN_AGAIN_PERCENT: Final = Bound(due=1.0, goal=0.1, at_most=True)


class Load:
    """Callers that submit one job after another and write down what they are told."""

    def __init__(self, notes: Evidence) -> None:
        self._notes = notes
        self._new_id = IdMaker().new_id
        self._chance = Random()
        self.is_over = False
        self.told = 0

    async def call(self, occupy: Occupy) -> None:
        while not self.is_over:
            id = self._new_id(occupy.slot).hex()
            self._notes.note("submitted", id)
            try:
                job = await occupy.options(id=id).submit(self._chance.uniform(*RUN_S))
                self._notes.note("confirmed", id)
                self._notes.note("told", id, *await job.result())
            except ConfirmTimeout:
                # It may or may not be there: nothing was promised.
                continue
            except JobError:
                self._notes.note("failed", id)
            self.told += 1


async def measure(options: Options) -> Report:
    report = Report("crashes", 1)
    with Fleet() as fleet:
        files = [fleet.folder / "ours.txt", fleet.folder / "theirs.txt"]
        notes = Evidence(files[0])
        try:
            broker = await fleet.start_broker()
            for number in range(WORKERS):
                env = {EVIDENCE: str(files[1])}
                name = f"worker-{number}"
                fleet.start_worker(broker.url, name, slots=SLOTS, processes=PROCESSES, env=env)
            starts = await _under_load(fleet, broker, notes, options.count)
            await _ask_again(broker.url, notes, evidence.read(files[:1]))
        finally:
            notes.close()
        fleet.end_all()
        findings = evidence.judge(evidence.read(files))
        in_journal = await _recorded_twice(fleet.folder / "broker.db")
    _fill(report, findings, in_journal, starts)
    return report


async def _under_load(fleet: Fleet, broker: Broker, notes: Evidence, kills: int) -> list[float]:
    """Returns how long each start took, in seconds, when all that was submitted has ended."""
    load = Load(notes)
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(TaskQ(broker.url)) for _ in range(PRODUCERS)]
        tasks = [declare(app).occupy for app in apps]
        callers = [asyncio.create_task(load.call(task)) for task in tasks for _ in range(CALLERS)]
        try:
            await wait_until(lambda: load.told >= CALLERS, "the load is under way")
            starts = await _kill_and_restart(fleet, broker, notes, kills)
            load.is_over = True
            # What does not end within the time is a finding, and will be missed at the end.
            await asyncio.wait(callers, timeout=SETTLE_SECONDS)
        finally:
            for caller in callers:
                caller.cancel()
            done, _ = await asyncio.wait(callers)
    for caller in done:
        if not caller.cancelled():
            caller.result()
    return starts


async def _kill_and_restart(fleet: Fleet, broker: Broker, notes: Evidence, kills: int) -> list[float]:
    starts = []
    chance = Random()
    for number in range(kills):
        await asyncio.sleep(chance.uniform(*KILL_AFTER_S))
        notes.note("killed", time.monotonic_ns())
        broker.kill()
        broker = await fleet.start_broker(url=broker.url)
        starts.append(broker.start_seconds)
        if (number + 1) % SAY_EVERY == 0:
            say(f"{number + 1} of {kills} kills")
    return starts


async def _ask_again(url: str, notes: Evidence, seen: Seen) -> None:
    """Whoever asks later must hear the same: a client that was not there asks for every confirmed job."""
    ids = sorted(seen.confirmed)
    async with TaskQ(url) as app:
        for start in range(0, len(ids), ASKED_AT_ONCE):
            part = ids[start : start + ASKED_AT_ONCE]
            answers = await asyncio.gather(
                *(app.job(id).result(timeout=SETTLE_SECONDS) for id in part), return_exceptions=True
            )
            for id, answer in zip(part, answers, strict=True):
                if not isinstance(answer, BaseException):
                    notes.note("kept", id, *answer)
                elif not isinstance(answer, (TaskqError, TimeoutError)):
                    raise answer


async def _recorded_twice(path: Path) -> int:
    """Jobs of which the journal itself tells two outcomes. Compaction repeats one, with the same lease."""
    leases: dict[bytes, set[int]] = defaultdict(set)
    journal = await open_journal(f"sqlite:{path}")
    try:
        async for seq, blob in journal.read():
            for record in decode(seq, blob):
                if isinstance(record, Succeeded | Ended):
                    for item in record.items:
                        leases[item.id].add(item.lease)
    finally:
        await journal.close()
    return sum(len(of_job) > 1 for of_job in leases.values())


def _fill(report: Report, findings: Findings, in_journal: int, starts: Sequence[float]) -> None:
    kills = len(starts)
    again = 100 * findings.run_again / max(findings.running_at_kills, 1)
    report.add("brokers killed", "fsync", "", [kills])
    report.add("jobs submitted", "fsync", "", [findings.submitted])
    report.add("jobs confirmed", "fsync", "", [findings.confirmed])
    report.add("confirmed jobs lost", "fsync", "", [len(findings.lost)], bound=NONE)
    report.add("outcomes told twice, and not the same", "fsync", "", [len(findings.twice)], bound=NONE)
    report.add("outcomes recorded twice in the journal", "fsync", "", [in_journal], bound=NONE)
    report.add(
        "outcomes of no run", "fsync", "", [len(findings.never_run) + len(findings.failed)], bound=NONE
    )
    report.add("jobs running at the kills", "fsync", "", [findings.running_at_kills])
    report.add("  run again although their worker lived", "fsync", "%", [again], bound=RUN_AGAIN_PERCENT)
    report.add("started again, from the start of the process", "fsync", "ms", [s * 1000 for s in starts])
    report.notes.append(
        f"{PRODUCERS} producers with {CALLERS} callers each, {WORKERS * PROCESSES} worker processes; tasks "
        f"of {RUN_S[0] * 1000:g}-{RUN_S[1] * 1000:g} ms; killed {KILL_AFTER_S[0] * 1000:g}-"
        f"{KILL_AFTER_S[1] * 1000:g} ms after it served."
    )
    for what, ids in (("lost", findings.lost), ("twice", findings.twice), ("failed", findings.failed)):
        if ids:
            report.notes.append(f"{what}: {', '.join(ids[:SHOWN])}")


def main() -> None:
    run(measure, __doc__, runs=1, count=Count("--kills", full=200, quick=4))


if __name__ == "__main__":
    main()
