"""What a supervisor says of its children."""

from taskq.limits import CHILDREN_PER_SUPERVISOR_MAX
from taskq.protocol.messages import ChildExit, Exited, Instruction, Obeyed, Vouch, Welcome
from taskq.worker.vouching import SupervisorSession

A, B = b"a" * 16, b"b" * 16


def welcomed() -> SupervisorSession:
    session = SupervisorSession()
    session.on_welcome(Welcome(1, 0))
    session.outgoing()
    return session


def test_a_child_is_vouched_for_from_its_start_and_whenever_asked() -> None:
    session = welcomed()
    assert session.outgoing() == []
    session.started(A)
    session.started(B)
    assert session.outgoing() == [Vouch([A, B])]
    assert session.outgoing() == []
    session.vouch()
    assert session.outgoing() == [Vouch([A, B])]


def test_nothing_is_vouched_for_without_children() -> None:
    session = welcomed()
    session.vouch()
    assert session.outgoing() == []


def test_an_exit_is_said_at_once_and_the_child_is_no_longer_vouched_for() -> None:
    session = welcomed()
    session.started(A)
    session.started(B)
    session.outgoing()
    session.exited(A, -9, "signal SIGKILL")
    assert session.outgoing() == [Exited([ChildExit(A, -9, "signal SIGKILL")])]
    session.vouch()
    assert session.outgoing() == [Vouch([B])]


def test_exits_are_said_again_on_each_new_connection_with_a_vouch_for_the_living() -> None:
    session = welcomed()
    session.started(A)
    session.started(B)
    session.exited(A, 1)
    session.outgoing()
    session.on_lost()
    session.vouch()
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    assert session.outgoing() == [Exited([ChildExit(A, 1)]), Vouch([B])]


def test_only_so_many_exits_are_kept() -> None:
    session = SupervisorSession()
    for number in range(CHILDREN_PER_SUPERVISOR_MAX + 5):
        child = number.to_bytes(16, "big")
        session.started(child)
        session.exited(child, 1)
    session.on_welcome(Welcome(1, 0))
    (exited,) = session.outgoing()
    assert isinstance(exited, Exited)
    assert len(exited.children) == CHILDREN_PER_SUPERVISOR_MAX
    assert exited.children[0].session == (5).to_bytes(16, "big")


def test_what_it_is_told_to_do_is_passed_on_and_answered_over_the_same_connection() -> None:
    told: list[Instruction] = []
    session = SupervisorSession(told.append)
    session.on_welcome(Welcome(1, 0))
    session.outgoing()
    session.on_message(Instruction(7, "stack", [A]))
    assert told == [Instruction(7, "stack", [A])]
    session.obeyed(Obeyed(7))
    assert session.outgoing() == [Obeyed(7)]
    assert session.outgoing() == []


def test_an_answer_is_not_said_over_another_connection() -> None:
    session = SupervisorSession(lambda _: None)
    session.on_welcome(Welcome(1, 0))
    session.on_message(Instruction(7, "stack", [A]))
    session.obeyed(Obeyed(7))
    session.on_lost()
    session.obeyed(Obeyed(8))
    session.on_welcome(Welcome(1, 0))
    assert session.outgoing() == []


def test_one_that_cannot_be_told_says_so() -> None:
    session = welcomed()
    session.on_message(Instruction(7, "stop", [A]))
    (answer,) = session.outgoing()
    assert isinstance(answer, Obeyed) and answer.code == "unsupported"
