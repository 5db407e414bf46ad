"""The daemon on real sockets: a job's way, strangers, bad bytes, slow readers, a full disk, its end."""

import asyncio
import contextlib
import gc
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from taskq import limits
from taskq.errors import ConfigError, JournalError, JournalFailed, JournalFull
from taskq.journal.base import open_journal
from taskq.journal.memory import MemoryDisk, MemoryJournal
from taskq.protocol.connection import PeerSide
from taskq.protocol.frames import encode
from taskq.protocol.messages import (
    Ack,
    Acked,
    Confirm,
    Deliver,
    Goodbye,
    Message,
    Outcomes,
    Ping,
    Pong,
    Refusal,
    Status,
    StatusReport,
    Success,
    Watch,
)
from taskq.server import daemon as daemon_module
from taskq.server import turns
from taskq.server.settings import BrokerSettings
from tests.server.raw_peer import A, B, C, RawPeer, RunningDaemon, running, submit
from tests.server.test_http import ask, get
from tests.server.test_metrics import parse

TOKEN = "tq1_abcdefgh_" + "x" * 43


UseJournal = Callable[..., "ScriptedJournal"]


def served(journal: str = "memory:", **settings: Any) -> AbstractAsyncContextManager[RunningDaemon]:
    return running(journal, http=("127.0.0.1", 0), **settings)


def a_producer(broker: RunningDaemon) -> AbstractAsyncContextManager[RawPeer]:
    return RawPeer.connect(broker.address)


def codes(messages: Iterable[Message], kind: type[Refusal] | type[Goodbye]) -> list[str]:
    return [message.code for message in messages if isinstance(message, kind)]


@asynccontextmanager
async def a_worker(broker: RunningDaemon, *, slots: int = 10) -> AsyncIterator[RawPeer]:
    async with RawPeer.connect(broker.address, "worker", session=b"w" * 16) as worker:
        await worker.work(slots=slots)
        yield worker


async def run_one(worker: RawPeer, seq: int = 1, result: bytes = b"42") -> bytes:
    """Runs what is delivered next, and hears that it was recorded."""
    job = (await worker.hear(Deliver)).jobs[0]
    await worker.say(Ack(seq, [Success(job.id, job.lease, result)]))
    assert (await worker.hear(Acked)).seq == seq
    return job.id


# -- a job's way ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite in this process", "sqlite in its own"])
async def test_a_job_goes_all_the_way(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = "memory:" if kind == "memory" else f"sqlite:{tmp_path}/taskq.db"
    if kind == "sqlite in this process":
        monkeypatch.setattr(daemon_module, "open_journal", partial(open_journal, inline=True))
    async with (
        running(journal) as broker,
        a_producer(broker) as producer,
        a_worker(broker) as worker,
    ):
        await producer.say(submit(A, payload=b"args"), Watch([A]))
        confirm = await producer.hear(Confirm)
        assert (confirm.first, confirm.count, confirm.verdicts) == (0, 1, [])
        assert await run_one(worker, result=b"42") == A
        (outcome,) = (await producer.hear(Outcomes)).items
        assert (outcome.state, outcome.result) == ("succeeded", b"42")


async def test_what_was_confirmed_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path}/taskq.db"
    async with served(journal) as broker, a_producer(broker) as producer:
        await producer.say(submit(A), submit(B, first=1))
        await producer.hear(Confirm)
        first_epoch = producer.side.greeting.epoch if producer.side and producer.side.greeting else 0
    async with served(journal) as broker, a_producer(broker) as producer:
        assert producer.side is not None
        assert producer.side.welcome is not None
        assert producer.side.greeting is not None
        assert producer.side.welcome.next_seq == 2
        assert producer.side.greeting.epoch == first_epoch + 1
        async with a_worker(broker, slots=1) as worker:
            assert [await run_one(worker, 1), await run_one(worker, 2)] == [A, B]


