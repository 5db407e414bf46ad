"""What a task says in a thread is heard before its report, however the loop is woken."""

import asyncio
from threading import Thread

from taskq.protocol.messages import Announce, Checkpoint, Deliver, Delivery, Saved, Terms, Welcome
from taskq.worker.session import WorkerSession
from taskq.worker.words import Words

DELIVERY = Delivery(bytes(16), 7, 1, 0, b"")


def a_session() -> WorkerSession:
    session = WorkerSession(Announce({"add": "thread"}, ["default"], {"thread": 1}))
    session.on_welcome(Welcome(1, 0))
    session.outgoing()
    session.on_message(Deliver([Terms("add")], [DELIVERY]))
    return session


async def test_on_the_loop_it_is_heard_at_once() -> None:
    session, wakes = a_session(), []
    words = Words(asyncio.get_running_loop(), session, lambda: wakes.append(1))
    words.checkpoint(DELIVERY, Saved(b"x"))
    assert [type(message) for message in session.outgoing()] == [Checkpoint]
    assert wakes == [1]


async def test_from_a_thread_it_is_heard_in_the_order_in_which_it_was_said() -> None:
    session = a_session()
    words = Words(asyncio.get_running_loop(), session, lambda: None)
    heard = asyncio.Event()
    codes: list[str] = []

    def work() -> None:
        for page in range(10):
            words.checkpoint(DELIVERY, Saved(bytes([page])))
        words.when_saved(DELIVERY, codes.append)
        words.enclose(DELIVERY, [(bytes(16), Terms("child"), b"", None, 0)])

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert words.is_unheard
    words.hear()  # as the runner does when the attempt's result is here
    session.succeed(DELIVERY.id, DELIVERY.lease, b"")
    checkpoint, report = session.outgoing()
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.items[0].saved.value == bytes([9])
    assert type(report).__name__ == "AckAndSubmit"
    asyncio.get_running_loop().call_soon(heard.set)
    await heard.wait()  # and what the threads' wake-ups find is nothing
    assert codes == []
    assert not words.is_unheard


async def test_a_thread_that_says_much_while_the_loop_is_busy_costs_one_word() -> None:
    session = a_session()
    words = Words(asyncio.get_running_loop(), session, lambda: None)

    def work() -> None:
        for page in range(10_000):
            words.checkpoint(DELIVERY, Saved(page.to_bytes(2, "big")))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert len(words._checkpoints) == 1
    heard = asyncio.Event()
    asyncio.get_running_loop().call_soon(heard.set)
    await heard.wait()
    (checkpoint,) = session.outgoing()
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.items[0].saved.value == (9_999).to_bytes(2, "big")
