"""The checker must find each kind of broken promise, and nothing in files where all were kept."""

from pathlib import Path

import pytest

from benchmarks.harness.evidence import Evidence, Findings, judge, read

GOOD = """
submitted a
confirmed a
start a 1 70 100
killed 150
end a 1 70 200
told a 70 1 100
kept a 70 1 100
"""


def findings(tmp_path: Path, text: str) -> Findings:
    path = tmp_path / "evidence.txt"
    path.write_text(text.lstrip("\n"))
    return judge(read([path]))


def test_all_was_kept(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD)
    assert (found.submitted, found.confirmed, found.running_at_kills, found.run_again) == (1, 1, 1, 0)
    assert not (found.lost or found.twice or found.failed or found.never_run)


def test_a_confirmed_job_that_nobody_knows_any_more_is_lost(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD + "submitted b\nconfirmed b\n").lost == ["b"]


def test_that_it_was_told_once_does_not_help_when_it_is_not_kept(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD.replace("kept a 70 1 100\n", "")).lost == ["a"]


def test_what_was_never_confirmed_may_be_lost(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD + "submitted b\n").lost == []


@pytest.mark.parametrize("other", ["told a 71 2 300", "kept a 71 2 300"])
def test_two_different_outcomes_are_found_whoever_was_told(tmp_path: Path, other: str) -> None:
    assert findings(tmp_path, f"{GOOD}start a 2 71 300\n{other}\n").twice == ["a"]


def test_the_same_outcome_told_again_is_one(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD + "told a 70 1 100\n").twice == []


def test_a_job_that_ran_at_the_kill_and_was_started_again(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD + "start a 2 71 300\nend a 2 71 400\n")
    assert (found.running_at_kills, found.run_again) == (1, 1)


def test_a_job_that_had_ended_before_the_kill_did_not_run_then(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD.replace("killed 150", "killed 250"))
    assert (found.running_at_kills, found.run_again) == (0, 0)


def test_a_run_that_never_ended_ran_at_every_later_kill(tmp_path: Path) -> None:
    found = findings(tmp_path, "start a 1 70 100\nkilled 150\nkilled 900\n")
    assert found.running_at_kills == 2


def test_an_outcome_without_a_run_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD + "kept b 70 1 100\n").never_run == ["b"]


def test_a_failure_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD + "failed a\n").failed == ["a"]


def test_what_was_noted_is_read_back(tmp_path: Path) -> None:
    notes = Evidence(tmp_path / "notes.txt")
    try:
        notes.note("submitted", "a")
        notes.note("told", "a", 70, 1, 100)
        seen = read([notes.path])
    finally:
        notes.close()
    assert seen.submitted == {"a"}
    assert seen.told == {"a": {(70, 1, 100)}}


def test_a_line_that_means_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a line of evidence"):
        findings(tmp_path, "confirmed\n")
