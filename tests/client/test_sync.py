"""The client without asyncio: one background loop, which a fork does not break."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from taskq.client.app import TaskQ
from taskq.client.background import run
from taskq.client.jobs import BulkResult
from taskq.client.sync import SyncJob
from taskq.client.task import AsyncTask
from taskq.errors import JobFailed, NotFound
from taskq.protocol.messages import Hello, Submit

from .desk import Desk
from .tiny_broker import TinyBroker


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
