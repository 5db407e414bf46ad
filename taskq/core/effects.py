"""Everything that goes into the core and all that comes out of it."""

from typing import NamedTuple

from msgspec import Struct

from taskq.protocol.messages import Command, Goodbye, Hello, Reply


class Now(NamedTuple):
    """One reading of both clocks, in ms. Leases, beats and backoffs run on `boot_ms`, which counts
    on through suspend and never jumps; calendar times on `wall_ms`, which people may set."""

    boot_ms: int
    wall_ms: int


class Event(Struct, gc=False, frozen=True):
    """What the core hears of. `peer` numbers a connection; numbers are never used twice."""

    peer: int


class Connected(Event, frozen=True):
    """A connection said a valid hello; it is welcome once this was handled."""

    hello: Hello


class Received(Event, frozen=True):
    """A peer sent a command."""

    command: Command


class Heard(Event, frozen=True):
    """A peer sent something that the core need not see; it is alive."""


class Blocked(Event, frozen=True):
    """A peer does not read: what we have for it piles up."""


class Unblocked(Event, frozen=True):
    """It reads again."""


class Lost(Event, frozen=True):
    """The connection is gone; with `parted` after a goodbye of the peer's."""

    parted: bool = False


class Send(Struct, gc=False, frozen=True):
    """Say this to a peer, but not before batch `after` is committed (0: at once)."""

    peer: int
    message: Reply
    after: int


class Close(Struct, gc=False, frozen=True):
    """Say goodbye to a peer and close."""

    peer: int
    goodbye: Goodbye


Effect = Send | Close


class Batch(Struct, gc=False, frozen=True):
    """What one commit writes: the records of one or more turns, as one blob."""

    seq: int
    blob: bytes
    durability: int
