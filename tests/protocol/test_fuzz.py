"""Hostile bytes: the only answers are messages, more needed, or ProtocolError; and cuts change nothing.

Seeded: a failing seed fails again.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random

import msgspec
import pytest

from taskq.limits import FRAME_BYTES_MAX
from taskq.protocol import messages as m
from taskq.protocol.connection import MAY_SEND, BrokerSide, PeerSide
from taskq.protocol.frames import FrameReader, ProtocolError, encode
from taskq.protocol.tokens import Token, TokenTable, proof
from tests.protocol.samples import CLUSTER, FROM_BROKER, NONCE, SAMPLES, SESSION, TO_BROKER

STREAMS_PER_SEED = 500
TOKEN = Token("abcd1234", "x" * 43)
GOOD_HELLO = m.Hello(1, SESSION, "worker", "fuzz", token_id=TOKEN.id, proof=proof(TOKEN, NONCE, "worker", 1))
HELLOS: list[m.Message] = [
    GOOD_HELLO,
    msgspec.structs.replace(GOOD_HELLO, role="admin"),
    msgspec.structs.replace(GOOD_HELLO, version=9),
    m.Hello(1, SESSION, "producer"),
]
EARLY: list[m.Message] = [m.Ping(1), m.Pong(2), m.Unsupported(99), m.Goodbye("bye")]
# Bytes that begin something in MessagePack, or sit at the edge of something.
MARKS = bytes.fromhex("00 7f 80 8f 90 9f a0 bf c0 c1 c4 c6 c7 c9 ca cb cc cf d0 d3 d9 db dc dd de df e0 ff")


def bodies(messages: Sequence[m.Message]) -> list[bytes]:
    return [msgspec.msgpack.encode(message) for message in messages]


def allowed(role: str) -> list[m.Message]:
    return [message for message in TO_BROKER if type(message) in MAY_SEND[role]]


ANY = bodies([*SAMPLES, *HELLOS])

Side = BrokerSide | PeerSide
# What came of a stream: the messages, what the connection answered, and the error if one ended it.
Result = tuple[list[m.Message], bytes, tuple[str, str, bytes | None] | None]


def open_broker() -> BrokerSide:
    return BrokerSide(nonce=NONCE, cluster=CLUSTER, epoch=1)


def closed_broker() -> BrokerSide:
    tokens = TokenTable.from_text(f"worker {TOKEN.text}")
    return BrokerSide(nonce=NONCE, cluster=CLUSTER, epoch=1, tokens=tokens)


def welcoming(role: m.Role) -> Callable[[], BrokerSide]:
    def side() -> BrokerSide:
        broker = open_broker()
        broker.receive(encode(m.Hello(1, SESSION, role)))
        broker.welcome(0, 0)
        return broker

    return side


def welcomed_with_a_token() -> BrokerSide:
    broker = closed_broker()
    broker.receive(encode(GOOD_HELLO))
    broker.welcome(0, 0)
    return broker


def new_peer() -> PeerSide:
    return PeerSide(session=SESSION, role="worker", name="fuzz", token=TOKEN.text)


def welcome_peer() -> PeerSide:
    peer = new_peer()
    peer.receive(closed_broker().greeting())
    peer.receive(encode(m.Welcome(1, 0)))
    return peer


# Each side, and what it is mostly told: a stream that fails at its first frame does not get far.
SIDES: dict[str, tuple[Callable[[], Side], list[bytes]]] = {
    "stranger": (open_broker, bodies(HELLOS + EARLY)),
    "stranger-auth": (closed_broker, bodies(HELLOS + EARLY)),
    "viewer": (welcoming("viewer"), bodies(allowed("viewer"))),
    "admin": (welcoming("admin"), bodies(allowed("admin"))),
    "worker-auth": (welcomed_with_a_token, bodies(allowed("worker"))),
    "peer": (new_peer, [*bodies(EARLY), closed_broker().greeting()[4:]]),
    "peer-welcome": (
        welcome_peer,
        bodies([x for x in FROM_BROKER if not isinstance(x, m.Greeting | m.Welcome)]),
    ),
}


def mutated(body: bytes, rng: Random) -> bytes:
    """The body with a few small wounds."""
    wounded = bytearray(body)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 5))):
        at = rng.randrange(len(wounded) + 1)
        match rng.randrange(8):
            case 0:
                wounded[at : at + 1] = rng.randbytes(1)
            case 1:
                wounded[at : at + 1] = bytes([rng.choice(MARKS)])
            case 2:
                wounded[at:at] = rng.randbytes(rng.randrange(1, 5))
            case 3:
                del wounded[at : at + rng.randrange(1, 9)]
            case 4:
                del wounded[at:]
            case 5:
                wounded[at:at] = wounded[at : at + rng.randrange(1, 40)]
            case 6:
                wounded[at : at + 5] = bytes([rng.choice(MARKS)]) + b"\xff" * rng.choice((1, 2, 4, 8))
            case _:
                other = rng.choice(ANY)
                wounded[at:] = other[rng.randrange(len(other)) :]
    return bytes(wounded)


def nested(rng: Random) -> bytes:
    begin = rng.choice((b"\x92\x06\x05", b"\x93\x06\x05", b"\x92\x63", b"\x92\x0c", b"\x91"))
    return (
        begin
        + rng.choice((b"\x91", b"\x81\x00", b"\xdc\x00\x02\x00")) * rng.choice((10, 1_000, 5_000))
        + b"\xc0"
    )


def framed(body: bytes, rng: Random) -> bytes:
    size = len(body)
    if rng.random() < 0.05:
        size = rng.choice((0, size + 1, max(size - 1, 0), rng.getrandbits(32), FRAME_BYTES_MAX + 1))
    return size.to_bytes(4, "big") + body


def stream(usual: list[bytes], rng: Random) -> bytes:
    frames = []
    for _ in range(rng.randrange(1, 10)):
        body = (
            nested(rng)
            if rng.random() < 0.01
            else mutated(rng.choice(ANY if rng.random() < 0.1 else usual), rng)
        )
        frames.append(framed(body, rng))
    return b"".join(frames)


def result(side: Side, pieces: Iterator[bytes]) -> Result:
    messages: list[m.Message] = []
    try:
        for piece in pieces:
            messages += side.receive(piece)
        side.receive_eof()
    except ProtocolError as error:
        messages += error.messages
        return messages, side.take_replies(), (error.code, error.text, error.reply)
    return messages, side.take_replies(), None


def pieces(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size


def forever(size: Callable[[], int]) -> Iterator[int]:
    while True:
        yield size()


def check_readable(said: bytes) -> None:
    """What a side answers must be well-formed itself."""
    for frame in FrameReader(FRAME_BYTES_MAX).feed(said):
        msgspec.msgpack.decode(frame, type=m.ToBroker | m.FromBroker)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SIDES)
def test_hostile_bytes_end_in_messages_or_a_protocol_error(name: str, seed: int) -> None:
    rng = Random(f"{name} {seed}")
    new, usual = SIDES[name]
    read = refused = 0
    for _ in range(STREAMS_PER_SEED):
        data = stream(usual, rng)
        at_once = result(new(), iter([data]))
        in_bytes = result(new(), pieces(data, forever(lambda: 1)))
        in_pieces = result(new(), pieces(data, forever(lambda: rng.randrange(1, 60))))
        assert at_once == in_bytes == in_pieces, data.hex()
        messages, replies, error = at_once
        check_readable(replies)
        if error is not None and error[2] and error[0] != "http":
            check_readable(error[2])
        read += len(messages) + len(replies) // 7
        refused += error is not None
    # A mutator that is always refused at once, or never, tests nothing.
    assert refused > STREAMS_PER_SEED // 3
    assert read > STREAMS_PER_SEED // 10


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_refused_or_waits_for_more(seed: int) -> None:
    rng = Random(seed)
    for _ in range(STREAMS_PER_SEED):
        noise = rng.randbytes(rng.randrange(1, 200))
        for new, _ in SIDES.values():
            messages, _, _ = result(new(), iter([noise]))
            assert messages == []
