"""The README's examples run as they stand, against the real broker inside this process."""

import ast
import asyncio
import re
from inspect import iscoroutine
from pathlib import Path
from typing import Any, Final

import pytest

from taskq import TaskQ
from taskq.embedded import house

README: Final = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")

RUNS: Final = (
    "Whose turn it is",
    "How many at once, and how fast",
    "Which worker runs what",
    "Once, at most so many, and no longer than needed",
    "Deciding while all runs",
)


def example(heading: str) -> str:
    """The first Python block under this heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {heading!r}"
    blocks = re.findall(r"```python\n(.*?)```", found[1], re.DOTALL)
    assert blocks, f"{heading}: no example"
    return str(blocks[0])


@pytest.mark.parametrize("heading", RUNS)
async def test_the_example_runs_as_it_stands(heading: str) -> None:
    code = compile(example(heading), heading, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with asyncio.timeout(30), house.broker("memory:") as url, TaskQ(url) as q:
        names: dict[str, Any] = {"q": q, "__name__": "readme"}
        done = eval(code, names)
        if iscoroutine(done):
            await done


def test_every_example_is_python() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
