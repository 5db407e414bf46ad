"""`taskq cron` against a real broker and a real worker, as processes."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from taskq import TaskQ
from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.testing.fleet import Fleet

TASKS = """
from taskq.client.app import TaskQ

q = TaskQ()

@q.cron("30 2 * * *", tz="Europe/Berlin", overlap="skip", name="nightly")
@q.task(name="report")
async def report(day: str = "today") -> str:
    return day

@q.every("1h", name="hourly")
def clean() -> None: ...
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet() as fleet:
        (fleet.folder / "cron_tasks.py").write_text(TASKS)
        asyncio.run(fleet.start_broker())
        fleet.start_workers(1, "cron_tasks:q")
        asyncio.run(_until_announced(fleet.url))
        yield fleet


async def _until_announced(url: str) -> None:
    async with asyncio.timeout(30), TaskQ(url) as q:
        while len(await q.schedules.list()) < 2:
            await asyncio.sleep(0.02)  # nobody is told when a worker has connected


@pytest.fixture(autouse=True)
def at_the_fleet(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_URL", fleet.url)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = Exit.OK) -> str:
    capsys.readouterr()
    left = run(["cron", *words])
    captured = capsys.readouterr()
    assert left == code, captured.err
    return captured.out


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, *words, "--json"))
    return found


def test_ls_shows_what_the_code_declares(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "ls").splitlines()
    assert lines[0].split() == ["SCHEDULE", "WHEN", "ZONE", "TASK", "STATE", "NEXT", "LAST"]
    assert [line.split()[0] for line in lines[1:]] == ["hourly", "nightly"]
    assert lines[2].split()[1:9] == [*["30", "2", "*", "*", "*"], "Europe/Berlin", "report", "on"]


def test_ls_is_one_object_a_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    hourly, nightly = map(json.loads, said(capsys, "ls", "--json").splitlines())
    assert (hourly["name"], hourly["every_ms"], hourly["cron"]) == ("hourly", 3_600_000, "")
    assert (nightly["tz"], nightly["overlap"], nightly["app"]) == ("Europe/Berlin", "skip", "cron_tasks:q")
    assert nightly["is_declared"] is True


def test_next_gives_times_in_its_own_zone(capsys: pytest.CaptureFixture[str]) -> None:
    times = [datetime.fromisoformat(line) for line in said(capsys, "next", "nightly", "-n", "3").split()]
    assert len(times) == 3
    assert times == sorted(times)
    assert {(time.hour, time.minute) for time in times} == {(2, 30)}
    assert len(shown(capsys, "next", "nightly", "-n", "7")["next_at"]) == 7


def test_a_pause_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    paused = shown(capsys, "pause", "nightly", "--reason", "month end")
    assert (paused["is_paused"], paused["reason"], paused["next_at"]) == (True, "month end", [])
    assert "paused: month end" in said(capsys, "ls")
    assert said(capsys, "next", "nightly") == ""
    assert shown(capsys, "pause", "nightly")["reason"] == "month end"
    assert shown(capsys, "pause", "nightly", "--reason", "")["reason"] == ""
    assert shown(capsys, "resume", "nightly")["is_paused"] is False
    said(capsys, "pause", "nightly")
    said(capsys, "resume", "nightly")


def test_run_prints_the_id_of_a_job_that_runs(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    (id,) = said(capsys, "run", "nightly").split()

    async def result() -> str:
        async with TaskQ(fleet.url) as q:
            return str(await q.job(id).result(timeout=30))

    assert asyncio.run(result()) == "today"
    assert shown(capsys, "run", "nightly")["last_job"] != id


def test_rm_removes_what_nobody_declares(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    async def create() -> None:
        async with TaskQ(fleet.url) as q:

            @q.task(name="nobody has it")
            def odd() -> None: ...

            await q.schedules.create("odd", odd, every="1h")
            await q.schedules.create("odd too", odd.call(), every="1h")

    asyncio.run(create())
    said(capsys, "rm", "odd")
    assert shown(capsys, "rm", "odd too")["name"] == "odd too"
    assert len(said(capsys, "ls").splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["next", "nothing"], Exit.NOT_FOUND, "there is no schedule 'nothing'"),
        (["run", "nothing"], Exit.NOT_FOUND, "there is no schedule 'nothing'"),
        (["pause", "nothing"], Exit.NOT_FOUND, "there is no schedule 'nothing'"),
        (["resume", "nothing"], Exit.NOT_FOUND, "there is no schedule 'nothing'"),
        (["rm", "nothing"], Exit.NOT_FOUND, "there is no schedule 'nothing'"),
        (["resume", "nightly"], Exit.NOT_FOUND, "the schedule 'nightly' is not paused"),
        (["rm", "nightly"], Exit.REFUSED, "a connected worker of cron_tasks:q declares it"),
        (["next", "nightly", "-n", "1000"], Exit.USAGE, "1<=x<=100"),
        (["lst"], Exit.USAGE, "No such command 'lst'"),
        (["ls", "--url", "taskq://127.0.0.1:1"], Exit.NO_BROKER, "no broker at taskq://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    assert run(["cron", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("taskq: error: ")
    assert text in captured.err


def test_the_settings_file_tells_the_address(
    capsys: pytest.CaptureFixture[str], fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKQ_URL")
    (folder / "taskq.toml").write_text(f'url = "{fleet.url}"\n')
    assert len(said(capsys, "ls").splitlines()) == 3
