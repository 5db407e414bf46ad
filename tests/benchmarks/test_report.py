"""The table, the JSON, and whether a figure holds."""

import pytest

from benchmarks.harness.machine import Machine, this_machine
from benchmarks.harness.report import Bound, Report, Row, markdown_table, number, table
from benchmarks.harness.spread import Spread

MACHINE = Machine("Some CPU", 2, "CPython 3.11", "Linux 6", "msgspec 1")


def report() -> Report:
    made = Report("speed", 2, machine=MACHINE, date="2026-01-02 03:04 UTC", load_before=0.0)
    bound = Bound(due=0.3, goal=0.5, on_ratio=True)
    made.add("many", "fsync", "jobs/s", [100_000.0, 120_000.0], ratio=[0.25, 0.35], bound=bound)
    made.add("  broker CPU", "fsync", "us/job", [3.0, 4.0], bound=Bound(due=7, goal=4, at_most=True))
    made.notes.append("As it was.")
    return made


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (Bound(due=0.9, goal=1.0), 0.9, True),
        (Bound(due=0.9, goal=1.0), 0.89, False),
        (Bound(due=7, goal=4, at_most=True), 7.0, True),
        (Bound(due=7, goal=4, at_most=True), 7.1, False),
        (Bound(due=0, goal=0, at_most=True), 1.0, False),
    ],
)
def test_a_bound_holds_up_to_itself(bound: Bound, value: float, holds: bool) -> None:
    assert Row("x", "-", "", Spread.of([value]), bound=bound).holds is holds


def test_a_bound_on_the_ratio_leaves_the_value_alone() -> None:
    row = Row("x", "-", "", Spread.of([9.0]), Spread.of([0.1]), Bound(due=0.3, goal=0.5, on_ratio=True))
    assert row.holds is False


def test_without_a_bound_there_is_nothing_to_hold() -> None:
    assert Row("x", "-", "", Spread.of([1.0])).holds is None


def test_json_reads_back_as_the_same_report() -> None:
    made = report()
    assert Report.from_json(made.json()) == made


def test_the_table_says_all_that_makes_figures_comparable() -> None:
    text = report().text()
    for needed in (
        "2 runs",
        "2026-01-02 03:04 UTC",
        "Some CPU, 2 cores",
        "CPython 3.11",
        "Linux 6",
        "As it was.",
    ):
        assert needed in text
    many = next(line for line in text.splitlines() if line.startswith("many"))
    assert many.split() == [
        "many", "fsync", "110,000", "jobs/s", "100,000", "120,000", "0.3x", "(0.25-0.35)", ">=", "0.3x", ">=",
        "0.5x", "yes",
    ]  # fmt: skip


def test_a_quick_run_says_that_it_was_one() -> None:
    made = report()
    made.quick = True
    assert "--quick" in made.heading()


def test_columns_stand_below_each_other() -> None:
    lines = table(["a", "b"], [["long word", "1"], ["x", "1,000"]], left=1)
    assert lines == ["a              b", "long word      1", "x          1,000"]


def test_markdown_keeps_what_belongs_to_the_row_above() -> None:
    assert markdown_table(["a", "b"], [["one", "1"], ["  part", "2"]], left=1) == [
        "| a | b |",
        "| --- | --: |",
        "| one | 1 |",
        "| - part | 2 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (9.876, "9.88"), (99.96, "100"), (1234567.8, "1,234,568")],
)
def test_numbers_have_three_figures_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_the_machine_is_named() -> None:
    machine = this_machine()
    assert machine.cpu and machine.cores >= 1
    assert "msgspec" in str(machine)
