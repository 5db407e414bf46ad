"""`q.executor()`: what CPython's own tests (test_executor_conformance.py) do not ask."""

import asyncio
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

from taskq import limits
from taskq.client.app import TaskQ
from taskq.client.executor import JobExecutor
from taskq.client.future import JobFuture
from taskq.client.sync import SyncJob
from taskq.client.task import PlainTask
from taskq.errors import ConfirmTimeout, ConnectionLost, EncodeError, JobCancelled, JobFailed, TooLarge

from . import importable
from .serving import serving

SLOTS = 3
PATIENCE = 30.0


class World:
    """An app whose worker has few slots, and a task that blocks one of them until it is let go."""

    def __init__(self) -> None:
        self.q = TaskQ()
        self.go = threading.Event()
        self.blocked = threading.Semaphore(0)
        self.add: PlainTask[[int, int], int] = self.q.task(name="add")(add)
        self.block: PlainTask[[], None] = self.q.task(name="block")(self._block)
        self.fail: PlainTask[[str], None] = self.q.task(name="fail")(importable.fail)

    def _block(self) -> None:
        self.blocked.release()
        assert self.go.wait(PATIENCE)

    def full(self, executor: JobExecutor) -> list[JobFuture[None]]:
        """All slots run a job that blocks; these are they."""
        blocking = [executor.submit(self.block) for _ in range(SLOTS)]
        for _ in blocking:
            assert self.blocked.acquire(timeout=PATIENCE)
        return blocking


def add(a: int, b: int) -> int:
    return a + b


def confirmed(future: JobFuture[Any]) -> SyncJob[Any]:
    """The job of a future that does not end soon, once the broker has it."""
    end = time.monotonic() + PATIENCE
    while future.job is None:
        assert time.monotonic() < end
        futures.wait([future], 0.01)
    return future.job


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    world = World()
    world.q.allow_functions(importable.__name__)
    with serving(world.q, concurrency=SLOTS):
        yield world


@pytest.fixture
def world(served: World) -> Iterator[World]:
    served.go.clear()
    yield served
    served.go.set()


@pytest.fixture
def executor(world: World) -> Iterator[JobExecutor]:
    executor = world.q.executor()
    yield executor
    world.go.set()
    executor.shutdown(cancel_futures=True)


def test_a_task_its_function_and_its_name(world: World, executor: JobExecutor) -> None:
    assert executor.submit(world.add, 2, 3).result(PATIENCE) == 5
    assert executor.submit(add, 2, b=3).result(PATIENCE) == 5
    assert executor.submit("add", 2, 3).result(PATIENCE) == 5
    assert executor.submit(world.add.options(priority=5), 2, 3).result(PATIENCE) == 5


def test_a_function_of_a_module_that_is_allowed(executor: JobExecutor) -> None:
    future: JobFuture[int] = executor.submit(importable.mul, 2, y=3)
    assert future.result(PATIENCE) == 6
    assert future.job is not None
    assert future.job.info().task == "taskq.function"


@pytest.mark.parametrize("what", [print, lambda: None, "ad", None, 5])
def test_what_is_no_task(executor: JobExecutor, what: Any) -> None:
    with pytest.raises(TypeError, match=r"declare|found by its name|did you mean 'add'|takes a task"):
        executor.submit(what)


def test_a_task_of_another_app(executor: JobExecutor) -> None:
    other = TaskQ().task(add)
    with pytest.raises(TypeError, match="another TaskQ"):
        executor.submit(other, 1, 2)


def test_what_cannot_be_sent_is_said_at_once(world: World, executor: JobExecutor) -> None:
    with pytest.raises(TypeError, match="missing a required argument"):
        executor.submit(world.add, 1)
    with pytest.raises(EncodeError, match="argument 'b'"):
        executor.submit("add", 1, object())
    with pytest.raises(TooLarge):
        executor.submit("add", 1, "x" * (limits.PAYLOAD_BYTES_MAX + 1))


