"""The two ends of a connection, talking to each other and to those who break the rules."""

from collections.abc import Sequence
from typing import get_args

import msgspec
import pytest

from taskq import limits
from taskq.errors import Refused, Unauthorized, VersionMismatch
from taskq.protocol import messages as m
from taskq.protocol.connection import MAY_SEND, BrokerSide, PeerSide
from taskq.protocol.frames import FrameReader, ProtocolError, encode
from taskq.protocol.tokens import TokenTable
from tests.protocol.samples import CLUSTER, FROM_BROKER, ID, NONCE, SESSION, TERMS, TO_BROKER

TOKEN = "tq1_abcd1234_" + "x" * 43
COMMANDS = [message for message in TO_BROKER if isinstance(message, get_args(m.Command))]
REPLIES = [message for message in FROM_BROKER if isinstance(message, get_args(m.Reply))]
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def broker_side(token_role: str | None = None, version: int = 1, features: Sequence[str] = ()) -> BrokerSide:
    tokens = None if token_role is None else TokenTable.from_text(f"{token_role} {TOKEN}")
    return BrokerSide(
        nonce=NONCE, cluster=CLUSTER, epoch=3, tokens=tokens, version=version, features=features
    )


def peer_side(
    role: m.Role = "producer", token: str | None = None, version: int = 1, features: Sequence[str] = ()
) -> PeerSide:
    return PeerSide(session=SESSION, role=role, name="test", token=token, version=version, features=features)


def meet(broker: BrokerSide, peer: PeerSide) -> m.Welcome:
    assert peer.receive(broker.greeting()) == []
    (hello,) = broker.receive(peer.take_replies())
    assert hello == broker.hello
    (welcome,) = peer.receive(broker.welcome(wall_ms=5, next_seq=7))
    assert welcome == peer.welcome
    assert isinstance(welcome, m.Welcome)
    return welcome


def welcomed(role: m.Role = "producer") -> tuple[BrokerSide, PeerSide]:
    broker, peer = broker_side(), peer_side(role)
    meet(broker, peer)
    return broker, peer


def said(data: bytes, kind: type[m.Message]) -> m.Message:
    """The one message in these bytes, which must be of this kind."""
    (frame,) = FrameReader(limits.FRAME_BYTES_MAX).feed(data)
    message: m.Message = msgspec.msgpack.decode(frame, type=m.ToBroker | m.FromBroker)
    assert type(message) is kind
    return message


def refused(side: BrokerSide | PeerSide, data: bytes, code: str) -> ProtocolError:
    """The error that these bytes are answered with; its reply must say the same."""
    with pytest.raises(ProtocolError) as caught:
        side.receive(data)
    error = caught.value
    assert error.code == code, error
    assert error.reply is not None
    reply = said(error.reply, m.Refusal if isinstance(side, BrokerSide) else m.Goodbye)
    assert isinstance(reply, m.Refusal | m.Goodbye)
    assert (reply.code, reply.text) == (error.code, error.text)
    return error


def raw(*elements: object) -> bytes:
    body = msgspec.msgpack.encode(elements)
    return len(body).to_bytes(4, "big") + body


# -- the handshake ----------------------------------------------------------------------------


def test_a_greeting_a_hello_and_a_welcome() -> None:
    welcome = meet(broker_side(features=["a", "b", "c"]), peer_side(features=["c", "x", "a"]))
    assert welcome == m.Welcome(version=1, wall_ms=5, next_seq=7, features=["a", "c"])


def test_the_greeting_tells_the_limits() -> None:
    greeting = said(broker_side("worker", version=3).greeting(), m.Greeting)
    assert greeting == m.Greeting(
        version_min=2,
        version_max=3,
        nonce=NONCE,
        cluster=CLUSTER,
        epoch=3,
        partitions=1,
        frame_bytes_max=limits.FRAME_BYTES_MAX,
        payload_bytes_max=limits.PAYLOAD_BYTES_MAX,
        batch_max=limits.BATCH_MAX,
        beat_ms=limits.BEAT_MS,
        auth=True,
    )


