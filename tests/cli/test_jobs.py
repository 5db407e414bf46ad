"""`taskq jobs` and `taskq dead` against a real broker and a real worker, as processes."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.testing.fleet import Fleet

from .conftest import Guarded

TASKS = """
from pathlib import Path
from taskq.client.app import TaskQ

q = TaskQ()

@q.task(name="add")
async def add(a: int, b: int) -> int:
    return a + b

@q.task(name="fail")
async def fail(what: str = "luck") -> str:
    if Path("mended").exists():
        return "mended"
    raise ValueError(f"no such {what}")
"""
NEVER = "0" * 32


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A broker, and a worker that runs TASKS; ended with the module."""
    with Fleet() as fleet:
        (fleet.folder / "job_tasks.py").write_text(TASKS)
        asyncio.run(fleet.start_broker())
        fleet.start_workers(1, "job_tasks:q")
        yield fleet


@pytest.fixture(autouse=True)
def at_the_fleet(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fleet.folder)
    monkeypatch.setenv("TASKQ_URL", fleet.url)


class Said:
    """The command line, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = Exit.OK) -> str:
        self._capsys.readouterr()
        left = run(list(words))
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert left == code, captured
        return captured.out

    def json(self, *words: str, code: int = Exit.OK) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*words, "--json", code=code).splitlines()]

    def waiting(self, queue: str, count: int = 1) -> list[str]:
        """Jobs that no worker takes."""
        return self("submit", "add", "1", "2", "--queue", queue, "-n", str(count)).split()

    def dead(self, what: str) -> str:
        """A job that died of this."""
        (id,) = self("submit", "fail", what).split()
        self("jobs", "wait", id, code=Exit.FAILED)
        return id


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


# -- jobs -----------------------------------------------------------------------------------------


def test_ls_lists_what_matches_in_order(said: Said) -> None:
    ids = said.waiting("listed", 5)
    assert [job["id"] for job in said.json("jobs", "ls", "queue:listed")] == ids
    (first, *_) = said.json("jobs", "ls", "queue:listed")
    assert (first["state"], first["task"], first["queue"], first["attempts"]) == ("ready", "add", "listed", 0)
    assert first["submitted_at"].endswith("+00:00")
    table = said("jobs", "ls", "queue:listed", "task:a*").splitlines()
    assert table[0].split() == ["ID", "STATE", "TASK", "QUEUE", "TRIES", "AGE", "ABOUT"]
    assert [line.split()[0] for line in table[1:]] == ids
    assert said("jobs", "ls", "queue:listed", "task:b*") == ""
    assert "no jobs match 'queue:listed task:b*'" in said.err


def test_a_line_of_a_list_does_not_say_what_it_does_not_know(said: Said) -> None:
    id = said.dead("luck in lists")
    (line,) = said.json("jobs", "ls", id)
    unknown = {"history", "why", "progress", "traceback", "parent", "meta"}
    assert not line.keys() & unknown
    assert line["error"] == "ValueError: no such luck in lists"
    assert line.keys() == said.json("dead", "ls", id)[0].keys()
    (shown,) = said.json("jobs", "show", id)
    assert shown.keys() == line.keys() | unknown and shown["history"]
    exported = json.loads(said("dead", "export", id))
    assert not exported.keys() & {"history", "why", "progress"} and exported["traceback"]
    said("dead", "discard", id, "--yes")


def test_ls_shows_no_more_than_was_asked_for_and_says_so(said: Said) -> None:
    ids = said.waiting("many", 5)
    assert [job["id"] for job in said.json("jobs", "ls", "queue:many", "-n", "3")] == ids[:3]
    assert "these are the first 3; there are more" in said.err
    assert len(said.json("jobs", "ls", "queue:many", "-n", "5")) == 5
    assert said.err == ""
    assert len(said.json("jobs", "ls", "queue:many", "-n", "1", "--all")) == 5


def test_ls_counts(said: Said) -> None:
    said.waiting("counted", 3)
    assert said.json("jobs", "ls", "queue:counted", "--count") == [{"count": 3, "states": {"ready": 3}}]
    assert said("jobs", "ls", "queue:counted", "--count").split() == ["ready", "3", "all", "3"]


def test_show_tells_all_about_one(said: Said) -> None:
    (id,) = said.waiting("shown")
    lines = dict(line.split(maxsplit=1) for line in said("jobs", "show", id).splitlines())
    assert (lines["id"], lines["state"], lines["queue"]) == (id, "ready", "shown")
    assert said.json("jobs", "show", id)[0]["queue"] == "shown"


def test_why_gives_the_reason(said: Said) -> None:
    said("submit", "add", "1", "2", "--wait")  # there is a worker
    (id,) = said.waiting("nobody serves this")
    assert "queue 'nobody serves this'" in said("jobs", "why", id)
    assert said.json("jobs", "why", id)[0]["state"] == "ready"
    said("jobs", "cancel", id, "--reason", "why not")
    assert said("jobs", "why", id) == "it was cancelled: why not\n"


def test_wait_prints_the_result(said: Said) -> None:
    (id,) = said("submit", "add", "2", "3").split()
    assert said("jobs", "wait", id) == "5\n"
    assert said.json("jobs", "wait", id) == [{"id": id, "state": "succeeded", "result": 5}]
    (waiting,) = said.waiting("waited")
    said("jobs", "wait", waiting, "--timeout", "50ms", code=Exit.TIMED_OUT)
    assert "it goes on" in said.err
    said("jobs", "wait", NEVER, code=Exit.NOT_FOUND)


@pytest.mark.parametrize("verb", ["show", "why"])
def test_who_asks_about_nobody_hears_so(said: Said, verb: str) -> None:
    said("jobs", verb, NEVER, code=Exit.NOT_FOUND)
    assert f"no job {NEVER}" in said.err
    said("jobs", verb, "xyz", code=Exit.USAGE)
    assert "32 hex digits" in said.err


def test_cancel_by_id_does_not_ask(said: Said) -> None:
    ids = said.waiting("cancelled by id", 3)
    assert said("jobs", "cancel", ids[0], ids[1]) == "2 jobs cancelled\n"
    assert said.json("jobs", "cancel", f"id:{ids[2]}", ids[0], NEVER, code=Exit.PARTLY) == [
        {"matched": 2, "done": 1, "skipped": {"cancelled": 1, "unknown": 1}}
    ]
    said("jobs", "cancel", ids[0], code=Exit.REFUSED)
    assert "1 not: cancelled" in said.err
    said("jobs", "cancel", NEVER, code=Exit.NOT_FOUND)


def test_cancel_by_filter_wants_to_be_sure(said: Said) -> None:
    said.waiting("bulk", 4)
    assert said("jobs", "cancel", "queue:bulk", "--dry-run") == "4 jobs would be cancelled\n"
    said("jobs", "cancel", "queue:bulk", code=Exit.USAGE)
    assert "cancel is for 4 jobs, and nobody is there to ask; give --yes, or --dry-run" in said.err
    assert said("jobs", "cancel", "queue:bulk", "--yes") == "4 jobs cancelled\n"
    assert said("jobs", "cancel", "queue:bulk") == "0 jobs cancelled\n"


def _at_a_terminal(fleet: Fleet, answer: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Standard input is a terminal at which somebody types the answer."""
    master, terminal = pty.openpty()
    os.write(master, answer.encode())
    try:
        return subprocess.run(
            [sys.executable, "-m", "taskq", *words],
            stdin=terminal,
            capture_output=True,
            text=True,
            check=False,
            cwd=fleet.folder,
        )
    finally:
        os.close(master)
        os.close(terminal)


