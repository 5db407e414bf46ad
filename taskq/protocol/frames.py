"""Frames: a 4-byte big-endian length, then one MessagePack array. Cuts a byte stream into them.

It never looks inside a frame, and never keeps a byte of one that is too long.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

import msgspec

from taskq.errors import TaskqError
from taskq.limits import FRAME_BYTES_MAX, FRAME_HEADER_BYTES
from taskq.protocol.messages import Message

_encode: Final = msgspec.msgpack.Encoder().encode
_header: Final = Struct(">I").unpack_from


class ProtocolError(TaskqError):
    """The other side broke the rules: send `reply` if there is one, then close the connection.

    `messages` were read before the fault and are good; whether to act on them is the caller's choice.
    """

    def __init__(self, code: str, text: str, *, reply: bytes | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.reply = reply
        self.messages: Sequence[Message] = ()
        # Whole frames before the fault that nobody has decoded yet.
        self.frames: list[bytes] = []


class FrameTooLong(ProtocolError):
    """A header announced more than is allowed. `header` is what stood there, if not a length at all."""

    def __init__(self, header: bytes, frame_bytes_max: int) -> None:
        size = int.from_bytes(header, "big")
        super().__init__("too_large", f"a frame of {size} bytes; the limit here is {frame_bytes_max}")
        self.header = header


def encode(*messages: Message) -> bytes:
    """The messages as frames, joined. Raises FrameTooLong: whoever batches must split earlier."""
    parts: list[bytes] = []
    for message in messages:
        body = _encode(message)
        header = len(body).to_bytes(FRAME_HEADER_BYTES, "big")
        if len(body) > FRAME_BYTES_MAX:
            raise FrameTooLong(header, FRAME_BYTES_MAX)
        parts += (header, body)
    return b"".join(parts)


class FrameReader:
    """A byte stream, cut into frames. After an error it must not be fed again."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        # The beginning of one frame, and how many bytes there must be before looking again.
        # A bytearray, not a list of pieces: a frame that trickles in would cost 20 times its size.
        self._buffer = bytearray()
        self._needed = 0

    @property
    def buffered(self) -> int:
        """Bytes kept of a frame that is not complete."""
        return len(self._buffer)

    def raise_limit(self, frame_bytes_max: int) -> None:
        """From the next header on, frames may be this long."""
        self._frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of all frames that are now complete, in order.

        Raises FrameTooLong or ProtocolError at a header that is not allowed, before any of its
        body is kept; the frames before it are in the error's `frames`.
        """
        if not self._buffer:
            return self._split(data)
        self._buffer += data
        if len(self._buffer) < self._needed:
            return []
        # Each byte comes through here at most twice (header and body), so the cost stays linear.
        data = bytes(self._buffer)
        self._buffer = bytearray()
        return self._split(data)

    def feed_eof(self) -> None:
        """The stream has ended. Raises ProtocolError if that was inside a frame."""
        if self._buffer:
            raise ProtocolError(
                "malformed",
                f"the connection ended inside a frame: {len(self._buffer)} of {self._needed} bytes had come",
            )

    def _split(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= FRAME_HEADER_BYTES:
            body = start + FRAME_HEADER_BYTES
            (size,) = _header(data, start)
            if not 0 < size <= self._frame_bytes_max:
                raise self._refused(data[start:body], frames)
            if body + size > end:
                self._keep(data[start:], FRAME_HEADER_BYTES + size)
                return frames
            start = body + size
            frames.append(data[body:start])
        if start < end:
            self._keep(data[start:], FRAME_HEADER_BYTES)
        return frames

    def _keep(self, rest: bytes, needed: int) -> None:
        self._buffer += rest
        self._needed = needed

    def _refused(self, header: bytes, frames: list[bytes]) -> ProtocolError:
        error: ProtocolError
        if any(header):
            error = FrameTooLong(header, self._frame_bytes_max)
        else:
            error = ProtocolError("malformed", "a frame of 0 bytes; the shortest message has 2")
        error.frames = frames
        return error
