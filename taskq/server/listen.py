"""Where the broker listens: sockets bound, or one line that says why not and what to do."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from taskq.errors import ConfigError

# What the loop has begun to accept is a connection two rounds later.
_ACCEPT_ROUNDS: Final = 4


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening; port 0 picks a free one. Raises ConfigError."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"--host {host}: {error.strerror}") from None
    sock = socket.socket(infos[0][0], socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(infos[0][4])
    except OSError as error:
        sock.close()
        raise ConfigError(why_not_bound(host, port, error)) from None
    sock.setblocking(False)
    return sock


async def listen_unix(make: Callable[[], asyncio.Protocol], path: str) -> asyncio.Server:
    """Listen at a path that only its owner may connect to: no token is asked for there otherwise."""
    old = os.umask(0o177)
    try:
        return await asyncio.get_running_loop().create_unix_server(make, path)
    except OSError as error:
        raise ConfigError(f"--listen unix:{path}: {error.strerror or error}") from None
    finally:
        os.umask(old)


async def stop_listening(*servers: asyncio.Server) -> None:
    """Accept nothing more. When this returns, what was being accepted has been made, and can be closed.

    A server of asyncio that is closed between the two (CPython 3.11) fails an assertion, in silence, and
    leaves a connection that is nobody's: so the sockets are taken from the loop first.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            with contextlib.suppress(NotImplementedError):  # a loop that has no readers
                loop.remove_reader(sock)
    for _ in range(_ACCEPT_ROUNDS):
        await asyncio.sleep(0)
    for server in servers:
        server.close()


def why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken by another program; stop it (is it another broker?), "
            "or choose another port with --port (0 picks a free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} of {host} needs privileges; choose one above 1023 with --port"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
