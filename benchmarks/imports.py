"""What it takes to import taskq in a fresh interpreter, and to show the command's help."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.harness.fleet import ROOT
from benchmarks.harness.program import Options, run, say
from benchmarks.harness.report import Bound, Report

EACH: Final = 20
EACH_QUICK: Final = 3

# Timed inside the interpreter, so that what it takes to start is not counted.
TIMED: Final = "from time import perf_counter as now; began = now(); {}; print(now() - began)"
STATEMENTS: Final = {
    "import taskq": "import taskq",
    "from taskq import TaskQ": "from taskq import TaskQ",
    "  and every other public name": "import taskq; [getattr(taskq, name) for name in taskq.__all__]",
    "  asyncio and msgspec, which are in it": "import asyncio, msgspec",
}
IMPORT: Final = Bound(due=100, goal=50, at_most=True)
HELP: Final = Bound(due=150, goal=100, at_most=True)


async def measure(options: Options) -> Report:
    report = Report("imports", options.runs)
    each = EACH_QUICK if options.quick else EACH

    def measured(what: str, once: Callable[[], float], bound: Bound | None = None) -> None:
        report.add(what, "-", "ms", _medians(options.runs, each, once), bound=bound)

    for what, statement in STATEMENTS.items():
        bound = IMPORT if what.startswith(("import", "from")) else None
        measured(what, partial(_inside, statement), bound)
    measured("an interpreter that does nothing", partial(_whole, "-c", ""))
    measured("taskq --help", partial(_whole, "-m", "taskq", "--help"), HELP)
    report.notes.append(f"The median of {each} fresh processes a round, with the bytecode on the disk.")
    return report


def _medians(rounds: int, each: int, once: Callable[[], float]) -> list[float]:
    """In ms, by round. The first process of all is not counted: it may have to compile."""
    once()
    medians = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        medians.append(sorted(once() for _ in range(each))[each // 2] * 1_000)
    return medians


def _inside(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _whole(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    run(measure, __doc__, runs=5)


if __name__ == "__main__":
    main()
