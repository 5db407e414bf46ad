"""What a program has measured: rows, and the three ways to print them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from benchmarks.harness.machine import Machine, load, this_machine
from benchmarks.harness.spread import Spread

HEADS: Final = ("what", "durability", "median", "min", "max", "of the forwarder", "due", "goal", "holds")
LEFT: Final = 2  # columns of words

Durability = Literal["fsync", "os", "memory", "-"]


@dataclass(frozen=True)
class Bound:
    """What a figure must reach: the row's value, or its ratio to the forwarder."""

    due: float
    goal: float
    at_most: bool = False
    on_ratio: bool = False

    def holds(self, measured: float) -> bool:
        return measured <= self.due if self.at_most else measured >= self.due


@dataclass(frozen=True)
class Row:
    what: str
    durability: Durability
    unit: str
    value: Spread
    ratio: Spread | None = None
    bound: Bound | None = None

    @property
    def holds(self) -> bool | None:
        if self.bound is None:
            return None
        bounded = self.ratio if self.bound.on_ratio else self.value
        assert bounded is not None, f"{self.what}: a bound on a ratio that is not there"
        return self.bound.holds(bounded.median)

    def cells(self) -> list[str]:
        return [
            self.what,
            self.durability,
            f"{number(self.value.median)} {self.unit}".rstrip(),
            number(self.value.least),
            number(self.value.most),
            _ratio(self.ratio),
            *self.limits(),
            {True: "yes", False: "NO", None: ""}[self.holds],
        ]

    def limits(self) -> tuple[str, str]:
        """Due and goal, as they are written."""
        if self.bound is None:
            return "", ""
        unit = "x" if self.bound.on_ratio else f" {self.unit}".rstrip()
        sign = "<=" if self.bound.at_most else ">="
        return f"{sign} {number(self.bound.due)}{unit}", f"{sign} {number(self.bound.goal)}{unit}"


@dataclass
class Report:
    """One program's rows. `notes` say what was done, so that nobody compares what cannot be compared."""

    program: str
    runs: int
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quick: bool = False
    machine: Machine = field(default_factory=this_machine)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    load_before: float = field(default_factory=load)

    def add(
        self,
        what: str,
        durability: Durability,
        unit: str,
        values: Sequence[float],
        *,
        ratio: Sequence[float] | None = None,
        bound: Bound | None = None,
    ) -> None:
        """A row from the values of all rounds, and from their ratios to the forwarder's rounds."""
        spread = Spread.of(ratio) if ratio is not None else None
        self.rows.append(Row(what, durability, unit, Spread.of(values), spread, bound))

    def text(self) -> str:
        return "\n".join([self.heading(), "", *table(HEADS, [row.cells() for row in self.rows]), *self.notes])

    def markdown(self) -> str:
        rows = [row.cells() for row in self.rows]
        return "\n".join(
            [*markdown_table(HEADS, rows), "", f"{self.heading()}. {' '.join(self.notes)}".rstrip()]
        )

    def heading(self) -> str:
        quick = " (--quick: shows that it runs, not how fast)" if self.quick else ""
        runs = f"{self.runs} run{'s' if self.runs != 1 else ''}"
        return (
            f"{self.program}: {runs}, {self.date}, load before {self.load_before:.1f}; {self.machine}{quick}"
        )

    def json(self) -> str:
        document: dict[str, Any] = asdict(self)
        for row, told in zip(self.rows, document["rows"], strict=True):
            told["holds"] = row.holds
        return json.dumps(document)

    @staticmethod
    def from_json(text: str) -> "Report":
        document = json.loads(text)
        document["machine"] = Machine(**document["machine"])
        document["rows"] = [_row(told) for told in document["rows"]]
        return Report(**document)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = LEFT) -> list[str]:
    """Lines of a table for a terminal: the first columns to the left, numbers to the right."""
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_aligned(line, widths, left)).rstrip() for line in lines]


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = LEFT) -> list[str]:
    rules = ["---" if column < left else "--:" for column in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rules, *map(_nested, rows))]


def number(value: float) -> str:
    """Three figures that matter: 1,234,567 · 12.3 · 0.123."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    return f"{number(ratio.median)}x ({number(ratio.least)}-{number(ratio.most)})"


def _aligned(cells: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    return [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def _nested(cells: Sequence[str]) -> list[str]:
    """Markdown drops the spaces that say that a row belongs to the one above."""
    first, *others = cells
    return [f"- {first.strip()}" if first.startswith("  ") else first, *others]


def _row(told: dict[str, Any]) -> Row:
    told.pop("holds")
    ratio, bound = told.pop("ratio"), told.pop("bound")
    return Row(
        **{**told, "value": Spread(**told["value"])},
        ratio=Spread(**ratio) if ratio else None,
        bound=Bound(**bound) if bound else None,
    )
