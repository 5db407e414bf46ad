"""A connection without a socket: bytes in, checked messages out, and who may say what when.

`BrokerSide` and `PeerSide` are its two ends. Neither waits, sends or knows the time: the caller
sends what `greeting`, `welcome` and `take_replies` return.
"""

from collections.abc import Mapping, Sequence
from typing import Final, get_args

from msgspec.msgpack import Decoder

from taskq import limits
from taskq.errors import Refused
from taskq.protocol.frames import FrameTooLong, ProtocolError, encode
from taskq.protocol.messages import (
    VERSION,
    AskSettings,
    Command,
    FromBroker,
    FromFollower,
    FromProducer,
    FromSupervisor,
    FromWorker,
    Goodbye,
    Greeting,
    GroupDead,
    Hello,
    Inspect,
    ListSchedules,
    ListWorkers,
    Message,
    Ping,
    Pong,
    Query,
    Refusal,
    Reply,
    Role,
    Status,
    Tally,
    ToBroker,
    Unsupported,
    Unwatch,
    Watch,
    Welcome,
)
from taskq.protocol.side import Kinds, Side
from taskq.protocol.strangers import callee_fault, caller_fault
from taskq.protocol.tokens import Token, TokenTable, proof

__all__ = ["MAY_SEND", "BrokerSide", "Heard", "PeerSide", "ProtocolError", "check_speakable"]

# What a peer's caller gets to see; the greeting is the connection's own business.
Heard = Welcome | Reply | Ping | Goodbye | Unsupported


_ALWAYS: Final[Kinds] = frozenset({Ping, Pong, Goodbye, Unsupported})
_VIEWER: Final[Kinds] = frozenset(
    {
        *(Inspect, Status, Watch, Unwatch, AskSettings, Query, Tally, GroupDead, ListSchedules, ListWorkers),
        *get_args(FromFollower),
    }
)
_PRODUCER: Final[Kinds] = frozenset(get_args(FromProducer))
_WORKER: Final[Kinds] = frozenset(get_args(FromProducer | FromWorker))
_SUPERVISOR: Final[Kinds] = frozenset(get_args(FromSupervisor | Status))
_ADMIN: Final[Kinds] = frozenset(get_args(Command))

# The commands that each role may send, once it is welcome.
MAY_SEND: Final[Mapping[str, Kinds]] = {
    "producer": _PRODUCER | _ALWAYS,
    "worker": _WORKER | _ALWAYS,
    "supervisor": _SUPERVISOR | _ALWAYS,
    "viewer": _VIEWER | _ALWAYS,
    "operator": _PRODUCER | _ALWAYS,
    "admin": _ADMIN | _ALWAYS,
}

_MAY_HEAR: Final[Kinds] = frozenset({*get_args(Reply), Ping, Goodbye, Unsupported})

_to_broker: Final[Decoder[ToBroker]] = Decoder(ToBroker)
_from_broker: Final[Decoder[FromBroker]] = Decoder(FromBroker)


def _oldest(version: int) -> int:
    """Each side speaks its own version and the one before, so that either may be upgraded first."""
    return max(1, version - 1)


def check_speakable(message: Message) -> None:
    """Refuse what a broker would close the connection for, before it is said, and said again.

    For questions, of which there are few: it is encoded twice. Raises Refused.
    """
    try:
        _to_broker.decode(encode(message)[limits.FRAME_HEADER_BYTES :])
    except ValueError as error:  # msgspec's, for what cannot be encoded or is out of bounds
        raise Refused.from_code("invalid", f"{type(message).__name__}: {error}") from None


