"""Overseers: the real ClientSession, and somebody who looks after workers: drains, stops and asks them."""

from collections.abc import Callable, Sequence
from random import Random

from taskq.client.session import Answer, ClientSession
from taskq.protocol.messages import Instruct, ListWorkers, Message, WorkerVerb
from tests.simulation.agenda import Agenda
from tests.simulation.process import House, Process, SimLink
from tests.simulation.workers import SimWorker

VERBS: tuple[WorkerVerb, ...] = ("drain", "drain", "resume", "stack", "stack", "stop")


class Overseer(Process):
    """One of them."""

    def __init__(
        self, agenda: Agenda, rng: Random, name: str, house: House, workers: Sequence[SimWorker]
    ) -> None:
        super().__init__(agenda, rng, name)
        self.calls = 0
        self.speaker = ClientSession()
        self._workers = workers
        self.link = SimLink(self, house, session=rng.randbytes(16), role="operator", speaker=self.speaker)

    def start(self) -> None:
        self.link.start()

    def act(self) -> None:
        """Tell a worker something, one that may have died; or look who is there."""
        if not self._workers:
            return
        worker = self.rng.choice(self._workers)
        name = self.rng.choice((worker.name, worker.session.hex()[:8]))
        if self.rng.random() < 0.2:
            name = self.rng.choice(("", name))
            self._ask(lambda number: ListWorkers(number, name))
            return
        verb = self.rng.choice(VERBS)
        if verb == "stack" and worker.attempts:
            name = self.rng.choice(list(worker.attempts.values())).delivery.id.hex()
        self.agenda.note(self.name, "says", verb, name)
        self._ask(lambda number: Instruct(number, verb, name))

    def _ask(self, make: Callable[[int], Message]) -> None:
        self.calls += 1
        self.speaker.question(make, self._answered)
        self.link.wake()

    def _answered(self, answer: Answer) -> None:
        self.calls -= 1