@pytest.mark.parametrize(
    ("broker", "peer", "chosen"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 2), (3, 2, 2), (2, 3, 2)]
)
def test_the_highest_version_that_both_speak(broker: int, peer: int, chosen: int) -> None:
    assert meet(broker_side(version=broker), peer_side(version=peer)).version == chosen


@pytest.mark.parametrize(
    ("broker", "peer", "says"),
    [(3, 1, ["broker speaks protocol version 2 to 3", "side 1"]), (1, 3, ["version 1,", "side 2 to 3"])],
)
def test_no_version_in_common_is_said_by_the_peer(broker: int, peer: int, says: list[str]) -> None:
    error = refused(peer_side(version=peer), broker_side(version=broker).greeting(), "version")
    assert all(words in error.text for words in says)
    assert isinstance(Refused.from_code(error.code, error.text), VersionMismatch)


def test_a_hello_in_another_version_is_refused_naming_both() -> None:
    error = refused(broker_side(version=3), encode(m.Hello(1, SESSION, "producer")), "version")
    assert "2 to 3" in error.text
    assert "says 1" in error.text


def test_a_welcome_in_another_version_than_the_hello_is_refused() -> None:
    peer = peer_side()
    peer.receive(broker_side().greeting())
    refused(peer, encode(m.Welcome(2, 0)), "version")


@pytest.mark.parametrize("field", ["version_min", "partitions", "payload_bytes_max", "batch_max", "beat_ms"])
def test_a_greeting_that_makes_no_sense_is_refused(field: str) -> None:
    greeting = said(broker_side().greeting(), m.Greeting)
    refused(peer_side(), encode(msgspec.structs.replace(greeting, **{field: 0})), "malformed")


# -- tokens and roles ---------------------------------------------------------------------------


def test_a_valid_token_is_let_in() -> None:
    meet(broker_side("worker"), peer_side("worker", TOKEN))


def test_a_token_is_not_used_where_none_is_wanted() -> None:
    broker, peer = broker_side(), peer_side("worker", TOKEN)
    meet(broker, peer)
    assert broker.hello is not None
    assert (broker.hello.token_id, broker.hello.proof) == ("", b"")


def test_a_peer_without_a_token_does_not_try() -> None:
    error = refused(peer_side(), broker_side("worker").greeting(), "unauthorized")
    assert "TASKQ_TOKEN" in error.text
    assert isinstance(Refused.from_code(error.code, error.text), Unauthorized)


def test_unknown_ids_wrong_secrets_and_wrong_roles_are_refused_alike() -> None:
    texts = []
    for token_role, token in [
        ("admin", "tq1_unknown0_" + "x" * 43),
        ("admin", TOKEN[:-1] + "y"),
        ("viewer", TOKEN),
    ]:
        broker, peer = broker_side(token_role), peer_side("worker", token)
        peer.receive(broker.greeting())
        texts.append(refused(broker, peer.take_replies(), "unauthorized").text)
        assert broker.hello is None
    assert len(set(texts)) == 1
    assert texts[0].endswith("taskq token create --role worker")


def test_a_hello_without_a_token_is_told_that_it_needs_one() -> None:
    error = refused(broker_side("admin"), encode(m.Hello(1, SESSION, "producer")), "unauthorized")
    assert "wants a token" in error.text
    assert error.text.endswith("taskq token create --role producer")


def test_a_proof_is_good_for_one_nonce_only() -> None:
    first, peer = broker_side("worker"), peer_side("worker", TOKEN)
    peer.receive(first.greeting())
    heard = peer.take_replies()
    second = BrokerSide(
        nonce=b"m" * 32, cluster=CLUSTER, epoch=3, tokens=TokenTable.from_text(f"worker {TOKEN}")
    )
    refused(second, heard, "unauthorized")


