"""A supervisor answers once: when all have told, when the others are gone, or when the time is up."""

import asyncio

import pytest

from taskq.protocol.messages import Instruction, Obeyed, WorkerText
from taskq.worker.insight import answers as answers_module
from taskq.worker.insight.answers import Answers

A, B = b"a" * 16, b"b" * 16


class Child:
    def __init__(self, session: bytes) -> None:
        self.session = session
        self.pid = 4_711
        self.asked: list[tuple[int, int]] = []

    def ask(self, number: int, lease: int) -> None:
        self.asked.append((number, lease))


async def test_when_all_have_told_it_is_said_in_their_order() -> None:
    said: list[Obeyed] = []
    answers = Answers(said.append)
    first, second = Child(A), Child(B)
    answers.ask(Instruction(7, "stack", [A, B], 5), [first, second])
    assert first.asked == second.asked == [(7, 5)]
    answers.told(B, 7, "b sleeps")
    assert said == []
    answers.told(A, 7, "a works")
    assert said == [Obeyed(7, [WorkerText(A, "a works"), WorkerText(B, "b sleeps")])]
    answers.told(A, 7, "too late")
    assert len(said) == 1


async def test_one_that_ends_meanwhile_needs_not_tell() -> None:
    said: list[Obeyed] = []
    answers = Answers(said.append)
    answers.ask(Instruction(7, "stack", [A]), [Child(A)])
    answers.gone(A)
    assert said == [Obeyed(7, [WorkerText(A, "it has ended meanwhile")])]


async def test_those_that_say_nothing_are_told_of_as_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "STACK_WAIT_MS", 1)
    said: asyncio.Queue[Obeyed] = asyncio.Queue()
    answers = Answers(said.put_nowait)
    answers.ask(Instruction(7, "stack", [A, B]), [Child(A), Child(B)])
    answers.told(A, 7, "a works")
    async with asyncio.timeout(60):
        answer = await said.get()
    assert [each.session for each in answer.texts] == [A, B]
    assert "process 4711 said nothing" in answer.texts[1].text


async def test_who_is_gone_already_is_refused() -> None:
    said: list[Obeyed] = []
    answers = Answers(said.append)
    answers.ask(Instruction(7, "stack", [A]), [])
    assert said[0].code == "not_found"


async def test_closing_forgets() -> None:
    said: list[Obeyed] = []
    answers = Answers(said.append)
    answers.ask(Instruction(7, "stack", [A]), [Child(A)])
    answers.close()
    answers.told(A, 7, "a works")
    assert said == []
