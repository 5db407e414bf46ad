"""Seekers: the real ClientSession, and somebody who lists, counts, cancels, retries and deletes by filter."""

from collections.abc import Callable
from random import Random
from typing import Protocol

from taskq.client.session import Answer, ClientSession
from taskq.errors import Refused
from taskq.protocol.messages import (
    Bulk,
    Filter,
    GroupDead,
    JobStateName,
    Message,
    Page,
    Query,
    Tally,
    Verb,
)
from tests.simulation.agenda import Agenda
from tests.simulation.process import House, Process, SimLink
from tests.simulation.workers import EXECUTORS, QUEUES

STATES: tuple[JobStateName, ...] = ("scheduled", "ready", "running", "succeeded", "cancelled", "dead")
FOR: dict[Verb, tuple[JobStateName, ...]] = {
    "cancel": ("scheduled", "ready", "running"),
    "retry": ("dead",),
    "delete": ("succeeded", "cancelled", "expired", "dead"),
    "discard": ("dead",),
}


class Diary(Protocol):
    """Whoever must know what may become of jobs by what is asked here."""

    def on_bulk(self, verb: Verb) -> None: ...


class Seeker(Process):
    """One of them."""

    def __init__(self, agenda: Agenda, rng: Random, name: str, house: House, diary: Diary) -> None:
        super().__init__(agenda, rng, name)
        self.calls = 0
        self.speaker = ClientSession()
        self._diary = diary
        self._listed: Filter | None = None  # the last one: what it was, it is mostly looked at again
        self.link = SimLink(self, house, session=rng.randbytes(16), role="operator", speaker=self.speaker)

    def start(self) -> None:
        self.link.start()

    def act(self) -> None:
        dice = self.rng.random()
        if dice < 0.4:
            if self._listed is None or self.rng.random() < 0.6:
                self._listed = self._filter(STATES)
            self._list(self._listed, b"")
        elif dice < 0.55:
            wanted = self._filter(STATES)
            self._ask(lambda number: Tally(number, wanted))
        elif dice < 0.6:
            self._ask(lambda number: GroupDead(number, Filter(task=self._glob())))
        else:
            self._bulk()

    def _bulk(self) -> None:
        verb: Verb = self.rng.choice(("cancel", "retry", "retry", "delete", "discard"))
        wanted = self._filter(FOR[verb])
        is_dry = self.rng.random() < 0.1
        if not is_dry:
            self._diary.on_bulk(verb)
        self._ask(lambda number: Bulk(number, verb, wanted, "no longer wanted", is_dry))

    def _list(self, wanted: Filter, after: bytes) -> None:
        """A page, and mostly those that follow."""
        limit = self.rng.choice((1, 2, 5, 1_000))

        def go_on(answer: Answer) -> None:
            if isinstance(answer, Page) and answer.next and self.rng.random() < 0.9:
                self._list(wanted, answer.next)

        self._ask(lambda number: Query(number, wanted, after, limit, limit == 5), go_on)

    def _filter(self, states: tuple[JobStateName, ...]) -> Filter:
        rng = self.rng
        return Filter(
            states=rng.sample(states, rng.randrange(0, len(states) + 1)),
            task=self._glob(),
            queue=rng.choice(("", *QUEUES)),
            younger_ms=rng.choice((0, 0, 0, 2_000)),
        )

    def _glob(self) -> str:
        return self.rng.choice(("*", "*", "*a*", *EXECUTORS))

    def _ask(self, make: Callable[[int], Message], then: Callable[[Answer], None] = lambda _: None) -> None:
        self.calls += 1

        def answered(answer: Answer) -> None:
            self.calls -= 1
            if not isinstance(answer, Refused):
                then(answer)

        self.speaker.question(make, answered)
        self.link.wake()
