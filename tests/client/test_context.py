"""`current()` without a worker: what it checks, and that it says nothing to nobody."""

import threading
from collections.abc import Callable

import pytest

from taskq.client.context import Context, context_var, current, refuse_waiting
from taskq.client.payload import pack_value
from taskq.client.saving import OnSaved, Saving
from taskq.errors import Busy, DecodeError, EncodeError, Refused, TooLarge
from taskq.limits import CHECKPOINT_BYTES_MAX
from taskq.protocol.messages import Saved


def a_context(**fields: object) -> Context:
    return Context(job_id="00" * 16, task="t", **fields)  # type: ignore[arg-type]


def test_outside_of_a_job_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="there is no job here"):
        current()
    refuse_waiting([bytes(16)])


def test_without_a_worker_it_may_be_used_all_the_same() -> None:
    context = a_context()
    assert context.checkpointed() is None
    assert context.checkpointed("begin") == "begin"
    context.checkpoint({"page": 7}).wait(1)
    assert context.checkpointed("begin") == {"page": 7}
    context.extend("5s")
    context.progress(1, 2)
    assert context.deadline is None  # without a timeout there is none to move


def test_a_checkpoint_is_as_it_was_when_it_was_said() -> None:
    said: list[Saved] = []
    context = a_context(on_checkpoint=said.append)
    pages = [1]
    context.checkpoint(pages)
    pages.append(2)
    assert context.checkpointed() == [1]
    assert said == [Saved(pack_value([1]))]


def test_what_cannot_be_sent_or_is_too_large_is_told_where_it_is_said() -> None:
    context = a_context()
    with pytest.raises(EncodeError, match="cannot be sent"):
        context.checkpoint(object())
    with pytest.raises(TooLarge, match="the limit is 65536"):
        context.checkpoint(bytes(CHECKPOINT_BYTES_MAX))
    assert context.checkpointed() is None
    context.checkpoint(bytes(CHECKPOINT_BYTES_MAX - 10))


@pytest.mark.parametrize("saved", [Saved(b"\x05", 1), Saved(b"\xc1")])
def test_a_checkpoint_that_nobody_here_can_read_is_no_default(saved: Saved) -> None:
    with pytest.raises(DecodeError):
        a_context(saved=saved).checkpointed(0)


def told(code: str) -> Callable[[OnSaved], None]:
    return lambda on_saved: on_saved(code)


def told_by_a_thread(on_saved: OnSaved) -> None:
    threading.Thread(target=on_saved, args=("",)).start()


async def test_whoever_awaits_hears_what_became_of_it() -> None:
    await Saving(told(""))
    await Saving(told_by_a_thread)
    with pytest.raises(Refused, match="over") as caught:
        await Saving(told("stale"))
    assert caught.value.code == "stale"
    with pytest.raises(Busy):
        await Saving(told("busy"))
    with pytest.raises(RuntimeError, match="await it instead"):
        Saving(told("")).wait()


def test_and_so_does_who_waits_in_a_thread() -> None:
    Saving(told_by_a_thread).wait()
    Saving(told_by_a_thread).wait("5s")
    with pytest.raises(Refused, match="over"):
        Saving(told("over")).wait()
    with pytest.raises(TimeoutError, match="it may be yet"):
        Saving(lambda on_saved: None).wait(0.001)


def test_a_job_in_the_outbox_cannot_be_waited_for() -> None:
    context = a_context()
    context.enclosed.ids[bytes(16)] = None
    token = context_var.set(context)
    try:
        refuse_waiting([b"x" * 16])
        with pytest.raises(RuntimeError, match="would wait for itself"):
            refuse_waiting([b"x" * 16, bytes(16)])
    finally:
        context_var.reset(token)
