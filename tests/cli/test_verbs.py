"""The verbs against a real broker and a real worker, as processes."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.testing.fleet import Fleet, FleetError

from .conftest import Guarded

TASKS = """
from taskq.client.app import TaskQ

q = TaskQ()

@q.task(name="add")
async def add(a: int, b: int) -> int:
    return a + b

@q.task(name="greet")
def greet(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name

@q.task(name="fail")
async def fail() -> None:
    raise ValueError("no such luck")
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A broker, and a worker that runs TASKS; ended with the module."""
    with Fleet() as fleet:
        (fleet.folder / "cli_tasks.py").write_text(TASKS)
        asyncio.run(fleet.start_broker())
        fleet.start_workers(1, "cli_tasks:q")
        yield fleet


@pytest.fixture(autouse=True)
def at_the_fleet(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the worker's folder, with its broker as ours; what a verb imports from there is forgotten again."""
    monkeypatch.chdir(fleet.folder)
    monkeypatch.setenv("TASKQ_URL", fleet.url)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("cli_tasks", None)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = Exit.OK) -> str:
    """What the command line prints on standard output; it must end with this code."""
    capsys.readouterr()
    left = run(list(words))
    captured = capsys.readouterr()
    assert left == code, captured.err
    return captured.out


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["add", "2", "3"], "5"),
        (["cli_tasks:add", "2", "3"], "5"),
        (["add", "--json-args", "[2, 3]"], "5"),
        (["add", "--json-args", '{"a": 2, "b": 3}'], "5"),
        (["add", "--", "-2", "3"], "1"),
        (["greet", "Ada"], "Ada"),
        (["greet", "--json-args", '{"name": "Ada", "loud": true}'], "ADA"),
        (["add", "2", "3", "-n", "3"], "5\n5\n5"),
    ],
)
def test_a_result_is_waited_for(capsys: pytest.CaptureFixture[str], words: list[str], printed: str) -> None:
    assert said(capsys, "submit", "--wait", "--timeout", "30s", *words) == printed + "\n"


def test_without_waiting_it_is_the_id(capsys: pytest.CaptureFixture[str]) -> None:
    ids = said(capsys, "submit", "add", "2", "3", "-n", "2").split()
    assert len(set(ids)) == 2
    assert all(len(bytes.fromhex(id)) == 16 for id in ids)


def test_json_tells_id_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said(capsys, "submit", "add", "2", "3", "--json"))["state"] == "ready"
    assert (
        json.loads(said(capsys, "submit", "add", "2", "3", "--json", "--delay", "1h"))["state"] == "scheduled"
    )
    waited = json.loads(said(capsys, "submit", "add", "2", "3", "--json", "--wait"))
    assert (waited["state"], waited["result"]) == ("succeeded", 5)


def test_the_same_id_is_the_same_job(capsys: pytest.CaptureFixture[str]) -> None:
    id = os.urandom(16).hex()
    for _ in range(2):
        assert said(capsys, "submit", "add", "2", "3", "--id", id) == id + "\n"
    assert said(capsys, "submit", "add", "2", "4", "--id", id, code=Exit.REFUSED) == ""


def test_a_job_that_fails_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "fail", "--wait"]) == Exit.FAILED
    assert "ValueError: no such luck" in capsys.readouterr().err
    shown = json.loads(said(capsys, "submit", "fail", "--wait", "--json", code=Exit.FAILED))
    assert shown["error"] == "JobFailed"


def test_a_result_that_does_not_come_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "add", "2", "3", "--delay", "1h", "--wait", "--timeout", "50ms"]
    assert run(words) == Exit.TIMED_OUT
    assert "not all ended within 50 ms; they go on: " in capsys.readouterr().err