def test_options_hold_for_all_that_it_submits(world: World) -> None:
    executor = world.q.executor(queue="other", meta={"by": "executor"})
    tasks: tuple[Any, ...] = (world.add, "add", world.add.options(queue="mine"), importable.mul)
    submitted = [executor.submit(what, 1, 2) for what in tasks]
    for future in submitted:
        info = confirmed(future).info()
        assert (info.queue, info.meta) == ("other", {"by": "executor"})
    executor.shutdown(cancel_futures=True)
    with pytest.raises(TypeError, match="an id is for one job"):
        world.q.executor(id="00" * 16)
    with pytest.raises(TypeError, match="unknown option"):
        world.q.executor(nothing=1).submit("add", 1, 2)  # type: ignore[call-arg]  # on purpose


def test_an_exception_is_told_not_made_again(executor: JobExecutor) -> None:
    error = executor.submit("fail", "gone").exception(PATIENCE)
    assert isinstance(error, JobFailed)
    assert (error.remote_type, error.remote_message) == ("LookupError", "gone")
    assert "importable.py" in error.remote_traceback


def test_what_is_not_confirmed_is_the_exception() -> None:
    nowhere = TaskQ("unix:/nowhere/at/all")
    nowhere.task(name="add")(add)
    with nowhere.executor(confirm_timeout=0.05) as executor:
        assert isinstance(executor.submit("add", 1, 2).exception(PATIENCE), ConfirmTimeout)
    nowhere.sync.close()


def test_cancelling_a_job_that_waits(world: World, executor: JobExecutor) -> None:
    later = executor.submit(world.add.options(delay=600), 1, 2)
    heard: list[JobFuture[int]] = []
    later.add_done_callback(heard.append)  # type: ignore[arg-type]  # a Future, by its type
    assert later.cancel()
    assert later.cancelled() and later.done() and heard == [later]
    assert later.cancel()
    with pytest.raises(futures.CancelledError):
        later.result()
    assert later.job is not None
    assert later.job.status() == "cancelled"


def test_a_job_that_runs_is_not_cancelled(world: World, executor: JobExecutor) -> None:
    running = world.full(executor)[0]
    assert running.running()
    assert not running.cancel()
    assert not running.cancelled()
    world.go.set()
    assert running.result(PATIENCE) is None
    assert not running.running()
    assert not running.cancel()


def test_a_job_that_others_cancel_says_why(world: World, executor: JobExecutor) -> None:
    future = executor.submit(world.add.options(delay=600), 1, 2)
    assert confirmed(future).cancel(reason="no longer wanted")
    error = future.exception(PATIENCE)
    assert isinstance(error, JobCancelled)
    assert error.reason == "no longer wanted"


def test_cancelling_when_nobody_can_be_asked() -> None:
    q = TaskQ("unix:/nowhere/at/all")
    executor = q.executor(confirm_timeout=0.05)
    later = executor.submit(q.task(name="add")(add), 1, 2)
    assert isinstance(later.exception(PATIENCE), ConfirmTimeout)
    assert not later.cancel()
    q.sync.close()


