"""What the demo's workers run: reads one Python source file and counts what is in it."""

import ast
import os
import time
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskq.client.app import TaskQ
from taskq.client.context import current
from taskq.client.task import Task

# Old test data has "\d" in it: its author's business, and not worth a line in the worker's log.
warnings.filterwarnings("ignore", category=SyntaxWarning)


@dataclass(frozen=True)
class Source:
    """What one source file holds. A file that is no Python (test data, old syntax) is not `parsed`."""

    lines: int
    parsed: bool = False
    functions: int = 0
    classes: int = 0
    longest: int = 0
    longest_name: str = ""


@dataclass(frozen=True)
class Counted:
    """A source file, and when (seconds since 1970), where and at which attempt it was counted."""

    name: str
    source: Source
    started: float
    ended: float
    pid: int
    attempt: int


def count_file(root: str, name: str) -> Counted:
    """Count one file below `root`."""
    started = time.time()
    source = measure(Path(root, name))
    return Counted(name, source, started, time.time(), os.getpid(), current().attempt)


def measure(path: Path) -> Source:
    """Lines, functions, classes, and the longest function's lines and name."""
    lines = path.read_bytes().count(b"\n")
    try:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read(), path.name)
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return Source(lines)
    defined = list(definitions(tree))
    functions = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, node.name)
        for node in defined
        if not isinstance(node, ast.ClassDef)
    ]
    longest, longest_name = max(functions, default=(0, ""))
    return Source(lines, True, len(functions), len(defined) - len(functions), longest, longest_name)


def definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Every def and class, however deep. Expressions hold none and are most nodes: they are not visited."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, field, None)
            if isinstance(inner, list):
                waiting.extend(inner)


def register(app: TaskQ) -> Task[[str, str], Counted]:
    """The task, known to this app: the workers' own below, and the demo's, which has another address."""
    return app.task(name="count_file")(count_file)


q = TaskQ()
register(q)
