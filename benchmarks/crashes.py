"""SIGKILL the broker at random moments under load, and start it again, many times.

Tasks, submitters and the killer each write down what they saw, in files outside taskq. At the end the two
are compared: every confirmed job must have exactly one outcome, whoever asks, and the jobs that ran while
the broker died must have been left to run: no worker was killed here.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.harness import evidence
from benchmarks.harness.evidence import Evidence, Findings
from benchmarks.harness.fleet import Broker, Fleet, wait_until
from benchmarks.harness.program import Count, Options, run, say
from benchmarks.harness.report import Bound, Report
from benchmarks.harness.spread import percentile
from benchmarks.tasks import EVIDENCE, declare
from taskq import TaskQ
from taskq.client.ids import IdMaker
from taskq.core.records import Succeeded, decode
from taskq.errors import ConfirmTimeout
from taskq.journal.base import open_journal

PRODUCERS: Final = 2
CALLERS: Final = 64
WORKERS: Final = 2
PROCESSES: Final = 2
SLOTS: Final = 50
# Kills fall into submits, deliveries, runs, reports and restarts alike.
KILL_AFTER_S: Final = (0.005, 0.5)
RUN_S: Final = (0.005, 0.3)
SETTLE_SECONDS: Final = 60.0
ASKED_AT_ONCE: Final = 2_000

NONE: Final = Bound(due=0, goal=0, at_most=True)
RUN_AGAIN_PERCENT: Final = Bound(due=1.0, goal=0.1, at_most=True)


class Load:
    """Callers that submit one job after another and write down what they are told."""

    def __init__(self, notes: Evidence) -> None:
        self._notes = notes
        self._new_id = IdMaker().new_id
        self._random = Random()
        self.is_over = False
        self.told = 0

    async def call(self, app: TaskQ) -> None:
        occupy = declare(app).occupy
        while not self.is_over:
            id = self._new_id(occupy.slot).hex()
            self._notes.note("submitted", id)
            try:
                job = await occupy.options(id=id).submit(self._random.uniform(*RUN_S))
            except ConfirmTimeout:
                # It may or may not be there: nothing was promised.
                continue
            self._notes.note("confirmed", id)
            self._notes.note("told", id, *await job.result())
            self.told += 1


async def measure(options: Options) -> Report:
    report = Report("crashes", 1)
    with Fleet() as fleet:
        starts = [name for name in range(options.count)]
        ours, theirs = fleet.folder / "ours.txt", fleet.folder / "theirs.txt"
        notes = Evidence(ours)
        try:
            broker = await fleet.start_broker()
            for number in range(WORKERS):
                fleet.start_worker(
                    broker.url,
                    f"worker-{number}",
                    slots=SLOTS,
                    processes=PROCESSES,
                    env={EVIDENCE: str(theirs)},
                )
            starts = await _kill_and_restart(fleet, broker, notes, options.count)
        finally:
            notes.close()
        twice_in_journal = await _recorded_twice(fleet.folder / "broker.db")
        findings = evidence.judge(evidence.read([ours, theirs]))
    _fill(report, findings, twice_in_journal, starts, options.count)
    return report
