"""A supervisor's answers about stacks: collected from its processes, within a time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from taskq.limits import STACK_CHARS_MAX, STACK_WAIT_MS, STACKS_MAX
from taskq.protocol.messages import Instruction, Obeyed, WorkerText


class Asked(Protocol):
    """A process that can be asked for its stacks; it answers by `Answers.told`, or not at all."""

    session: bytes
    pid: int

    def ask(self, number: int, lease: int) -> None: ...


class _Round:
    """One instruction, and what came of it so far."""

    def __init__(self, timer: asyncio.TimerHandle, asked: Sequence[Asked]) -> None:
        self.timer = timer
        self.silent = {child.session: child for child in asked}
        self.texts: dict[bytes, str] = dict.fromkeys(self.silent, "")


class Answers:
    """Each instruction is answered once: when all have told, or when the time is up."""

    def __init__(self, say: Callable[[Obeyed], None]) -> None:
        self._say = say
        self._rounds: dict[int, _Round] = {}

    def ask(self, instruction: Instruction, children: Sequence[Asked]) -> None:
        asked = children[:STACKS_MAX]
        if not asked or instruction.number in self._rounds:
            self._say(Obeyed(instruction.number, code="not_found", text="that process has ended meanwhile"))
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(STACK_WAIT_MS / 1_000, self._time_is_up, instruction.number)
        self._rounds[instruction.number] = _Round(timer, asked)
        for child in asked:
            child.ask(instruction.number, instruction.lease)

    def told(self, session: bytes, number: int, text: str) -> None:
        """One of them has answered."""
        waiting = self._rounds.get(number)
        if waiting is None or waiting.silent.pop(session, None) is None:
            return  # too late
        waiting.texts[session] = text[:STACK_CHARS_MAX]
        if not waiting.silent:
            self._end(number)

    def gone(self, session: bytes) -> None:
        """One of them has ended."""
        for number, waiting in list(self._rounds.items()):
            if session in waiting.silent:
                self.told(session, number, "it has ended meanwhile")

    def close(self) -> None:
        for waiting in self._rounds.values():
            waiting.timer.cancel()
        self._rounds = {}

    def _time_is_up(self, number: int) -> None:
        waiting = self._rounds[number]
        for session, child in waiting.silent.items():
            waiting.texts[session] = (
                f"process {child.pid} said nothing for {STACK_WAIT_MS / 1_000:g} s: code that is not Python "
                "keeps the interpreter to itself, or the process is stopped"
            )
        self._end(number)

    def _end(self, number: int) -> None:
        waiting = self._rounds.pop(number)
        waiting.timer.cancel()
        self._say(Obeyed(number, [WorkerText(session, text) for session, text in waiting.texts.items()]))
