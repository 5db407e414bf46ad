"""The demo's sums, and that each of its checks can fail."""

from pathlib import Path

import pytest

from taskq.cli.demo_report import Tally, board, percentile
from taskq.cli.demo_tasks import Counted, Source, measure

LINES = {"a.py": 3, "b.py": 2}


@pytest.fixture
def root(folder: Path) -> Path:
    for name, lines in LINES.items():
        (folder / name).write_text("x = 1\n" * lines)
    return folder


def counted(name: str, *, lines: int | None = None, attempt: int = 1) -> Counted:
    source = Source(
        lines=LINES[name] if lines is None else lines, parsed=True, functions=1, longest=2, longest_name="f"
    )
    return Counted(name, source, started=1000.5, ended=1001.0, pid=7, attempt=attempt)


def tally(root: Path, *results: Counted) -> Tally:
    made = Tally(root, list(LINES), submitted=1000.0)
    for result in results:
        made.add(result)
    return made


def test_each_file_once_is_right(root: Path) -> None:
    assert tally(root, counted("b.py"), counted("a.py")).mistakes() == []


@pytest.mark.parametrize(
    ("results", "mistake"),
    [
        ([counted("a.py")], "never counted: b.py"),
        ([counted("a.py"), counted("b.py"), counted("b.py")], "counted 2 times: b.py"),
        ([counted("a.py", lines=4), counted("b.py")], "6 lines came back; the files have 5"),
    ],
)
def test_what_does_not_add_up_is_named(root: Path, results: list[Counted], mistake: str) -> None:
    assert mistake in tally(root, *results).mistakes()


def test_a_file_that_nobody_asked_for_is_named(root: Path) -> None:
    stray = Counted("c.py", Source(0), 1000.5, 1001.0, 7, 1)
    assert "never asked for: c.py" in tally(root, counted("a.py"), counted("b.py"), stray).mistakes()


def test_the_totals(root: Path) -> None:
    rows = dict(tally(root, counted("a.py"), counted("b.py", attempt=3)).rows())
    assert rows["files"] == "2"
    assert rows["lines"] == "5"
    assert rows["redeliveries"] == "2"
    assert rows["speed"] == "2 jobs/s"
    assert rows["wait"] == "p50 500.0 ms  p99 500.0 ms"
    assert rows["longest function"] == "f, 2 lines, a.py"


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_percentiles_are_by_nearest_rank(percent: int, value: int) -> None:
    assert percentile(range(1, 101), percent) == value


def test_progress_in_a_pipe_is_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with board(100) as shown:
        for number in range(1, 101):
            shown.done(number)
        shown.say("killed")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 of 100 files"
    assert lines[-2:] == ["100 of 100 files", "killed"]
    assert len(lines) == 11


def test_a_source_file_is_measured(folder: Path) -> None:
    path = folder / "some.py"
    path.write_text(
        "class A:\n    def f(self):\n        def g():\n            pass\n\nif True:\n    async def h(): ...\n"
    )
    assert measure(path) == Source(lines=7, parsed=True, functions=3, classes=1, longest=3, longest_name="f")


@pytest.mark.parametrize("content", [b"print 'old'\n", b"\xff\xfe\n", b"# coding: nonsense\n", b"\0\n"])
def test_what_is_no_python_is_counted_as_such(folder: Path, content: bytes) -> None:
    path = folder / "some.py"
    path.write_bytes(content)
    assert measure(path) == Source(lines=1)
