"""The client without asyncio: one background loop, which a fork does not break."""

import inspect
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from taskq.client.app import TaskQ
from taskq.client.background import run
from taskq.client.job import Job
from taskq.client.jobs import BulkResult
from taskq.client.schedules import Schedules
from taskq.client.sync import SyncJob, SyncTaskQ
from taskq.client.task import AsyncTask, PlainTask, Task
from taskq.errors import JobFailed, NotFound
from taskq.protocol.messages import Hello, Submit

from .desk import Desk
from .serving import serving
from .tiny_broker import TinyBroker

PATIENCE = 30.0


@contextmanager
def a_world() -> Iterator[tuple[TinyBroker, TaskQ, "AsyncTask[[int | str | None], int]"]]:
    """The broker runs on the background loop too: there is no other in these tests."""
    broker = TinyBroker(Desk())
    run(broker.listen())
    q = TaskQ(broker.address)

    async def add(number: int | str | None) -> int:
        return int(number or 0)

    try:
        yield broker, q, q.task(add)
    finally:
        q.sync.close()
        run(broker.stop())


def test_submit_and_result() -> None:
    with a_world() as (_, q, add):
        q.sync.connect()
        job = add.submit_sync(5)
        assert isinstance(job, SyncJob)
        assert job.result(timeout=5) == 5
        assert q.sync.job(job.id).result() == 5
        assert job.info().id == job.id
        assert (job.status(), job.cancel()) == ("ready", True)
        assert q.sync.status().journal == "memory:"
        with pytest.raises(JobFailed):
            add.submit_sync("x").result()
        with pytest.raises(TimeoutError):
            add.submit_sync(None).result(timeout=0.01)
        with pytest.raises(NotFound):
            q.sync.job("00" * 16).result()


def test_many() -> None:
    with a_world() as (broker, q, add):
        jobs = q.sync.submit_many([add.call(number) for number in range(20)])
        assert q.sync.gather(*jobs) == list(range(20))
        assert sorted(job.result() for job in q.sync.as_completed(jobs)) == list(range(20))
        assert len(broker.said(Submit)) == 1
        bad = add.submit_sync("x")
        one, two = q.sync.gather(jobs[1], bad, return_exceptions=True)
        assert one == 1
        assert isinstance(two, JobFailed)


def test_looking_for_jobs() -> None:
    with a_world() as (_, q, add):
        ids = [job.id for job in q.sync.submit_many([add.call(number) for number in range(5)])]
        assert [job.id for job in q.sync.jobs.list("state:ready")] == ids
        assert [job.id for job in q.sync.dead.list(limit=3)] == ids[:3]
        assert next(q.sync.dead.export())["id"] == ids[0]
        assert (q.sync.jobs.count(), q.sync.dead.count(), q.sync.jobs.states()) == (5, 5, {"ready": 5})
        assert q.sync.jobs.groups() == q.sync.dead.groups("task:add") == []
        assert q.sync.jobs.cancel("task:*", reason="x") == BulkResult(5, 5, {})
        for verb in (q.sync.jobs.retry, q.sync.jobs.delete, q.sync.dead.retry, q.sync.dead.discard):
            assert verb("task:*", dry_run=True) == BulkResult(5, 0, {})
        job = q.sync.job(ids[0])
        assert job.retry() is job
        assert job.why() == ""


def test_leaving_as_completed_early() -> None:
    with a_world() as (_, q, add):
        slow, fast = add.submit_sync(None), add.submit_sync(1)
        for job in q.sync.as_completed([slow, fast]):
            assert job.id == fast.id
            break


def test_threads_share_one_connection() -> None:
    with a_world() as (broker, _, add), ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda number: add.submit_sync(number).result(5), range(40))) == list(
            range(40)
        )
        assert len(broker.said(Hello)) == 1
        assert [thread.name for thread in threading.enumerate()].count("taskq background loop") == 1


async def test_it_does_not_block_a_running_loop() -> None:
    q = TaskQ()

    @q.task
    async def add() -> None: ...

    with pytest.raises(RuntimeError, match="use the async verbs"):
        add.submit_sync()


# -- no verb is forgotten -------------------------------------------------------------------------

