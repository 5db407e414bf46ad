"""Who waits for a slot: first come, first served; taken out when asked for, or when they wait too long."""

from taskq.limits import EXTRA_PER_SLOT
from taskq.protocol.messages import Delivery
from taskq.worker.executors.line import Line, Lines


class One:
    def __init__(self, lease: int) -> None:
        self.delivery = Delivery(lease.to_bytes(16, "big"), lease, 1, 0, b"")
        self.is_waiting = True


def a_line(*leases: int, slots: int = 2) -> Line[One]:
    line: Line[One] = Line("async", slots, lambda one: None, 0.0)
    line.free = 0
    line.waiting.extend(map(One, leases))
    return line


def leases(ones: list[One]) -> list[int]:
    return [one.delivery.lease for one in ones]


def begin(line: Line[One], count: int = 1) -> None:
    for _ in range(count):
        line.waiting.popleft().is_waiting = False


def test_only_those_that_wait_are_taken_out() -> None:
    line = a_line(3, 4, 5, 6)
    out = line.take_out({1: None, 4: None, 6: None})
    assert (leases(out), leases(list(line.waiting))) == ([4, 6], [3, 5])
    assert not any(one.is_waiting for one in out)
    assert line.take_out({1: None}) == []


def test_those_that_waited_at_the_last_look_are_stale() -> None:
    line = a_line(1, 2)
    assert line.take_stale() == []
    line.waiting.append(One(3))
    assert leases(line.take_stale()) == [1, 2]
    assert leases(list(line.waiting)) == [3]
    assert leases(line.take_stale()) == [3]
    assert line.take_stale() == []


def test_who_got_a_slot_meanwhile_is_not() -> None:
    line = a_line(1, 2)
    line.take_stale()
    line.waiting.append(One(3))
    begin(line)
    assert leases(line.take_stale()) == [2]
    begin(line)
    line.waiting.append(One(4))
    assert line.take_stale() == []


def test_one_that_was_stopped_hides_nobody_for_ever() -> None:
    line = a_line(1, 2)
    line.take_stale()
    stopped = line.waiting.pop()
    stopped.is_waiting = False
    assert line.take_stale() == []
    assert leases(line.take_stale()) == [1]


def test_all_lines_at_once() -> None:
    first, second = a_line(1, 2), a_line(3)
    second.name = "thread"
    lines = Lines([first, second])
    assert leases(lines.waiting) == [1, 2, 3]
    assert lines.take_stale() == []
    assert leases(lines.take_out({2: None, 3: None})) == [2, 3]
    assert (leases(lines.take_stale()), leases(lines.take_stale())) == ([], [1])
    assert lines.waiting == []


def test_a_quick_executor_is_to_be_given_more_until_that_is_withdrawn() -> None:
    line = a_line(slots=2)
    line.free, line.ended = 2, 1_000
    unused = a_line(slots=0)
    unused.name = "thread"
    lines = Lines([line, unused])
    assert lines.look(1.0) == [line]
    assert line.extra == 2 * EXTRA_PER_SLOT
    assert lines.withdraw(1.5) == [line]
    assert line.extra == 0
    assert lines.withdraw(1.5) == []


def test_slots_that_come_are_for_those_who_wait_and_slots_that_go_are_nobodys() -> None:
    begun: list[One] = []
    line: Line[One] = Line("process", 2, begun.append, 0.0)
    line.resize(-2)
    assert (line.slots, line.free) == (0, 0)
    line.waiting.extend(map(One, (1, 2)))
    line.resize(+1)
    assert (leases(begun), begun[0].is_waiting, line.slots, line.free) == ([1], False, 1, 0)
    line.resize(-1)  # of the one that runs: it has not given it back yet
    line.free += 1
    line.resize(+1)
    assert (leases(begun), line.slots, line.free) == ([1, 2], 1, 0)