async def test_a_lost_worker_costs_no_time() -> None:
    async with served() as broker, a_producer(broker) as producer, a_worker(broker) as dead:
        await producer.say(submit(A))
        await dead.hear(Deliver)
        async with RawPeer.connect(broker.address, "worker", session=b"x" * 16) as other:
            await other.work()
            await other.say(Status(1))
            await other.hear(StatusReport)
            dead.writer.transport.abort()
            assert (await other.hear(Deliver)).jobs[0].id == A


async def test_time_passes_without_anything_being_said() -> None:
    async with served() as broker, a_producer(broker) as producer, a_worker(broker) as worker:
        await producer.say(
            submit(A, delay_ms=30), submit(B, first=1, queue="nobody's", expires_ms=60), Watch([B])
        )
        assert await run_one(worker) == A
        assert [item.state for item in (await producer.hear(Outcomes)).items] == ["expired"]


async def test_many_in_one_breath_are_all_answered() -> None:
    async with (
        running() as broker,
        a_producer(broker) as producer,
        a_worker(broker, slots=5_000) as worker,
    ):
        messages = [
            submit(*(n.to_bytes(16) for n in range(first, first + 100)), first=first)
            for first in range(0, 2_000, 100)
        ]
        await producer.say(*messages)
        assert [(await producer.hear(Confirm)).first for _ in messages] == list(range(0, 2_000, 100))
        delivered = 0
        while delivered < 2_000:
            delivered += len((await worker.hear(Deliver)).jobs)


# -- addresses --------------------------------------------------------------------------------


async def test_it_says_where_it_listens() -> None:
    async with served() as broker:
        host, port = broker.address
        assert f"listening on taskq://{host}:{port}" in broker.printed
        assert port > 0


async def test_a_port_that_is_taken_is_explained() -> None:
    async with served() as broker:
        _, port = broker.address
        with pytest.raises(ConfigError, match=f"port {port} .*is taken.*another port"):
            await daemon_module.Daemon(BrokerSettings(port=port, journal="memory:")).run()


async def test_a_name_that_is_no_host_is_explained() -> None:
    settings = BrokerSettings(host="not a host", journal="memory:")
    with pytest.raises(ConfigError, match="not a host"):
        await daemon_module.Daemon(settings).run()


async def test_a_journal_that_cannot_be_opened_frees_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConfigError):
        await daemon_module.Daemon(BrokerSettings(port=port, journal="nonsense:")).run()
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_an_http_port_that_is_taken_frees_everything(tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path}/taskq.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = BrokerSettings(port=0, journal=journal, http=taken.getsockname())
        failing = daemon_module.Daemon(settings)
        with pytest.raises(ConfigError, match="is taken"):
            await failing.run()
    async with served(journal):
        with socket.create_server(failing.address):
            pass


async def test_a_unix_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    path = str(tmp_path / "taskq.sock")
    async with served(unix=path):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        peer = RawPeer(reader, writer, PeerSide(session=A, role="producer", name="", token=None))
        while peer.side is not None and peer.side.welcome is None:
            await peer.receive()
        writer.transport.abort()


# -- who may come in --------------------------------------------------------------------------


async def test_a_token_opens_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"producer {TOKEN}\n")
    async with served(tokens_file=str(path)) as broker:
        async with RawPeer.connect(broker.address, token=TOKEN) as producer:
            await producer.say(submit(A))
            await producer.hear(Confirm)
        wrong = PeerSide(session=B, role="producer", name="", token=TOKEN[:-1] + "y")
        async with RawPeer.open(broker.address, wrong) as stranger:
            await stranger.receive()
            assert codes(await stranger.rest(), Refusal) == ["unauthorized"]
        greedy = PeerSide(session=B, role="worker", name="", token=TOKEN)
        async with RawPeer.open(broker.address, greedy) as stranger:
            await stranger.receive()
            assert codes(await stranger.rest(), Refusal) == ["unauthorized"]


async def test_who_says_no_hello_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELLO_TIMEOUT_MS", 20)
    async with served() as broker, RawPeer.open(broker.address) as stranger:
        assert b"no Hello came in time" in await stranger.rest_bytes()