# What has no blocking twin, and why.
WITHOUT_TWIN = {
    TaskQ: {
        **dict.fromkeys(
            ("task", "cron", "every", "allow_functions", "tasks", "name", "namespace", "urls", "token"),
            "asks nobody: it is used as it is",
        ),
        "sync": "is the way to them",
        "executor": "blocks already",
        "run_worker": "runs for as long as the process, on the user's own loop",
        "embedded": "needs the user's loop for broker and worker",
    },
    Schedules: dict.fromkeys(("declare", "declared"), "asks nobody: it is used as it is"),
    Task: dict.fromkeys(("options", "call", "terms", "slot"), "asks nobody: it is used as it is"),
}
# Async verbs that are so new that their twins do not exist. It is no error if they do.
NOT_YET: dict[type, set[str]] = {
    Job: {"stream", "events", "logs"},
    TaskQ: {"workers"},
}


def twins(q: TaskQ) -> list[tuple[type, type]]:
    """With the parts of an app that have verbs of their own: `q.jobs`, `q.queues`, ..."""
    parts = [
        name
        for name, part in vars(TaskQ).items()
        if isinstance(part, property | cached_property) and not name.startswith("_")
    ]
    pairs = [
        (type(getattr(q, name)), type(getattr(q.sync, name)))
        for name in parts
        if name not in WITHOUT_TWIN[TaskQ] and hasattr(q.sync, name)
    ]
    return [(TaskQ, SyncTaskQ), (Job, SyncJob), *pairs]


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("kind", "twin"), twins(TaskQ()), ids=lambda kind: kind.__name__)
def test_each_verb_has_a_twin_with_the_same_parameters(kind: type, twin: type) -> None:
    allowed = {*WITHOUT_TWIN.get(kind, ()), *NOT_YET.get(kind, ())}
    verbs, blocking = public(kind), public(twin)
    missing = verbs.keys() - blocking.keys() - allowed
    assert not missing, f"{twin.__name__} lacks {sorted(missing)}; write them, or say in WITHOUT_TWIN why not"
    assert not blocking.keys() - verbs.keys()
    for name in verbs.keys() & blocking.keys():
        if not inspect.isfunction(verbs[name]):
            continue
        mine, theirs = inspect.signature(verbs[name]), inspect.signature(blocking[name])
        shapes = [
            [(each.name, each.kind, each.default) for each in signature.parameters.values()]
            for signature in (mine, theirs)
        ]
        assert shapes[0] == shapes[1], f"{kind.__name__}.{name} and its twin take different arguments"
        assert not inspect.iscoroutinefunction(blocking[name])
        assert not inspect.isasyncgenfunction(blocking[name])


def test_each_async_verb_of_a_task_has_a_twin() -> None:
    verbs = public(Task)
    waits = {
        name
        for name, verb in verbs.items()
        if inspect.iscoroutinefunction(verb) or inspect.isasyncgenfunction(verb)
    }
    waits.add("map")  # returns an async generator
    missing = {name for name in waits if f"{name}_sync" not in verbs}
    assert not missing, f"Task lacks {sorted(f'{name}_sync' for name in missing)}"
    others = {name for name in verbs if inspect.isfunction(verbs[name])} - waits
    assert others <= {*WITHOUT_TWIN[Task], *(f"{name}_sync" for name in waits)}


def test_two_handles_of_one_job_are_equal() -> None:
    q = TaskQ()
    one, same, other = (q.sync.job(id * 16) for id in ("01", "01", "02"))
    assert one == same != other
    assert {one: "known"}[same] == "known"


# -- from anywhere --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[TaskQ]:
    q = TaskQ()
    q.task(name="add")(add)
    with serving(q):
        yield q


def add(number: int) -> int:
    return number + 1


def test_fifty_threads_submit_and_wait_at_once(served: TaskQ) -> None:
    task: PlainTask[[int], int] = served.tasks["add"]  # type: ignore[assignment]  # it is
    together = threading.Barrier(50)

    def work(first: int) -> list[int]:
        together.wait(PATIENCE)
        alone = [task.submit_sync(first + number).result(PATIENCE) for number in range(5)]
        jobs = served.sync.submit_many([task.call(first + number) for number in range(5, 10)])
        return [*alone, *served.sync.gather(*jobs)]

    with ThreadPoolExecutor(50) as pool:
        found = [number for part in pool.map(work, range(0, 500, 10)) for number in part]
    assert found == list(range(1, 501))


PROGRAM = """
import atexit, os, signal, sys, threading
from taskq import TaskQ

q = TaskQ()
add = q.task(name="add")(lambda number: number + 1)
assert add.submit_sync(1).result(30) == 2
later = add.options(delay=600)
"""


def environment(served: TaskQ) -> dict[str, str]:
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "TASKQ_URL": served.urls[0], "PYTHONPATH": path}


