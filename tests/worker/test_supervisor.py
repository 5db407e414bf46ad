"""Workers as real process trees, against a broker that only listens and records."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskq.client.payload import pack_call, unpack_value
from taskq.protocol.messages import Announce, Drain, Exited, Failure, Goodbye, Success, Vouch
from taskq.worker.settings import WorkerSettings
from tests.worker.tiny_broker import PATIENCE, Peer, TinyBroker
from tests.worker.worker_main import LIMITS

# The processes under test run loops of their own; the test's need not vary.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

APP = """
import asyncio, os, pathlib, time
from taskq.client.app import TaskQ

q = TaskQ(os.environ["TEST_URL"])

@q.task(name="add")
async def add(a: int, b: int) -> int:
    return a + b

@q.task(name="pid")
def pid() -> int:
    return os.getpid()

@q.task(name="wait", queue="slow")
async def wait(path: str) -> str:
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.01)
    return "waited"

@q.task(name="block")
async def block(fifo: str) -> str:
    return open(fifo).read()

@q.task(name="stubborn")
async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@q.task(name="leave")
async def leave(code: int) -> None:
    os._exit(code)
"""


LIFESPAN = """
import asyncio, contextlib, os, pathlib
from taskq.client.app import TaskQ
from taskq.client.context import current

def note(word):
    with open("notes", "a") as file:
        print(word, file=file)

@contextlib.asynccontextmanager
async def lifespan(q):
    note("enter")
    if pathlib.Path("broken").exists():
        raise OSError("no database")
    if pathlib.Path("hanging").exists():
        try:
            await asyncio.Event().wait()
        finally:
            note("given up")
    yield {"pid": os.getpid()}
    note("leave")

q = TaskQ(os.environ["TEST_URL"], lifespan=lifespan)

@q.task(name="pid")
async def pid() -> int:
    return current().state["pid"]

@q.task(name="wait")
async def wait(path: str) -> None:
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.01)
    note("job ended")

@q.task(name="leave")
async def leave(code: int) -> None:
    os._exit(code)
"""


class World:
    """A broker, a folder with an app, and the worker processes started in it."""

    def __init__(self, broker: TinyBroker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.processes: list[asyncio.subprocess.Process] = []
        (folder / "app.py").write_text(APP)
        (folder / "lifespan.py").write_text(LIFESPAN)

    async def start(
        self, *, stop_grace_ms: int | None = None, standstill_ms: int | None = None, **values: Any
    ) -> asyncio.subprocess.Process:
        """A worker with these settings; those of our limits that a test does not wait for are its own."""
        limits = {"STOP_GRACE_MS": stop_grace_ms, "STANDSTILL_MS": standstill_ms}
        changed = {name: value for name, value in limits.items() if value is not None}
        settings = WorkerSettings(**({"app": "app:q"} | values))
        root = str(Path(__file__).parents[2])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("worker_main.py")),
            msgspec.json.encode(settings).decode(),
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": root,
                "TEST_URL": self.broker.url,
                LIMITS: msgspec.json.encode(changed).decode(),
            },
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    async def run(self, peer: Peer, task: str, *args: object) -> Any:
        report = await self.broker.report(self.broker.deliver(peer, task, pack_call(args, {})))
        assert isinstance(report, Success), report
        return unpack_value(report.result)

    async def pid(self, peer: Peer) -> int:
        pid = await self.run(peer, "pid")
        assert isinstance(pid, int)
        return pid


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with TinyBroker() as broker:
        world = World(broker, tmp_path)
        try:
            yield world
        finally:
            for process in world.processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Exit code and standard error."""
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def gone(*pidfds: int) -> None:
    """Until these processes have ended, whoever their parent is now."""
    loop = asyncio.get_running_loop()
    for pidfd in pidfds:
        over = loop.create_future()
        loop.add_reader(pidfd, over.set_result, None)
        try:
            await asyncio.wait_for(over, PATIENCE)
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)


