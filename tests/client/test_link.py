"""The link against real sockets: hello, batches, reconnect, refusals, goodbye."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import cast

import pytest

from taskq import limits
from taskq.client.link import Link, _Backoff
from taskq.errors import ConfigError, ConnectionLost, Unauthorized, VersionMismatch
from taskq.protocol.frames import encode
from taskq.protocol.messages import (
    FromBroker,
    Goodbye,
    Greeting,
    Hello,
    Message,
    Outcome,
    Outcomes,
    Ping,
    Refusal,
    Status,
    Watch,
    Welcome,
)
from taskq.protocol.tokens import TokenTable
from taskq.server.listen import stop_listening

from .tiny_broker import TinyBroker, tiny_broker

SESSION = bytes(range(16))
TOKEN = f"tq1_abcdefgh_{'s' * 43}"


class Notebook:
    """A speaker that writes down what happens and says what it is given."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.to_say: list[Message] = []
        self.again: list[Message] = []  # said after every welcome
        self.changed = asyncio.Event()

    def on_welcome(self, welcome: Welcome) -> None:
        self._note("welcome")
        self.to_say = [*self.again]

    def on_message(self, message: FromBroker) -> None:
        self._note(message)

    def on_lost(self) -> None:
        self._note("lost")

    def outgoing(self) -> list[Message]:
        said, self.to_say = self.to_say, []
        return said

    def _note(self, event: object) -> None:
        self.events.append(event)
        self.changed.set()

    async def until(self, is_so: Callable[[list[object]], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_so(self.events):
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def linked(*urls: str, speaker: Notebook, token: str | None = None) -> AsyncIterator[Link]:
    link = Link(
        urls, session=SESSION, role="producer", speaker=speaker, name="test", token=token, rng=Random(1)
    )
    link.start()
    try:
        yield link
    finally:
        await link.close("done")


async def test_it_says_hello_and_is_welcome() -> None:
    async with tiny_broker() as broker:
        speaker = Notebook()
        async with linked(f"{broker.address}/shop", speaker=speaker) as link:
            await link.wait_connected(10)
            assert link.connected
        hello = broker.said(Hello)[0]
        assert (hello.session, hello.role, hello.name, hello.namespace) == (
            SESSION,
            "producer",
            "test",
            "shop",
        )
        assert speaker.events == ["welcome", "lost"]
        assert broker.said(Goodbye) == [Goodbye("closed", "done")]


async def test_it_speaks_over_a_socket_file() -> None:
    with tempfile.TemporaryDirectory(prefix="tq") as folder:
        broker_at = tiny_broker(path=str(Path(folder) / "s"))
        async with broker_at as broker, linked(broker.address, speaker=Notebook()) as link:
            await link.wait_connected(10)
            assert link.connected


async def test_what_is_said_in_one_turn_arrives_as_one() -> None:
    async with tiny_broker() as broker:
        speaker = Notebook()
        async with linked(broker.address, speaker=speaker) as link:
            await link.wait_connected(10)
            link.wake()  # flushes nothing: later words in this turn must not need another write
            reads = broker.reads
            for number in range(1, 100):
                speaker.to_say.append(Status(number))
                link.wake()
            await broker.hear(Status, 99)
            assert broker.reads == reads + 1


async def test_what_is_queued_at_close_is_said_before_goodbye() -> None:
    async with tiny_broker() as broker:
        speaker = Notebook()
        async with linked(broker.address, speaker=speaker) as link:
            await link.wait_connected(10)
            speaker.to_say = [Status(1)]
        assert [type(message) for message in broker.heard] == [Hello, Status, Goodbye]


async def test_an_answer_to_a_message_goes_out_by_itself() -> None:
    class Watcher(Notebook):
        def on_message(self, message: FromBroker) -> None:
            super().on_message(message)
            self.to_say.append(Watch([SESSION]))

    async with tiny_broker() as broker, linked(broker.address, speaker=Watcher()) as link:
        await link.wait_connected(10)
        broker.say(Outcomes([Outcome(SESSION, "dead")]))
        assert await broker.hear(Watch) == [Watch([SESSION])]


async def test_a_cut_connection_is_made_again_and_the_speaker_told() -> None:
    async with tiny_broker() as broker:
        speaker = Notebook()
        speaker.again = [Status(7)]
        async with linked(broker.address, speaker=speaker) as link:
            await broker.hear(Status, 1)
            broker.drop()
            await broker.hear(Status, 2)
            assert speaker.events == ["welcome", "lost", "welcome"]
            assert link.connected


async def test_a_broker_that_starts_late_is_found() -> None:
    async with tiny_broker() as first:
        port = first.port
    late = TinyBroker()
    async with linked(f"taskq://127.0.0.1:{port}", speaker=Notebook()) as link:
        with pytest.raises(ConnectionLost, match="nobody listens there"):
            await link.wait_connected(0.2)
        await late.listen(port=port)
        try:
            await link.wait_connected(20)
        finally:
            await late.stop()


async def test_the_next_address_is_tried() -> None:
    async with tiny_broker() as gone:
        dead_address = gone.address
    async with tiny_broker() as broker, linked(dead_address, broker.address, speaker=Notebook()) as link:
        await link.wait_connected(20)
        assert link.connected


async def test_a_token_is_proved() -> None:
    async with tiny_broker(tokens=TokenTable.from_text(f"producer {TOKEN}")) as broker:
        async with linked(broker.address, speaker=Notebook(), token=TOKEN) as link:
            await link.wait_connected(10)
        assert broker.said(Hello)[0].token_id == "abcdefgh"


@pytest.mark.parametrize("token", [None, f"tq1_abcdefgh_{'x' * 43}"])
async def test_without_the_right_token_it_gives_up(token: str | None) -> None:
    guarded = tiny_broker(tokens=TokenTable.from_text(f"producer {TOKEN}"))
    async with guarded as broker, linked(broker.address, speaker=Notebook(), token=token) as link:
        with pytest.raises(Unauthorized, match="token"):
            await link.wait_connected(10)
        with pytest.raises(Unauthorized):
            await link.wait_connected(10)


async def test_a_token_that_is_none_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="not a token"):
        Link("taskq://localhost", session=SESSION, role="producer", speaker=Notebook(), token="hunter2")


async def test_a_goodbye_is_followed_by_another_try() -> None:
    async with tiny_broker() as broker:
        speaker = Notebook()
        async with linked(broker.address, speaker=speaker) as link:
            await link.wait_connected(10)
            broker.say(Goodbye("restart", "back soon"))
            await speaker.until(lambda events: events == ["welcome", "lost", "welcome"])


async def test_a_refused_connection_that_is_unauthorized_ends_it() -> None:
    async with tiny_broker() as broker:
        speaker = Notebook()
        async with linked(broker.address, speaker=speaker) as link:
            await link.wait_connected(10)
            broker.say(Refusal(0, "unauthorized", "the token was revoked"))
            await speaker.until(lambda events: "lost" in events)
            with pytest.raises(Unauthorized, match="the token was revoked"):
                await link.wait_connected(10)


class Scripted(asyncio.Protocol):
    """A server that says one thing and then only listens."""

    def __init__(self, script: list[bytes]) -> None:
        self.script = script

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.script.pop(0))

    def data_received(self, data: bytes) -> None:
        if self.script:
            self.transport.write(self.script.pop(0))


