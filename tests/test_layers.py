"""Holds taskq/ to the house rules that a type checker cannot see.

Which room may import which, which rooms are pure, that no order comes out of a set, and that a
file which grows past its size says why. The table below is the rule; a failure quotes its row.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "taskq"


@dataclass(frozen=True)
class Row:
    """One room: what of ours it may import (modules and all below them), and why no more."""

    may: tuple[str, ...]
    why: str


EVERYTHING: Final = ("taskq",)

# Arrows only point down; the broker's side and the users' side meet only at `protocol`. `errors` and
# `limits` are open to every room, as is a room to itself and `__version__` to all.
TABLE: Final[dict[str, Row]] = {
    "errors": Row((), "everything imports it, so it can import nothing of ours"),
    "limits": Row((), "everything imports it, so it can import nothing of ours"),
    "protocol": Row(
        (), "bytes and messages only: both sides, and clients in other languages, must agree on it alone"
    ),
    "core": Row(
        (
            "taskq.protocol.messages",
            "taskq.protocol.ids",
            "taskq.protocol.calendar",
            "taskq.protocol.ext",
        ),
        "decides about messages, their ids and their times; how they travel or are kept is not its business",
    ),
    "journal": Row(("taskq.core.records",), "remembers records and has no opinion about them"),
    "server": Row(
        ("taskq.core", "taskq.protocol", "taskq.journal"),
        "the broker's side: what runs in users' processes stays out",
    ),
    "client": Row(("taskq.protocol",), "the users' side: a producer must not carry a broker"),
    "worker": Row(("taskq.protocol", "taskq.client"), "the users' side: a worker must not carry a broker"),
    "embedded": Row(
        ("taskq.server", "taskq.client", "taskq.worker", "taskq.core", "taskq.protocol", "taskq.journal"),
        "the one place above both sides; it shows nothing to people",
    ),
    "dashboard": Row(
        ("taskq.client", "taskq.protocol"), "a client with a web page, and no more than a client"
    ),
    "contrib": Row(("taskq.client", "taskq.protocol"), "each file can be deleted, and sees what users see"),
    "testing": Row(
        (
            "taskq.__init__",
            "taskq.embedded",
            "taskq.server",
            "taskq.client",
            "taskq.worker",
            "taskq.core",
            "taskq.protocol",
            "taskq.journal",
        ),
        "for users' tests: everything but what is made to be looked at",
    ),
    "cli": Row(EVERYTHING, "the top: may use all, heavy ones inside the verb"),
    "__init__": Row(("taskq.client",), "the public names, and nothing heavy at import"),
    "__main__": Row(("taskq.cli",), "the command, and nothing else"),
}
# Single arrows that point up, each with its reason.
EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    ("taskq.client.app", "taskq.embedded.house"): (
        "TaskQ.embedded() and run_worker() are for users; imported only when called, so that a "
        "producer carries no broker"
    ),
}
OPEN_TO_ALL: Final = ("taskq.errors", "taskq.limits", "taskq.__version__")

# Rooms and files that decide: they never wait, and get time and chance as arguments, so that the
# simulator can run the real ones.
PURE: Final = (
    *("taskq.protocol", "taskq.core"),
    *("taskq.client.session", "taskq.worker.session", "taskq.worker.vouching"),
    *("taskq.client.following", "taskq.client.follows", "taskq.worker.telling.outflow"),
)
IMPURE_MODULES: Final = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading", "uvloop"),
        *("select", "selectors", "signal", "socket", "ssl"),
        *("logging", "os", "random", "secrets", "sqlite3", "time"),
    }
)
# A Random is handed in as an argument; only its type may be named, and only in core.
RANDOM_FOR_TYPING: Final = ("taskq.core", "random.Random")

LINES_MAX: Final = 400
LONG: Final = {
    "taskq/client/job.py": "a job's handle: every verb with its manual, and what it answers",
    "taskq/client/sync.py": "the blocking face: a line for each verb of the other one",
    "taskq/client/session.py": "all that a producer says, over one table of what is unanswered",
    "taskq/client/app.py": "the public face: every verb with its manual",
    "taskq/core/running/attempts.py": "an attempt's whole life, all of it over the same few tables",
    "taskq/core/broker.py": "the router: some lines for each message",
    "taskq/worker/runner.py": "an attempt's way from delivery to report, and all who may interrupt it",
    "taskq/core/state.py": "one short method for each record, and no decisions",
    "taskq/protocol/messages.py": "a table: one struct per message, and no logic",
}


# -- what is read of a source -------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """`module` is what is imported, as far down as it is a module; `name` what is taken from it."""

    line: int
    module: str
    name: str = ""


def sources() -> dict[str, str]:
    """Dotted module name -> source, for every file of the package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports(module: str, source: str) -> Iterator[Import]:
    """Every import wherever it stands: in functions and under TYPE_CHECKING too, for an arrow is an arrow."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            yield from (Import(node.lineno, base, alias.name) for alias in node.names)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".")[: -node.level]
    return ".".join([*package, node.module] if node.module else package)


def room(module: str) -> str:
    """`taskq.core.job` is in the room `core`."""
    return module.split(".")[1]


def below(module: str, place: str) -> bool:
    return module == place or module.startswith(place + ".")


# -- the rules ------------------------------------------------------------------------------------


def broken_arrows(module: str, source: str) -> list[str]:
    """What this module imports of ours and may not, each with the row that says so."""
    row = TABLE.get(room(module))
    if row is None:
        return [f"{module}: there is no room {room(module)!r} in the table; give it a row, with its reason"]
    allowed = (*row.may, *OPEN_TO_ALL, f"taskq.{room(module)}")
    return [
        f"{module}:{found.line} imports {target}; the row is: {room(module)} may import "
        f"{', '.join(row.may) or 'nothing of ours'}: {row.why}"
        for found in imports(module, source)
        if below(found.module, "taskq")
        for target in [_target(found)]
        if not any(below(target, place) for place in allowed) and (module, target) not in EXCEPTIONS
    ]


def _target(found: Import) -> str:
    """The longest path that was meant: `from taskq.protocol import messages` is taskq.protocol.messages.

    A name taken from the top package that is no room of it is one of the public names: `__init__`.
    """
    path = f"{found.module}.{found.name}" if found.name else found.module
    if path == "taskq" or (found.module == "taskq" and found.name not in {*TABLE, "__version__"}):
        return "taskq.__init__"
    return path


def impurities(module: str, source: str) -> list[str]:
    """What a pure module imports that waits, or knows the time, chance, the network, the disk or the log."""
    if not any(below(module, place) for place in PURE):
        return []
    return [
        f"{module}:{found.line} imports {found.module}; it is pure: time and chance are handed in"
        for found in imports(module, source)
        if found.module.split(".")[0] in IMPURE_MODULES and not _random_for_typing(module, found)
    ]


def _random_for_typing(module: str, found: Import) -> bool:
    place, name = RANDOM_FOR_TYPING
    return below(module, place) and f"{found.module}.{found.name}" == name


def sets_in_order(module: str, source: str) -> list[str]:
    """Where a pure module takes an order out of a set: it would differ from run to run.

    Sees sets made on the spot, and names and attributes that the same file declares as sets.
    """
    if not any(below(module, place) for place in PURE):
        return []
    tree = ast.parse(source)
    known = _declared_sets(tree)
    return [
        f"{module}:{iterated.lineno} takes order from set `{ast.unparse(iterated)}`; use a dict or sorted()"
        for iterated in _iterated(tree)
        if _is_set(iterated, known)
    ]


def _iterated(tree: ast.AST) -> Iterator[ast.expr]:
    # A set comprehension over a set has no order that could come out; sorted(), len(), any() neither.
    harmless = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.SetComp) for part in node.generators
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.For) or (isinstance(node, ast.comprehension) and id(node) not in harmless):
            yield node.iter
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in {"list", "tuple", "iter", "enumerate", "deque"}:
                yield node.args[0]
        elif isinstance(node, ast.Starred):
            yield node.value


def _is_set(node: ast.expr, known: set[str]) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in {"set", "frozenset"}
    if isinstance(node, ast.BinOp):
        return _is_set(node.left, known) or _is_set(node.right, known)
    return isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in known


def _declared_sets(tree: ast.AST) -> set[str]:
    """`x: set[...]` and `self.x = set()`; a field of a class is known as `self.x`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and _names_set(node.annotation):
            names |= {ast.unparse(node.target), f"self.{ast.unparse(node.target)}"}
        elif isinstance(node, ast.arg) and node.annotation is not None and _names_set(node.annotation):
            names.add(node.arg)
        elif isinstance(node, ast.Assign) and _is_set(node.value, set()):
            names |= {ast.unparse(target) for target in node.targets}
    return names