def test_at_a_terminal_it_asks(said: Said, fleet: Fleet) -> None:
    said.waiting("asked", 2)
    asked = _at_a_terminal(fleet, "n\n", "jobs", "cancel", "queue:asked")
    assert (asked.returncode, asked.stdout) == (Exit.FAILED, "")
    assert "2 jobs will be cancelled. Go on?" in asked.stderr
    assert "nothing was done" in asked.stderr
    sure = _at_a_terminal(fleet, "y\n", "jobs", "cancel", "queue:asked")
    assert (sure.returncode, sure.stdout) == (Exit.OK, "2 jobs cancelled\n")


def test_rm_forgets_what_has_ended(said: Said) -> None:
    first, second = said.waiting("removed", 2)
    said("jobs", "cancel", first)
    assert said("jobs", "rm", "queue:removed", "--dry-run") == "1 job would be deleted\n"
    said("jobs", "rm", first, code=Exit.USAGE)
    said("jobs", "rm", first, second, "--yes", code=Exit.PARTLY)
    assert "1 not: ready" in said.err
    said("jobs", "show", first, code=Exit.NOT_FOUND)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["jobs", "ls", "stat:dead"], Exit.USAGE, "did you mean 'state'?"),
        (["jobs", "ls", "send_mail"], Exit.USAGE, "say task:send_mail"),
        (["jobs", "ls", "queue:ma*"], Exit.USAGE, "* stands for anything in the task only"),
        (["jobs", "ls", "older:soon"], Exit.USAGE, "no span of time"),
        (["jobs", "ls", "older:2h", "younger:1h"], Exit.REFUSED, "no job is older than 7200 s and younger"),
        (["jobs", "cancel"], Exit.USAGE, "task:* is all of them"),
        (["jobs", "cancel", "state:dead", "--yes"], Exit.REFUSED, "cancel is for jobs that are scheduled"),
        (["jobs", "retry", "state:ready", "--yes"], Exit.REFUSED, "retry is for jobs that are dead"),
        (["dead", "ls", "state:ready"], Exit.USAGE, "these are dead jobs"),
        (["dead", "show", NEVER], Exit.NOT_FOUND, "there is no dead job"),
        (["jobs", "ls", "--url", "taskq://127.0.0.1:1"], Exit.NO_BROKER, "no broker at"),
    ],
)
def test_what_means_nothing_is_one_line(said: Said, words: list[str], code: int, text: str) -> None:
    assert said(*words, code=code) == ""
    assert said.err.startswith("taskq: error: ")
    assert text in said.err