async def test_too_many_strangers_are_turned_away_and_friends_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STRANGERS_MAX", 2)
    async with served() as broker, a_producer(broker) as friend:
        async with RawPeer.open(broker.address) as one, RawPeer.open(broker.address) as two:
            await one.reader.readexactly(1)
            await two.reader.readexactly(1)
            side = PeerSide(session=B, role="producer", name="", token=None)
            async with RawPeer.open(broker.address, side) as third:
                assert codes(await third.rest(), Goodbye) == ["busy"]
            await friend.say(submit(A))
            await friend.hear(Confirm)
        await friend.say(Ping(1))
        await friend.hear(Pong)
        for session in (B, C):  # those who left, and those who said hello, are strangers no more
            async with RawPeer.connect(broker.address, session=session):
                pass


async def test_another_namespace_is_not_here() -> None:
    side = PeerSide(session=A, role="producer", name="", token=None, namespace="another")
    async with served() as broker, RawPeer.open(broker.address, side) as peer:
        await peer.receive()
        assert codes(await peer.rest(), Refusal) == ["not_found"]


# -- bad bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x00\x00\x00\x05\xc1\xc1\xc1\xc1\xc1", b"malformed"),
        (b"\xff" * 100, b"too_large"),
        (b"\x00\x00\x00\x00", b"malformed"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /submit HTTP/1.1\r\n\r\n", b"does not speak HTTP"),
    ],
)
async def test_bytes_that_mean_nothing_are_answered_and_closed(sent: bytes, answer: bytes) -> None:
    async with served() as broker, a_producer(broker) as friend:
        async with RawPeer.open(broker.address) as stranger:
            stranger.writer.write(sent)
            assert answer in await stranger.rest_bytes()
        await friend.say(Ping(1))
        assert await friend.hear(Pong) == Pong(1)


async def test_tls_to_a_port_without_is_closed_without_words() -> None:
    async with served() as broker, RawPeer.open(broker.address) as stranger:
        greeting = await stranger.reader.readexactly(4)
        await stranger.reader.readexactly(int.from_bytes(greeting, "big"))
        stranger.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500)
        assert await stranger.rest_bytes() == b""


async def test_commands_before_a_fault_count() -> None:
    async with served() as broker, a_producer(broker) as friend:
        async with RawPeer.connect(broker.address, session=B) as peer:
            peer.writer.write(encode(submit(A)) + b"\x00\x00\x00\x01\xc1")
            assert any(isinstance(message, Refusal) for message in await peer.rest())
        await friend.say(submit(A, payload=b"another"))
        assert [verdict.code for verdict in (await friend.hear(Confirm)).verdicts] == ["conflict"]


# -- peers that do not read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "value", "why"),
    [
        ("PEER_UNREAD_MS", 50, "what was sent has not been read for"),
        ("PEER_BUFFER_BYTES_HARD", 1 << 20, "bytes wait for it; closing"),
    ],
)
async def test_who_does_not_read_is_closed_and_the_others_are_served(
    bound: str, value: int, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "PEER_BUFFER_BYTES", 4_096)
    monkeypatch.setattr(limits, bound, value)
    async with served() as broker, a_producer(broker) as friend:
        await friend.say(submit(A))
        async with a_worker(broker) as worker:
            await run_one(worker, result=b"x" * 900_000)
        async with RawPeer.connect(broker.address, session=B) as slow:
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a socket's
            # More than the system keeps on the way between two sockets.
            slow.writer.write(b"".join(encode(Watch([A])) for _ in range(30)))
            while why not in caplog.text:
                await friend.say(Ping(1))
                await friend.hear(Pong)
            while await connections(friend) > 1:
                await asyncio.sleep(0)


async def connections(friend: RawPeer) -> int:
    await friend.say(Status(1))
    return (await friend.hear(StatusReport)).connections


# -- pages ------------------------------------------------------------------------------------


