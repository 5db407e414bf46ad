"""What people let a worker do, done by its supervisor: hold its processes, stop them, tell what runs."""

import logging
from collections.abc import Callable, Iterable
from typing import Protocol, assert_never

from taskq.protocol.messages import Instruction, Obeyed
from taskq.worker.control import Order
from taskq.worker.insight.answers import Answers, Asked

logger = logging.getLogger("taskq.worker")


class Child(Asked, Protocol):
    """A process, as far as it can be told something."""

    def order(self, order: Order) -> None: ...


class Caretaking:
    """`children`: all there are. `stop` ends the worker; `say` gives an answer to the broker."""

    def __init__(
        self,
        children: Callable[[], Iterable[Child]],
        stop: Callable[[], None],
        say: Callable[[Obeyed], None],
    ) -> None:
        self.is_held = False  # what is started now takes nothing either
        self._answers = Answers(say)
        self._children = children
        self._stop = stop
        self._say = say

    def obey(self, instruction: Instruction) -> None:
        """Do it, and answer it, now or when the children have told."""
        wanted = set(instruction.sessions)
        children = [child for child in self._children() if child.session in wanted]
        match instruction.verb:
            case "stack":
                self._answers.ask(instruction, children)
                return
            case "drain" | "resume":
                is_held = instruction.verb == "drain"
                if instruction.is_whole:
                    self.is_held = is_held
                    children = list(self._children())
                for child in children:
                    child.order("hold" if is_held else "release")
            case "stop":
                self._stop()
            case _:
                assert_never(instruction.verb)
        logger.info("told to %s: %s", instruction.verb, instruction.reason or "no reason was given")
        self._say(Obeyed(instruction.number))

    def started(self, child: Child) -> None:
        """It is like its siblings."""
        if self.is_held:
            child.order("hold")

    def told(self, session: bytes, number: int, text: str) -> None:
        self._answers.told(session, number, text)

    def gone(self, session: bytes) -> None:
        self._answers.gone(session)

    def close(self) -> None:
        self._answers.close()
