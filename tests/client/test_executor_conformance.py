"""CPython's own tests of executors and futures, run against `q.executor()` with a real broker and worker."""

import logging
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from taskq.client.app import TaskQ
from taskq.client.executor import JobExecutor
from taskq.client.future import JobFuture
from taskq.errors import JobFailed

from .cpython import executor_tests
from .serving import serving

MODULES = executor_tests()
if not MODULES:
    pytest.skip(
        "this Python comes without its own tests: install libpythonX.Y-testsuite (on Debian), or name the "
        "folder with test_concurrent_futures.py in $CPYTHON_TESTS",
        allow_module_level=True,
    )

# Those that are about something that an executor of jobs does not have. Each says what, and where the
# promise behind it is tested instead.
DO_NOT_APPLY = {
    "test_max_workers_negative": "workers are counted where they run: there is no max_workers",
    "test_no_stale_references": "submits a method of an object, which no worker has",
    "test_free_reference": "returns objects of a class; see test_executor: results are not held",
    "test_interpreter_shutdown": "makes its executor by name in another process; see test_executor",
    "test_submit_after_interpreter_shutdown": "makes its executor by name; see test_executor",
    "test_hang_gh83386": "makes its executor by name in another process; see test_executor",
}


class Mixin:
    """What the mixins of CPython expect of a test: an executor with five workers."""

    q: TaskQ
    worker_count = 5

    def setUp(self) -> None:
        self.executor = self.executor_type()

    def tearDown(self) -> None:
        self.executor.shutdown()

    def executor_type(self, max_workers: int = 5) -> JobExecutor:
        return self.q.executor()


@pytest.fixture(scope="module", autouse=True)
def served() -> Iterator[None]:
    """A broker and a worker in another thread, which may run what these tests submit."""
    Mixin.q = q = TaskQ()
    q.allow_functions("builtins", "time", *(module.__name__ for module in MODULES))
    with serving(q, concurrency=Mixin.worker_count):
        yield


def mixin(name: str) -> Any:
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


def skipping(kind: type[unittest.TestCase]) -> type[unittest.TestCase]:
    for name, why in DO_NOT_APPLY.items():
        if hasattr(kind, name):
            setattr(kind, name, unittest.skip(why)(lambda self: None))
    return kind


@skipping
class TestExecutor(Mixin, mixin("ExecutorTest"), unittest.TestCase):  # type: ignore[misc]
    def test_map_exception(self) -> None:
        """As theirs, but for the type: exceptions are never made again by the name on the wire."""
        results = self.executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
        assert next(results) == (0, 1)
        assert next(results) == (0, 1)
        with pytest.raises(JobFailed) as caught:
            next(results)
        assert caught.value.remote_type == "ZeroDivisionError"


@skipping
class TestShutdown(Mixin, mixin("ExecutorShutdownTest"), unittest.TestCase):  # type: ignore[misc]
    pass


class TestWait(Mixin, mixin("WaitTests"), unittest.TestCase):  # type: ignore[misc]
    pass


class TestAsCompleted(Mixin, mixin("AsCompletedTests"), unittest.TestCase):  # type: ignore[misc]
    pass


class TestFuture(mixin("FutureTests")):  # type: ignore[misc]
    @pytest.fixture(autouse=True)
    def futures_of_jobs(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        # The tests know its name from what it prints.
        kind = type("Future", (JobFuture,), {})
        for module in MODULES:
            if hasattr(module, "Future"):
                monkeypatch.setattr(module, "Future", kind)
        # They read on standard error what is logged; pytest would have it otherwise.
        log, last_resort = logging.getLogger("concurrent.futures"), logging.lastResort
        assert last_resort is not None
        log.addHandler(last_resort)
        yield
        log.removeHandler(last_resort)
