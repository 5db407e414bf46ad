"""The forwarder moves every job, and every process that a program starts ends with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import PROGRAMS
from benchmarks.forwarder import Forwarder
from benchmarks.harness.fleet import ROOT, Fleet, FleetError
from benchmarks.harness.proc import children
from benchmarks.tasks import declare
from taskq import TaskQ


async def test_what_the_forwarder_moves_comes_back() -> None:
    before = set(children(os.getpid()))
    with Forwarder() as forwarder:
        await forwarder.start()
        moved = await forwarder.round(1_000, per_frame=10)
        trips = await forwarder.round_trips(5)
    assert moved.jobs_per_s > 0
    assert set(moved.cpu_us) == {"producer", "broker", "worker"}
    assert len(trips) == 5
    assert set(children(os.getpid())) == before


async def test_a_fleet_runs_a_job_and_leaves_nothing_behind() -> None:
    before = set(children(os.getpid()))
    with Fleet() as fleet:
        broker = await fleet.start_broker()
        worker = fleet.start_worker(broker.url, slots=10)
        async with TaskQ(broker.url) as app:
            await (await declare(app).noop.submit()).result(timeout=30)
        groups = {**broker.groups(), **worker.groups()}
        assert {name: len(pids) for name, pids in groups.items()} == {
            "broker": 1,
            "journal": 1,
            "worker": 1,
            "supervisor": 1,
            "undertaker": 1,
        }
        folder = fleet.folder
    assert set(children(os.getpid())) == before
    assert not any(Path(f"/proc/{pid}").exists() for pids in groups.values() for pid in pids)
    assert not folder.exists()


async def test_a_fleet_ends_what_it_started_when_a_broker_does_not_start() -> None:
    before = set(children(os.getpid()))
    with Fleet() as fleet, pytest.raises(FleetError, match="broker did not start"):
        await fleet.start_broker(journal="nonsense:")
    assert set(children(os.getpid())) == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_says_what_it_does(name: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--quick" in told.stdout


def test_no_program_is_left_out() -> None:
    programs = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "def main()" in path.read_text(encoding="utf-8")
    }
    assert programs == set(PROGRAMS)
