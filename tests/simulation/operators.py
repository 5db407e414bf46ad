"""Operators: the real ClientSession, and somebody who pauses, limits and thinks better of it."""

from random import Random
from typing import Literal

from taskq.client.session import Answer, ClientSession
from taskq.protocol.messages import Steer, Steering
from tests.simulation.agenda import Agenda
from tests.simulation.process import House, Process, SimLink
from tests.simulation.workers import EXECUTORS, QUEUES


class Operator(Process):
    """One of them. What it decides it takes back when all is healed: else nothing would ever end."""

    def __init__(self, agenda: Agenda, rng: Random, name: str, house: House) -> None:
        super().__init__(agenda, rng, name)
        self.calls = 0
        self.speaker = ClientSession()
        self._decided: dict[tuple[object, ...], Steering] = {}
        self.link = SimLink(self, house, session=rng.randbytes(16), role="operator", speaker=self.speaker)

    def start(self) -> None:
        self.link.start()

    def act(self) -> None:
        """Decide something, or take something back."""
        if self._decided and self.rng.random() < 0.4:
            self._say([_undone(self.rng.choice(list(self._decided.values())))])
            return
        self._say([self._decision() for _ in range(self.rng.choice((1, 1, 2)))])

    def give_up(self) -> None:
        """Take everything back."""
        if self._decided:
            self._say([_undone(item) for item in self._decided.values()])

    def _decision(self) -> Steering:
        rng = self.rng
        scope: Literal["queue", "task"] = rng.choice(("queue", "task"))
        name = rng.choice(QUEUES) if scope == "queue" else rng.choice(tuple(EXECUTORS))
        match rng.choice(("pause", "concurrency", "concurrency", "rate")):
            case "pause":
                return Steering(scope, name, "pause", for_ms=rng.choice((0, 0, 500, 3_000)))
            case "concurrency":
                per_key = rng.random() < 0.4
                return Steering(
                    scope, name, "concurrency", per_key=per_key, count=rng.choice((0, 1, 1, 2, 5))
                )
            case _:
                count, burst = rng.choice((1, 3, 20)), rng.choice((0, 1, 5))
                return Steering(scope, name, "rate", count=count, period_ms=1_000, burst=burst)

    def _say(self, items: list[Steering]) -> None:
        self.calls += 1
        self.agenda.note(self.name, "steers", *items)
        for item in items:
            self._decided[(item.scope, item.name, item.kind, item.per_key)] = item
        self.speaker.question(lambda number: Steer(number, items, "who knows"), self._answered)
        self.link.wake()

    def _answered(self, answer: Answer) -> None:
        self.calls -= 1


def _undone(item: Steering) -> Steering:
    return Steering(item.scope, item.name, item.kind, per_key=item.per_key, is_set=False)
