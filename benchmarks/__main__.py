"""All benchmarks, one after the other, and what was due against what was measured.

Each runs in a process of its own, so that none inherits the heap of the one before. With --json DIR each
one's report is kept there; --from DIR prints reports that were kept, and measures nothing.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.harness.fleet import ROOT
from benchmarks.harness.report import Report, markdown_table, number, table

PROGRAMS: Final = (
    "forwarder",
    "throughput",
    "worker",
    "latency",
    "backlog",
    "recovery",
    "faults",
    "crashes",
    "limits",
    "storm",
    "schedules",
    "connections",
    "mixed",
    "idle",
    "features",
    "bulk",
    "imports",
    "testing_env",
    "streams",
)
HEADS: Final = ("program", "what", "durability", "due", "goal", "measured", "min", "max", "holds")
LEFT: Final = 3


def run_all() -> int:
    """Returns 0 when every program ran; what it measured is for people to judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: shows that they run, not how fast")
    parser.add_argument("--runs", type=int, help="rounds, instead of each program's own number")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument("--json", type=Path, metavar="DIR", help="keep each report there, as NAME.json")
    parser.add_argument("--from", type=Path, metavar="DIR", dest="kept", help="print the reports kept there")
    told = parser.parse_args()
    flags = ["--quick"] * told.quick + ([f"--runs={told.runs}"] if told.runs else [])
    reports = []
    for name in PROGRAMS:
        text = _kept(told.kept, name) if told.kept else _run(name, flags)
        if text is None:
            continue
        if told.json:
            told.json.mkdir(parents=True, exist_ok=True)
            (told.json / f"{name}.json").write_text(text)
        reports.append(Report.from_json(text))
    print(_markdown(reports) if told.markdown else _text(reports))
    return 0 if len(reports) == len(PROGRAMS) else 1


def _run(name: str, flags: list[str]) -> str | None:
    print(f"-- {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *flags]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        print(f"{name} ended with {ran.returncode}", file=sys.stderr)
        return None
    return ran.stdout


def _kept(folder: Path, name: str) -> str | None:
    path = folder / f"{name}.json"
    if not path.exists():
        print(f"no {path}", file=sys.stderr)
        return None
    return path.read_text()


def _text(reports: list[Report]) -> str:
    parts = [report.text() for report in reports]
    return "\n\n".join([*parts, "\n".join(table(HEADS, _bounded(reports), left=LEFT))])


def _markdown(reports: list[Report]) -> str:
    parts = [f"### {report.program}\n\n{report.markdown()}" for report in reports]
    return "\n\n".join(["\n".join(markdown_table(HEADS, _bounded(reports), left=LEFT)), *parts])


def _bounded(reports: list[Report]) -> list[list[str]]:
    """A row for each figure that has something to reach."""
    rows = []
    for report in reports:
        above = ""
        for row in report.rows:
            indented = row.what.startswith("  ")
            above = above if indented else row.what
            if row.bound is None:
                continue
            bounded = row.ratio if row.bound.on_ratio and row.ratio else row.value
            unit = "x" if row.bound.on_ratio else f" {row.unit}".rstrip()
            rows.append(
                [
                    report.program,
                    f"{above}: {row.what.strip()}" if indented else row.what,
                    row.durability,
                    *row.limits(),
                    f"{number(bounded.median)}{unit}",
                    number(bounded.least),
                    number(bounded.most),
                    "yes" if row.holds else "NO",
                ]
            )
    return rows


if __name__ == "__main__":
    sys.exit(run_all())