def test_the_table_of_roles_is_the_one_in_the_manual() -> None:
    names = {role: {kind.__name__ for kind in kinds} for role, kinds in MAY_SEND.items()}
    always = {"Ping", "Pong", "Goodbye", "Unsupported"}
    looking = {"Query", "Tally", "GroupDead"}
    steering = {"Steer", "AskSettings"}
    producer = (
        always | looking | steering | {"Submit", "Watch", "Unwatch", "Cancel", "Inspect", "Status", "Bulk"}
    )
    producer |= {"SetSchedule", "PauseSchedule", "ResumeSchedule", "DropSchedule", "RunSchedule"}
    producer |= {"ListSchedules"}
    producer |= {"Edit", "Bound", "ListWorkers", "Instruct"}
    following = {"Follow", "Unfollow", "Taken"}
    producer |= following
    worker = producer | {"Announce", "Ack", "Nack", "Extend", "Progress", "Resume", "Drain", "Undrain"}
    worker |= {"Checkpoint", "AckAndSubmit"}
    worker |= {"Items", "Logs"}
    assert names == {
        "producer": producer,
        "worker": worker,
        "supervisor": always | {"Vouch", "Exited", "Obeyed", "Status"},
        "viewer": always
        | looking
        | following
        | {"Inspect", "Status", "Watch", "Unwatch", "AskSettings", "ListSchedules", "ListWorkers"},
        "operator": producer,
        "admin": worker | {"Vouch", "Exited", "Obeyed"},
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
@pytest.mark.parametrize("role", get_args(m.Role))
def test_a_role_may_say_its_commands_and_no_others(role: m.Role, command: m.Message) -> None:
    broker, _ = welcomed(role)
    if type(command) in MAY_SEND[role]:
        assert broker.receive(encode(command)) == [command]
        assert broker.take_replies() == b""
        return
    text = f"{type(command).__name__} is not for the role '{role}'"
    request = getattr(command, "request", 0)
    if request:
        assert broker.receive(encode(command, m.Ping(1))) == [m.Ping(1)]
        assert said(broker.take_replies(), m.Refusal) == m.Refusal(request, "unauthorized", text)
        return
    assert refused(broker, encode(command), "unauthorized").text == text


def test_a_request_that_cannot_be_named_closes_the_connection() -> None:
    broker, _ = welcomed("viewer")
    refused(broker, encode(m.Cancel(0, [ID])), "unauthorized")


# -- who may say what when ------------------------------------------------------------------------


@pytest.mark.parametrize("message", TO_BROKER, ids=lambda message: type(message).__name__)
def test_before_the_hello_there_are_no_commands(message: m.Message) -> None:
    broker = broker_side()
    if isinstance(message, m.Hello | m.Goodbye):
        assert broker.receive(encode(message)) == [message]
    elif isinstance(message, m.Ping):
        assert broker.receive(encode(message)) == []
        assert said(broker.take_replies(), m.Pong) == m.Pong(message.token)
    elif isinstance(message, m.Pong | m.Unsupported):
        assert broker.receive(encode(message)) == []
    else:
        assert "before the Hello" in refused(broker, encode(message), "sequence").text


def test_before_the_welcome_there_are_no_commands() -> None:
    broker = broker_side()
    broker.receive(encode(m.Hello(1, SESSION, "producer")))
    assert "before the Welcome" in refused(broker, encode(m.Status(1)), "sequence").text


def test_a_second_hello_is_an_error() -> None:
    broker, _ = welcomed()
    refused(broker, encode(m.Hello(1, SESSION, "admin")), "sequence")
    early = broker_side()
    refused(early, encode(m.Hello(1, SESSION, "producer"), m.Hello(1, SESSION, "admin")), "sequence")


@pytest.mark.parametrize("message", FROM_BROKER, ids=lambda message: type(message).__name__)
def test_what_brokers_say_is_not_for_peers_to_say(message: m.Message) -> None:
    if isinstance(message, get_args(m.ToBroker)):
        return
    broker, _ = welcomed("admin")
    assert type(message).__name__ in refused(broker, encode(message), "sequence").text


def test_a_welcome_without_a_hello_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        broker_side().welcome(0, 0)
    broker, _ = welcomed()
    with pytest.raises(AssertionError):
        broker.welcome(0, 0)


@pytest.mark.parametrize("message", REPLIES, ids=lambda message: type(message).__name__)
def test_a_peer_hears_replies_once_it_is_welcome(message: m.Message) -> None:
    _, peer = welcomed()
    assert peer.receive(encode(message)) == [message]
    early = peer_side()
    if isinstance(message, m.Refusal | m.Pong):
        assert early.receive(encode(message)) == [message]
    else:
        assert "before the Greeting" in refused(early, encode(message), "sequence").text


def test_a_peer_hears_one_greeting_and_one_welcome() -> None:
    broker, peer = welcomed()
    refused(peer, broker.greeting(), "sequence")
    _, other = welcomed()
    refused(other, encode(m.Welcome(1, 0)), "sequence")
    refused(peer_side(), encode(m.Welcome(1, 0)), "sequence")


def test_a_peer_refuses_what_only_peers_say() -> None:
    _, peer = welcomed()
    refused(peer, encode(m.Drain()), "sequence")


# -- bytes that are not what they should be -----------------------------------------------------------


def test_an_unknown_message_is_answered_and_the_connection_stays() -> None:
    broker, peer = welcomed()
    newer = raw(200, "from", {"a": "newer"}, "version")
    assert broker.receive(encode(m.Ping(1)) + newer + encode(m.Ping(2))) == [m.Ping(1), m.Ping(2)]
    assert said(broker.take_replies(), m.Unsupported) == m.Unsupported(200)
    assert broker.take_replies() == b""
    assert peer.receive(newer + encode(m.Pong(1))) == [m.Pong(1)]
    assert said(peer.take_replies(), m.Unsupported) == m.Unsupported(200)
    assert broker.receive(encode(m.Status(1))) == [m.Status(1)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw(12, [b"short"]), "Watch: Expected `bytes`"),
        (raw(12), "Watch: "),
        (raw(), "a frame: "),
        (raw("submit", 1), "a frame: "),
        (raw([12]), "a frame: "),
        (b"\x00\x00\x00\x01\x05", "a frame: "),
        (b"\x00\x00\x00\x03\x92\x06\xc1", "a frame: "),
        (b"\x00\x00\x00\x02\x92\x06", "a frame: "),
        (b"\x00\x00\x00\x04\x92\x06\x05\x00", "trailing"),
        (b"\x00\x00\x00\x00", "0 bytes"),
        (raw(15, 1, [ID], "x" * 3_000), "Cancel: "),
    ],
)
def test_malformed_frames_are_refused_with_a_reason(data: bytes, says: str) -> None:
    broker, _ = welcomed()
    assert says in refused(broker, data, "malformed").text


