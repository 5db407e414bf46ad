"""Whatever is wrong: one clear line that says what to do, the documented exit code, and nothing is lost."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from taskq import ConfigError, TaskQ, Unauthorized
from taskq.protocol.frames import FrameReader, encode
from taskq.protocol.messages import FromBroker, Goodbye, Greeting, Hello, Refusal, Submit
from taskq.testing.fleet import Fleet
from tests.acceptance import tasks
from tests.acceptance.conftest import APP

ROOT = Path(__file__).resolve().parents[2]


def taskq(*words: str, cwd: Path | None = None, url: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"TASKQ_URL": url} if url else {})
    return subprocess.run(
        [sys.executable, "-m", "taskq", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment,
    )


def the_line(run: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that was said, of a run that ended with this code."""
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    [line] = [line for line in run.stderr.splitlines() if line.startswith("taskq: error: ")]
    return line


async def test_a_port_that_is_taken(fleet: Fleet, tmp_path: Path) -> None:
    port = fleet.url.rpartition(":")[2]
    line = the_line(taskq("broker", "--port", port, "--journal", f"sqlite:{tmp_path}/x.db"), 78)
    assert f"port {port}" in line
    assert "--port" in line


async def test_a_journal_that_another_broker_holds(fleet: Fleet) -> None:
    line = the_line(taskq("broker", "--port", "0", "--journal", f"sqlite:{fleet.folder}/taskq.db"), 1)
    assert "taskq.db" in line
    assert "stop the other broker" in line


@pytest.mark.parametrize(
    ("journal", "code", "word"),
    [
        ("sqlite:garbage.db", 1, "not a journal"),
        ("sqlite:nowhere/taskq.db", 78, "does not exist"),
        ("oracle:x", 78, "sqlite:PATH"),
        ("postgresql://db/x", 78, "not available"),
    ],
)
def test_a_journal_that_cannot_be_used(tmp_path: Path, journal: str, code: int, word: str) -> None:
    (tmp_path / "garbage.db").write_bytes(os.urandom(10_000))
    assert word in the_line(taskq("broker", "--port", "0", "--journal", journal, cwd=tmp_path), code)


def test_a_journal_with_a_damaged_batch_is_refused(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "x.db"

    async def fill() -> None:
        with Fleet() as fleet:
            await fleet.start_broker()
            async with TaskQ(fleet.url) as app:
                await app.submit_many([tasks.add.call(1, n) for n in range(10)])
            assert fleet.broker is not None
            fleet.broker.terminate()
            await asyncio.to_thread(fleet.broker.wait, 20)
            path.write_bytes((fleet.folder / "taskq.db").read_bytes())

    asyncio.run(fill())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE log SET data = substr(data, 1, length(data) - 1) || x'00' WHERE seq = 1")
    db.close()
    line = the_line(taskq("broker", "--port", "0", "--journal", f"sqlite:{path}"), 1)
    assert "batch 1" in line


def test_another_address_than_loopback_needs_the_literal_flag() -> None:
    line = the_line(taskq("broker", "--host", "0.0.0.0", "--port", "0", "--journal", "memory:"), 78)
    assert "--insecure-allow-remote" in line


@pytest.mark.parametrize(
    ("app", "word"),
    [
        ("no_such_module:q", "no module named"),
        ("broken:q", "No module named 'surely_not_installed'"),
        ("good:nope", "did you mean"),
        ("good:number", "not a TaskQ"),
        ("good", "module:object"),
    ],
)
def test_an_app_that_cannot_be_loaded(tmp_path: Path, app: str, word: str) -> None:
    (tmp_path / "broken.py").write_text("import surely_not_installed\n")
    (tmp_path / "good.py").write_text("from taskq import TaskQ\nnop = TaskQ()\nnumber = 5\n")
    assert word in the_line(taskq("worker", app, cwd=tmp_path), 78)


def test_no_broker_there() -> None:
    line = the_line(taskq("ping", url="taskq://127.0.0.1:1"), 69)
    assert "taskq broker" in line


async def test_an_unknown_option_of_a_task() -> None:
    with pytest.raises(TypeError, match="prio"):
        tasks.add.options(prio=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="queue"):
        tasks.add.options(queue="")


async def test_strangers_are_told_what_this_is_and_hurt_nobody(fleet: Fleet, app: TaskQ) -> None:
    """HTTP, noise, a huge length, a wrong version, a wrong message: told, closed; the rest goes on."""
    job = await tasks.add.submit(2, 3)
    assert b"400 Bad Request" in await say(fleet, b"GET / HTTP/1.1\r\n\r\n")
    for noise in (b"\xff" * 64, (2**32 - 1).to_bytes(4, "big"), b"\0\0\0\0", b"\0\0\0\3\x91\x93\xc1"):
        assert isinstance(last_word(await say(fleet, noise)), Refusal | Goodbye)
    hello = Hello(version=99, session=b"s" * 16, role="producer")
    refusal = last_word(await say(fleet, encode(hello)))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "version"
    assert "99" in refusal.text
    early = last_word(await say(fleet, encode(Submit(0, [], []))))
    assert isinstance(early, Refusal)
    fleet.start_workers(1, APP)
    assert await job.result(timeout=20) == 5


async def say(fleet: Fleet, data: bytes) -> bytes:
    """Connect, say this, and return all that comes until the broker closes."""
    host, port = fleet.url.removeprefix("taskq://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 15)
    finally:
        writer.close()
        await writer.wait_closed()


def last_word(data: bytes) -> FromBroker:
    frames = FrameReader(2**20).feed(data)
    messages = [msgspec.msgpack.decode(frame, type=FromBroker) for frame in frames]
    assert isinstance(messages[0], Greeting)
    return messages[-1]


async def test_tokens_are_needed_where_they_are_asked_for(tmp_path: Path) -> None:
    mine, other = (taskq("token", "create", "--role", "producer").stdout for _ in range(2))
    tokens = tmp_path / "tokens"
    tokens.write_text(mine)
    broker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "taskq",
            "broker",
            "--port",
            "0",
            "--journal",
            "memory:",
            "--tokens-file",
            tokens,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert broker.stdout is not None
        url = broker.stdout.readline().removeprefix("listening on ").strip()
        assert "TASKQ_TOKEN" in the_line(taskq("ping", url=url), 5)
        async with TaskQ(url, token=mine.split()[1]) as app:
            assert (await app.status()).counts["jobs"] == 0
        with pytest.raises(Unauthorized, match="token"):
            async with TaskQ(url, token=other.split()[1]):
                pass
    finally:
        broker.kill()
        broker.wait()
        assert broker.stdout is not None
        broker.stdout.close()
