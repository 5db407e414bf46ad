"""What a supervisor does about children that do not do well: hard limits, replacement, orphans."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from time import monotonic

import pytest

from taskq.client.payload import pack_call
from taskq.protocol.messages import ChildExit, Drain, Exited, Failure, Success
from taskq.worker.tree.vitals import Vitals
from tests.worker.test_supervisor import World, ended, gone, world  # noqa: F401  # a fixture
from tests.worker.tiny_broker import PATIENCE, Peer

pytestmark = [
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.skipif(sys.platform != "linux", reason="pidfds, /proc, libc without a name"),
]

APP = """
import asyncio, ctypes, os, subprocess, threading, time
from taskq.client.app import TaskQ

q = TaskQ(os.environ["TEST_URL"])
libc = ctypes.PyDLL(None)  # calls keep the interpreter to themselves

@q.task(name="pid")
def pid() -> int:
    return os.getpid()

@q.task(name="wait")
async def wait(path: str) -> str:
    while not os.path.exists(path):
        await asyncio.sleep(0.01)
    return "waited"

@q.task(name="hold")
async def hold() -> None:
    libc.sleep(3600)

@q.task(name="hold_thread")
def hold_thread() -> None:
    libc.sleep(3600)

@q.task(name="late")
async def late() -> None:
    await asyncio.sleep(3600)

@q.task(name="deaf")
async def deaf() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@q.task(name="deaf_thread")
def deaf_thread() -> None:
    threading.Event().wait()

@q.task(name="deaf_then_hold")
async def deaf_then_hold() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        libc.sleep(3600)

@q.task(name="eat")
async def eat(megabytes: int) -> None:
    global food
    food = bytearray(os.urandom(1_000_000) * megabytes)

@q.task(name="start")
async def start() -> int:
    return subprocess.Popen(["sleep", "3600"]).pid

