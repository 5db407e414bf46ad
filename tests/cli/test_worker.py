"""What `taskq worker` makes of its flags, of the environment and of the settings file."""

from pathlib import Path

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.worker import supervisor
from taskq.worker.settings import WorkerSettings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[WorkerSettings]:
    """The settings that the supervisor was started with; it ends at once."""
    started: list[WorkerSettings] = []

    def start(settings: WorkerSettings, *, child_module: str, make_pages: object) -> int:
        started.append(settings)
        return 0

    monkeypatch.setattr(supervisor, "run", start)
    return started


def test_queues_labels_and_resources_as_flags(started: list[WorkerSettings]) -> None:
    words = ["-q", "high:3,default", "--label", "region=eu", "--label", "disk=ssd", "--resource", "gpu=2"]
    assert run(["worker", "tasks:q", *words]) == Exit.OK
    offer = started[0].offer
    assert (offer.queues, offer.weights, offer.is_strict) == (("high", "default"), (3, 1), False)
    assert (offer.labels, offer.resources) == ({"region": "eu", "disk": "ssd"}, {"gpu": 2})


def test_strict_order(started: list[WorkerSettings]) -> None:
    assert run(["worker", "tasks:q", "-q", "a,b", "--strict"]) == Exit.OK
    assert (started[0].offer.queues, started[0].offer.is_strict) == (("a", "b"), True)


def test_the_same_from_the_environment(
    started: list[WorkerSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKQ_WORKER_QUEUES", "a,b")
    monkeypatch.setenv("TASKQ_WORKER_STRICT", "1")
    monkeypatch.setenv("TASKQ_WORKER_LABELS", "region=eu, site=Bad Homburg")
    monkeypatch.setenv("TASKQ_WORKER_RESOURCES", "gpu=2,mem=64")
    assert run(["worker", "tasks:q"]) == Exit.OK
    offer = started[0].offer
    assert (offer.queues, offer.is_strict) == (("a", "b"), True)
    assert offer.labels == {"region": "eu", "site": "Bad Homburg"}
    assert offer.resources == {"gpu": 2, "mem": 64}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        '[worker]\nqueues = "a:2,b"\nlabels = {region = "eu", zone = 1}\nresources = {gpu = 2}\n',
        '[worker]\nqueues = "a:2,b"\nlabels = ["region=eu", "zone=1"]\nresources = ["gpu=2"]\n',
        '[worker]\nqueues = "a:2,b"\nlabels = "region=eu,zone=1"\nresources = "gpu=2"\n',
    ],
)
def test_the_same_from_the_file(started: list[WorkerSettings], folder: Path, text: str) -> None:
    (folder / "taskq.toml").write_text(text)
    assert run(["worker", "tasks:q"]) == Exit.OK
    offer = started[0].offer
    assert (offer.queues, offer.weights) == (("a", "b"), (2, 1))
    assert (offer.labels, offer.resources) == ({"region": "eu", "zone": "1"}, {"gpu": 2})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-q", "high:0"], Exit.CONFIG, "queue 'high': a weight is from 1 to 1000"),
        (["-q", ","], Exit.CONFIG, "no queue is named"),
        (["-q", "a:2,b", "--strict"], Exit.CONFIG, "queue 'a' has a weight, and the queues are strict"),
        (["--strict"], Exit.CONFIG, "none is"),
        (["--label", "region"], Exit.USAGE, "'region' is not NAME=VALUE"),
        (["--label", "=eu"], Exit.USAGE, "'=eu' is not NAME=VALUE"),
        (["--label", "a=1,a=2"], Exit.USAGE, "'a' is there twice: '1' and '2'"),
        (["--label", "a=1", "--label", "a=2"], Exit.USAGE, "--label: 'a' is there twice"),
        (["--resource", "gpu=-1"], Exit.USAGE, "gpu=-1 is not NAME=COUNT"),
        (["--resource", "gpu=many"], Exit.USAGE, "gpu=many is not NAME=COUNT"),
        (["--resource", "gpu=9999999999"], Exit.CONFIG, "resource 'gpu'"),
    ],
)
def test_what_cannot_be_is_one_line(
    started: list[WorkerSettings], capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert run(["worker", "tasks:q", *words]) == code
    assert not started
    error = capsys.readouterr().err
    assert error.startswith("taskq: error: ")
    assert said in error


def test_a_mistake_in_the_file_has_its_place(
    started: list[WorkerSettings], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "taskq.toml").write_text('[worker]\nlabels = ["region"]\n')
    assert run(["worker", "tasks:q"]) == Exit.CONFIG
    assert "taskq.toml: `worker.labels`: 'region' is not NAME=VALUE" in capsys.readouterr().err


def test_slow_callbacks_and_probes(
    started: list[WorkerSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["worker", "tasks:q", "--slow-callback", "250ms", "--http", "127.0.0.1:8080"]) == Exit.OK
    assert (started[0].slow_callback_ms, started[0].http) == (250, ("127.0.0.1", 8080))
    monkeypatch.setenv("TASKQ_WORKER_SLOW_CALLBACK", "0")
    assert run(["worker", "tasks:q"]) == Exit.OK
    assert (started[1].slow_callback_ms, started[1].http) == (0, None)
    assert run(["worker", "tasks:q", "--slow-callback", "1ms"]) == Exit.CONFIG
    assert "at least 10 ms" in capsys.readouterr().err
