"""Virtual time: what happens when, in an order that the seed decides. Nothing here ever waits."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from zlib import crc32

from taskq.core.effects import Now

Action = Callable[[], None]

MS = 1_000
SECOND = 1_000_000
# Nothing may take zero for "never": the machine has been up for a while, in the year 2026.
_BOOT_MS = 5_000_000
_WALL_MS = 1_770_000_000_000


class Violation(AssertionError):
    """A promise was broken. `promise` is its name in the tests' list, such as I4 or V5."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


class Agenda:
    """Everything that will happen, in microseconds of virtual time; and the trace of what did."""

    def __init__(self, rng: Random, *, tell: Callable[[str], None] | None = None) -> None:
        self.us = 0
        self.steps = 0
        self.wall_offset_ms = 0
        self._wall_max_ms = 0
        self.digest = 0
        self._rng = rng
        self._tell = tell
        self._count = 0
        self._heap: list[tuple[int, float, int, Action]] = []

    @property
    def now(self) -> Now:
        boot_ms = self.us // MS
        return Now(_BOOT_MS + boot_ms, _WALL_MS + boot_ms + self.wall_offset_ms)

    def jump_wall(self, ms: int) -> None:
        """Somebody sets the wall clock."""
        self.latest_wall_ms()
        self.wall_offset_ms += ms

    def latest_wall_ms(self) -> int:
        """The latest that the wall clock has ever shown."""
        self._wall_max_ms = max(self._wall_max_ms, self.now.wall_ms)
        return self._wall_max_ms

    def at(self, us: int, action: Action) -> None:
        """Do it then. Things of the same time happen in an order drawn from the seed."""
        self._count += 1
        heappush(self._heap, (max(us, self.us), self._rng.random(), self._count, action))

    def after(self, us: int, action: Action) -> None:
        self.at(self.us + us, action)

    def step(self) -> bool:
        """Do the next thing; False when there is none."""
        if not self._heap:
            return False
        self.us, _, _, action = heappop(self._heap)
        self.steps += 1
        action()
        return True

    def run_until(self, us: int) -> None:
        """Do all that happens before that time."""
        heap = self._heap
        while heap and heap[0][0] < us:
            self.step()
        self.us = us

    def note(self, *words: object) -> None:
        """One line of the trace: the same seed must give the same lines."""
        line = " ".join(map(_text, words))
        self.digest = crc32(f"{self.us} {line}".encode(), self.digest)
        if self._tell is not None:
            self._tell(f"{self.us / SECOND:11.6f} {line}")


def _text(word: object) -> str:
    return word.hex()[-8:] if isinstance(word, bytes) else str(word)
