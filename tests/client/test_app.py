"""A TaskQ against a real socket: submit, wait, lose the connection, be refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from taskq import limits
from taskq.client.app import TaskQ
from taskq.client.task import AsyncTask
from taskq.errors import (
    ConfirmTimeout,
    Conflict,
    ConnectionLost,
    EncodeError,
    JobFailed,
    NotFound,
    QueueFull,
    ResultGone,
    SubmitErrors,
    Unauthorized,
)
from taskq.protocol.ids import job_slot, slot_of
from taskq.protocol.messages import (
    MEMORY,
    Confirm,
    Hello,
    JobSpec,
    Outcome,
    Outcomes,
    Refusal,
    Status,
    Submit,
    Unwatch,
    Verdict,
    Watch,
)

from .desk import Desk
from .tiny_broker import TinyBroker, tiny_broker


class World:
    """A broker, a TaskQ connected to it, and one task."""

    def __init__(self, broker: TinyBroker, desk: Desk, q: TaskQ) -> None:
        self.broker = broker
        self.desk = desk
        self.q = q

        @q.task
        async def add(*numbers: int | str | None) -> int:
            return sum(number for number in numbers if isinstance(number, int))

        self.add: AsyncTask[[int | str | None], int] = add


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    desk = Desk()
    async with tiny_broker(desk) as broker, TaskQ(broker.address, name="test") as q:
        yield World(broker, desk, q)


async def test_submit_and_result() -> None:
    async with a_world() as world:
        job = await world.add.submit(5)
        assert UUID(job.id).version == 7
        assert slot_of(bytes.fromhex(job.id)) == job_slot("default", "default")
        assert await job.result(timeout=5) == 5
        assert await job == 5
        assert len(world.broker.said(Watch)) == 1, "a result that has arrived is not asked for again"


async def test_it_connects_at_first_use_and_again_after_close() -> None:
    desk = Desk()
    async with tiny_broker(desk) as broker:
        q = TaskQ(broker.address)

        @q.task
        async def add(a: int) -> int:
            return a

        try:
            assert await (await add.submit(1)).result(5) == 1
            await q.close()
            assert await (await add.submit(2)).result(5) == 2
        finally:
            await q.close()
            await q.close()
        sessions = [hello.session for hello in broker.said(Hello)]
        assert len(set(sessions)) == 2


async def test_what_is_submitted_together_is_one_message() -> None:
    async with a_world() as world:
        found = await asyncio.gather(*(world.add.submit(number) for number in range(50)))
        assert [len(submit.jobs) for submit in world.broker.said(Submit)] == [50]
        assert await world.q.gather(*found) == list(range(50))
        assert [len(watch.ids) for watch in world.broker.said(Watch)] == [50]


async def test_submit_waits_for_the_word_of_the_broker() -> None:
    async with a_world() as world:
        world.desk.is_silent = True
        submitting = asyncio.ensure_future(world.add.submit(1))
        [submit] = await world.broker.hear(Submit)
        assert not submitting.done()
        world.broker.say(Confirm(submit.first, 1))
        job = await submitting
        assert bytes.fromhex(job.id) == submit.jobs[0].id


async def test_lost_between_submit_and_confirm_it_is_said_again() -> None:
    async with a_world() as world:
        world.desk.is_silent = True
        submitting = asyncio.ensure_future(world.add.submit(1))
        await world.broker.hear(Submit)
        world.desk.is_silent = False
        world.broker.drop()
        job = await submitting
        first, again = world.broker.said(Submit)
        assert first == again
        assert await job.result(5) == 1


async def test_lost_while_waiting_for_a_result() -> None:
    async with a_world() as world:
        job = await world.add.submit(1)
        world.desk.is_silent = True
        waiting = asyncio.ensure_future(job.result())
        await world.broker.hear(Watch)
        world.desk.is_silent = False
        world.broker.drop()
        assert await waiting == 1


async def test_no_word_in_time() -> None:
    async with a_world() as world:
        world.desk.is_silent = True
        with pytest.raises(ConfirmTimeout, match=r"not confirmed within 0\.05 s") as caught:
            await world.add.options(confirm_timeout=0.05).submit(1)
        world.desk.is_silent = False
        job = await world.add.options(id=caught.value.job_id).submit(1)
        assert job.id == caught.value.job_id
        assert await job.result(5) == 1


@pytest.mark.parametrize(("code", "error"), [("queue_full", QueueFull), ("conflict", Conflict)])
async def test_a_refused_job(code: str, error: type[Exception]) -> None:
    async with a_world() as world:
        world.desk.verdict = lambda seq, job: Verdict(seq, code, "because")
        with pytest.raises(error, match="because") as caught:
            await world.add.submit(1)
        assert caught.value.__notes__[0].startswith("job 0")


async def test_a_job_that_exists_already_is_returned() -> None:
    async with a_world() as world:
        first = await world.add.submit(5)
        world.desk.verdict = lambda seq, job: Verdict(seq, "exists", id=bytes.fromhex(first.id))
        second = await world.add.submit(5)
        assert second == first
        assert await second.result(5) == 5


async def test_arguments_are_checked_before_anything_is_sent() -> None:
    async with a_world() as world:

        @world.q.task(name="send")
        async def send(user: object, copies: int = 1) -> None: ...

        with pytest.raises(EncodeError, match=r"^send\(\): argument 'user': World cannot be sent"):
            await send.submit(world)
        with pytest.raises(TypeError, match=r"^send\(\): missing a required argument: 'user'"):
            await send.submit()  # type: ignore[call-arg]  # the point
        await world.q.status()
        assert world.broker.said(Submit) == []


# -- results ------------------------------------------------------------------------------------


async def test_running_out_of_time_leaves_the_job_alone() -> None:
    async with a_world() as world:
        job = await world.add.submit(None)
        with pytest.raises(TimeoutError):
            await job.result(timeout=0.01)
        await world.broker.hear(Unwatch)
        waiting = asyncio.ensure_future(job.result())
        await world.broker.hear(Watch, 2)
        world.broker.say(Outcomes([Outcome(bytes.fromhex(job.id), "succeeded", b"\x07")]))
        assert await waiting == 7


async def test_cancelling_the_waiting_leaves_the_job_alone() -> None:
    async with a_world() as world:
        job = await world.add.submit(None)
        waits = [asyncio.ensure_future(job.result()) for _ in range(3)]
        await world.broker.hear(Watch)
        waits[0].cancel()
        await asyncio.wait(waits[:1])
        world.broker.say(Outcomes([Outcome(bytes.fromhex(job.id), "succeeded", b"\x07")]))
        assert await asyncio.gather(*waits[1:]) == [7, 7]
        assert world.broker.said(Unwatch) == []


async def test_a_failure_tells_what_happened_there() -> None:
    async with a_world() as world:
        job = await world.add.submit("x")
        for _ in range(2):
            with pytest.raises(JobFailed, match=r"builtins\.ValueError: no number .* 2 attempts") as caught:
                await job
        assert (caught.value.job_id, caught.value.attempts) == (job.id, 2)


async def test_a_result_that_is_gone_and_a_job_that_never_was() -> None:
    async with a_world() as world:
        job = await world.add.submit(1)
        world.desk.jobs.clear()
        with pytest.raises(ResultGone):
            await job.result(5)
        with pytest.raises(NotFound):
            await world.q.job("00" * 16).result(5)


async def test_gather_keeps_order_and_takes_repeats() -> None:
    async with a_world() as world:
        a, b = await world.add.submit(1), await world.add.submit(2)
        assert await world.q.gather(b, a, world.q.job(b.id), b) == [2, 1, 2, 2]
        assert await world.q.gather(a, b) == [1, 2]
        assert await world.q.gather() == []


async def test_gather_raises_the_first_failure_while_others_run() -> None:
    async with a_world() as world:
        running, bad = await world.add.submit(None), await world.add.submit("x")
        for _ in range(2):  # the second time it is known already
            with pytest.raises(JobFailed):
                await world.q.gather(running, bad)
        [unwatched] = await world.broker.hear(Unwatch)
        assert unwatched.ids == [bytes.fromhex(running.id)]


async def test_gather_returns_exceptions() -> None:
    async with a_world() as world:
        good, bad = await world.add.submit(1), await world.add.submit("x")
        one, two = await world.q.gather(good, bad, return_exceptions=True)
        assert one == 1
        assert isinstance(two, JobFailed)


async def test_as_completed_is_in_order_of_completion() -> None:
    async with a_world() as world:
        slow, fast, bad = [await world.add.submit(value) for value in (None, 2, "x")]
        seen = []
        async for job in world.q.as_completed([slow, fast, bad, fast], timeout=5):
            seen.append(job)
            if len(seen) == 3:
                world.broker.say(Outcomes([Outcome(bytes.fromhex(slow.id), "succeeded", b"\x07")]))
        assert seen == [fast, fast, bad, slow]
        assert [job async for job in world.q.as_completed([fast, slow])] == [fast, slow]


async def test_as_completed_runs_out_of_time() -> None:
    async with a_world() as world:
        slow, fast = await world.add.submit(None), await world.add.submit(2)
        seen = []
        with pytest.raises(TimeoutError):
            async for job in world.q.as_completed([slow, fast], timeout=0.05):
                seen.append(job)  # noqa: PERF401  # a comprehension would lose what came before the error
        assert seen == [fast]
        [unwatched] = await world.broker.hear(Unwatch)
        assert unwatched.ids == [bytes.fromhex(slow.id)]


# -- many ---------------------------------------------------------------------------------------


async def test_submit_many() -> None:
    async with a_world() as world:
        calls = [world.add.call(number) for number in range(500)]
        found = await world.q.submit_many(calls, durability="memory")
        [submit] = world.broker.said(Submit)
        assert [terms.durability for terms in submit.terms] == [MEMORY]
        assert [job.id for job in found] == [job.id.hex() for job in submit.jobs]
        assert await world.q.gather(*found) == list(range(500))
        assert await world.q.submit_many([]) == []


async def test_a_call_keeps_its_arguments() -> None:
    async with a_world() as world:

        @world.q.task
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        numbers = [1]
        call = total.call(numbers)
        numbers.append(2)
        world.desk.work = lambda job, terms: Outcome(job.id, "succeeded", job.payload[2:4])
        [job] = await world.q.submit_many([call])
        assert await job.result(5) == [1]  # type: ignore[comparison-overlap]  # the desk echoes the arguments


async def test_submit_many_tells_which_are_there() -> None:
    async with a_world() as world:

        def refuse_odd(seq: int, job: JobSpec) -> Verdict | None:
            return Verdict(seq, "queue_full", f"job {seq}") if seq % 2 else None

        world.desk.verdict = refuse_odd
        with pytest.raises(SubmitErrors, match="2 of 5 jobs were not accepted") as caught:
            await world.q.submit_many([world.add.call(number) for number in range(5)])
        assert [str(error) for error in caught.value.exceptions] == ["job 1", "job 3"]
        assert await world.q.gather(*caught.value.accepted) == [0, 2, 4]
        part = caught.value.subgroup(lambda error: str(error) == "job 3")
        assert isinstance(part, SubmitErrors)
        assert len(part.accepted) == 3


async def test_submit_many_without_a_word_in_time() -> None:
    async with a_world() as world:
        world.desk.is_silent = True
        with pytest.raises(SubmitErrors) as caught:
            await world.q.submit_many([world.add.call(1), world.add.call(2)], confirm_timeout=0.05)
        assert [type(error) for error in caught.value.exceptions] == [ConfirmTimeout, ConfirmTimeout]
        assert caught.value.accepted == []


async def test_more_than_there_is_room_for_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNCONFIRMED_JOBS_MAX", 4)
    async with a_world() as world:
        found = await world.q.submit_many([world.add.call(number) for number in range(10)])
        assert [len(submit.jobs) for submit in world.broker.said(Submit)] == [4, 4, 2]
        assert await world.q.gather(*found) == list(range(10))
        more = await asyncio.gather(*(world.add.submit(number) for number in range(10)))
        assert await world.q.gather(*more) == list(range(10))


# -- asking -------------------------------------------------------------------------------------


async def test_info_status_and_cancel() -> None:
    async with a_world() as world:
        began = datetime.now(UTC).replace(microsecond=0)
        job = await world.add.options(queue="sums").submit(1)
        info = await job.info()
        assert (info.id, info.queue, info.state) == (job.id, "sums", "ready")
        assert info.submitted_at is not None
        assert began <= info.submitted_at <= datetime.now(UTC)
        assert info.finished_at is None
        assert await job.status() == "ready"
        assert await job.cancel(reason="enough") is True
        assert (await world.q.status()).journal == "memory:"
        world.desk.jobs.clear()
        assert await job.cancel() is False
        with pytest.raises(NotFound):
            await job.info()
        with pytest.raises(NotFound):
            await world.q.job(job.id).cancel()


async def test_a_question_is_asked_again_on_a_new_connection() -> None:
    async with a_world() as world:
        world.desk.is_silent = True
        asking = asyncio.ensure_future(world.q.status())
        await world.broker.hear(Status)
        world.desk.is_silent = False
        world.broker.drop()
        assert (await asking).journal == "memory:"


# -- no broker ----------------------------------------------------------------------------------


async def test_close_ends_every_wait() -> None:
    async with a_world() as world:
        job = await world.add.submit(None)
        waiting = asyncio.ensure_future(job.result())
        await world.broker.hear(Watch)
        await world.q.close()
        with pytest.raises(ConnectionLost, match="was closed"):
            await waiting


async def test_nobody_there() -> None:
    async with tiny_broker() as gone:
        address = gone.address
    q = TaskQ(address)
    with pytest.raises(ConnectionLost, match="nobody listens there"):
        await q.connect(timeout=0.1)
    await q.close()


async def test_a_failed_entry_leaves_nothing_open() -> None:
    async with tiny_broker() as broker:
        broker.welcomes = False
        q = TaskQ(broker.address)
        entering = asyncio.ensure_future(q.__aenter__())
        await broker.hear(Hello)
        entering.cancel()
        await asyncio.wait([entering])
        await broker.until(lambda: not broker._peers)


async def test_refused_for_good_ends_every_wait() -> None:
    async with a_world() as world:
        job = await world.add.submit(None)
        waiting = asyncio.ensure_future(job.result())
        await world.broker.hear(Watch)
        world.broker.say(Refusal(0, "unauthorized", "revoked"))
        with pytest.raises(Unauthorized, match="revoked"):
            await waiting
        assert await (await world.add.submit(3)).result(5) == 3, "the next use tries again"


def test_each_event_loop_has_its_own_connection() -> None:
    q = TaskQ("taskq://127.0.0.1:1")

    @q.task
    async def add(a: int) -> int:
        return a

    async def main() -> tuple[int, int]:
        desk = Desk()
        async with tiny_broker(desk) as broker:
            q._addresses = TaskQ(broker.address)._addresses
            job = await add.submit(4)
            return await job.result(5), len(q._producers)

    # Neither run closes: the first loop's connection must not be in the way of the second's.
    assert asyncio.run(main()) == (4, 1)
    assert asyncio.run(main()) == (4, 1)