# -- serving ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_worker_announces_its_app_and_runs_its_tasks(world: World, loop: str) -> None:
    await world.start(slots=50, loop=loop)
    peer = await world.broker.a_worker()
    (announce,) = [message for message in peer.heard if isinstance(message, Announce)]
    assert {name: announce.tasks[name] for name in ("add", "pid")} == {"add": "async", "pid": "thread"}
    assert announce.queues == ["default", "slow"]
    assert announce.slots == {"async": 50, "thread": 32}
    assert await world.run(peer, "add", 2, 3) == 5


async def test_the_supervisor_vouches_for_each_child_over_a_connection_of_its_own(world: World) -> None:
    process = await world.start(processes=2)
    await world.broker.a_worker(2)
    sessions = {peer.hello.session for peer in world.broker.workers()}
    assert len(sessions) == 2
    await world.broker.until(lambda: world.broker.vouched() == sessions)
    pids = {await world.pid(peer) for peer in world.broker.workers()}
    assert len(pids) == 2 and process.pid not in pids


async def test_a_child_whose_loop_is_blocked_is_still_vouched_for(world: World) -> None:
    fifo = str(world.folder / "fifo")
    os.mkfifo(fifo)
    await world.start()
    peer = await world.broker.a_worker()
    lease = world.broker.deliver(peer, "block", pack_call([fifo], {}))
    # Opening blocks until the task has it open too: from here on its loop stands still.
    release = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    count = len(world.broker.said(Vouch))
    await world.broker.until(lambda: len(world.broker.said(Vouch)) >= count + 3)
    assert world.broker.vouched() == {peer.hello.session}
    os.write(release, b"free")
    os.close(release)
    report = await world.broker.report(lease)
    assert isinstance(report, Success) and unpack_value(report.result) == "free"


async def test_after_a_lost_connection_the_same_sessions_come_back(world: World) -> None:
    await world.start()
    peer = await world.broker.a_worker()
    marker = world.folder / "go"
    lease = world.broker.deliver(peer, "wait", pack_call([str(marker)], {}))
    await world.pid(peer)
    for each in world.broker.peers:
        each.close()
    again = await world.broker.a_worker()
    assert again is not peer and again.hello.session == peer.hello.session
    vouches = len(world.broker.said(Vouch))
    await world.broker.until(lambda: len(world.broker.said(Vouch)) > vouches)
    assert world.broker.vouched() == {peer.hello.session}
    marker.touch()
    assert isinstance(await world.broker.report(lease), Success)


# -- dying ------------------------------------------------------------------------------------------


async def test_a_killed_child_is_reported_with_its_signal_and_replaced_under_a_new_session(
    world: World,
) -> None:
    await world.start()
    peer = await world.broker.a_worker()
    os.kill(await world.pid(peer), signal.SIGKILL)
    session = peer.hello.session
    await world.broker.until(lambda: session in world.broker.exits())
    assert world.broker.exits()[session] == (-9, "signal SIGKILL")
    successor = await world.broker.until(
        lambda: [each for each in world.broker.workers() if each is not peer]
    )
    assert successor[0].hello.session != session
    assert await world.run(successor[0], "add", 1, 1) == 2
    await world.broker.until(lambda: world.broker.vouched() == {successor[0].hello.session})


async def test_a_child_that_leaves_is_reported_with_its_exit_code(world: World) -> None:
    await world.start()
    peer = await world.broker.a_worker()
    world.broker.deliver(peer, "leave", pack_call([3], {}))
    await world.broker.until(lambda: peer.hello.session in world.broker.exits())
    assert world.broker.exits()[peer.hello.session] == (3, "exit code 3")


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd_open")
async def test_no_child_outlives_a_killed_supervisor_not_even_a_blocked_one(world: World) -> None:
    fifo = str(world.folder / "fifo")
    os.mkfifo(fifo)
    process = await world.start(processes=2)
    await world.broker.a_worker(2)
    peers = world.broker.workers()
    pidfds = [os.pidfd_open(await world.pid(peer)) for peer in peers]
    world.broker.deliver(peers[0], "block", pack_call([fifo], {}))
    release = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    process.kill()
    await gone(*pidfds)
    os.close(release)