def _names_set(annotation: ast.expr) -> bool:
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return ast.unparse(base) in {"set", "frozenset", "AbstractSet", "Set", "MutableSet"}


# -- taskq holds to them --------------------------------------------------------------------------


def test_arrows_only_point_down() -> None:
    broken = [line for module, source in sources().items() for line in broken_arrows(module, source)]
    assert not broken, "\n" + "\n".join(broken)


def test_what_decides_is_pure() -> None:
    broken = [line for module, source in sources().items() for line in impurities(module, source)]
    assert not broken, "\n" + "\n".join(broken)


def test_no_order_comes_out_of_a_set() -> None:
    broken = [line for module, source in sources().items() for line in sets_in_order(module, source)]
    assert not broken, "\n" + "\n".join(broken)


def test_a_long_file_says_why() -> None:
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    long = {name for name, lines in sizes.items() if lines > LINES_MAX}
    assert not long - LONG.keys(), (
        f"over {LINES_MAX} lines: split at the noun in it, or list it in LONG with its reason"
    )
    assert not LONG.keys() - long, "no longer long: take it out of LONG"


# -- and the rules can be broken --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        ("taskq.errors", "from taskq import limits", None),
        ("taskq.errors", "import taskq.protocol.messages", "taskq.protocol.messages"),
        ("taskq.limits", "from taskq.core.job import Job", "taskq.core.job.Job"),
        ("taskq.protocol.frames", "from taskq.errors import TaskqError", None),
        ("taskq.protocol.frames", "from ..core import job", "taskq.core.job"),
        ("taskq.core.job", "from taskq.protocol import messages", None),
        ("taskq.core.job", "from taskq.protocol.messages import Submit", None),
        ("taskq.core.job", "from .queues import Queue", None),
        ("taskq.core.job", "from taskq.protocol import frames", "taskq.protocol.frames"),
        ("taskq.core.job", "from taskq.protocol.frames import encode", "taskq.protocol.frames.encode"),
        ("taskq.core.job", "def f():\n    from taskq.journal import base", "taskq.journal.base"),
        ("taskq.journal.base", "from taskq.core.records import Record", None),
        ("taskq.journal.base", "from taskq.core.broker import Broker", "taskq.core.broker.Broker"),
        ("taskq.server.daemon", "from taskq import __version__", None),
        ("taskq.server.daemon", "from taskq import TaskQ", "taskq.__init__"),
        ("taskq.server.daemon", "import taskq", "taskq.__init__"),
        ("taskq.server.daemon", "from taskq.client.link import Link", "taskq.client.link.Link"),
        ("taskq.client.app", "from taskq.server import daemon", "taskq.server.daemon"),
        (
            "taskq.client.app",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import taskq.core",
            "taskq.core",
        ),
        ("taskq.worker.runner", "from taskq.client.link import Link", None),
        ("taskq.worker.runner", "import taskq.core.running.retry", "taskq.core.running.retry"),
        ("taskq.dashboard.app", "from taskq.server import daemon", "taskq.server.daemon"),
        ("taskq.testing.plugin", "from taskq import TaskQ", None),
        ("taskq.testing.plugin", "from taskq.cli import main", "taskq.cli.main"),
        ("taskq.cli.broker", "from taskq.server import daemon", None),
        ("taskq.__init__", "from taskq.worker import runner", "taskq.worker.runner"),
        ("taskq.cellar.wine", "import json", "no room 'cellar'"),
    ],
)
def test_an_arrow_that_points_up_is_named(module: str, source: str, named: str | None) -> None:
    broken = broken_arrows(module, source)
    if named is None:
        assert broken == []
        return
    assert len(broken) == 1
    assert named in broken[0]
    assert "row" in broken[0]