def test_the_help_of_submit_says_who_knows_what_a_task_declares(capsys: pytest.CaptureFixture[str]) -> None:
    run(["submit", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "Only module:task checks the arguments and knows the options that the task declares" in words


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["cli_tasks:add", "2"], Exit.USAGE, "add(): missing a required argument: 'b'"),
        (["add", "1", "--json-args", "[2]"], Exit.USAGE, "exclude each other"),
        (["add", "--json-args", "[2"], Exit.USAGE, "--json-args is not JSON"),
        (["add", "--json-args", "2"], Exit.USAGE, "a list, or an object"),
        (["add", "--timeout", "5s"], Exit.USAGE, "give --wait too"),
        (["add", "--delay", "5s", "--at", "2030-01-31"], Exit.USAGE, "exclude each other"),
        (["add", "--delay", "soon"], Exit.USAGE, "'soon' is not a duration"),
        (["add", "--id", "xyz"], Exit.USAGE, "32 hex digits"),
        (["add", "--id", "0" * 32, "-n", "2"], Exit.USAGE, "--id names one job"),
        (["add", "-n", "0"], Exit.USAGE, "-n must be from 1"),
        (["cli_tasks:nothing"], Exit.CONFIG, "cli_tasks:nothing cannot be imported"),
        (["nowhere:add"], Exit.CONFIG, "No module named 'nowhere'"),
        (["cli_tasks:q"], Exit.CONFIG, "is a TaskQ, not a task"),
        (["add", "--url", "taskq://127.0.0.1:1"], Exit.NO_BROKER, "no broker at taskq://127.0.0.1:1"),
        (["cli_tasks:add", "1", "2", "--url", "taskq://127.0.0.1:1"], Exit.NO_BROKER, "no broker at taskq"),
    ],
)
def test_what_cannot_be_submitted_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    assert run(["submit", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("taskq: error: ")
    assert text in captured.err


def test_ping_says_how_fast(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    assert said(capsys, "ping").startswith(f"{fleet.url} answers in ")
    found = json.loads(said(capsys, "ping", "--json"))
    assert found["address"] == fleet.url
    assert found["ms"] > 0


def test_status_has_the_queue_and_the_worker(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    said(capsys, "submit", "add", "2", "3", "--wait")
    screen = said(capsys, "status")
    assert fleet.url in screen
    assert "worker-1" in screen
    found = json.loads(said(capsys, "status", "--json"))
    assert [worker["connected"] for worker in found["workers"]] == [True]
    assert "default" in {queue["name"] for queue in found["queues"]}
    assert found["counts"]["succeeded_total"] > 0


@pytest.mark.parametrize("flags", [[], ["--self-contained"]], ids=["at the fleet", "self-contained"])
def test_bench_measures(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    found = json.loads(said(capsys, "bench", "--jobs", "50", "--json", *flags))
    assert found["jobs"] == 50
    assert found["self_contained"] is bool(flags)
    assert 0 < found["submit_seconds"] <= found["complete_seconds"]
    assert 0 < found["latency_p50_ms"] <= found["latency_p95_ms"] <= found["latency_p99_ms"]


def test_bench_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    printed = said(capsys, "bench", "--jobs", "50").splitlines()
    assert [line.split()[0] for line in printed] == ["submit", "complete", "latency"]
    assert "fsync" in printed[0]


def test_a_broker_with_tokens_lets_in_who_has_one(
    capsys: pytest.CaptureFixture[str], guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = guarded("worker")
    said(capsys, "ping")
    said(capsys, "status")
    monkeypatch.delenv("TASKQ_TOKEN_FILE")
    assert run(["ping"]) == Exit.REFUSED
    assert "TASKQ_TOKEN_FILE" in capsys.readouterr().err
    broker.terminate()
    assert broker.wait() == 0


def test_a_port_in_use_is_one_clear_line(fleet: Fleet) -> None:
    port = fleet.url.rpartition(":")[2]
    command = [sys.executable, "-m", "taskq", "broker", "--port", port, "--journal", "memory:"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (Exit.CONFIG, "")
    assert done.stderr.startswith("taskq: error: ")
    assert port in done.stderr


def test_another_address_than_loopback_wants_the_long_flag() -> None:
    command = [sys.executable, "-m", "taskq", "broker", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.CONFIG
    assert "--insecure-allow-remote" in done.stderr


def test_a_worker_without_its_app_is_one_clear_line(fleet: Fleet) -> None:
    command = [sys.executable, "-m", "taskq", "worker", "nowhere:q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.CONFIG
    assert "taskq: error: " in done.stderr
    assert "nowhere" in done.stderr


def test_a_burst_ends_when_all_is_done(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "submit", "add", "1", "2", "--queue", "burst")
    command = [sys.executable, "-m", "taskq", "worker", "cli_tasks:q", "-q", "burst", "--burst"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.OK, done.stderr
    queues = json.loads(said(capsys, "status", "--json"))["queues"]
    assert not [queue for queue in queues if queue["name"] == "burst" and queue["ready"]]


def test_a_process_that_ends_by_itself_is_noticed() -> None:
    with Fleet("taskq://127.0.0.1:1") as alone:
        alone.start_workers(1, "nowhere:q")
        alone.workers[0].wait(30)
        with pytest.raises(FleetError, match=r"worker-1 ended by itself(.|\n)*nowhere"):
            alone.check()


def test_a_broker_that_does_not_start_shows_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with Fleet() as broken:
        (broken.folder / "taskq.toml").write_text("[broker]\nprot = 1\n")
        with pytest.raises(FleetError, match=r"did not start(.|\n)*unknown key `broker.prot`"):
            asyncio.run(broken.start_broker())


def test_submitting_what_is_to_be_alone_returns_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("submit", "nobody.runs.this", "7", "--delay", "1h", "--unique", "active", "--key", "ann")
    first = said(capsys, *words).strip()
    assert said(capsys, *words).strip() == first
    assert said(capsys, *words, "--replace").strip() == first


def test_a_scope_that_means_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "submit", "add", "1", "2", "--unique", "sometimes", code=Exit.USAGE)
