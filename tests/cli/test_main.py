"""The group of verbs: cheap, helpful about mistakes, one line for an error and the right code."""

import os
import subprocess
import sys

import click
import pytest

from taskq import __version__
from taskq.cli import main
from taskq.cli.exits import Exit
from taskq.errors import NotFound


def verbs() -> list[tuple[str, click.Command]]:
    """Every verb and sub-verb with the words that call it."""
    found: list[tuple[str, click.Command]] = [("", main.command)]
    for name in main.VERBS:
        verb = main.load(name)
        found.append((name, verb))
        if isinstance(verb, click.Group):
            found += [(f"{name} {sub}", command) for sub, command in verb.commands.items()]
    return found


def test_help_imports_nothing_heavy() -> None:
    """What makes `taskq --help` fast; its time is not judged here, for machines differ."""
    program = (
        "import sys\n"
        "from taskq.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'asyncio', 'msgspec', 'msgpack', 'rich', 'uvloop', 'socket'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout


@pytest.mark.parametrize(
    ("words", "verb"), verbs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_help_ends_with_examples_that_call_it(
    words: str, verb: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*words.split(), "--help"]) == Exit.OK
    text = capsys.readouterr().out
    examples = text[text.index("Examples:") :].splitlines()[1:]
    assert examples
    assert any(f"taskq {words}".strip() in line for line in examples)


def test_every_verb_is_described_in_one_line() -> None:
    for name in main.VERBS:
        help_text = main.load(name).help
        assert help_text is not None
        assert help_text.splitlines()[0].endswith("."), name


def test_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskq", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"taskq {__version__}\n"


def test_a_mistyped_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["brokr"]) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "taskq: error: no such command 'brokr'; did you mean 'broker'?" in said.err


def test_what_is_near_no_verb_gets_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["xyzzy"]) == Exit.USAGE
    assert "there are: demo, dev, broker, worker" in capsys.readouterr().err


def test_a_wrong_value_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["broker", "--outcome-bytes", "lots"]) == Exit.USAGE
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(
        "taskq: error: Invalid value for '--outcome-bytes': 'lots' is not a size such as"
    )
    assert said[1] == "Try 'taskq broker --help' for what is allowed."


def test_no_verb_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == Exit.USAGE
    assert "Commands:" in capsys.readouterr().err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A verb `ping` that raises what is put here."""
    errors: list[BaseException] = []

    @click.command()
    def verb() -> None:
        raise errors[0]

    monkeypatch.setattr("taskq.cli.main.load", lambda name: verb)
    return errors


def test_an_error_is_one_line_and_a_code(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(NotFound("no job 1234"))
    assert main.run(["ping"]) == Exit.NOT_FOUND
    assert capsys.readouterr().err == "taskq: error: no job 1234\n"


def test_debug_shows_the_traceback_too(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing.append(NotFound("no job 1234"))
    assert main.run(["--debug", "ping"]) == Exit.NOT_FOUND
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("TASKQ_DEBUG", "1")
    assert main.run(["ping"]) == Exit.NOT_FOUND
    assert "Traceback" in capsys.readouterr().err


def test_our_own_mistake_says_so(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(ZeroDivisionError("division by zero"))
    assert main.run(["ping"]) == Exit.INTERNAL
    said = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: division by zero" in said
    assert "--debug" in said
    assert "Traceback" not in said


def test_an_interrupt_has_its_code(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(KeyboardInterrupt())
    assert main.run(["ping"]) == Exit.INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error() -> None:
    """The reader has gone before the command has written: nothing is said, and nothing failed."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "taskq", "--help"]
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_is_the_shells_own_script(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, mark in [("bash", "complete"), ("zsh", "#compdef taskq"), ("fish", "complete")]:
        assert main.run(["completion", shell]) == Exit.OK
        script = capsys.readouterr().out
        assert mark in script
        assert main.COMPLETE in script


def test_the_script_gets_its_suggestions() -> None:
    asked = {main.COMPLETE: "bash_complete", "COMP_WORDS": "taskq st", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "taskq"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,status\n"
