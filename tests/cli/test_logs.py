"""What the lines of users' code look like in `taskq worker`."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import taskq
from taskq import Context
from taskq.cli import logs
from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.client.context import context_var


@contextmanager
def as_python_makes_it() -> Iterator[None]:
    """The root logger, inside of a job; pytest's own handlers are back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    token = context_var.set(Context("01ab", "send", "mail", 2))
    try:
        yield
    finally:
        context_var.reset(token)
        root.handlers[:] = handlers
        root.setLevel(level)


def test_an_app_that_has_set_up_nothing_is_shown_from_info_on(capsys: pytest.CaptureFixture[str]) -> None:
    with as_python_makes_it():
        logs.adopt()
        logging.getLogger("shop").info("sent")
        logging.getLogger("shop").debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said["message"] == "sent" and said["logger"] == "shop"
    assert {"job": "01ab", "task": "send", "attempt": 2, "queue": "mail"}.items() <= said.items()


def test_an_app_that_has_set_up_its_own_keeps_it_and_may_name_the_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("own %(job)s %(message)s"))
    shop = logging.getLogger("shop")
    shop.addHandler(own)
    try:
        with as_python_makes_it():
            logging.basicConfig(format="%(levelname)s %(job)s %(task)s %(message)s", stream=sys.stderr)
            logs.adopt()
            shop.warning("sent")
            shop.info("not shown")
    finally:
        shop.removeHandler(own)
    assert capsys.readouterr().err.splitlines() == ["own 01ab sent", "WARNING 01ab send sent"]


def test_a_format_that_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.FORMAT, "text")
    with as_python_makes_it():
        logs.adopt()
        logging.getLogger("shop").warning("sent")
    assert " WARNING shop: sent  job=01ab" in capsys.readouterr().err
    monkeypatch.setenv(logs.FORMAT, "yaml")
    assert run(["broker", "--port", "0", "--journal", "memory:"]) == Exit.CONFIG
    assert capsys.readouterr().err == "taskq: error: TASKQ_LOG_FORMAT is text or json, not 'yaml'\n"


APP = """
import logging
from taskq import TaskQ
q = TaskQ()
logger = logging.getLogger("shop")

@q.task(name="async")
async def on_loop(): logger.info("on the loop")

@q.task(name="thread")
def in_thread(): logger.info("in a thread")
"""


def test_lines_of_both_kinds_of_task_tell_their_job(tmp_path: Path) -> None:
    """In the real processes."""
    (tmp_path / "app.py").write_text(APP)
    program = """
import asyncio, subprocess, sys
from taskq.embedded import house
from app import q, on_loop, in_thread

async def main():
    async with house.broker() as url:
        q.__init__(url)
        async with q:
            for task in (on_loop, in_thread):
                task.app = q
                print((await task.submit()).id, flush=True)
            worker = [sys.executable, "-m", "taskq", "worker", "app:q", "--burst", "--url", url]
            process = await asyncio.create_subprocess_exec(*worker)
            assert await process.wait() == 0

asyncio.run(main())
"""
    root = str(Path(taskq.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    said = {line["message"]: (line["job"], line["task"]) for line in lines if line["logger"] == "shop"}
    ids = done.stdout.split()
    assert said == {"on the loop": (ids[0], "async"), "in a thread": (ids[1], "thread")}
