"""Tables for people and for pipes; logs for people and for machines."""

import io
import json
import logging
import sys

import pytest

from taskq.cli import logs, output


def test_a_table_in_a_pipe_is_padded_columns() -> None:
    lines = output.plain_table(["QUEUE", "READY"], [["default", "912"], ["a", "3"]])
    assert lines == ["QUEUE    READY", "default    912", "a            3"]


def test_an_empty_table_is_its_head() -> None:
    assert output.plain_table(["QUEUE", "READY"], []) == ["QUEUE  READY"]


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.json_line({"name": "für", "text": "a\nb"})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"name": "für", "text": "a\nb"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_and_not_against_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    assert not output.wants_colour()
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert output.wants_colour() is coloured


def test_a_terminal_gets_a_drawn_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    output.table(["QUEUE", "READY"], [["[red]default", "912"]])
    assert "[red]default" in screen.getvalue()


def test_a_narrow_terminal_cuts_the_last_text_and_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "60")
    id, about = "0" * 32, "about " * 20
    output.table(["ID", "STATE", "ABOUT"], [[id, "dead", about]], left=2, gives_way=True)
    output.table(["ID", "TASK"], [[id, "t" * 60]], left=2)
    assert screen.getvalue().count(id) == 2
    assert "about abo" in screen.getvalue() and about not in screen.getvalue()
    assert "t" * 60 in screen.getvalue()


@pytest.fixture
def record() -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "taskq.worker",
            "levelname": "WARNING",
            "msg": "slow %s",
            "args": ("job",),
            "job": "01ab",
            "queue": "",
        }
    )


def test_a_log_line_for_machines_is_json(record: logging.LogRecord) -> None:
    line = json.loads(logs.Lines().format(record))
    assert line["level"] == "warning"
    assert line["logger"] == "taskq.worker"
    assert line["message"] == "slow job"
    assert line["job"] == "01ab"
    assert "queue" not in line


def test_a_log_line_for_people_is_text(record: logging.LogRecord) -> None:
    assert logs.Text().format(record).endswith("WARNING taskq.worker: slow job  job=01ab")


def test_an_exception_stays_on_the_line(record: logging.LogRecord) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: broken" in json.loads(logs.Lines().format(record))["exception"]
    assert "\n" not in logs.Lines().format(record)