async def test_pages_tell_how_it_is() -> None:
    async with served() as broker, a_producer(broker) as producer:
        await producer.say(submit(A, queue="mail"), submit(B, first=1))
        await producer.hear(Confirm)
        await producer.hear(Confirm)
        assert (await ask(broker.http, get("/healthz"))).startswith(b"HTTP/1.1 200 ")
        assert (await ask(broker.http, get("/readyz"))).endswith(b"\r\n\r\nready\n")
        page = (await ask(broker.http, get("/metrics"))).partition(b"\r\n\r\n")[2].decode()
        samples = parse(page)
        assert samples["taskq_submitted_total", ""] == 2
        assert samples["taskq_queue_ready", "mail"] == 1
        assert samples["taskq_peers", ""] == 1
        assert samples["taskq_commits_total", ""] >= 1


# -- its journal ------------------------------------------------------------------------------


class ScriptedJournal(MemoryJournal):
    """A journal in memory whose disk is as full as the test says."""

    free: int | None = None
    is_slow: asyncio.Event | None = None  # appends wait until it is set

    async def append(self, seq: int, blob: bytes, durability: int) -> None:
        if self.is_slow is not None:
            await self.is_slow.wait()
        await super().append(seq, blob, durability)

    def free_bytes(self) -> int | None:
        return self.free


@pytest.fixture
def use_journal(monkeypatch: pytest.MonkeyPatch) -> UseJournal:
    """Let the daemon open a journal in memory that asks `fail` before each append."""

    def use(fail: Callable[[int], JournalError | None] = lambda _: None) -> ScriptedJournal:
        journal = ScriptedJournal(MemoryDisk(), fail=fail)

        async def opened(_: str) -> MemoryJournal:
            return journal

        monkeypatch.setattr(daemon_module, "open_journal", opened)
        monkeypatch.setattr(daemon_module, "DISK_LOOK_SECONDS", 0.001)
        monkeypatch.setattr(turns, "FULL_WAIT_SECONDS", 0.05)
        return journal

    return use


async def test_a_disk_nearly_full_refuses_what_is_new_and_records_what_ends(use_journal: UseJournal) -> None:
    journal = use_journal()
    async with served() as broker, a_producer(broker) as producer, a_worker(broker, slots=1) as worker:
        await producer.say(submit(A))
        await producer.hear(Confirm)
        journal.free = limits.DISK_RESERVE_BYTES - 1
        numbers = count(1)
        codes: list[str] = []
        while not codes:
            codes = await verdicts(producer, next(numbers))
        assert codes == ["busy"]
        assert (await ask(broker.http, get("/readyz"))).startswith(b"HTTP/1.1 503 ")
        assert await run_one(worker) == A
        journal.free = limits.DISK_RESERVE_BYTES
        while codes:
            codes = await verdicts(producer, next(numbers))


async def verdicts(producer: RawPeer, number: int) -> list[str]:
    """Of the submission of one more job."""
    await producer.say(submit(number.to_bytes(16), first=number))
    return [verdict.code for verdict in (await producer.hear(Confirm)).verdicts]


async def test_a_full_disk_is_waited_for_and_nothing_is_promised_meanwhile(use_journal: UseJournal) -> None:
    is_full, tried = True, asyncio.Event()

    def fail(seq: int) -> JournalError | None:
        tried.set()
        return JournalFull("no room") if is_full else None

    journal = use_journal(fail)
    async with served() as broker, a_producer(broker) as producer:
        await producer.say(submit(A))
        for _ in range(2):
            await tried.wait()
            tried.clear()
        await producer.say(Ping(1))
        assert type(await producer.next()) is Pong
        for _ in range(20):
            assert (await ask(broker.http, get("/readyz"))).startswith(b"HTTP/1.1 503 ")
        is_full = False
        assert (await producer.hear(Confirm)).verdicts == []
        assert journal.last_seq == 1


async def test_a_journal_that_failed_ends_the_broker_and_nothing_is_confirmed(
    use_journal: UseJournal,
) -> None:
    has_failed = False
    use_journal(lambda _: JournalFailed("the disk is gone") if has_failed else None)
    async with served() as broker, a_producer(broker) as producer:
        await producer.say(submit(A))
        await producer.hear(Confirm)
        has_failed = True
        await producer.say(submit(B, first=1))
        said = await producer.rest()
    assert [type(message) for message in said] == [Goodbye]
    assert broker.exit_code == 70