def test_a_broken_arrow_quotes_its_row() -> None:
    (line,) = broken_arrows("taskq.core.job", "import json\nfrom taskq.server import daemon")
    assert line.startswith("taskq.core.job:2 imports taskq.server.daemon")
    assert TABLE["core"].why in line


@pytest.mark.parametrize(
    ("module", "source", "is_pure"),
    [
        ("taskq.core.broker", "from random import Random", True),
        ("taskq.core.broker", "import random", False),
        ("taskq.core.broker", "from random import random", False),
        ("taskq.core.broker", "import time", False),
        ("taskq.core.broker", "import asyncio.events", False),
        ("taskq.core.broker", "def f():\n    import os", False),
        ("taskq.protocol.frames", "from random import Random", False),
        ("taskq.protocol.frames", "import hmac", True),
        ("taskq.protocol.frames", "from concurrent.futures import Future", False),
        ("taskq.worker.session", "import logging", False),
        ("taskq.server.daemon", "import time", True),
    ],
)
def test_an_impure_import_is_seen(module: str, source: str, is_pure: bool) -> None:
    assert (impurities(module, source) == []) is is_pure


@pytest.mark.parametrize(
    ("source", "is_clean"),
    [
        ("for x in {1, 2}: pass", False),
        ("for x in set(y): pass", False),
        ("[x for x in frozenset(y)]", False),
        ("list({x for x in y})", False),
        ("[*set(y)]", False),
        ("for x in set(y) | z: pass", False),
        ("class A:\n    waiting: set[int]\n    def f(self):\n        for x in self.waiting: pass", False),
        (
            "class A:\n    def __init__(self):\n        self.x = set()\n    def f(self): tuple(self.x)",
            False,
        ),
        ("def f(ids: set[int]):\n    return [x for x in ids]", False),
        ("for x in sorted(set(y)): pass", True),
        ("for x in [1, 2]: pass", True),
        ("for x in dict.fromkeys(y): pass", True),
        ("seen: set[int] = set()\nprint(1 in seen, len(seen))", True),
        ("{x for x in set(y)}", True),
    ],
)
def test_an_order_out_of_a_set_is_seen(source: str, is_clean: bool) -> None:
    assert (sets_in_order("taskq.core.lines.queues", source) == []) is is_clean


def test_sets_are_free_where_order_is_not_part_of_the_answer() -> None:
    assert sets_in_order("taskq.server.daemon", "for x in {1, 2}: pass") == []