def test_text_that_is_not_utf_8_is_malformed() -> None:
    broker, _ = welcomed()
    body = msgspec.msgpack.encode((15, 1, [ID], "??")).replace(b"??", b"\xff\xfe")
    assert "Cancel" in refused(broker, len(body).to_bytes(4, "big") + body, "malformed").text


def test_a_delivery_without_terms_is_malformed() -> None:
    _, peer = welcomed("worker")
    jobs = [m.Delivery(ID, 1, 1, 0, b""), m.Delivery(ID, 1, 1, 1, b"")]
    assert peer.receive(encode(m.Deliver([TERMS, TERMS], jobs))) == [m.Deliver([TERMS, TERMS], jobs)]
    error = refused(peer, encode(m.Pong(1), m.Deliver([TERMS], jobs)), "malformed")
    assert "`terms`" in error.text
    assert error.messages == [m.Pong(1)]


def test_a_reason_is_short_however_long_its_cause() -> None:
    broker, _ = welcomed("worker")
    word = "x" * 100_000
    error = refused(broker, raw(33, 1, [[ID, 1, word]]), "malformed")
    assert len(error.text) < 400


@pytest.mark.parametrize("inside", [b"\x91", b"\x81\x00"], ids=["arrays", "maps"])
@pytest.mark.parametrize("number", [b"\x06\x05", b"\x0c", b"\x63"], ids=["ignored", "typed", "unknown"])
def test_a_nested_bomb_is_refused(number: bytes, inside: bytes) -> None:
    broker, _ = welcomed()
    body = bytes([0x91 + len(number)]) + number + inside * 1_000_000 + b"\x00"
    refused(broker, len(body).to_bytes(4, "big") + body, "malformed")


