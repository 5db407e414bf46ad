"""Listeners: the real ClientSession and Following, and somebody who follows jobs, quickly, slowly or not
to the end. What is heard is checked as it comes.

The promises: F1, items of an attempt come in order, once, and every gap is announced; F2, who listens all
the while and is quick misses nothing; F4, events end with the outcome; F6, gaps in the log are announced.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from msgspec import msgpack

from taskq.client.following import Following, Missed, Restarted
from taskq.client.session import ClientSession
from taskq.protocol.messages import Chunk, EventItem, FeedKind, LogItem, Outcome
from tests.simulation.agenda import MS, SECOND, Agenda, Violation
from tests.simulation.process import House, Process, SimLink
from tests.simulation.workers import item_of, told_by

# What is asked has been heard by then, if all is well.
_HEARD_US = 100 * MS


class Diary(Protocol):
    """Whoever knows what attempts have really told."""

    begun_us: dict[int, int]
    yielded: dict[int, int]
    starts: int  # of the broker
    given_up: dict[int, None]

    def began(self, id: bytes) -> int:
        """How many attempts of this job were ever begun."""


class Heard:
    """One follow, from its question to its end."""

    def __init__(self, listener: "Listener", id: bytes, kind: FeedKind, *, live: bool) -> None:
        self.listener = listener
        self.following = Following(id, kind, live=live)
        self.since_us = listener.agenda.us
        self.starts = listener.diary.starts
        self.wire = listener.link.wire
        self.lease = 0  # whose items these are
        self.number = 1  # the next one
        self.lines: dict[int, int] = {}  # by lease: the line that comes next
        self.has_gap = False  # something was announced since the last line
        self.last: EventItem | None = None
        self.outcome: Outcome | None = None
        self.is_over = False

    @property
    def is_undisturbed(self) -> bool:
        """Nothing happened to it, to the broker or between the two."""
        listener = self.listener
        return (
            listener.is_quick
            and not listener.is_tight
            and listener.diary.starts == self.starts
            and self.wire is not None
            and listener.link.wire is self.wire
        )

    def hear(self, entry: Chunk | Restarted | Missed) -> None:
        match entry:
            case Restarted():
                self.lease, self.number = 0, 1
            case Missed(count=count):
                self.has_gap = True
                self.number += count or 0
                if self.following.kind == "items":
                    self._was_there()
            case Chunk() if self.following.kind == "items":
                for item in msgpack.decode(entry.data, type=list[bytes]):
                    self._item(item)
            case Chunk() if self.following.kind == "events":
                self.last = msgpack.decode(entry.data, type=list[EventItem])[-1]
            case Chunk():
                for line in msgpack.decode(entry.data, type=list[LogItem]):
                    self._line(*told_by(line.text))

    def _item(self, item: bytes) -> None:
        lease, number = item_of(item)
        if not self.lease:
            self.lease = lease
        if lease != self.lease:
            raise Violation("F1", f"items of {lease} follow those of {self.lease}, and nothing was said")
        if number != self.number:
            raise Violation("F1", f"item {number} of {lease} stands where {self.number} should")
        self.number += 1

    def _was_there(self) -> None:
        """Something was missed: by somebody who was there from before the attempt began?"""
        if self.is_undisturbed and self._has_heard_all(self.following.series):
            raise Violation("F2", f"{self.listener.name} missed items of {self.following.series}")

    def _has_heard_all(self, lease: int) -> bool:
        """From before the attempt began; or from some item on, where the broker keeps more than there are."""
        if lease in self.listener.diary.given_up:
            return False
        begun_us = self.listener.diary.begun_us.get(lease, 0)
        return begun_us > self.since_us + _HEARD_US or (bool(self.lease) and not self.listener.is_small)

    def _line(self, lease: int, number: int) -> None:
        expected = self.lines.get(lease, 1)
        if number < expected or (number > expected and not self.has_gap):
            raise Violation("F6", f"line {number} of {lease} stands where {expected} should")
        self.lines[lease] = number + 1
        self.has_gap = False

    def end(self) -> None:
        """The broker has nothing more to say, and the outcome is known."""
        self.is_over = True
        if self.following.refused is not None or not self.following.live:
            return
        if (
            self.following.kind == "events"
            and not self.listener.is_tight
            and (self.last is None or not _is_outcome(self.last))
        ):
            raise Violation("F4", f"the events of {self.following.id.hex()} end with {self.last}")
        outcome = self.outcome
        if outcome is None or outcome.state != "succeeded":
            return
        lease = int.from_bytes(outcome.result[-8:], "big")
        there = self.listener.diary.yielded.get(lease, 0)
        heard = self.number - 1
        is_only = not self.lease and self.listener.diary.began(self.following.id) == 1
        if lease == self.lease or is_only:
            if heard > there:
                raise Violation("F1", f"{heard} items of {lease} were heard, and there were {there}")
            if heard < there and self.is_undisturbed and self._has_heard_all(lease):
                raise Violation("F2", f"{self.listener.name} heard {heard} of {there} items of {lease}")


class Listener(Process):
    """One of them. Once it is to hurry, it takes all there is."""

    def __init__(
        self,
        agenda: Agenda,
        rng: Random,
        name: str,
        house: House,
        diary: Diary,
        *,
        is_tight: bool,
        is_small: bool,
    ) -> None:
        super().__init__(agenda, rng, name)
        self.diary = diary
        self.is_tight = is_tight  # the broker's memory is so small that anything may be dropped
        self.is_small = is_small  # it keeps few entries
        self.is_quick = rng.random() < 0.6
        self.hurries = False
        self.speaker = ClientSession()
        self._open: list[Heard] = []
        self.link = SimLink(self, house, session=rng.randbytes(16), role="viewer", speaker=self.speaker)

    @property
    def calls(self) -> int:
        return len(self._open)

    def start(self) -> None:
        self.link.start()

    def act(self, ids: Sequence[bytes]) -> None:
        """Follow one of these."""
        if not ids:
            return
        rng = self.rng
        # Mostly one of the newest: those that ran long ago have nothing more to tell.
        id = rng.choice(ids[-6:] if rng.random() < 0.8 else ids)
        kind: FeedKind = rng.choice(("items", "items", "items", "events", "logs"))
        heard = Heard(self, id, kind, live=kind == "items" or rng.random() < 0.8)
        self._open.append(heard)
        self.agenda.note(self.name, "follows", kind, id)
        heard.following.on_news = lambda: self._look_soon(heard)
        self.speaker.follow(heard.following)

        def on_outcome(outcome: Outcome) -> None:
            heard.outcome = outcome
            self._look_soon(heard)

        if kind == "items":
            self.speaker.watch([id], on_outcome)
        self.link.wake()
        if rng.random() < 0.15:
            self.after(rng.randrange(5 * SECOND), lambda: self._leave(heard, on_outcome))

    def hurry(self) -> None:
        self.hurries = True
        for heard in list(self._open):
            self._look_soon(heard)

    def _look_soon(self, heard: Heard) -> None:
        wait_us = self.rng.randrange(2 * MS)
        if not self.is_quick and not self.hurries:
            wait_us = self.rng.choice((MS, SECOND, 3 * SECOND, 50 * SECOND))
        self.after(wait_us, lambda: self._look(heard))

    def _look(self, heard: Heard) -> None:
        following = heard.following
        if heard.is_over:
            return
        entry = following.take()
        while entry is not None:
            heard.hear(entry)
            if isinstance(entry, Chunk) and following.took(entry):
                self.speaker.follows.took(following)
                self.link.wake()
            if not (self.is_quick or self.hurries) and self.rng.random() < 0.7:
                self._look_soon(heard)
                return
            entry = following.take()
        if following.is_ended and (following.kind != "items" or heard.outcome or following.refused):
            self._open.remove(heard)
            self.speaker.follows.remove(following)
            self.link.wake()
            heard.end()

    def _leave(self, heard: Heard, on_outcome: Callable[[Outcome], None]) -> None:
        if heard.is_over:
            return
        heard.is_over = True
        self._open.remove(heard)
        self.speaker.follows.remove(heard.following)
        self.speaker.unwatch([heard.following.id], on_outcome)
        self.link.wake()


def _is_outcome(event: EventItem) -> bool:
    return event.kind == "state" and event.state in ("succeeded", "cancelled", "expired", "dead")
