"""A connection as a thing of its own: bytes in order, with delays; it may stall or be cut at any moment."""

from collections.abc import Callable
from random import Random

from tests.simulation.agenda import MS, Agenda

OnBytes = Callable[[bytes], None]
OnEnd = Callable[[], None]


class Pipe:
    """One direction. `None` in it is the end of the stream."""

    def __init__(self, agenda: Agenda, rng: Random, on_bytes: OnBytes, on_end: OnEnd) -> None:
        self._agenda = agenda
        self._rng = rng
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._lag_us = rng.choice((60, 200, 1_000))
        self._last_us = 0
        self._stalled: list[bytes | None] | None = None
        self.is_cut = False
        self.has_ended = False

    @property
    def is_flowing(self) -> bool:
        return not self.is_cut and self._stalled is None

    def put(self, data: bytes | None) -> None:
        if self.is_cut or self.has_ended:
            return
        self.has_ended = data is None
        lag_us = self._lag_us + int(self._rng.random() * self._lag_us)
        if self._rng.random() < 0.01:
            lag_us += self._rng.randrange(5 * MS, 60 * MS)
        # In order: never before what was put in earlier.
        self._last_us = max(self._last_us + 1, self._agenda.us + lag_us)
        self._agenda.at(self._last_us, lambda: self._arrive(data))

    def stall(self) -> None:
        if self._stalled is None:
            self._stalled = []

    def flow(self) -> None:
        waiting, self._stalled = self._stalled or [], None
        for data in waiting:
            self._arrive(data)

    def _arrive(self, data: bytes | None) -> None:
        if self.is_cut:
            return
        if self._stalled is not None:
            self._stalled.append(data)
        elif data is None:
            self._on_end()
        elif len(data) > 3 and self._rng.random() < 0.05:
            # A stream knows no frames: what was written once may be read in two.
            middle = self._rng.randrange(1, len(data))
            self._on_bytes(data[:middle])
            self._on_bytes(data[middle:])
        else:
            self._on_bytes(data)


class Wire:
    """Both directions, and how each end learns that the connection is gone."""

    def __init__(self, agenda: Agenda, rng: Random, name: str) -> None:
        self.name = name
        self.is_cut = False
        self._agenda = agenda
        self._rng = rng

    def join(
        self, up: tuple[OnBytes, OnEnd], down: tuple[OnBytes, OnEnd], on_reset: tuple[OnEnd, OnEnd]
    ) -> None:
        """What the ends do with what arrives; `up` is at the broker, `down` at the peer."""
        self.up = Pipe(self._agenda, self._rng, *up)
        self.down = Pipe(self._agenda, self._rng, *down)
        self._on_reset = on_reset

    def cut(self, broker_learns_us: int | None, peer_learns_us: int | None) -> None:
        """What is on its way is lost. Each end learns of it then; None: it hears only silence."""
        if self.is_cut:
            return
        self.is_cut = self.up.is_cut = self.down.is_cut = True
        self._agenda.note("cut", self.name, broker_learns_us, peer_learns_us)
        for learns_us, on_reset in zip((broker_learns_us, peer_learns_us), self._on_reset, strict=True):
            if learns_us is not None:
                self._agenda.after(learns_us, on_reset)