def greeting(version: int = 1, beat_ms: int = 5_000) -> bytes:
    return encode(Greeting(version, version, bytes(16), bytes(16), 1, 1, 2**24, 2**20, 2_000, beat_ms, False))


@asynccontextmanager
async def scripted(*scripts: list[bytes]) -> AsyncIterator[str]:
    """Each connection gets the next script; the last one is for all that follow."""
    waiting = list(scripts)
    peers: list[Scripted] = []

    def accept() -> Scripted:
        script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        peers.append(Scripted(list(script)))
        return peers[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    try:
        yield f"taskq://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await stop_listening(server)
        for peer in peers:
            peer.transport.abort()
        await server.wait_closed()


async def test_another_version_of_the_protocol_ends_it() -> None:
    async with scripted([greeting(version=9)]) as url, linked(url, speaker=Notebook()) as link:
        with pytest.raises(VersionMismatch, match="version 9"):
            await link.wait_connected(10)


async def test_a_server_of_something_else_is_named() -> None:
    web_server = scripted([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    async with web_server as url, linked(url, speaker=Notebook()) as link:
        with pytest.raises(ConnectionLost, match="an HTTP server answers"):
            await link.wait_connected(0.5)


async def test_a_broker_that_falls_silent_is_left() -> None:
    talk = [greeting(beat_ms=50), encode(Welcome(1, 0))]
    async with scripted(talk) as url:
        speaker = Notebook()
        async with linked(url, speaker=speaker):
            await speaker.until(lambda events: events == ["welcome", "lost", "welcome"])


async def test_welcomed_and_sent_away_again_and_again_it_waits_longer_each_time() -> None:
    steps: list[int] = []

    class Noted(Random):
        def uniform(self, a: float, b: float) -> float:
            steps.append(round(b * 1000))
            return 0.0

    talk = [greeting(), encode(Welcome(1, 0), Goodbye("go", "away"))]
    async with scripted(talk) as url:
        speaker = Notebook()
        link = Link(url, session=SESSION, role="producer", speaker=speaker, rng=Noted())
        link.start()
        await speaker.until(lambda events: events.count("welcome") == 4)
        await link.close()
    assert steps[:3] == [50, 100, 200]


async def test_the_beat_is_kept() -> None:
    async with tiny_broker() as broker:
        original = limits.BEAT_MS
        limits.BEAT_MS = 50  # type: ignore[misc]  # the broker's greeting says how often; no test waits 5 s
        try:
            speaker = Notebook()
            async with linked(broker.address, speaker=speaker) as link:
                await broker.hear(Ping, 6)
                assert link.connected
                assert speaker.events == ["welcome"]
        finally:
            limits.BEAT_MS = original  # type: ignore[misc]  # as above


async def test_who_has_just_spoken_keeps_the_beat_all_the_same() -> None:
    """One ping left out is two beats of silence: what the broker takes for death."""
    async with tiny_broker() as broker, linked(broker.address, speaker=Notebook()) as link:
        await link.wait_connected(10)
        connection = link._connection
        assert connection is not None
        connection.say(Status(1))
        connection._on_beat()
        await broker.hear(Ping, 1)


async def test_cancelling_the_program_leaves_nothing_open() -> None:
    async with tiny_broker() as broker:
        link = Link([broker.address], session=SESSION, role="producer", speaker=Notebook())
        link.start()
        await link.wait_connected(10)
        assert link._task is not None
        link._task.cancel()
        await asyncio.wait([link._task])
        await broker.until(lambda: not broker._peers)
        await link.close()


async def test_close_while_nobody_listens() -> None:
    async with tiny_broker() as gone:
        address = gone.address
    link = Link([address], session=SESSION, role="producer", speaker=Notebook())
    link.start()
    waiting = asyncio.ensure_future(link.wait_connected())
    await asyncio.wait([waiting], timeout=0.05)
    await link.close()
    await link.close()
    with pytest.raises(ConnectionLost, match="was closed"):
        await waiting


def test_backoff_doubles_and_stays_short_in_the_first_minute() -> None:
    class Top(Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    backoff = _Backoff(Top(), began=100.0)
    early = [round(backoff.next_seconds(now=100.0) * 1000) for _ in range(6)]
    assert early == [50, 100, 200, 400, 500, 500]
    late = [round(backoff.next_seconds(now=161.0) * 1000) for _ in range(5)]
    assert late == [500, 1000, 2000, 4000, 5000]


def test_backoff_is_full_jitter() -> None:
    backoff = _Backoff(Random(3), began=0.0)
    waits = [backoff.next_seconds(now=0.0) for _ in range(200)]
    assert min(waits) < 0.05 and max(waits) > 0.4 and max(waits) <= 0.5
