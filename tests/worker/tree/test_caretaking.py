"""What people let a worker do reaches its processes, and those that come after them."""

from taskq.protocol.messages import Instruction, Obeyed
from taskq.worker.control import Order
from taskq.worker.tree.caretaking import Caretaking

A, B = b"a" * 16, b"b" * 16


class Child:
    def __init__(self, session: bytes) -> None:
        self.session = session
        self.pid = 4_711
        self.orders: list[Order] = []

    def order(self, order: Order) -> None:
        self.orders.append(order)

    def ask(self, number: int, lease: int) -> None: ...


class Worker:
    """Its children, and what became of instructions."""

    def __init__(self) -> None:
        self.children = [Child(A), Child(B)]
        self.said: list[Obeyed] = []
        self.stops = 0
        self.caretaking = Caretaking(lambda: self.children, self._stop, self.said.append)

    def _stop(self) -> None:
        self.stops += 1


def test_a_whole_worker_is_drained_with_those_that_the_broker_does_not_know_yet() -> None:
    worker = Worker()
    worker.caretaking.obey(Instruction(1, "drain", [A], is_whole=True))
    assert [child.orders for child in worker.children] == [["hold"], ["hold"]]
    late = Child(b"c" * 16)
    worker.caretaking.started(late)
    assert late.orders == ["hold"]
    worker.caretaking.obey(Instruction(2, "resume", [A], is_whole=True))
    assert [child.orders for child in worker.children] == [["hold", "release"]] * 2
    later = Child(b"d" * 16)
    worker.caretaking.started(later)
    assert later.orders == []
    assert worker.said == [Obeyed(1), Obeyed(2)]


def test_one_process_alone_is_drained_and_its_successor_is_not() -> None:
    worker = Worker()
    worker.caretaking.obey(Instruction(1, "drain", [B]))
    assert [child.orders for child in worker.children] == [[], ["hold"]]
    assert not worker.caretaking.is_held


def test_stop_is_answered_when_it_was_told() -> None:
    worker = Worker()
    worker.caretaking.obey(Instruction(1, "stop", [A]))
    assert (worker.stops, worker.said) == (1, [Obeyed(1)])


async def test_stacks_are_answered_when_they_were_told() -> None:
    worker = Worker()
    worker.caretaking.obey(Instruction(1, "stack", [A]))
    assert worker.said == []
    worker.caretaking.told(A, 1, "it works")
    assert [text.text for text in worker.said[0].texts] == ["it works"]
    worker.caretaking.obey(Instruction(2, "stack", [A]))
    worker.caretaking.gone(A)
    assert worker.said[1].texts[0].text == "it has ended meanwhile"
    worker.caretaking.close()
