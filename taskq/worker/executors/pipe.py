"""What a worker and the processes that it runs jobs in say to each other: frames of MessagePack over a
socket pair. Only the two ends of one program speak it, so it has no versions.
"""

from typing import Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from taskq.client.session import NewJob
from taskq.limits import FRAME_BYTES_MAX, FRAME_HEADER_BYTES
from taskq.protocol.messages import Delivery, Failure, Saved, Terms


class Prepare(Struct, tag=True):
    """worker: what you are. `app` is empty when only the task's module is known; then see `Run`."""

    app: str
    path: list[str]  # where to import from
    log_level: int


class Run(Struct, tag=True):
    """worker: this attempt. `module` and `name` are where its function is, should the app not tell."""

    delivery: Delivery
    terms: Terms
    module: str
    name: str


class Answer(Struct, tag=True):
    """worker: what became of the checkpoints before that question; empty: they are recorded."""

    number: int
    code: str


class Prepared(Struct, tag=True):
    """process: the app is imported."""


class Unfit(Struct, tag=True):
    """process: it cannot be imported."""

    text: str


class Done(Struct, tag=True):
    """process: the attempt succeeded."""

    result: bytes


class Failed(Struct, tag=True):
    """process: the attempt did not succeed."""

    failure: Failure


class Told(Struct, tag=True):
    """process: how far the attempt has come."""

    done: int
    total: int
    text: str


class Extended(Struct, tag=True):
    """process: the attempt needs this much time from now."""

    timeout_ms: int


class Kept(Struct, tag=True):
    """process: so far the next attempt may begin."""

    saved: Saved


class Asked(Struct, tag=True):
    """process: is what I have kept recorded?"""

    number: int


class Enclosed(Struct, tag=True):
    """process: these jobs are to come of the attempt's success."""

    jobs: list[NewJob]


class Logged(Struct, tag=True):
    """process: something was logged."""

    logger: str
    level: int
    text: str


ToProcess = Prepare | Run | Answer
FromProcess = Prepared | Unfit | Done | Failed | Told | Extended | Kept | Asked | Enclosed | Logged

_encode: Final = Encoder().encode
to_process: Final[Decoder[ToProcess]] = Decoder(ToProcess)
from_process: Final[Decoder[FromProcess]] = Decoder(FromProcess)


def framed(message: ToProcess | FromProcess) -> bytes:
    """The message with its length before it."""
    data = _encode(message)
    return len(data).to_bytes(FRAME_HEADER_BYTES, "big") + data


class Frames:
    """Cuts a stream of bytes into the messages in it, undecoded."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Whole messages in order. Raises ValueError for what no end of ours would send."""
        buffer = self._buffer
        buffer += data
        frames = []
        begin = 0
        while len(buffer) - begin >= FRAME_HEADER_BYTES:
            body = begin + FRAME_HEADER_BYTES
            size = int.from_bytes(buffer[begin:body], "big")
            if size > FRAME_BYTES_MAX:
                raise ValueError(f"a message of {size} bytes; the limit is {FRAME_BYTES_MAX}")
            if len(buffer) - body < size:
                break
            begin = body + size
            frames.append(bytes(buffer[body:begin]))
        del buffer[:begin]
        return frames
