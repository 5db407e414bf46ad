"""Enough HTTP for probes and scrapers; nothing for anybody else."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
import pytest_asyncio

from taskq.server import http
from taskq.server.http import HttpPages

Address = tuple[str, int]


@pytest_asyncio.fixture
async def pages() -> AsyncIterator[Address]:
    server = HttpPages(
        {
            "/healthz": lambda: (HTTPStatus.OK, "ok\n"),
            "/busy": lambda: (HTTPStatus.SERVICE_UNAVAILABLE, "später\n"),
        }
    )
    yield await server.start("127.0.0.1", 0)
    await server.close()


async def ask(address: Address, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: curl\r\n\r\n".encode()


async def test_a_page_says_how_long_it_is_and_that_it_is_all(pages: Address) -> None:
    head, _, body = (await ask(pages, get("/healthz"))).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 3" in lines
    assert "Connection: close" in lines
    assert body == b"ok\n"


async def test_lengths_count_bytes(pages: Address) -> None:
    head, _, body = (await ask(pages, get("/busy"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.decode() == "später\n"


async def test_a_query_does_not_matter(pages: Address) -> None:
    assert (await ask(pages, get("/healthz?verbose=1"))).endswith(b"ok\n")


async def test_head_has_no_body(pages: Address) -> None:
    answer = await ask(pages, get("/healthz", "HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_another_page_is_told_which_there_are(pages: Address) -> None:
    answer = await ask(pages, get("/"))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"/healthz" in answer


async def test_nothing_can_be_posted(pages: Address) -> None:
    assert (await ask(pages, get("/healthz", "POST"))).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "request_bytes", [b"hello\r\n\r\n", b"GET /healthz\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
async def test_what_is_no_http_is_told_so(pages: Address, request_bytes: bytes) -> None:
    assert (await ask(pages, request_bytes)).startswith(b"HTTP/1.1 400 ")


async def test_a_request_may_come_in_pieces(pages: Address) -> None:
    request = get("/healthz")
    assert (await ask(pages, *(request[i : i + 1] for i in range(len(request))))).endswith(b"ok\n")


async def test_an_endless_request_is_cut_off(pages: Address) -> None:
    assert await ask(pages, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000) == b""
    assert (await ask(pages, get("/healthz"))).endswith(b"ok\n")


async def test_who_dawdles_is_cut_off(pages: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS_MAX", 0.05)
    assert await ask(pages, b"GET /healthz") == b""
