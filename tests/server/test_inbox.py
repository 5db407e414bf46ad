"""Peers take turns, what each said stays in order, and nobody fills the memory."""

from hypothesis import given
from hypothesis import strategies as st

from taskq import limits
from taskq.core.effects import Event, Heard
from taskq.server.inbox import Inbox


class Peer:
    """A connection that says whether it is read."""

    def __init__(self) -> None:
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


def said(*numbers: int) -> list[Event]:
    return [Heard(number) for number in numbers]


def take(inbox: Inbox, size: int) -> list[int]:
    events, _ = inbox.take(size)
    return [event.peer for event in events]


def test_who_says_little_does_not_wait_behind_who_says_much() -> None:
    inbox, loud, quiet = Inbox(), Peer(), Peer()
    for number in range(100):
        inbox.post(said(number), 1_000, loud)
    inbox.post(said(-1), 10, quiet)
    assert take(inbox, 2_000) == [0, -1, 1]
    assert take(inbox, 2_000) == [2, 3]


def test_what_came_in_one_read_is_decided_in_parts() -> None:
    inbox, loud, quiet = Inbox(), Peer(), Peer()
    inbox.post(said(*range(10)), 10_000, loud)
    inbox.post(said(-1), 10, quiet)
    assert take(inbox, 3_000) == [0, 1, 2]
    assert take(inbox, 3_000) == [-1, 3, 4, 5]
    assert take(inbox, 10**6) == [6, 7, 8, 9]
    assert len(inbox) == 0


def test_one_message_is_never_cut() -> None:
    inbox = Inbox()
    inbox.post(said(1), 10**6, Peer())
    assert take(inbox, 1) == [1]


def test_who_says_more_than_is_decided_is_not_read_until_it_was_heard_out() -> None:
    inbox, loud, quiet = Inbox(), Peer(), Peer()
    for number in range(6):
        inbox.post(said(number), 1 << 20, loud)
    inbox.post(said(-1), 10, quiet)
    assert (loud.is_read, quiet.is_read) == (False, True)
    while loud.is_read is False:
        assert take(inbox, 1)
    assert len(inbox) == 0


def test_all_together_are_bounded_too() -> None:
    inbox = Inbox()
    peers = [Peer() for _ in range(20)]
    for peer in peers:
        inbox.post(said(1), 3 << 20, peer)
    unread = [peer for peer in peers if not peer.is_read]
    assert len(unread) == 20 - limits.INBOX_BYTES_MAX // (3 << 20)
    while len(inbox):
        inbox.take(1)
    assert all(peer.is_read for peer in peers)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 500))),
    st.lists(st.integers(1, 600)),
)
def test_nothing_is_lost_and_each_peer_stays_in_order(
    posts: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    inbox, peers = Inbox(), [Peer() for _ in range(4)]
    number = posted = taken = 0
    heard: list[int] = []
    for who, count, size in posts:
        numbers = [who + 10 * (number + each) for each in range(count)]
        number += count
        posted += size
        inbox.post(said(*numbers), size, peers[who])
        if sizes:
            events, part = inbox.take(sizes.pop())
            heard += [event.peer for event in events]
            taken += part
    while len(inbox):
        events, part = inbox.take(100)
        heard += [event.peer for event in events]
        taken += part
    assert taken == posted and len(heard) == number
    for who in range(4):
        mine = [each for each in heard if each % 10 == who]
        assert mine == sorted(mine)
