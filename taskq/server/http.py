"""/healthz, /readyz and /metrics: enough HTTP/1.1 for probes and scrapers, and no more."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from taskq.server.listen import stop_listening

# A probe's request fits in this many times over; who sends more, or dawdles, is no probe.
REQUEST_BYTES_MAX = 8 * 1024
REQUEST_SECONDS_MAX = 5

Page = Callable[[], tuple[HTTPStatus, str]]


class HttpPages:
    """Serves a handful of pages by GET, one request a connection."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address, with the port that was picked for 0."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_BYTES_MAX)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def close(self) -> None:
        if self._server is not None:
            await stop_listening(self._server)
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it went away, or is no probe: nothing is owed to it
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1 request\n")
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is served here\n")
        page = self._pages.get(target.split("?", 1)[0])
        if page is None:
            return _response(HTTPStatus.NOT_FOUND, f"there are: {' '.join(self._pages)}\n")
        status, text = page()
        return _response(status, text, with_body=method == "GET")


def _response(status: HTTPStatus, text: str, *, with_body: bool = True) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