class BrokerSide(Side[ToBroker]):
    """The broker's end: greet, hear a hello, let the core accept it, then pass on what the role may say."""

    def __init__(
        self,
        *,
        nonce: bytes,
        cluster: bytes,
        epoch: int,
        tokens: TokenTable | None = None,
        version: int = VERSION,
        partitions: int = 1,
        features: Sequence[str] = (),
    ) -> None:
        super().__init__(_to_broker, limits.FRAME_BYTES_MAX_BEFORE_HELLO)
        self.hello: Hello | None = None
        self._welcomed = False
        self._nonce = nonce
        self._cluster = cluster
        self._epoch = epoch
        self._tokens = tokens
        self._version = version
        self._partitions = partitions
        self._features = list(features)

    def greeting(self) -> bytes:
        """The first thing to send, before anything is read."""
        return encode(
            Greeting(
                version_min=_oldest(self._version),
                version_max=self._version,
                nonce=self._nonce,
                cluster=self._cluster,
                epoch=self._epoch,
                partitions=self._partitions,
                frame_bytes_max=limits.FRAME_BYTES_MAX,
                payload_bytes_max=limits.PAYLOAD_BYTES_MAX,
                batch_max=limits.BATCH_MAX,
                beat_ms=limits.BEAT_MS,
                auth=self._tokens is not None,
                features=self._features,
            )
        )

    def receive(self, data: bytes) -> list[ToBroker]:
        """The messages in these bytes: a Hello first, and commands after `welcome`.

        The hello's version and token are checked, and commands are those that its role may send.
        Send `take_replies()` afterwards. Raises ProtocolError: send its `reply`, then close.
        """
        return self._read(data)

    def welcome(self, wall_ms: int, next_seq: int) -> bytes:
        """What to send once the core has accepted the hello; from here on commands may come."""
        assert self.hello is not None, "nobody has said hello"
        assert not self._welcomed, "welcomed twice"
        self._welcomed = True
        self._free = MAY_SEND[self.hello.role]
        self._reader.raise_limit(limits.FRAME_BYTES_MAX)
        both = [feature for feature in self._features if feature in self.hello.features]
        return encode(Welcome(self.hello.version, wall_ms, next_seq, both))

    def _admit(self, message: ToBroker) -> bool:
        if isinstance(message, Hello):
            self._meet(message)
            return True
        if not self._welcomed:
            return self._admit_early(message)
        assert self.hello is not None
        if type(message) in self._free:
            return True
        self._refuse(message, self.hello.role)
        return False

    def _meet(self, hello: Hello) -> None:
        if self.hello is not None:
            raise ProtocolError("sequence", "a second Hello on one connection")
        oldest = _oldest(self._version)
        if not oldest <= hello.version <= self._version:
            raise ProtocolError(
                "version",
                f"this broker speaks protocol version {_span(oldest, self._version)}, "
                f"the hello says {hello.version}; upgrade the older of the two",
            )
        if self._tokens is not None and not self._tokens.check(hello, self._nonce):
            raise ProtocolError("unauthorized", _unauthorized(hello))
        self.hello = hello

    def _admit_early(self, message: ToBroker) -> bool:
        # A beat may cross the welcome on its way; it is answered here, for the core knows no such peer yet.
        if isinstance(message, Ping):
            self._replies.append(encode(Pong(message.token)))
            return False
        if isinstance(message, Pong | Unsupported):
            return False
        if isinstance(message, Goodbye):
            return True
        when = "before the Hello" if self.hello is None else "before the Welcome"
        raise ProtocolError("sequence", f"{type(message).__name__} {when}")

    def _refuse(self, message: ToBroker, role: Role) -> None:
        text = f"{type(message).__name__} is not for the role {role!r}"
        # Request 0 would mean the connection, and close it.
        request: int = getattr(message, "request", 0)
        if request:
            self._replies.append(encode(Refusal(request, "unauthorized", text)))
            return
        raise ProtocolError("unauthorized", text)

    def _explained(self, error: ProtocolError) -> ProtocolError:
        if self.hello is None and isinstance(error, FrameTooLong):
            return caller_fault(error)
        return error

    def _parting(self, code: str, text: str) -> bytes:
        return encode(Refusal(0, code, text))


