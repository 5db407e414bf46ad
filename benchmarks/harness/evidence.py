"""What was seen of each job from outside taskq, and whether it keeps the promises.

Workers append `start` and `end` lines (benchmarks.tasks.note), the benchmark appends the others:

    submitted ID            before the broker was asked
    confirmed ID            after it said yes
    told ID PID ATTEMPT NS  what the broker pushed as the job's result: which run it was
    failed ID               the outcome that it pushed was none of a run
    kept ID PID ATTEMPT NS  what it answers at the end, to somebody else
    killed NS               the moment at which a broker was killed
    start|end ID ATTEMPT PID NS
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# A run of a job, as its result tells it: process, attempt, moment in ns since the boot.
Run = tuple[int, int, int]

NEVER: Final = 2**63


class Evidence:
    """An append-only file. Each line goes out at once, so that what was written survives us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True)
class Stretch:
    """One attempt of a job as its worker saw it."""

    pid: int
    attempt: int
    began_ns: int
    ended_ns: int = NEVER


@dataclass
class Seen:
    """All that the files say."""

    submitted: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    told: dict[str, set[Run]] = field(default_factory=lambda: defaultdict(set))
    failed: set[str] = field(default_factory=set)
    kept: dict[str, set[Run]] = field(default_factory=lambda: defaultdict(set))
    kills_ns: list[int] = field(default_factory=list)
    runs: dict[str, list[Stretch]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Findings:
    submitted: int
    confirmed: int
    lost: list[str]  # confirmed, and at the end there is no outcome
    failed: list[str]  # no task here fails
    twice: list[str]  # two different outcomes were told or kept
    never_run: list[str]  # an outcome without any run of the job
    running_at_kills: int  # pairs of a job and a kill
    run_again: int  # of these, those that were started again


def read(paths: Iterable[Path]) -> Seen:
    """Raises ValueError at a line that is none of the above."""
    seen = Seen()
    for path in paths:
        for line in path.read_text().splitlines():
            _take(seen, line)
    for runs in seen.runs.values():
        runs.sort(key=lambda stretch: stretch.began_ns)
    return seen


def judge(seen: Seen) -> Findings:
    """What the broker promised against what was seen."""
    outcomes = {id: seen.told.get(id, set()) | seen.kept.get(id, set()) for id in (*seen.told, *seen.kept)}
    again = [
        _ran_again(runs, kill) for kill in seen.kills_ns for runs in seen.runs.values() if _ran(runs, kill)
    ]
    return Findings(
        submitted=len(seen.submitted),
        confirmed=len(seen.confirmed),
        lost=sorted(id for id in seen.confirmed if not seen.kept.get(id)),
        failed=sorted(seen.failed),
        twice=sorted(id for id, runs in outcomes.items() if len(runs) > 1),
        never_run=sorted(id for id in outcomes if id not in seen.runs),
        running_at_kills=len(again),
        run_again=sum(again),
    )


def _ran(runs: list[Stretch], moment_ns: int) -> bool:
    return any(stretch.began_ns < moment_ns < stretch.ended_ns for stretch in runs)


def _ran_again(runs: list[Stretch], moment_ns: int) -> bool:
    return any(stretch.began_ns > moment_ns for stretch in runs)


def _take(seen: Seen, line: str) -> None:
    word, *rest = line.split()
    match word, rest:
        case "submitted", [id]:
            seen.submitted.add(id)
        case "confirmed", [id]:
            seen.confirmed.add(id)
        case "failed", [id]:
            seen.failed.add(id)
        case "told" | "kept", [id, pid, attempt, began_ns]:
            outcomes = seen.told if word == "told" else seen.kept
            outcomes[id].add((int(pid), int(attempt), int(began_ns)))
        case "killed", [at_ns]:
            seen.kills_ns.append(int(at_ns))
        case "start", [id, attempt, pid, at_ns]:
            seen.runs[id].append(Stretch(int(pid), int(attempt), int(at_ns)))
        case "end", [id, attempt, pid, at_ns]:
            runs = seen.runs[id]
            at = max(n for n, run in enumerate(runs) if (run.pid, run.attempt) == (int(pid), int(attempt)))
            runs[at] = Stretch(runs[at].pid, runs[at].attempt, runs[at].began_ns, int(at_ns))
        case _:
            raise ValueError(f"not a line of evidence: {line!r}")
