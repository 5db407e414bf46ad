"""The command line that all programs share, and the loop they run on."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.harness.fleet import FleetError
from benchmarks.harness.report import Report

try:
    from uvloop import new_event_loop as _new_uvloop
except ImportError:  # no uvloop on this platform
    NEW_LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    NEW_LOOP = _new_uvloop

T = TypeVar("T")


@dataclass(frozen=True)
class Count:
    """What a program does so many times, such as kills: its flag, and how many by default and in a hurry."""

    flag: str
    full: int
    quick: int


@dataclass(frozen=True)
class Options:
    quick: bool
    runs: int
    count: int = 0


Measure = Callable[[Options], Awaitable[Report]]


def run(measure: Measure, about: str | None, *, runs: int = 5, count: Count | None = None) -> None:
    """Measure as the command line says, and print the report."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: shows that it runs, not how fast"
    )
    parser.add_argument("--runs", type=int, help=f"rounds of everything (default {runs})")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object")
    shape.add_argument("--markdown", action="store_true", help="a table for a README")
    if count is not None:
        parser.add_argument(count.flag, type=int, dest="count", help=f"how many (default {count.full})")
    told = parser.parse_args()
    options = Options(
        quick=told.quick,
        runs=told.runs or (1 if told.quick else runs),
        count=_count(count, told),
    )
    try:
        report = run_on_loop(_measured(measure, options))
    except FleetError as error:
        sys.exit(f"{parser.prog}: {error}")
    print(report.json() if told.json else report.markdown() if told.markdown else report.text())


def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, on the loop that taskq uses. SIGTERM cancels: `with` blocks end their processes."""
    with asyncio.Runner(loop_factory=NEW_LOOP) as runner:
        try:
            return runner.run(_until_terminated(main))
        except asyncio.CancelledError:
            sys.exit(128 + signal.SIGTERM)


def say(text: str) -> None:
    """Talk goes to standard error: standard output holds the report and nothing else."""
    print(text, file=sys.stderr, flush=True)


async def _until_terminated(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await main


async def _measured(measure: Measure, options: Options) -> Report:
    report = await measure(options)
    report.quick = options.quick
    return report


def _count(count: Count | None, told: argparse.Namespace) -> int:
    if count is None:
        return 0
    return told.count or (count.quick if told.quick else count.full)
