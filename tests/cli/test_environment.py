"""A TASKQ_* variable that nobody reads is told, with the one that was probably meant."""

from functools import partial

import pytest

from taskq.cli import environment
from taskq.cli.main import VERBS, load, run


def warnings(*names: str) -> list[str]:
    verbs = {verb: partial(load, verb) for verb in VERBS}
    return list(environment.warnings(dict.fromkeys(names, "1"), verbs))


def test_what_is_read_is_not_told() -> None:
    known = ["TASKQ_URL", "TASKQ_TOKEN", "TASKQ_TOKEN_FILE", "TASKQ_DEBUG", "TASKQ_CONFIG", "HOME"]
    assert warnings(*known, "TASKQ_BROKER_PORT", "TASKQ_WORKER_APP", "TASKQ_WORKER_SLOTS") == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TASKQ_WORKER_SLOT", "TASKQ_WORKER_SLOTS"),
        ("TASKQ_WROKER_SLOTS", "TASKQ_WORKER_SLOTS"),
        ("TASKQ_BROKER_PROT", "TASKQ_BROKER_PORT"),
        ("TASKQ_TOKENFILE", "TASKQ_TOKEN_FILE"),
    ],
)
def test_the_nearest_that_is_read_is_named(name: str, meant: str) -> None:
    assert warnings(name) == [f"{name} is in the environment, and nothing reads it; did you mean {meant}?"]


def test_what_is_near_to_nothing() -> None:
    assert warnings("TASKQ_X") == [
        "TASKQ_X is in the environment, and nothing reads it; what is read is TASKQ_VERB_OPTION"
    ]


def test_many_are_told_as_a_number() -> None:
    told = warnings(*(f"TASKQ_WORKER_SLOTS{number}" for number in range(9)))
    assert len(told) == 6
    assert told[-1] == "nor does anything read 4 more TASKQ_* variables"


def test_the_command_says_so_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQ_BROKER_PROT", "7800")
    assert run(["broker", "config", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("taskq: warning: TASKQ_BROKER_PROT is in the environment")
    assert captured.out.startswith("{")
