"""`taskq workers` against a real broker and a real worker with two processes."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.client.app import TaskQ
from taskq.errors import NotFound, Refused
from taskq.testing.fleet import Fleet

TASKS = """
import asyncio
import time
from pathlib import Path
from taskq.client.app import TaskQ

q = TaskQ()

@q.task(name="wait")
async def wait(until: str) -> None:
    Path(until + ".wait").touch()
    while not Path(until).exists():
        await asyncio.sleep(0.01)

@q.task(name="block")
async def block(until: str) -> None:
    Path(until + ".block").touch()
    while not Path(until).exists():
        time.sleep(0.01)  # the line that blocks

@q.task(name="thread")
def thread(until: str) -> None:
    Path(until + ".thread").touch()
    while not Path(until).exists():
        time.sleep(0.01)  # a thread has nothing better to wait for a file with
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet() as fleet:
        (fleet.folder / "worker_tasks.py").write_text(TASKS)
        asyncio.run(fleet.start_broker())
        fleet.start_workers(1, "worker_tasks:q", "--name", "box:1", "-w", "2", "--label", "region=eu")
        yield fleet


@pytest.fixture(autouse=True)
def at_the_fleet(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TASKQ_URL", fleet.url)
    try:
        asyncio.run(until(lambda states: states == ["ready", "ready"]))
        yield
    finally:
        (folder / "go").touch()


async def until(is_so: Any) -> None:
    """Until the states of all workers are as they should be."""
    async with TaskQ() as app, asyncio.timeout(60):
        while not is_so([worker.state for worker in await app.workers.list()]):
            await asyncio.sleep(0.05)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = Exit.OK) -> str:
    """What `taskq workers` prints, talk and data; it must end with this code."""
    capsys.readouterr()
    left = run(["workers", *words])
    captured = capsys.readouterr()
    assert left == code, captured.err
    return captured.out + captured.err


def running(task: str, go: Path) -> str:
    """A job of this task that runs until `go` exists."""

    async def submit() -> str:
        async with TaskQ() as app, asyncio.timeout(60):

            @app.task(name=task)
            async def it(until: str) -> None: ...

            job = await it.submit(str(go))
            while not go.with_name(f"go.{task}").exists():  # it has begun
                await asyncio.sleep(0.01)
            return job.id

    return asyncio.run(submit())


def ended(job_id: str) -> str:
    async def wait() -> str:
        async with TaskQ() as app, asyncio.timeout(60):
            while await app.job(job_id).status() == "running":
                await asyncio.sleep(0.01)
            return await app.job(job_id).status()

    return asyncio.run(wait())


def test_a_list_has_a_line_for_each_process(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "ls").splitlines()
    assert lines[0].split()[:3] == ["WORKER", "SESSION", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == ["box:1", "box:1"]
    objects = [json.loads(line) for line in said(capsys, "ls", "--json").splitlines()]
    assert len({each["pid"] for each in objects}) == 2
    assert len({each["supervisor"] for each in objects}) == 1
    assert {each["version"] for each in objects} != {""}


def test_show_tells_tasks_labels_and_what_runs(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    job = running("wait", folder / "go")
    text = said(capsys, "show", "1")
    assert re.search(rf"runs +{job}  wait, attempt 1", text)
    assert "region=eu" in text and "block (async), thread (thread), wait (async)" in text
    assert "no worker 'nobody'" in said(capsys, "show", "nobody", code=Exit.NOT_FOUND)


def test_a_stack_is_printed_while_the_loop_is_blocked(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    job = running("block", folder / "go")
    text = said(capsys, "stack", job)
    assert f"task 'block', job {job}, runs now:" in text
    assert ", in block" in text
    assert "the event loop's thread" not in text
    whole = said(capsys, "stack", "box:1")
    assert whole.count("the event loop's thread") == 2
    assert f"job {job}, runs now" in whole
    (folder / "go").touch()
    assert ended(job) == "succeeded"
    assert "has ended" in said(capsys, "stack", job, code=Exit.REFUSED)


@pytest.mark.parametrize(("task", "how"), [("wait", "waits"), ("thread", "runs now")])
def test_stacks_of_what_waits_and_of_threads(
    capsys: pytest.CaptureFixture[str], folder: Path, task: str, how: str
) -> None:
    job = running(task, folder / "go")
    (line,) = said(capsys, "stack", job, "--json").splitlines()
    text = json.loads(line)["text"]
    assert text.startswith(f"task '{task}', job {job}, {how}:")
    assert f"in {task}" in text


def test_a_drained_worker_takes_no_more_until_it_may(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    job = running("wait", folder / "go")
    assert "give --yes" in said(capsys, "drain", "box:1", code=Exit.USAGE)
    assert said(capsys, "drain", "box:1", "--dry-run").startswith("drain would be for worker 'box:1', 2 proc")
    said(capsys, "drain", "box:1", "--yes", "--reason", "a new kernel")
    asyncio.run(until(lambda states: states == ["drained", "drained"]))

    async def submit() -> str:
        async with TaskQ() as app:

            @app.task(name="wait")
            async def it(until: str) -> None: ...

            waiting = await it.submit(str(folder / "go"))
            assert "takes no more" in await waiting.why()
            return waiting.id

    waiting = asyncio.run(submit())
    (folder / "go").touch()
    assert ended(job) == "succeeded"
    assert "takes jobs again" in said(capsys, "resume", "box:1")

    async def result() -> None:
        async with TaskQ() as app:
            await app.job(waiting).result(timeout=60)

    asyncio.run(result())


async def test_the_same_from_python() -> None:
    async with TaskQ() as app:
        one, other = await app.workers.list()
        assert [worker.session for worker in await app.workers.show("box:1")] == [one.session, other.session]
        told = await app.workers.drain(one.session[:8])
        assert (told.name, told.sessions) == ("box:1", [one.session])
        await until(lambda states: sorted(states) == ["drained", "ready"])
        await app.workers.resume(one.session)
        with pytest.raises(NotFound):
            await app.workers.stop("nobody")
        with pytest.raises(ValueError, match="1 to"):
            await app.workers.show("")
        stacks = await app.workers.stack("box:1")
        assert {stack.session for stack in stacks} == {one.session, other.session}


def test_the_same_without_asyncio() -> None:
    app = TaskQ()
    assert {worker.name for worker in app.sync.workers.list()} == {"box:1"}
    with pytest.raises(Refused):
        app.sync.workers.stack("0" * 32)
    app.sync.close()


def test_stop_ends_all_of_it(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    fleet.start_workers(1, "worker_tasks:q", "--name", "other:2", "-w", "2")
    asyncio.run(until(lambda states: states == ["ready"] * 4))
    assert "was told to stop" in said(capsys, "stop", "other:2", "--yes")
    asyncio.run(until(lambda states: states == ["ready", "ready"]))
