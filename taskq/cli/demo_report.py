"""What the demo adds up, what it checks, and how it shows both."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from taskq.cli import output

if TYPE_CHECKING:
    from taskq.cli.demo_tasks import Counted


class Tally:
    """The results as they come, and whether each file came exactly once."""

    def __init__(self, root: Path, names: Sequence[str], submitted: float) -> None:
        self.root = root
        self.names = names
        self._submitted = submitted
        self._counted: list[Counted] = []

    def __len__(self) -> int:
        return len(self._counted)

    def add(self, counted: "Counted") -> None:
        self._counted.append(counted)

    def mistakes(self) -> list[str]:
        """What does not add up; empty when all does. The lines are counted again here, without any queue."""
        times = Counter(counted.name for counted in self._counted)
        found = [f"never counted: {name}" for name in self.names if name not in times]
        found += [f"counted {number} times: {name}" for name, number in times.items() if number > 1]
        found += [f"never asked for: {name}" for name in sorted(set(times) - set(self.names))]
        lines = sum((self.root / name).read_bytes().count(b"\n") for name in self.names)
        if lines != self._lines():
            found.append(f"{self._lines():,} lines came back; the files have {lines:,}")
        return found

    def rows(self) -> list[list[str]]:
        """The table of totals, text by text."""
        sources = [counted.source for counted in self._counted]
        longest = max(self._counted, key=lambda counted: counted.source.longest)
        last = max(counted.ended for counted in self._counted)
        waits = sorted(counted.started - self._submitted for counted in self._counted)
        runs = sorted(counted.ended - counted.started for counted in self._counted)
        again = sum(counted.attempt - 1 for counted in self._counted)
        return [
            ["files", f"{len(sources):,}"],
            ["lines", f"{self._lines():,}"],
            ["functions", f"{sum(source.functions for source in sources):,}"],
            ["classes", f"{sum(source.classes for source in sources):,}"],
            [
                "longest function",
                f"{longest.source.longest_name}, {longest.source.longest:,} lines, {longest.name}",
            ],
            ["not Python", f"{sum(not source.parsed for source in sources):,} files"],
            ["speed", f"{len(sources) / (last - self._submitted):,.0f} jobs/s"],
            ["wait", f"p50 {_seconds(waits, 50)}  p99 {_seconds(waits, 99)}"],
            ["run", f"p50 {_seconds(runs, 50)}  p99 {_seconds(runs, 99)}"],
            ["processes", f"{len({counted.pid for counted in self._counted}):,} ran jobs"],
            ["redeliveries", f"{again:,}"],
        ]

    def _lines(self) -> int:
        return sum(counted.source.lines for counted in self._counted)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that at least so many percent are not above (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _seconds(ordered: Sequence[float], percent: int) -> str:
    value = percentile(ordered, percent)
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


class Board(Protocol):
    """Where progress is shown, and what happens meanwhile is said."""

    def done(self, number: int) -> None: ...

    def say(self, text: str) -> None: ...


def board(total: int) -> AbstractContextManager[Board]:
    """A moving bar on a terminal, a line every tenth otherwise."""
    return _Bar(total) if output.is_terminal() else _Lines(total)


class _Lines:
    def __init__(self, total: int) -> None:
        self._total = total
        self._tenths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def done(self, number: int) -> None:
        tenths = number * 10 // self._total
        if tenths > self._tenths:
            self._tenths = tenths
            output.data(f"{number:,} of {self._total:,} files")

    def say(self, text: str) -> None:
        output.data(text)


class _Bar:
    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("files"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(no_color=not output.wants_colour(), highlight=False, markup=False),
        )
        self._task = self._progress.add_task("files", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def done(self, number: int) -> None:
        self._progress.update(self._task, completed=number)

    def say(self, text: str) -> None:
        self._progress.console.print(text)