async def test_a_broken_decision_ends_the_broker_and_is_not_written(
    use_journal: UseJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal = use_journal()
    async with served() as broker, a_producer(broker) as producer:
        await producer.say(submit(A))
        await producer.hear(Confirm)
        core = broker.daemon._engine.broker
        core.state.jobs[A].state = "succeeded"  # from here no way leads on
        async with a_worker(broker) as worker:
            assert [type(message) for message in await worker.rest()] == [Goodbye]
    assert broker.exit_code == 70
    assert journal.last_seq == 1
    assert "a decision failed" in caplog.text


async def test_a_bug_while_committing_ends_the_broker_too(
    use_journal: UseJournal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would be committed any more, and nobody would notice."""
    use_journal()
    async with served() as broker, a_producer(broker) as producer:
        monkeypatch.setattr(broker.daemon._engine, "trim_before", lambda: 1 / 0)
        await producer.say(submit(A))
        assert Goodbye in [type(message) for message in await producer.rest()]
    assert broker.exit_code == 70
    assert "ZeroDivisionError" in caplog.text


# -- its end ----------------------------------------------------------------------------------


async def test_it_says_goodbye_to_everybody_and_commits_what_it_heard() -> None:
    async with served() as broker, a_producer(broker) as producer, a_worker(broker) as worker:
        await producer.say(submit(A))
        await producer.hear(Confirm)
        await worker.hear(Deliver)
        await producer.say(submit(B, first=1, queue="nobody's"), Ping(9))
        assert await producer.hear(Pong) == Pong(9)
        broker.daemon.stop()
        said = await producer.rest()
        assert [type(message) for message in said] == [Confirm, Goodbye]
        assert codes(await worker.rest(), Goodbye) == ["stopping"]
    assert broker.exit_code == 0


async def test_it_stops_though_somebody_never_stops_talking(tmp_path: Path) -> None:
    async with served(f"sqlite:{tmp_path}/taskq.db") as broker, a_producer(broker) as chatty:

        async def chatter() -> None:
            first = 0
            while True:
                await chatty.say(submit(first.to_bytes(16), first=first))
                first += 1

        talking = asyncio.create_task(chatter())
        await chatty.hear(Confirm)
        broker.daemon.stop()
        # Closed on somebody who still talks, a connection may end with a reset.
        with contextlib.suppress(ConnectionResetError):
            while await chatty.reader.read(65_536):
                pass
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    assert broker.exit_code == 0


async def test_it_stops_though_the_disk_is_behind(
    use_journal: UseJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMMIT_BYTES_MAX", 0)
    journal = use_journal()
    journal.is_slow = asyncio.Event()
    async with served() as broker, a_producer(broker) as producer:
        await producer.say(submit(A), Ping(1))
        await producer.hear(Pong)
        await producer.say(submit(B, first=1), Ping(2))
        await producer.hear(Pong)  # decided beside the commit of the first; what follows is not
        for first in range(2, 50):
            await producer.say(submit(first.to_bytes(16), first=first, payload=b"x" * 10_000))
        broker.daemon.stop()
        await asyncio.sleep(0)
        journal.is_slow.set()
        await producer.rest_bytes()
    assert broker.exit_code == 0
    assert journal.last_seq >= 2


async def test_nobody_can_connect_any_more() -> None:
    async with served() as broker:
        address = broker.address
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


@pytest.mark.parametrize("rounds", range(6))
def test_a_connection_that_is_being_accepted_when_it_stops_is_closed(rounds: int) -> None:
    async def life() -> None:
        async with running() as broker:
            with socket.create_connection(broker.address):
                for _ in range(rounds):
                    await asyncio.sleep(0)
                broker.daemon.stop()
                await broker.ended

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        loop.run(life())
    gc.collect()  # a transport that nobody closed warns when it goes, and warnings are errors