class PeerSide(Side[FromBroker]):
    """A client's or worker's end: check the greeting, answer it with a hello, wait for the welcome."""

    def __init__(
        self,
        *,
        session: bytes,
        role: Role,
        name: str,
        token: str | None,
        version: int = VERSION,
        namespace: str = "default",
        features: Sequence[str] = (),
    ) -> None:
        super().__init__(_from_broker, limits.FRAME_BYTES_MAX)
        self.greeting: Greeting | None = None
        self.welcome: Welcome | None = None
        self._session = session
        self._role: Role = role
        self._name = name
        self._token = None if token is None else Token.parse(token)
        self._version = version
        self._chosen = version
        self._namespace = namespace
        self._features = list(features)

    def receive(self, data: bytes) -> list[Heard]:
        """The messages in these bytes. The Greeting is answered by a Hello in `take_replies()`.

        Raises ProtocolError: send its `reply`, then close. Its code is `version` if the two ends have
        no version in common, `unauthorized` if the broker wants a token and there is none.
        """
        return [message for message in self._read(data) if not isinstance(message, Greeting)]

    def _admit(self, message: FromBroker) -> bool:
        if isinstance(message, Greeting):
            self._answer(message)
            return False
        if isinstance(message, Welcome):
            self._enter(message)
            return True
        if type(message) in self._free or isinstance(message, Goodbye | Refusal | Ping | Pong | Unsupported):
            return True
        when = "before the Greeting" if self.greeting is None else "before the Welcome"
        raise ProtocolError("sequence", f"{type(message).__name__} {when}")

    def _answer(self, greeting: Greeting) -> None:
        if self.greeting is not None:
            raise ProtocolError("sequence", "a second Greeting on one connection")
        self._check(greeting)
        self.greeting = greeting
        self._replies.append(encode(self._hello(greeting)))

    def _check(self, greeting: Greeting) -> None:
        bounds = (greeting.payload_bytes_max, greeting.frame_bytes_max, greeting.batch_max, greeting.beat_ms)
        if min(greeting.version_min, greeting.partitions, *bounds) < 1:
            raise ProtocolError("malformed", "Greeting: limits and versions begin at 1")
        oldest = _oldest(self._version)
        self._chosen = min(self._version, greeting.version_max)
        if self._chosen < max(oldest, greeting.version_min):
            raise ProtocolError(
                "version",
                f"the broker speaks protocol version {_span(greeting.version_min, greeting.version_max)}, "
                f"this side {_span(oldest, self._version)}; upgrade the older of the two",
            )
        if greeting.auth and self._token is None:
            raise ProtocolError("unauthorized", _wants_a_token(self._role))

    def _hello(self, greeting: Greeting) -> Hello:
        token_id, proved = "", b""
        if greeting.auth and self._token is not None:
            token_id = self._token.id
            proved = proof(self._token, greeting.nonce, self._role, self._chosen)
        return Hello(
            version=self._chosen,
            session=self._session,
            role=self._role,
            name=self._name,
            namespace=self._namespace,
            features=self._features,
            token_id=token_id,
            proof=proved,
        )

    def _enter(self, welcome: Welcome) -> None:
        if self.greeting is None or self.welcome is not None:
            problem = "before the Greeting" if self.greeting is None else "twice on one connection"
            raise ProtocolError("sequence", f"Welcome {problem}")
        if welcome.version != self._chosen:
            raise ProtocolError(
                "version", f"the hello said version {self._chosen}, the welcome says {welcome.version}"
            )
        self.welcome = welcome
        self._free = _MAY_HEAR

    def _explained(self, error: ProtocolError) -> ProtocolError:
        if self.greeting is None and isinstance(error, FrameTooLong):
            return callee_fault(error)
        return error

    def _parting(self, code: str, text: str) -> bytes:
        return encode(Goodbye(code, text))


def _span(oldest: int, newest: int) -> str:
    return str(newest) if oldest == newest else f"{oldest} to {newest}"


def _unauthorized(hello: Hello) -> str:
    if not hello.token_id:
        return _wants_a_token(hello.role)
    # One text for all reasons: who is guessing learns nothing about which ids exist.
    return (
        f"the token is not known here, its proof is wrong, or it does not cover the role {hello.role!r}; "
        f"for a line of the broker's tokens file: {_creates(hello.role)}"
    )


def _wants_a_token(role: Role) -> str:
    return f"this broker wants a token; set TASKQ_TOKEN_FILE or TASKQ_TOKEN to one of {_creates(role)}"


def _creates(role: Role) -> str:
    """The command whose tokens cover this role; those of workers cover their supervisors."""
    return f"taskq token create --role {'worker' if role == 'supervisor' else role}"
