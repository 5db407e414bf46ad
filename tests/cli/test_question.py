"""One question on a connection of its own: what is said when nobody, or somebody else, is there."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.cli.question import ask
from taskq.errors import ConnectionLost, TaskqError, Unauthorized, VersionMismatch
from taskq.protocol.connection import BrokerSide, ProtocolError
from taskq.protocol.messages import Ping, Pong
from taskq.protocol.tokens import TokenTable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """Somebody who listens, at this address; ended with the block."""
    async with asyncio.TaskGroup() as group:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield f"taskq://127.0.0.1:{port}"
        server.close()
        group.create_task(server.wait_closed())


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"taskq://127.0.0.1:{taken.getsockname()[1]}"


def test_nobody_there_says_how_to_start_one(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("ping", "status"):
        assert run([verb, "--url", nobody]) == Exit.NO_BROKER
        assert (
            capsys.readouterr().err == f"taskq: error: no broker at {nobody}; start one with: taskq broker\n"
        )


def test_the_address_comes_from_the_environment(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQ_URL", nobody)
    assert run(["ping"]) == Exit.NO_BROKER
    assert nobody in capsys.readouterr().err


def test_what_is_no_address_is_a_bad_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ping", "--url", "http://localhost"]) == Exit.CONFIG
    assert "write taskq://HOST:PORT" in capsys.readouterr().err


async def test_somebody_who_says_nothing_runs_out_of_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as url:
        with pytest.raises(TimeoutError, match=r"accepts connections, but gave no answer within 50 ms"):
            await ask(url, Ping(), Pong, timeout_ms=50)


async def test_a_web_server_is_recognised() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(web) as url:
        with pytest.raises(ConnectionLost, match="an HTTP server answers"):
            await ask(url, Ping(), Pong)


async def test_somebody_who_hangs_up_is_no_broker() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async with serving(rude) as url:
        with pytest.raises(ConnectionLost, match="closed the connection"):
            await ask(url, Ping(), Pong)


def a_broker(tokens: TokenTable | None = None, version: int = 1) -> Serve:
    """A broker's side of the protocol, without a broker behind it: it lets in who may come in."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side = BrokerSide(nonce=b"n" * 32, cluster=b"c" * 16, epoch=1, tokens=tokens, version=version)
        writer.write(side.greeting())
        try:
            while data := await reader.read(65_536):
                for _ in side.receive(data):
                    writer.write(side.welcome(wall_ms=1, next_seq=0))
        except ProtocolError as error:
            writer.write(error.reply or b"")

    return serve


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (a_broker(TokenTable({})), Unauthorized),
        (a_broker(version=99), VersionMismatch),
    ],
    ids=["token", "version"],
)
async def test_a_broker_that_does_not_want_us_says_why(serve: Serve, error: type[TaskqError]) -> None:
    async with serving(serve) as url:
        with pytest.raises(error):
            await ask(url, Ping(), Pong)


async def test_the_next_address_is_tried(nobody: str) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(web) as url:
        with pytest.raises(ConnectionLost, match="an HTTP server answers"):
            await ask(f"{nobody},{url}", Ping(), Pong)
