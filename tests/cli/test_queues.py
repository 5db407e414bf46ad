"""`taskq queues` against a real broker and a real worker, as processes."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.client.app import TaskQ
from taskq.errors import Busy, SubmitErrors
from taskq.testing.fleet import Fleet

from .conftest import Guarded

TASKS = """
from taskq.client.app import TaskQ

q = TaskQ()

@q.task(name="send", queue="mail", concurrency=50)
async def send(to: str) -> str:
    return to
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A broker, and a worker that runs TASKS; ended with the module."""
    with Fleet() as fleet:
        (fleet.folder / "queues_tasks.py").write_text(TASKS)
        asyncio.run(fleet.start_broker())
        fleet.start_workers(1, "queues_tasks:q")
        yield fleet


@pytest.fixture(autouse=True)
def at_the_fleet(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_URL", fleet.url)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = Exit.OK) -> str:
    """What `taskq queues` prints, talk and data; it must end with this code."""
    capsys.readouterr()
    left = run(["queues", *words])
    captured = capsys.readouterr()
    assert left == code, captured.err
    return captured.out + captured.err


def submitted(count: int, **options: object) -> list[str]:
    """Jobs of `send`, confirmed."""

    async def submit() -> list[str]:
        app = TaskQ()

        @app.task(name="send", queue="mail")
        async def send(to: str) -> str:
            return to

        async with app:
            task = send.options(**options)  # type: ignore[arg-type]  # of many kinds
            return [job.id for job in await app.submit_many([task.call("x") for _ in range(count)])]

    return asyncio.run(submit())


def test_a_paused_queue_holds_its_jobs_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is paused" in said(capsys, "pause", "mail", "--reason", "the provider is down")
    (job,) = submitted(1)
    run(["jobs", "why", job])
    assert "queue 'mail' is paused by" in (why := capsys.readouterr().out)
    assert "the provider is down" in why
    assert "queue 'mail' is paused" in said(capsys, "show", "mail")
    assert json.loads(said(capsys, "ls", "--json").splitlines()[0])["name"] in ("default", "mail")
    assert "goes on" in said(capsys, "resume", "mail")
    run(["jobs", "wait", job])
    assert "x" in capsys.readouterr().out
    assert "is not paused" in said(capsys, "resume", "mail", code=Exit.NOT_FOUND)


def test_limits_are_set_shown_and_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "limit", "mail", "--rate", "100/s", "--concurrency", "20", "--per-key")
    said(capsys, "limit", "--task", "send", "--concurrency", "3", "--reason", "be nice")
    shown = said(capsys, "show")
    assert "queue 'mail', each key may start 100 a second (decided by" in shown
    assert "task 'send' may run 3 at once (decided by" in shown and "be nice" in shown
    assert "task 'send' may run 50 at once (declared by its code)" in shown
    said(capsys, "limit", "mail", "--per-key", "--clear")
    said(capsys, "limit", "--task", "send", "--clear")
    assert "no limits that were decided" in said(capsys, "limit", "mail", "--clear", code=Exit.NOT_FOUND)
    assert "decided" not in said(capsys, "show", "send")
    said(capsys, "weigh", "mail", "3", "--key", "acme")
    assert "queue 'mail', key 'acme' has 3 in its turn" in said(capsys, "show", "mail")


@pytest.mark.parametrize(
    ("rate", "burst", "text"),
    [
        ("10/s", 0, "may start 10 a second (decided"),
        ("10/m", 20, "may start 10 a minute, 20 of them at once (decided"),
        ("10/h", 0, "may start 10 an hour (decided"),
        ("10/d", 0, "may start 10 a day (decided"),
        ("5/10s", 0, "may start 5 in 10 s (decided"),
        ("5/90m", 0, "may start 5 in 90 min (decided"),
    ],
)
def test_a_rate_as_it_is_said(rate: str, burst: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "limit", "mail", "--rate", rate, *(["--burst", str(burst)] if burst else []))
    assert f"queue 'mail' {text}" in said(capsys, "show", "mail")
    said(capsys, "limit", "mail", "--clear")


def test_a_pause_for_a_time_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    said(capsys, "pause", "mail", "--for", "10m")
    found = re.search(r"queue 'mail' is paused until (\S+ \S+) \(", said(capsys, "show", "mail"))
    assert found is not None
    ends = datetime.fromisoformat(found[1])
    assert timedelta(minutes=10) <= ends - before < timedelta(minutes=11)
    said(capsys, "resume", "mail")


def test_a_queue_that_nobody_has_heard_of_is_paused_and_doubted(capsys: pytest.CaptureFixture[str]) -> None:
    doubt = "no queue 'mial' has jobs or workers at the moment"
    told = said(capsys, "pause", "mial")
    assert "queue 'mial' is paused" in told and doubt in told
    assert "goes on" in said(capsys, "resume", "mial")
    submitted(1, queue="mial")
    assert doubt not in said(capsys, "pause", "mial")
    said(capsys, "resume", "mial")


def test_a_purge_says_how_many_and_cancels_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pause", "mail")
    submitted(3)
    assert "3 jobs would be cancelled" in said(capsys, "purge", "mail", "--dry-run")
    assert "nobody is there to ask" in said(capsys, "purge", "mail", code=Exit.USAGE)
    assert "3 jobs cancelled" in said(capsys, "purge", "mail", "--yes")
    said(capsys, "resume", "mail")
    assert "0 jobs would be cancelled" in said(capsys, "purge", "the mail", "--dry-run")
    assert "would be run" in said(capsys, "drain", "mail", "--dry-run")


def test_a_drained_queue_refuses_new_jobs_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert "accepts nothing new" in said(capsys, "drain", "mail", "--reason", "moving", "--yes")
    with pytest.raises(SubmitErrors) as refused:
        submitted(1)
    (error,) = refused.value.exceptions
    assert isinstance(error, Busy) and "queue 'mail' is drained by" in str(error) and "moving" in str(error)
    assert "goes on" in said(capsys, "resume", "mail")
    assert len(submitted(1)) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["pause"], "give a queue or --task NAME"),
        (["pause", "mail", "--task", "send"], "one of them"),
        (["limit", "mail"], "give --concurrency, --rate or both"),
        (["limit", "mail", "--rate", "fast"], "a rate is written '10/s'"),
        (["limit", "mail", "--rate", "0/s"], "lets no job start"),
        (["limit", "mail", "--concurrency", "99999999999"], "is not in the range"),
        (["limit", "mail", "--concurrency", "2", "--burst", "5"], "--burst is for a --rate"),
        (["limit", "mail", "--concurrency", "2", "--key", "a", "--per-key"], "give one of them"),
        (["weigh", "mail", "0", "--key", "a"], "0 is not in the range"),
        (["pause", "mail", "--for", "0"], "--for is more than 0"),
        (["pause", "x" * 201], "1 to 200 printable characters"),
        (["pause", "mail", "--key", "x" * 201], "at most 200 characters, not 201"),
        (["drain", "mail"], "nobody is there to ask"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in said(capsys, *words, code=Exit.USAGE)


@pytest.mark.parametrize(
    ("role", "code"),
    [("producer", Exit.OK), ("worker", Exit.OK), ("operator", Exit.OK), ("viewer", Exit.REFUSED)],
)
def test_who_may_submit_may_steer(
    role: str, code: int, capsys: pytest.CaptureFixture[str], guarded: Guarded
) -> None:
    guarded(role)
    told = said(capsys, "pause", "mail", code=code)
    assert ("taskq token create --role producer" in told) == (code != Exit.OK)