@pytest.mark.parametrize(
    "body",
    [
        b"\x92\x0c\xdd\xff\xff\xff\xff",
        b"\x95\x1e\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff\x06\x05",
        b"\x93\x06\x05\xc6\xff\xff\xff\xff",
        b"\x93\x06\x05\xc9\xff\xff\xff\xff\x01",
        b"\x92\x0c\x91\xc6\xff\xff\xff\xff",
    ],
)
def test_a_length_that_is_claimed_and_not_there_is_refused(body: bytes) -> None:
    broker, _ = welcomed("worker")
    refused(broker, len(body).to_bytes(4, "big") + body, "malformed")


def test_before_the_welcome_frames_are_small() -> None:
    header = (limits.FRAME_BYTES_MAX_BEFORE_HELLO + 1).to_bytes(4, "big")
    refused(broker_side(), header, "too_large")
    broker, peer = welcomed()
    assert broker.receive(header) == []
    assert peer.receive(header) == []
    refused(welcomed()[0], (limits.FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "too_large")


def test_what_came_before_the_fault_is_not_lost() -> None:
    broker, _ = welcomed("viewer")
    error = refused(
        broker, encode(m.Status(1), m.Cancel(2, [ID]), m.Ping(3), m.Drain(), m.Ping(4)), "unauthorized"
    )
    assert error.messages == [m.Status(1), m.Ping(3)]
    assert isinstance(said(broker.take_replies(), m.Refusal), m.Refusal)
    broker, _ = welcomed()
    assert refused(broker, encode(m.Ping(1)) + b"\xff\xff\xff\xff", "too_large").messages == [m.Ping(1)]


def test_after_an_error_nothing_more_is_read() -> None:
    broker, _ = welcomed()
    refused(broker, raw(12), "malformed")
    with pytest.raises(ProtocolError) as caught:
        broker.receive(encode(m.Ping(1)))
    assert (caught.value.code, caught.value.reply) == ("closed", None)


def test_the_end_inside_a_frame_is_said() -> None:
    broker, peer = welcomed()
    broker.receive_eof()
    broker.receive(encode(m.Ping(1))[:-1])
    peer.receive(b"\x00")
    for side in (broker, peer):
        with pytest.raises(ProtocolError, match="ended inside a frame"):
            side.receive_eof()


# -- strangers who speak something else ------------------------------------------------------------------


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\n\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HT", b"PUT /x H", b"PRI * HTTP/2"]
)
def test_http_is_answered_in_http(start: bytes) -> None:
    broker = broker_side()
    with pytest.raises(ProtocolError) as caught:
        for at in range(len(start)):
            broker.receive(start[at : at + 1])
    assert caught.value.code == "http"
    assert "--http" in caught.value.text
    assert caught.value.reply is not None
    head, _, body = caught.value.reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"taskq broker" in body
    assert b"--http" in body


def test_a_tls_client_is_told_apart() -> None:
    with pytest.raises(ProtocolError) as caught:
        broker_side().receive(bytes.fromhex("16030100f4010000"))
    assert (caught.value.code, caught.value.reply) == ("tls", b"")
    assert "TLS" in caught.value.text


def test_after_the_hello_such_bytes_are_only_a_wrong_length() -> None:
    broker, _ = welcomed()
    refused(broker, HTTP_REQUEST, "too_large")


@pytest.mark.parametrize(
    ("heard", "code", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "http", "HTTP server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "tls", "TLS server"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "malformed", "no taskq broker"),
    ],
)
def test_a_peer_says_what_answered_instead_of_a_broker(heard: bytes, code: str, says: str) -> None:
    assert says in refused(peer_side(), heard, code).text