def run_program(served: TaskQ, text: str, *, first: str = "") -> str:
    """What a script prints that uses this broker. It ends by itself, and has nothing to complain about."""
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", f"{first}\n{PROGRAM}\n{text}"],
        env=environment(served),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "q.sync.close()",
        "jobs = [later.submit_sync(number) for number in range(50)]",
        "threading.Thread(target=later.submit_sync(1).result, daemon=True).start()",
        "found = q.sync.jobs.list('task:add'); next(found)",
    ],
    ids=["idle", "closed", "jobs not waited for", "a daemon thread that waits", "a list half read"],
)
def test_the_exit_is_quick_and_silent(served: TaskQ, text: str) -> None:
    assert run_program(served, text) == ""


def test_in_exit_handlers_before_and_after_ours(served: TaskQ) -> None:
    said = run_program(
        served,
        "atexit.register(lambda: print('before:', add.submit_sync(2).result(30)))",
        first="import atexit; atexit.register(lambda: print('after:', add.submit_sync(3).result(30)))",
    )
    assert said == "before: 3\nafter: 4\n"


DELETED = """
class Last:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        try:
            print(self.name, add.submit_sync(1).result(30), flush=True)
        except RuntimeError as error:
            print(self.name, error, flush=True)

Last("now")
import gc
cycle = [Last("collected")]
cycle.append(cycle)
del cycle
gc.collect()
kept = Last("at the end:")
"""


def test_in_a_finalizer(served: TaskQ) -> None:
    now, collected, end = run_program(served, DELETED).splitlines()
    assert (now, collected) == ("now 2", "collected 2")
    assert end == "at the end: the interpreter is shutting down: there is no asking the broker any more"


INTERRUPTED = """
job = later.submit_sync(1)
# Once it waits: the broker has been told that somebody does.
def interrupt():
    while not job._job._app._latest.session._watchers:
        pass
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    job.result()
except KeyboardInterrupt:
    print("interrupted")
assert add.submit_sync(1).result(30) == 2
assert not job._job._app._latest.session._watchers
assert job.cancel()
"""


def test_ctrl_c_ends_the_waiting_and_nothing_else(served: TaskQ) -> None:
    assert run_program(served, INTERRUPTED) == "interrupted\n"


FORKS = """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
old = add.options(delay=0.2).submit_sync(10)
is_over = False
def busy():
    while not is_over:
        add.submit_sync(1).result(30)
busy_ones = [threading.Thread(target=busy) for _ in range(4)]
for thread in busy_ones:
    thread.start()

def work():
    assert add.submit_sync(1).result(30) == 2
    assert old.result(30) == 11
    assert q.sync.job(old.id).result(30) == 11

def prefork():
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:
        os._exit(1)
    sys.exit()

pids = [prefork() for _ in range(4)]
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
forking = multiprocessing.get_context("fork")
children = [forking.Process(target=work) for _ in range(3)]
for child in children:
    child.start()
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0] * 3
is_over = True
for thread in busy_ones:
    thread.join()
work()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_of_a_busy_process(served: TaskQ) -> None:
    """As prefork servers do it: forked while threads of the parent submit and wait."""
    assert run_program(served, FORKS) == ""


SPAWNED = """
import multiprocessing, sys
from taskq import TaskQ

q = TaskQ()
add = q.task(name="add")(lambda number: number + 1)

def work():
    assert add.submit_sync(1).result(30) == 2

if __name__ == "__main__":
    work()
    for method in sys.argv[1:]:
        children = [multiprocessing.get_context(method).Process(target=work) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0], method
"""


def test_children_that_import_the_app_again(served: TaskQ, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SPAWNED)
    methods = [name for name in ("forkserver", "spawn") if name in multiprocessing.get_all_start_methods()]
    ran = subprocess.run(
        [sys.executable, str(program), *methods], env=environment(served), timeout=2 * PATIENCE, check=False
    )
    assert ran.returncode == 0


def in_child(work: Callable[[], Any]) -> int:
    """The exit status of a forked child that does this: 0 when it went well."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
    os._exit(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own_connection() -> None:
    with a_world() as (broker, q, add):
        assert add.submit_sync(1).result(5) == 1

        def work() -> None:
            assert add.submit_sync(2).result(5) == 2
            q.sync.close()

        assert in_child(work) == 0
        assert add.submit_sync(3).result(5) == 3
        sessions = [hello.session for hello in broker.said(Hello)]
        assert len(sessions) == len(set(sessions)) == 2
        ids = [job.id for submit in broker.said(Submit) for job in submit.jobs]
        assert len(ids) == len(set(ids)) == 3
