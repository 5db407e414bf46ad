"""Checks what workers are told: each instruction is answered or refused once and in time, and a worker that
is said to be drained gets no more.
"""

from typing import Final

from taskq import limits
from taskq.protocol.messages import (
    Command,
    Deliver,
    Hello,
    Instruct,
    Instructed,
    Instruction,
    Message,
    Obeyed,
    Refusal,
    Undrain,
)
from tests.simulation.agenda import MS, SECOND, Agenda, Violation
from tests.simulation.host import BrokerHost

# A turn, and its timer.
_MOMENT_US: Final = 500 * MS
# What is decided waits for commits, and a disk may be slow or full.
_SPOKEN_US: Final = 10 * SECOND

Key = tuple[int, int]  # connection, request


class OrderBook:
    """All instructions that somebody waits for, and who is drained."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.on_crashed()

    def on_crashed(self) -> None:
        self._asked: dict[Key, int] = {}  # since when
        self._answered: dict[Key, None] = {}
        self._told: dict[int, Instruction] = {}  # by number: on their way to a supervisor
        self._drains: dict[Key, list[bytes]] = {}  # sessions that are held when this is answered
        self._drained: dict[bytes, None] = {}

    def on_connected(self, hello: Hello) -> None:
        self._drained.pop(hello.session, None)

    def on_lost(self, number: int) -> None:
        self._asked = {key: us for key, us in self._asked.items() if key[0] != number}

    def on_heard(self, hello: Hello, number: int, command: Command) -> None:
        match command:
            case Instruct():
                self._asked[number, command.request] = self._agenda.us
            case Undrain():
                self._free(hello.session)
            case Obeyed():
                told = self._told.pop(command.number, None)
                if told is not None and told.verb == "resume":
                    for session in told.sessions:
                        self._free(session)

    def _free(self, session: bytes) -> None:
        self._drained.pop(session, None)
        for sessions in self._drains.values():
            if session in sessions:
                sessions.remove(session)

    def on_turn(self, host: BrokerHost) -> None:
        late_us = limits.INSTRUCTION_TIMEOUT_MS * MS + _MOMENT_US
        pending = {(each.asker, each.request) for each in host.broker.instructions.pending.values()}
        for key, since_us in self._asked.items():
            age_us = self._agenda.us - since_us
            if age_us > late_us and key in pending:
                raise Violation("orders", f"request {key} is not given up after {age_us / SECOND:g} s")
            if age_us > late_us + _SPOKEN_US:
                raise Violation("orders", f"request {key} was not answered in {age_us / SECOND:g} s")

    def on_said(self, host: BrokerHost, hello: Hello, number: int, message: Message) -> None:
        match message:
            case Instruction():
                self._told[message.number] = message
                errand = host.broker.instructions.pending.get(message.number)
                if errand is not None and message.verb == "drain":
                    self._drains[errand.asker, errand.request] = list(message.sessions)
            case Instructed():
                self._answer((number, message.request), is_for_sure=True)
                for session in self._drains.pop((number, message.request), []):
                    self._drained[session] = None
            case Refusal():
                self._answer((number, message.request), is_for_sure=False)
                self._drains.pop((number, message.request), None)
            case Deliver() if hello.session in self._drained:
                raise Violation("orders", f"{hello.name} is drained, and was given {len(message.jobs)} jobs")

    def _answer(self, key: Key, *, is_for_sure: bool) -> None:
        if self._asked.pop(key, None) is not None:
            self._answered[key] = None
        elif is_for_sure or key in self._answered:
            raise Violation("orders", f"request {key} was answered twice, or never asked")
