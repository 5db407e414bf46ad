"""Flag over environment over file over default; and a file's mistakes are named with their place."""

import json
from pathlib import Path

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run


def explained(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, tuple[object, str]]:
    capsys.readouterr()
    assert run(["broker", *flags, "config", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    return {name: (row["value"], row["from"]) for name, row in found.items()}


def test_each_source_wins_over_the_one_below(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explained(capsys)["port"] == (7700, "default")
    (folder / "taskq.toml").write_text("[broker]\nport = 7801\n")
    assert explained(capsys)["port"] == (7801, "taskq.toml")
    monkeypatch.setenv("TASKQ_BROKER_PORT", "7802")
    assert explained(capsys)["port"] == (7802, "TASKQ_BROKER_PORT")
    assert explained(capsys, "--port", "7803")["port"] == (7803, "flag")


def test_the_project_file_holds_settings_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shop"\n[tool.taskq.broker]\njournal = "memory:"\noutcome-bytes = "64MB"\n'
    )
    found = explained(capsys)
    assert found["journal"] == ("memory:", "pyproject.toml [tool.taskq]")
    assert found["outcome_bytes"] == (64_000_000, "pyproject.toml [tool.taskq]")


def test_its_own_file_wins_over_the_project_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "taskq.toml").write_text("[broker]\nport = 1\n")
    (folder / "pyproject.toml").write_text("[tool.taskq.broker]\nport = 2\n")
    assert explained(capsys)["port"] == (1, "taskq.toml")


def test_another_file_can_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.toml").write_text("[broker]\nport = 7805\n")
    assert run(["--config", "other.toml", "broker", "config"]) == Exit.OK
    assert "port = 7805" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[broker]\nprot = 1\n", "unknown key `broker.prot`; did you mean `port`?"),
        ("[broker]\nxyz = 1\n", "unknown key `broker.xyz`; known are: host, port"),
        ("[brokr]\nport = 1\n", "unknown key `brokr`; did you mean `broker`?"),
        ("broker = 1\n", "`broker` must be a table, [broker], not int"),
        ("[broker]\nport = 'x'\n", "`broker.port`: 'x' is not a valid integer"),
        ("[broker]\nport = 70000\n", "`broker.port`: 70000 is not in the range 0<=x<=65535"),
        ("[broker]\nport = true\n", "`broker.port` must be integer range, not true or false"),
        ("[broker]\nport = [1]\n", "`broker.port` must be integer range, not a list"),
        ("[broker]\ninsecure_allow_remote = 'yes'\n", "must be boolean, not text"),
        ("[broker]\nhttp = 'x'\n", "`broker.http`: 'x' is not HOST:PORT"),
        ("[broker\n", "taskq.toml: not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (folder / "taskq.toml").write_text(text)
    assert run(["broker", "config"]) == Exit.CONFIG
    error = capsys.readouterr().err
    assert error.startswith("taskq: error: taskq.toml: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_named_file_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", "nowhere.toml", "broker", "config"]) == Exit.CONFIG
    assert "nowhere.toml: No such file" in capsys.readouterr().err


def test_explain_is_a_table_with_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["broker", "--insecure-allow-remote", "config", "--explain"]) == Exit.OK
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["SETTING", "VALUE", "FROM"]
    assert ["insecure_allow_remote", "true", "flag"] in lines
    assert ["tokens_file", "-", "default"] in lines


def test_a_secret_is_never_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQ_TOKEN", "tq1_abcdefgh_" + "s" * 43)
    (folder / "tokens").write_text("worker tq1_abcdefgh_" + "s" * 43)
    journal = "postgresql://ada:hunter2@db/queue"
    for how in ([], ["--explain"], ["--json"]):
        assert run(["broker", "--journal", journal, "--tokens-file", "tokens", "config", *how]) == Exit.OK
        shown = capsys.readouterr().out
        assert "sss" not in shown
        assert "hunter2" not in shown
        assert "ada:***@db" in shown
