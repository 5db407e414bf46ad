"""The fixtures that users get, used as users use them: in a project of their own, in a pytest of its own."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]

TASKS = """
import asyncio
from taskq import TaskQ

q = TaskQ("taskq://127.0.0.1:1")


@q.task
async def add(a: int, b: int) -> int:
    await asyncio.sleep(3600)
    return a + b


@q.task(retry=3)
async def send(to: str) -> str:
    return to
"""
APP = """
import pytest


@pytest.fixture
def taskq_app():
    from tasks import q
    return q
"""
ASYNC_TESTS = """
import asyncio
import pytest
from tasks import add, send

{mark}


async def test_a_result(taskq_embedded):
    assert await (await add.submit(2, 3)) == 5
    assert len(taskq_embedded.submitted("add")) == 1


async def test_another_one_begins_anew(taskq_embedded):
    assert taskq_embedded.submitted() == []
    job = await send.options(delay="1h").submit("ann")
    await taskq_embedded.advance(3600)
    assert await job.result() == "ann"
    # Neither waited for nor cancelled by anybody: it must not keep the test from ending.
    await add.submit(1, 1)


@pytest.mark.taskq(run=False)
async def test_with_options(taskq_embedded):
    job = await send.submit("ann")
    await taskq_embedded.drain()
    assert await job.status() == "ready"
"""
SYNC_TESTS = """
import pytest
from taskq.testing import Stuck
from tasks import add, q, send


def test_a_result(taskq_embedded):
    assert add.submit_sync(2, 3).result() == 5
    assert len(taskq_embedded.submitted("add")) == 1


def test_time(taskq_embedded):
    job = send.options(delay="1h").submit_sync("ann")
    with pytest.raises(Stuck):
        job.result()
    taskq_embedded.advance("1h")
    assert job.result() == "ann"
"""
REAL_TESTS = """
import asyncio
from taskq import TaskQ
from tasks import send


def test_it(taskq_broker, taskq_worker, monkeypatch):
    [pid] = taskq_worker("tasks:q")
    assert pid > 0
    q = TaskQ(taskq_broker.url)

    async def main():
        async with q:
            [job] = await q.submit_many([send.call("ann")])
            return await job.result(timeout=60)

    assert asyncio.run(main()) == "ann"
"""


LIGHT_TEST = """
import sys


def test_it():
    assert not {"taskq.core", "taskq.server", "taskq.testing.env"} & set(sys.modules)
"""

# pytest-asyncio warns while nobody has chosen.
FIXTURE_LOOPS = "asyncio_default_fixture_loop_scope = function"


class Project:
    """Somebody's folder, with tasks and tests, and pytest in a process of its own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        # Here the package lies in a folder; theirs is installed.
        places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(place for place in places if place))
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        pytester.makepyfile(tasks=TASKS)

    def run(self, tests: str, *flags: str, ini: str = "") -> pytest.RunResult:
        self.pytester.makepyfile(test_it=tests)
        self.pytester.makeini(f"[pytest]\nfilterwarnings = error\ntimeout = 60\n{FIXTURE_LOOPS}\n{ini}")
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *flags, timeout=120)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(pytester, monkeypatch)


@pytest.mark.parametrize(
    ("ini", "mark"),
    [
        ("asyncio_mode = auto", ""),
        ("asyncio_mode = strict", "pytestmark = pytest.mark.asyncio"),
        ("asyncio_mode = auto", "pytestmark = pytest.mark.asyncio(loop_scope='session')"),
        ("asyncio_mode = strict", "pytestmark = pytest.mark.anyio"),
    ],
)
def test_an_app_in_virtual_time(project: Project, ini: str, mark: str) -> None:
    if "anyio" in mark:
        pytest.importorskip("anyio")
        mark += "\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    project.pytester.makeconftest(APP)
    project.run(ASYNC_TESTS.format(mark=mark), ini=ini).assert_outcomes(passed=3)


def test_an_app_that_the_configuration_names(project: Project) -> None:
    ini = "asyncio_mode = auto\ntaskq_app = tasks:q"
    project.run(ASYNC_TESTS.format(mark=""), ini=ini).assert_outcomes(passed=3)


def test_an_app_that_nobody_names(project: Project) -> None:
    result = project.run(ASYNC_TESTS.format(mark=""), ini="asyncio_mode = auto")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*def taskq_app():*"])


def test_tests_without_asyncio(project: Project) -> None:
    project.pytester.makeconftest(APP)
    project.run(SYNC_TESTS).assert_outcomes(passed=2)


def test_a_broker_and_a_worker_for_one_test(project: Project) -> None:
    project.run(REAL_TESTS).assert_outcomes(passed=1)


def test_a_worker_finds_the_tasks_beside_a_test(project: Project) -> None:
    # Only pytest has this folder on its path: not the environment, and no current directory is it.
    folder = project.pytester.mkdir("inner")
    (folder / "beside.py").write_text(TASKS)
    tests = REAL_TESTS.replace("tasks:q", "beside:q").replace("from tasks", "from beside")
    (folder / "test_beside.py").write_text(tests)
    project.run("", "inner/test_beside.py").assert_outcomes(passed=1)


def test_the_plugin_costs_nothing_until_it_is_used(project: Project) -> None:
    project.run(LIGHT_TEST).assert_outcomes(passed=1)


def test_on_uvloop(project: Project) -> None:
    pytest.importorskip("uvloop")
    factories = """
import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
"""
    project.pytester.makeconftest(APP + factories)
    project.run(ASYNC_TESTS.format(mark=""), ini="asyncio_mode = auto").assert_outcomes(passed=3)