async def test_an_app_that_breaks_later_is_tried_again_until_it_can_be_imported(world: World) -> None:
    process = await world.start()
    peer = await world.broker.a_worker()
    pid = await world.pid(peer)
    (world.folder / "app.py").write_text("import nothere\n")
    os.kill(pid, signal.SIGKILL)
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stderr.readline(), PATIENCE)
    assert b"No module named 'nothere'" in line
    (world.folder / "app.py").write_text(APP)
    successors = await world.broker.until(
        lambda: [each for each in world.broker.workers() if each is not peer]
    )
    assert await world.run(successors[0], "add", 1, 1) == 2


# -- stopping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_finishes_what_runs_and_hands_the_rest_back(world: World, number: int) -> None:
    process = await world.start(slots=1)
    peer = await world.broker.a_worker()
    marker = world.folder / "go"
    running = world.broker.deliver(peer, "wait", pack_call([str(marker)], {}))
    waiting = world.broker.deliver(peer, "add", pack_call([1, 2], {}))
    await world.pid(peer)
    process.send_signal(number)
    report = await world.broker.report(waiting)
    assert isinstance(report, Failure) and report.ending == "returned"
    assert any(isinstance(message, Drain) for message in peer.heard)
    marker.touch()
    assert isinstance(await world.broker.report(running), Success)
    assert await ended(process) == (0, "")
    assert isinstance(peer.heard[-1], Goodbye)
    assert world.broker.exits()[peer.hello.session][0] == 0


@pytest.mark.parametrize("task", ["wait", "stubborn"])
async def test_what_does_not_finish_within_the_grace_is_handed_back(world: World, task: str) -> None:
    process = await world.start(grace_ms=10)
    peer = await world.broker.a_worker()
    args = [str(world.folder / "never")] if task == "wait" else []
    lease = world.broker.deliver(peer, task, pack_call(args, {}))
    await world.pid(peer)
    process.terminate()
    report = await world.broker.report(lease)
    assert isinstance(report, Failure) and report.ending == "returned"
    assert await ended(process) == (0, "")


async def test_a_second_signal_stops_at_once_and_still_hands_back(world: World) -> None:
    process = await world.start(grace_ms=3_600_000)
    peer = await world.broker.a_worker()
    lease = world.broker.deliver(peer, "wait", pack_call([str(world.folder / "never")], {}))
    await world.pid(peer)
    process.send_signal(signal.SIGINT)
    await world.broker.until(lambda: world.broker.said(Drain))
    process.send_signal(signal.SIGINT)
    report = await world.broker.report(lease)
    assert isinstance(report, Failure) and report.ending == "returned"
    assert await ended(process) == (130, "")


async def test_a_blocked_child_is_killed_when_it_cannot_stop(world: World) -> None:
    fifo = str(world.folder / "fifo")
    os.mkfifo(fifo)
    process = await world.start(grace_ms=3_600_000)
    peer = await world.broker.a_worker()
    world.broker.deliver(peer, "block", pack_call([fifo], {}))
    release = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    process.terminate()
    process.send_signal(signal.SIGINT)
    code, _ = await ended(process)
    os.close(release)
    assert code == 130
    told = "killed by its supervisor: it did not stop in time"
    assert world.broker.exits()[peer.hello.session] == (-9, told)
    assert world.broker.said(Exited)[-1].children[0].uncounted


async def test_a_child_that_is_signalled_alone_drains_and_is_replaced(world: World) -> None:
    await world.start()
    peer = await world.broker.a_worker()
    os.kill(await world.pid(peer), signal.SIGTERM)
    await world.broker.until(lambda: peer.hello.session in world.broker.exits())
    assert world.broker.exits()[peer.hello.session][0] == 0
    await world.broker.until(lambda: [each for each in world.broker.workers() if each is not peer])