@q.task(name="start_job", executor="process")
def start_job(path: str) -> None:
    child = subprocess.Popen(["sleep", "3600"])
    with open(path + ".part", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(path + ".part", path)
    time.sleep(3600)  # until it is killed
"""


@pytest.fixture
def tree(world: World) -> World:  # noqa: F811  # the fixture
    (world.folder / "app.py").write_text(APP)
    return world


def deliver(tree: World, peer: Peer, task: str, *args: object, timeout_ms: int = 0) -> int:
    return tree.broker.deliver(peer, task, pack_call(args, {}), timeout_ms=timeout_ms)


async def exit_of(tree: World, peer: Peer) -> ChildExit:
    session = peer.hello.session
    await tree.broker.until(lambda: session in tree.broker.exits())
    return next(c for said in tree.broker.said(Exited) for c in said.children if c.session == session)


async def successor_of(tree: World, peer: Peer) -> Peer:
    found = await tree.broker.until(lambda: [each for each in tree.broker.workers() if each is not peer])
    return found[-1]


# -- hard limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["hold", "hold_thread"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_who_holds_up_its_process_beyond_its_time_costs_it_alone(
    tree: World, task: str, loop: str
) -> None:
    await tree.start(loop=loop)
    peer = await tree.broker.a_worker()
    pidfd = os.pidfd_open(await tree.pid(peer))
    other = deliver(tree, peer, "wait", str(tree.folder / "never"), timeout_ms=3_600_000)
    began = monotonic()
    guilty = deliver(tree, peer, task, timeout_ms=300)
    exit = await exit_of(tree, peer)
    assert monotonic() - began >= 0.3
    assert (exit.status, exit.timed_out, exit.uncounted) == (-9, [guilty], True)
    assert exit.text == "killed by its supervisor: it did not answer when the time of 1 of its jobs was up"
    await gone(pidfd)
    assert guilty not in tree.broker.reports() and other not in tree.broker.reports()
    assert isinstance(await tree.pid(await successor_of(tree, peer)), int)


async def test_a_burst_goes_on_after_a_child_that_was_put_down(tree: World) -> None:
    process = await tree.start(burst=True)
    peer = await tree.broker.a_worker()
    deliver(tree, peer, "hold", timeout_ms=300)
    assert isinstance(await tree.pid(await successor_of(tree, peer)), int)
    assert (await ended(process))[0] == 0


async def test_a_child_that_answers_keeps_the_time_itself(tree: World) -> None:
    await tree.start()
    peer = await tree.broker.a_worker()
    pid = await tree.pid(peer)
    for _ in range(3):
        report = await tree.broker.report(deliver(tree, peer, "late", timeout_ms=100))
        assert isinstance(report, Failure) and report.ending == "timed_out"
    assert await tree.pid(peer) == pid and tree.broker.exits() == {}


async def test_who_ends_in_time_is_not_taken_for_one_that_did_not(tree: World) -> None:
    await tree.start()
    peer = await tree.broker.a_worker()
    await tree.broker.report(deliver(tree, peer, "pid", timeout_ms=200))
    holds = deliver(tree, peer, "hold", timeout_ms=1_000)
    assert (await exit_of(tree, peer)).timed_out == [holds]


async def test_who_holds_up_its_process_when_told_to_stop_is_killed_after_the_grace(tree: World) -> None:
    await tree.start(stop_grace_ms=200)
    peer = await tree.broker.a_worker()
    lease = deliver(tree, peer, "deaf_then_hold", timeout_ms=100)
    assert (await exit_of(tree, peer)).timed_out == [lease]


# -- who ignores that it should stop --------------------------------------------------------------------


@pytest.mark.parametrize("task", ["deaf", "deaf_thread"])
async def test_who_ignores_it_is_reported_and_its_process_replaced_with_no_harm_to_the_others(
    tree: World, task: str
) -> None:
    marker = tree.folder / "go"
    process = await tree.start(stop_grace_ms=100)
    peer = await tree.broker.a_worker()
    pidfd = os.pidfd_open(await tree.pid(peer))
    other = deliver(tree, peer, "wait", str(marker))
    report = await tree.broker.report(deliver(tree, peer, task, timeout_ms=100))
    assert isinstance(report, Failure) and report.ending == "timed_out" and report.fault is not None
    if task == "deaf":
        assert "it has ignored that for 0.1 s, in deaf at " in report.fault.message
        assert "app.py:34" in report.fault.message
    successor = await successor_of(tree, peer)
    await tree.broker.until(lambda: any(isinstance(said, Drain) for said in peer.heard))
    assert await tree.pid(successor)
    marker.touch()
    assert isinstance(await tree.broker.report(other), Success)
    assert (await exit_of(tree, peer)).status == 0
    await gone(pidfd)
    process.terminate()
    assert (await ended(process))[0] == 0


# -- replacement -----------------------------------------------------------------------------------------


async def test_after_so_many_jobs_another_is_ready_before_the_first_one_drains(tree: World) -> None:
    marker = tree.folder / "go"
    await tree.start(max_jobs=3)
    peer = await tree.broker.a_worker()
    running = deliver(tree, peer, "wait", str(marker))
    pid = await tree.pid(peer)
    for _ in range(2):
        await tree.pid(peer)
    successor = await successor_of(tree, peer)
    await tree.broker.until(lambda: any(isinstance(said, Drain) for said in peer.heard))
    assert await tree.pid(successor) != pid
    marker.touch()
    assert isinstance(await tree.broker.report(running), Success)
    exit = await exit_of(tree, peer)
    assert (exit.status, exit.timed_out) == (0, [])


async def test_who_takes_too_much_memory_is_replaced(tree: World) -> None:
    process = await tree.start(max_memory_bytes=300_000_000)
    peer = await tree.broker.a_worker()
    lease = deliver(tree, peer, "eat", 400)
    assert isinstance(await tree.broker.report(lease), Success)
    successor = await successor_of(tree, peer)
    assert (await exit_of(tree, peer)).status == 0
    assert await tree.pid(successor)
    assert process.returncode is None


# -- standing still --------------------------------------------------------------------------------------


async def test_a_stopped_child_is_replaced_and_its_jobs_count_as_crashed(tree: World) -> None:
    await tree.start(standstill_ms=500)
    peer = await tree.broker.a_worker()
    deliver(tree, peer, "late")
    pid = await tree.pid(peer)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    exit = await exit_of(tree, peer)
    assert (exit.status, exit.uncounted) == (-9, False)
    assert exit.text == "killed by its supervisor: it stood still for 0.5 s"
    await gone(pidfd)
    assert await tree.pid(await successor_of(tree, peer)) != pid


async def test_a_child_that_goes_on_in_time_is_let_be(tree: World) -> None:
    await tree.start(standstill_ms=60_000)
    peer = await tree.broker.a_worker()
    pid = await tree.pid(peer)
    os.kill(pid, signal.SIGSTOP)
    await _until_still(pid)
    os.kill(pid, signal.SIGCONT)
    assert await tree.pid(peer) == pid and tree.broker.exits() == {}


async def _until_still(pid: int) -> None:
    vitals = Vitals(pid)
    async with asyncio.timeout(PATIENCE):
        while (seen := vitals.look()) is None or not seen.is_still:
            await asyncio.sleep(0)
    vitals.close()


# -- orphans ---------------------------------------------------------------------------------------------


async def _everybody(tree: World) -> list[int]:
    """Pidfds of children, of what their tasks have started, of job processes and what those have started."""
    peer = await tree.broker.a_worker()
    path = tree.folder / "pids"
    started = await tree.run(peer, "start")
    deliver(tree, peer, "start_job", str(path))
    async with asyncio.timeout(PATIENCE):
        while not path.exists():
            await asyncio.sleep(0.01)
    pids = [await tree.pid(peer), started, *map(int, path.read_text().split())]
    return [os.pidfd_open(pid) for pid in pids]


async def test_nothing_outlives_a_killed_supervisor(tree: World) -> None:
    process = await tree.start(process_slots=1)
    pidfds = await _everybody(tree)
    process.kill()
    await gone(*pidfds)


async def test_nothing_of_it_outlives_a_killed_child(tree: World) -> None:
    await tree.start(process_slots=1)
    pidfds = await _everybody(tree)
    signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
    await gone(*pidfds)


async def test_nothing_outlives_a_killed_supervisor_even_if_the_undertaker_was_killed_before(
    tree: World,
) -> None:
    process = await tree.start(process_slots=1)
    pidfds = await _everybody(tree)
    (undertaker,) = _undertakers(process.pid)
    os.kill(undertaker, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while _undertakers(process.pid) in ([], [undertaker]):
            await asyncio.sleep(0.01)
    process.kill()
    await gone(*pidfds)


async def test_what_a_task_has_started_ends_with_a_worker_that_was_asked_to(tree: World) -> None:
    process = await tree.start()
    peer = await tree.broker.a_worker()
    pidfd = os.pidfd_open(await tree.run(peer, "start"))
    process.terminate()
    assert await ended(process) == (0, "")
    await gone(pidfd)


async def test_a_worker_ends_though_its_undertaker_is_stopped(tree: World) -> None:
    process = await tree.start()
    await tree.broker.a_worker()
    (undertaker,) = _undertakers(process.pid)
    os.kill(undertaker, signal.SIGSTOP)
    process.terminate()
    try:
        assert await ended(process) == (0, "")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(undertaker, signal.SIGKILL)


def _undertakers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"undertaker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
