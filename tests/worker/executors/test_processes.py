"""Jobs in processes of their own: whatever happens in there is the job's outcome, and nobody else's."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskq.client.payload import pack_call, unpack_value
from taskq.limits import PAYLOAD_BYTES_MAX
from taskq.protocol.messages import (
    Ack,
    Announce,
    Deliver,
    Delivery,
    Extend,
    Failure,
    Message,
    Nack,
    Progress,
    Revoke,
    Stop,
    Success,
    Terms,
    Welcome,
)
from taskq.worker.loading import definitions_of
from taskq.worker.offer import Offer
from taskq.worker.runner import Runner
from taskq.worker.tree.supervision import Supervision
from tests.worker.executors.job_app import q
from tests.worker.tiny_broker import PATIENCE

APP = "tests.worker.executors.job_app:q"


class Floor:
    """A runner with processes; stands where link and broker would."""

    def __init__(self, *, slots: int = 1, app: str = APP) -> None:
        self.groups: list[list[int]] = []
        supervision = Supervision(app=app, on_groups=self.groups.append)
        slots_of = {"async": 1, "thread": 1, "process": slots}
        self.runner = Runner(
            asyncio.get_running_loop(), definitions_of(q), Offer(), slots=slots_of, supervision=supervision
        )
        self._something = asyncio.Event()
        self.runner.attach(self._something.set)
        self.runner.on_welcome(Welcome(1, 0))
        self.said: list[Message] = self.runner.outgoing()
        self._lease = 0

    def deliver(self, task: str, *args: Any, timeout_ms: int = 0) -> int:
        self._lease += 1
        job = Delivery(self._lease.to_bytes(16, "big"), self._lease, 1, 0, pack_call(args, {}))
        self.runner.on_message(Deliver([Terms(task, timeout_ms=timeout_ms)], [job]))
        return self._lease

    def revoke(self, lease: int, reason: str) -> None:
        self.runner.on_message(Revoke([Stop(lease.to_bytes(16, "big"), lease, reason)]))

    def reports(self) -> dict[int, Success | Failure]:
        self.said += self.runner.outgoing()
        return {item.lease: item for said in self.said if isinstance(said, Ack | Nack) for item in said.items}

    async def report(self, lease: int) -> Success | Failure:
        async with asyncio.timeout(PATIENCE):
            while lease not in self.reports():
                self._something.clear()
                await self._something.wait()
        return self.reports()[lease]

    async def announced(self, slots: int) -> None:
        """Until so many processes are announced; earlier words are forgotten."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.said += self.runner.outgoing()
                found = [n for n, said in enumerate(self.said) if _slots(said) == slots]
                if found:
                    del self.said[: found[0]]
                    return
                self._something.clear()
                await self._something.wait()

    async def value(self, task: str, *args: Any) -> Any:
        report = await self.report(self.deliver(task, *args))
        assert isinstance(report, Success), report
        return unpack_value(report.result)

    async def failure(self, task: str, *args: Any, **options: Any) -> Failure:
        report = await self.report(self.deliver(task, *args, **options))
        assert isinstance(report, Failure), report
        return report


@pytest.fixture
async def floor() -> AsyncIterator[Floor]:
    floor = Floor()
    yield floor
    await _gone(floor)


async def _gone(floor: Floor) -> None:
    groups = floor.groups[-1] if floor.groups else []
    floor.runner.close()
    async with asyncio.timeout(PATIENCE):
        while any(_is_there(group) for group in groups):
            await asyncio.sleep(0.01)


def _slots(said: Message) -> int | None:
    return said.slots["process"] if isinstance(said, Announce) else None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_job_runs_in_a_process_that_is_used_again(floor: Floor) -> None:
    (announce,) = [said for said in floor.said if isinstance(said, Announce)]
    assert announce.slots["process"] == 1 and announce.tasks["add"] == "process"
    assert await floor.value("add", 2, 3) == 5
    first = await floor.value("pid")
    assert first != os.getpid()
    assert await floor.value("pid") == first
    assert floor.groups == [[first]]


async def test_without_an_app_the_tasks_module_is_imported(floor: Floor) -> None:
    alone = Floor(app="")
    assert await alone.value("add", 2, 3) == 5
    await _gone(alone)