def test_shutdown_cancels_what_no_worker_has(world: World) -> None:
    executor = world.q.executor()
    running = world.full(executor)
    # More than the worker is given ahead of time.
    waiting = [executor.submit("block") for _ in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit("add", 1, 2)
    world.go.set()
    executor.shutdown()
    assert not any(future.cancelled() for future in running)
    assert all(future.done() for future in waiting)
    assert sum(future.cancelled() for future in waiting) >= 5


def test_leaving_the_block_waits_for_all(world: World) -> None:
    with world.q.executor() as executor:
        submitted = [executor.submit("add", number, 1) for number in range(100)]
    assert all(future.done() for future in submitted)
    assert [future.result() for future in submitted] == list(range(1, 101))


def test_results_are_not_held(executor: JobExecutor) -> None:
    """As CPython's test_free_reference, with values that can be sent."""
    for value in executor.map(importable.a_set, range(5), timeout=PATIENCE):
        gone = weakref.ref(value)
        del value
        assert gone() is None


def test_map_with_a_buffer_takes_only_so_many_ahead(executor: JobExecutor) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    results = executor.map(add, numbers(), numbers(), buffersize=5)
    assert len(taken) == 10
    assert [next(results), *results] == [2 * number for number in range(50)]
    with pytest.raises(ValueError, match="buffersize is 1 or more"):
        executor.map(add, [1], [2], buffersize=0)


def test_leaving_map_early_cancels_the_rest(world: World) -> None:
    executor = world.q.executor(delay=600)
    results = executor.map(add, range(20), range(20), timeout=0)
    with pytest.raises(TimeoutError):
        next(results)
    executor.shutdown()  # or it would take ten minutes


def test_a_callback_may_submit_and_wait(world: World, executor: JobExecutor) -> None:
    told: list[Any] = []
    is_done = threading.Event()

    def then(future: "futures.Future[int]") -> None:
        told.append(world.add.submit_sync(future.result(), 1).result(PATIENCE))
        executor.submit("add", told[0], 1).add_done_callback(last)

    def last(future: "futures.Future[int]") -> None:
        told.append(future.result())
        try:
            executor.shutdown()
        except RuntimeError as error:
            told.append(str(error))
        is_done.set()

    executor.submit("add", 1, 1).add_done_callback(then)
    assert is_done.wait(PATIENCE)
    assert told == [3, 4, "shutdown() in a callback would wait for itself; say wait=False"]


def test_submit_waits_while_very_many_are_not_confirmed(
    world: World, executor: JobExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXECUTOR_UNCONFIRMED_MAX", 3)
    submitted = [executor.submit("add", number, 0) for number in range(50)]
    assert [future.result(PATIENCE) for future in submitted] == list(range(50))


def test_closing_the_client_fails_what_is_awaited(world: World) -> None:
    executor = world.q.executor(delay=600)
    future = executor.submit(add, 1, 2)
    job = confirmed(future)
    world.q.sync.close()
    assert isinstance(future.exception(PATIENCE), ConnectionLost)
    assert job.cancel()


async def test_where_a_loop_runs(world: World, executor: JobExecutor) -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(executor, add, 1, 2) == 3
    later = executor.submit(world.add.options(delay=600), 1, 2)
    later.cancel()  # does not hold up the loop for the broker's answer
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wrap_future(later)
    assert later.cancelled()


def test_many_threads_at_once(world: World, executor: JobExecutor) -> None:
    with futures.ThreadPoolExecutor(50) as pool:
        sums = pool.map(lambda number: executor.submit(add, number, 1).result(PATIENCE), range(500))
        assert list(sums) == list(range(1, 501))


# -- other processes ------------------------------------------------------------------------------

PROGRAM = """
import atexit, os, sys
from taskq import TaskQ

def last():
    try:
        executor.submit(add, 1, 1)
    except RuntimeError as error:
        print(error)

q = TaskQ()
add = q.task(name="add")(lambda a, b: a + b)
executor = q.executor(meta={"of": "PROGRAM"})
"""


def run_program(world: World, text: str, *, first: str = "") -> str:
    """What a script prints that submits to this world; nothing on standard error."""
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", f"{first}\n{PROGRAM}\n{text}"],
        env={
            **os.environ,
            "TASKQ_URL": world.q.urls[0],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize("end", ["", "executor.shutdown(wait=False)", "executor.shutdown()"])
def test_at_exit_what_was_submitted_is_confirmed(world: World, end: str) -> None:
    before = world.q.sync.jobs.count("task:add")
    run_program(world, f"for number in range(300): executor.submit(add, number, 1)\n{end}")
    assert world.q.sync.jobs.count("task:add") == before + 300


def test_nothing_is_submitted_after_the_exit_has_begun(world: World) -> None:
    said = run_program(
        world,
        "print(executor.submit(add, 1, 2).result(30))",
        first="import atexit; atexit.register(lambda: last())",
    )
    assert said == "3\ncannot schedule new futures after interpreter shutdown\n"


FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
old = executor.submit(add.options(delay=600), 1, 2)
assert executor.submit(add, 1, 1).result(30) == 2
pid = os.fork()
if not pid:
    assert executor.submit(add, 2, 2).result(30) == 4
    for verb in (old.result, old.exception, old.cancel):
        try:
            verb()
        except RuntimeError as error:
            print("child:", str(error).partition(":")[0], flush=True)
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
assert executor.submit(add, 3, 3).result(30) == 6
assert old.cancel()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_by_itself(world: World) -> None:
    said = run_program(world, FORK)
    assert said == "child: this future belongs to the process that was forked\n" * 3
