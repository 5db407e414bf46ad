"""One question to the broker, on a connection of its own that fails at once where a client reconnects."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from taskq.client.address import Address, addresses_of, token_of
from taskq.errors import ConnectionLost, Refused, TaskqError
from taskq.protocol.connection import PeerSide, ProtocolError, check_speakable
from taskq.protocol.frames import encode
from taskq.protocol.messages import Goodbye, Message, Ping, Pong, Refusal, Role

READ_BYTES: Final = 256 * 1024
# A broker that accepts connections and says nothing is not one that works.
TIMEOUT_MS: Final = 5_000

A = TypeVar("A", bound=Message)


@dataclass(frozen=True)
class Answer(Generic[A]):
    """What the broker said, where it is, and how long it took from the question alone."""

    message: A
    address: str
    seconds: float


async def ask(
    url: str | Sequence[str] | None,
    question: Message,
    kind: type[A],
    *,
    timeout_ms: int = TIMEOUT_MS,
    role: Role = "viewer",
    name: str = "taskq command",
) -> Answer[A]:
    """The first answer of this kind from the first address that has a broker.

    As a viewer, every token that may ask will do; who changes something asks as a producer.

    Raises ConnectionLost (nobody there, at once), TimeoutError (somebody, but no answer), Refused.
    """
    check_speakable(question)
    lost = ConnectionLost("no address")
    for address in addresses_of(url):
        try:
            reader, writer = await _open(address, timeout_ms)
        except ConnectionLost as error:
            lost = error
            continue
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await _Conversation(reader, writer, address, role, name).ask(question, kind)
        except TimeoutError:
            raise TimeoutError(
                f"{address} accepts connections, but gave no answer within {timeout_ms:g} ms"
            ) from None
        except OSError as error:
            raise ConnectionLost(f"the broker at {address} went away: {error.strerror or error}") from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    raise lost


async def expect_broker(url: str | Sequence[str] | None) -> None:
    """Return when a broker answers there and lets us in; raises as `ask`, where a client goes on trying."""
    await ask(url, Ping(), Pong)


async def _open(address: Address, timeout_ms: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            if address.path:
                return await asyncio.open_unix_connection(address.path)
            return await asyncio.open_connection(address.host, address.port)
    except TimeoutError:
        raise ConnectionLost(f"no broker at {address}: no connection within {timeout_ms} ms") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise ConnectionLost(f"no broker at {address}; start one with: taskq broker") from None
    except OSError as error:
        raise ConnectionLost(f"no broker at {address}: {error.strerror or error}") from error


class _Conversation:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: Address,
        role: Role,
        name: str,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._address = address
        self._peer = PeerSide(
            session=os.urandom(16),
            role=role,
            name=name,
            token=token_of(),
            namespace=address.namespace,
        )
        self._heard: list[Message] = []

    async def ask(self, question: Message, kind: type[A]) -> Answer[A]:
        while self._peer.welcome is None:
            await self._hear()
        self._heard.clear()
        asked = time.perf_counter()
        self._writer.write(encode(question))
        while True:
            for message in self._heard:
                if isinstance(message, kind):
                    seconds = time.perf_counter() - asked
                    self._writer.write(encode(Goodbye("closed")))
                    return Answer(message, str(self._address), seconds)
            await self._hear()

    async def _hear(self) -> None:
        """More messages, or the error that ends the conversation."""
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise ConnectionLost(f"the broker at {self._address} closed the connection")
        try:
            self._heard = list(self._peer.receive(data))
        except ProtocolError as error:
            raise _told(error.code, error.text) from error
        for message in self._heard:
            if isinstance(message, Refusal | Goodbye):
                raise _told(message.code, message.text)
        if replies := self._peer.take_replies():
            self._writer.write(replies)


def _told(code: str, text: str) -> TaskqError:
    if code in {"http", "tls", "malformed"}:
        return ConnectionLost(text)
    return Refused.from_code(code, text)
