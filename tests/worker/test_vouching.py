"""What a supervisor says of its children."""

from taskq.limits import CHILDREN_PER_SUPERVISOR_MAX
from taskq.protocol.messages import ChildExit, Exited, Vouch, Welcome
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
