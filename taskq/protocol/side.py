"""What both ends of a connection do: cut, decode, check, and fail once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, Generic, TypeVar, cast, get_args

import msgspec
from msgspec.msgpack import Decoder

from taskq.protocol.frames import FrameReader, ProtocolError, encode
from taskq.protocol.messages import Deliver, FromBroker, Message, ToBroker, Unsupported

Kinds = frozenset[type[Message]]
M = TypeVar("M", bound=Message)


class _Numbered(msgspec.Struct, array_like=True, gc=False):
    number: int


_numbered: Final = Decoder(_Numbered)

# ValueError covers msgspec's own errors and text that is not UTF-8; RecursionError is nesting
# that is too deep, in elements that would have been ignored.
_UNREADABLE: Final = (ValueError, RecursionError)
_TEXT_CHARS: Final = 300


def _number_of(kind: type[Message]) -> object:
    return kind.__struct_config__.tag


_NAMES: Final[Mapping[object, str]] = {
    _number_of(kind): kind.__name__ for kind in get_args(ToBroker | FromBroker)
}


class Side(ABC, Generic[M]):
    """One end. Which messages may come when is what its subclasses know."""

    def __init__(self, decoder: "Decoder[M]", frame_bytes_max: int) -> None:
        self._decode = decoder.decode
        self._numbers = frozenset(_number_of(kind) for kind in get_args(decoder.type))
        self._reader = FrameReader(frame_bytes_max)
        # Message types that need no further look: the whole check, for a connection that is welcome.
        self._free: Kinds = frozenset()
        self._replies: list[bytes] = []
        self._failed = False

    def take_replies(self) -> bytes:
        """What the connection itself has to say; send it now. Empties the queue."""
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def receive_eof(self) -> None:
        """The other side sends no more. Raises ProtocolError if it stopped inside a frame."""
        self._reader.feed_eof()

    def _read(self, data: bytes) -> list[M]:
        if self._failed:
            raise ProtocolError("closed", "the connection has failed before; nothing more is read from it")
        try:
            frames = self._reader.feed(data)
            messages = [self._decode(frame) for frame in frames]
        except ProtocolError as error:
            return self._read_slowly(error.frames, error)
        except _UNREADABLE:
            return self._read_slowly(frames, None)
        free = self._free
        for message in messages:
            kind = type(message)
            if kind not in free or (kind is Deliver and not _is_whole(cast(Deliver, message))):
                return self._read_slowly(frames, None)
        # Beside the decoding, all of this costs 0.2 us a frame in a row, 0.9 us alone, and nothing per job.
        return messages

    def _read_slowly(self, frames: list[bytes], broken: ProtocolError | None) -> list[M]:
        """One frame after the other, so that what is before a fault is not lost with it."""
        admitted: list[M] = []
        try:
            for frame in frames:
                message = self._decoded(frame)
                if message is not None and self._admit(message):
                    admitted.append(message)
            if broken is not None:
                raise self._explained(broken)
        except ProtocolError as error:
            self._failed = True
            error.messages = admitted
            error.frames = []
            if error.reply is None:
                error.reply = self._parting(error.code, error.text)
            raise
        return admitted

    def _decoded(self, frame: bytes) -> M | None:
        """The message; or None for one that this version does not have, which is answered so."""
        try:
            message = self._decode(frame)
        except _UNREADABLE as error:
            number = _number(frame)
            if number in self._numbers or number is None:
                name = "a frame" if number is None else _NAMES[number]
                raise ProtocolError("malformed", f"{name}: {_short(error)}") from None
            if number in _NAMES:
                raise ProtocolError("sequence", f"{_NAMES[number]} is not for this side to say") from None
            self._replies.append(encode(Unsupported(number)))
            return None
        if isinstance(message, Deliver) and not _is_whole(message):
            raise ProtocolError("malformed", "Deliver: a job's `terms` points past the list of terms")
        return message

    @abstractmethod
    def _admit(self, message: M) -> bool:
        """Whether the caller gets this message. Raises ProtocolError if it may not be said now."""

    @abstractmethod
    def _explained(self, error: ProtocolError) -> ProtocolError:
        """A framing error, in words that help those who talk to the wrong port."""

    @abstractmethod
    def _parting(self, code: str, text: str) -> bytes:
        """What to send before closing."""


def _is_whole(deliver: Deliver) -> bool:
    """Whether each job's `terms` is an index into the list. (Of a Submit the core asks it, job by job.)"""
    count = len(deliver.terms)
    return all(job.terms < count for job in deliver.jobs)


def _number(frame: bytes) -> int | None:
    try:
        return _numbered.decode(frame).number
    except _UNREADABLE:
        return None


def _short(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS] + "..."
