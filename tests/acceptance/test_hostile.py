"""Whatever a task does to its process, that is its outcome, or counted; and the worker lives on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from taskq import RetryPolicy, Task, TaskQ
from taskq.testing.fleet import Fleet
from tests.acceptance import hostile

APP = "tests.acceptance.hostile:q"
# The second attempt comes at once.
AGAIN = RetryPolicy.exponential(max_attempts=2, base=0.01)


@pytest_asyncio.fixture
async def worked(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskQ]:
    """The tasks' own TaskQ, and a worker for it."""
    app = hostile.q
    monkeypatch.setattr(app, "_addresses", TaskQ(fleet.url)._addresses)
    fleet.start_workers(1, APP, "-c", "10", "--process-slots", "2")
    async with app:
        yield app


@pytest.mark.parametrize("task", [hostile.on_the_loop, hostile.in_a_thread, hostile.in_a_process], ids=str)
@pytest.mark.parametrize(
    ("way", "ending", "status", "says"),
    [
        ("exit", "failed", 0, "SystemExit: 3"),
        ("recurse", "failed", 0, "RecursionError"),
        ("devour", "failed", 0, "MemoryError"),
        ("leave", "crashed", 3, "exit code 3"),
        ("abort", "crashed", -6, "signal SIGABRT"),
        ("overflow", "crashed", -11, "signal SIGSEGV"),
    ],
)
async def test_what_a_task_does_to_its_process_is_in_its_history(
    worked: TaskQ, tmp_path: Path, task: Task[[str, str], str], way: str, ending: str, status: int, says: str
) -> None:
    job = await task.options(retry=AGAIN).submit(way, str(tmp_path / "marker"))
    assert await job.result(timeout=30) == "survived"
    (attempt,) = (await job.info()).history
    assert (attempt.ending, attempt.status) == (ending, status)
    assert says in attempt.error


@pytest.mark.parametrize("task", [hostile.on_the_loop, hostile.in_a_thread, hostile.in_a_process], ids=str)
async def test_a_job_that_cannot_be_reached_is_ended_and_the_others_are_not_to_blame(
    worked: TaskQ, tmp_path: Path, task: Task[[str, str], str]
) -> None:
    marker = tmp_path / "go"
    others = await worked.submit_many([hostile.wait.call(str(marker)) for _ in range(5)])
    spins = await task.options(retry=AGAIN, timeout=0.5).submit("spin", str(tmp_path / "marker"))
    assert await spins.result(timeout=30) == "survived"
    marker.touch()
    assert len(set(await worked.gather(*others))) == 1
    info = await spins.info()
    assert [(each.ending, each.attempt) for each in info.history] == [("timed_out", 1)]
    assert info.failures == 1
    for other in others:
        told = await other.info()
        assert (told.failures, told.crashes, told.history) == (0, 0, ())