async def test_current_works_in_there_and_log_lines_are_the_workers(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lease = floor.deliver("tell")
    report = await floor.report(lease)
    assert isinstance(report, Success)
    assert unpack_value(report.result) == [lease.to_bytes(16, "big").hex(), 1, "tell", False, True]
    assert ("shop", logging.WARNING, "half of 2 done") in caplog.record_tuples
    assert [said.items[0].text for said in floor.said if isinstance(said, Progress)] == ["half"]


async def test_a_job_may_ask_for_more_time(floor: Floor) -> None:
    lease = floor.deliver("outlive", 60, 0.6, timeout_ms=300)
    report = await floor.report(lease)
    assert isinstance(report, Success) and 50 < unpack_value(report.result) <= 60
    assert [said.items[0].timeout_ms for said in floor.said if isinstance(said, Extend)] == [60_000]


@pytest.mark.parametrize(
    ("task", "args", "type_name", "says"),
    [
        ("fail", (), "ValueError", "bad luck"),
        ("quit", (3,), "SystemExit", "3"),
        ("endless", (), "RecursionError", "maximum recursion depth exceeded"),
        ("greedy", (), "MemoryError", ""),
        ("add", (1, "x"), "DecodeError", "argument 'b'"),
    ],
)
async def test_what_is_raised_in_there_is_the_jobs_failure_and_the_process_lives_on(
    floor: Floor, task: str, args: tuple[Any, ...], type_name: str, says: str
) -> None:
    pid = await floor.value("pid")
    failure = await floor.failure(task, *args)
    assert failure.fault is not None and failure.ending in ("failed", "rejected")
    assert type_name in failure.fault.type and says in failure.fault.message
    assert await floor.value("pid") == pid


async def test_a_large_result_is_refused_where_it_is(floor: Floor) -> None:
    failure = await floor.failure("large")
    assert failure.final and failure.fault is not None
    assert failure.fault.type == "taskq.errors.TooLarge"
    assert str(PAYLOAD_BYTES_MAX) in failure.fault.message
    assert await floor.value("add", 1, 1) == 2


@pytest.mark.parametrize(
    ("task", "args", "status", "says"),
    [
        ("leave", (3,), 3, "exit code 3"),
        ("leave", (0,), 0, "exit code 0"),
        ("abort", (), -signal.SIGABRT, "signal SIGABRT"),
        ("stray", (), -signal.SIGSEGV, "signal SIGSEGV"),
        ("deep", (), -signal.SIGSEGV, "signal SIGSEGV"),
    ],
)
async def test_a_crash_is_of_this_job_alone_and_says_how(
    task: str, args: tuple[Any, ...], status: int, says: str
) -> None:
    floor = Floor(slots=2)
    neighbour = floor.deliver("hold")
    failure = await floor.failure(task, *args)
    assert (failure.ending, failure.status) == ("crashed", status)
    assert failure.fault is not None
    assert failure.fault.message == f"the process that ran it ended: {says}"
    assert await floor.value("add", 1, 1) == 2
    assert neighbour not in floor.reports()
    await _gone(floor)


async def _held(floor: Floor, tmp_path: Path, **options: Any) -> tuple[int, list[int]]:
    """A job that holds its interpreter, and the pids of its process and of what it started."""
    path = tmp_path / "pids"
    lease = floor.deliver("hold", str(path), **options)
    async with asyncio.timeout(PATIENCE):
        while not path.exists():
            await asyncio.sleep(0.01)
    return lease, list(map(int, path.read_text().split()))


async def test_a_cancelled_job_is_killed_with_all_that_it_started(floor: Floor, tmp_path: Path) -> None:
    lease, pids = await _held(floor, tmp_path)
    floor.revoke(lease, "not needed")
    report = await floor.report(lease)
    assert isinstance(report, Failure) and report.ending == "cancelled"
    assert report.fault is not None and report.fault.message == "not needed"
    async with asyncio.timeout(PATIENCE):
        while any(_runs(pid) for pid in pids):
            await asyncio.sleep(0.01)
    assert await floor.value("add", 1, 1) == 2


async def test_so_is_one_whose_time_is_up(floor: Floor) -> None:
    await floor.value("add", 1, 1)
    failure = await floor.failure("hold", timeout_ms=100)
    assert failure.ending == "timed_out" and failure.fault is not None
    assert failure.fault.message == "ran longer than its timeout of 0.1 s"
    assert await floor.value("add", 1, 1) == 2


async def test_what_is_handed_back_is_killed_too(floor: Floor, tmp_path: Path) -> None:
    lease, pids = await _held(floor, tmp_path)
    floor.runner.hand_back()
    report = await floor.report(lease)
    assert isinstance(report, Failure) and report.ending == "returned"
    assert not _runs(pids[0])


async def test_a_job_that_closes_every_file_has_its_time_all_the_same(floor: Floor) -> None:
    """Its pipe is closed, but its process has not ended."""
    await floor.value("add", 1, 1)
    failure = await floor.failure("close_all", timeout_ms=200)
    assert failure.ending in ("timed_out", "crashed")
    assert await floor.value("add", 1, 1) == 2


async def test_jobs_wait_for_processes_that_are_being_started() -> None:
    floor = Floor(slots=2)
    leases = [floor.deliver("add", number, 1) for number in range(10)]
    results = [await floor.report(lease) for lease in leases]
    assert [unpack_value(r.result) for r in results if isinstance(r, Success)] == list(range(1, 11))
    await _gone(floor)


async def test_only_processes_that_are_ready_are_announced() -> None:
    floor = Floor(slots=2)
    floor.runner.start()
    assert not floor.runner.is_idle
    await floor.announced(0)
    await floor.announced(2)
    assert floor.runner.is_idle
    assert (await floor.failure("leave", 1)).ending == "crashed"
    await floor.announced(1)
    await floor.announced(2)
    leases = [floor.deliver("add", number, 1) for number in range(6)]
    for lease in leases:
        assert isinstance(await floor.report(lease), Success)
    line = floor.runner._line["process"]
    assert (line.slots, line.free) == (2, 2)
    await _gone(floor)


async def test_a_job_is_not_lost_when_no_process_can_start(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(app="tests.worker.executors.nothere:q")
    failure = await floor.failure("add", 1, 1)
    assert (failure.ending, failure.status) == ("crashed", 78)
    assert "no module named" in caplog.text
    await _gone(floor)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_a_process_that_has_grown_too_large_is_replaced_after_its_job() -> None:
    floor = Floor()
    floor.runner._processes._supervision = Supervision(app=APP, memory_bytes_max=1)
    first = await floor.value("pid")
    assert await floor.value("pid") != first
    await _gone(floor)


def _runs(pid: int) -> bool:
    """A process that has ended does not, even if nobody has waited for it."""
    if sys.platform != "linux":
        return _is_there(pid)
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