async def test_a_burst_ends_when_nothing_is_left(world: World) -> None:
    process = await world.start(burst=True, processes=2)
    peer = await world.broker.a_worker(2)
    assert await world.run(peer, "add", 2, 2) == 4
    assert await ended(process) == (0, "")


# -- starting badly ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "source", "says"),
    [
        ("app", "", "module:object"),
        ("nothere:q", "", "no module named 'nothere'"),
        (
            "bad:q",
            "import nothere_either\n",
            "bad.py:1: ModuleNotFoundError: No module named 'nothere_either'",
        ),
        ("bad:q", "x = 1\nx.y\n", "bad.py:2: AttributeError"),
        ("bad:q", "x = (\n", "bad.py:1: SyntaxError"),
        ("bad:q", "raise SystemExit(0)\n", "bad.py:1: SystemExit"),
        ("app:qq", "", "did you mean q?"),
        ("bad:q", "q = 5\n", "int, not a TaskQ"),
    ],
)
async def test_an_app_that_cannot_be_used_ends_the_command_with_one_line(
    world: World, target: str, source: str, says: str
) -> None:
    (world.folder / "bad.py").write_text(source)
    code, stderr = await ended(await world.start(app=target, processes=3))
    assert code == 78
    assert says in stderr and stderr.count("\n") == 1


async def test_a_broker_that_refuses_ends_the_command(world: World) -> None:
    world.broker.refuse("unauthorized", "not you")
    code, stderr = await ended(await world.start(processes=2))
    assert code == 5
    assert "not you" in stderr and stderr.count("\n") == 1


# -- lifespan ---------------------------------------------------------------------------------------


def notes(world: World) -> list[str]:
    path = world.folder / "notes"
    return path.read_text().split() if path.exists() else []


async def until_noted(world: World, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(notes(world)) < count:
            await asyncio.sleep(0.01)


async def test_a_lifespan_is_entered_by_each_process_and_left_after_its_last_job(world: World) -> None:
    process = await world.start(app="lifespan:q", processes=2)
    await world.broker.a_worker(2)
    peers = world.broker.workers()
    assert notes(world) == ["enter", "enter"]
    assert len({await world.pid(peer) for peer in peers}) == 2
    world.broker.deliver(peers[0], "wait", pack_call([str(world.folder / "let")], {}))
    process.send_signal(signal.SIGTERM)
    await world.broker.until(lambda: len(world.broker.said(Drain)) == 2)
    await until_noted(world, 3)  # the idle one has left
    (world.folder / "let").touch()
    code, _ = await ended(process)
    assert code == 0
    assert (world.folder / "notes").read_text().split("\n") == [
        *("enter", "enter", "leave", "job ended", "leave", ""),
    ]


async def test_a_lifespan_that_fails_ends_the_worker_as_bad_configuration_does(world: World) -> None:
    (world.folder / "broken").touch()
    code, stderr = await ended(await world.start(app="lifespan:q"))
    assert code == 78
    assert "the lifespan failed at" in stderr and "lifespan.py:14: OSError: no database" in stderr
    assert notes(world) == ["enter"], "it was not tried again"
    assert world.broker.said(Announce) == [], "and the broker has heard of no worker"


async def test_a_lifespan_that_fails_later_is_tried_again_with_a_backoff(world: World) -> None:
    await world.start(app="lifespan:q")
    peer = await world.broker.a_worker()
    (world.folder / "broken").touch()
    world.broker.deliver(peer, "leave", pack_call([1], {}))
    await until_noted(world, 3)
    (world.folder / "broken").unlink()
    await world.broker.until(lambda: [each for each in world.broker.workers() if each is not peer])


async def test_a_worker_can_be_stopped_while_its_lifespan_starts(world: World) -> None:
    (world.folder / "hanging").touch()
    process = await world.start(app="lifespan:q")
    await until_noted(world, 1)
    process.send_signal(signal.SIGTERM)
    code, _ = await ended(process)
    assert code == 0
    assert (world.folder / "notes").read_text() == "enter\ngiven up\n"