# -- dead -----------------------------------------------------------------------------------------


def test_dead_jobs_are_looked_at(said: Said) -> None:
    ids = [said.dead("keys"), said.dead("keys"), said.dead("umbrella")]
    assert [job["id"] for job in said.json("dead", "ls", "error:keys")] == ids[:2]
    assert "ValueError: no such umbrella" in said("dead", "ls", "error:umbrella")
    (group,) = said.json("dead", "ls", "--group", "error:keys")
    assert (group["task"], group["error_type"], group["count"]) == ("fail", "ValueError", 2)
    assert group["sample"] in ids
    assert "ValueError" in said("dead", "ls", "--group")
    shown = said("dead", "show", ids[2])
    assert "Traceback" in shown
    assert "['umbrella']" in shown
    assert said.json("dead", "show", ids[2])[0]["args"] == ["umbrella"]
    assert said.json("dead", "show", ids[2])[0]["history"][0]["ending"] == "failed"
    for verb in ("dead", "jobs"):
        assert "attempt 1    failed at " in (told := said(verb, "show", ids[2])) and "datetime" not in told
    said("dead", "discard", *ids, "--yes")


def test_groups_are_no_more_than_was_asked_for(said: Said) -> None:
    ids = [said.dead("sun"), *said("submit", "add", "x").split()]
    said("jobs", "wait", ids[1], code=Exit.FAILED)
    assert len(said.json("dead", "ls", "--group")) == 2
    assert said.err == ""
    assert len(said.json("dead", "ls", "--group", "-n", "1")) == 1
    assert "these are the first 1; there are more" in said.err
    assert len(said("dead", "ls", "--group", "-n", "1").splitlines()) == 2
    assert len(said.json("dead", "ls", "--group", "-n", "1", "--all")) == 2
    said("dead", "discard", *ids, "--yes")


def test_export_is_ndjson_with_everything(said: Said) -> None:
    id = said.dead("map")
    (line,) = [json.loads(line) for line in said("dead", "export", "error:map").splitlines()]
    assert (line["id"], line["args"], line["kwargs"]) == (id, ["map"], {})
    assert (line["error_type"], line["state"]) == ("ValueError", "dead")
    assert "Traceback" in line["traceback"]
    assert line["payload"]
    said("dead", "discard", id, "--yes")
    assert said("dead", "export", "error:map") == ""


def test_a_retry_gives_a_dead_job_a_new_life(said: Said, fleet: Fleet) -> None:
    ids = [said.dead("bridge"), said.dead("bridge")]
    mended = fleet.folder / "mended"
    mended.touch()
    try:
        assert said("dead", "retry", ids[0]) == "1 job retried\n"
        assert said("jobs", "wait", ids[0]) == "mended\n"
        said("dead", "retry", *ids, code=Exit.PARTLY)
        assert "1 not: succeeded" in said.err
        assert said("jobs", "wait", ids[1]) == "mended\n"
    finally:
        mended.unlink()
    assert said("dead", "retry", "error:bridge", "--yes") == "0 jobs retried\n"


def test_a_viewer_may_look_and_not_touch(said: Said, guarded: Guarded) -> None:
    guarded("viewer")
    assert said("jobs", "ls") == ""
    said("jobs", "cancel", "task:*", "--yes", code=Exit.REFUSED)


def test_the_address_in_the_settings_file_is_for_them_too(
    said: Said, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKQ_URL")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taskq.toml").write_text(f'url = "{fleet.url}"\n')
    said("jobs", "ls", "--count")
    said("dead", "ls")


# -- logs -----------------------------------------------------------------------------------------


def test_logs_of_a_job_that_logged_nothing_and_of_none(said: Said) -> None:
    (id,) = said("submit", "add", "1", "2").split()
    said("jobs", "wait", id)
    assert said("jobs", "logs", id) == ""
    assert said("jobs", "logs", "-f", id) == ""  # it has ended
    said("jobs", "logs", "0" * 32, code=Exit.NOT_FOUND)
