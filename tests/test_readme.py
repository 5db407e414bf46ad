"""The examples of README and guides run as they stand, against the real broker inside this process."""

import ast
import asyncio
import re
from inspect import iscoroutine
from pathlib import Path
from typing import Any, Final

import pytest

from taskq import TaskQ
from taskq.embedded import house

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}

RUNS: Final = (
    ("hooks.md", "What a worker has"),
    ("hooks.md", "What a task asks for"),
    ("hooks.md", "Middleware"),
    ("hooks.md", "Logs that tell their job"),
    ("hooks.md", "FastAPI and Starlette"),
    ("values.md", "What can be sent"),
    ("turns.md", "Whose turn it is"),
    ("turns.md", "How many at once, and how fast"),
    ("turns.md", "Which worker runs what"),
    ("submitting.md", "Once, at most so many, and no longer than needed"),
    ("steering.md", "Deciding while all runs"),
)


def example(page: str, heading: str) -> str:
    """The first Python block under this heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    blocks = re.findall(r"```python\n(.*?)```", found[1], re.DOTALL)
    assert blocks, f"{page}, {heading}: no example"
    return str(blocks[0])


@pytest.mark.parametrize(("page", "heading"), RUNS)
async def test_the_example_runs_as_it_stands(page: str, heading: str) -> None:
    code = compile(example(page, heading), heading, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with asyncio.timeout(30), house.broker("memory:") as url, TaskQ(url) as q:
        names: dict[str, Any] = {"q": q, "__name__": "readme"}
        done = eval(code, names)
        if iscoroutine(done):
            await done


@pytest.mark.parametrize("page", PAGES)
def test_every_example_is_python(page: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL):
        compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_of_ours_leads_to_one(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGES[page]):
        assert (folder / target).exists(), f"{page}: {target}"


def test_the_readme_leads_to_every_guide() -> None:
    for page in PAGES:
        assert page == "README.md" or f"(docs/{page})" in PAGES["README.md"], page
