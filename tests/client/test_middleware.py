"""Middleware around submissions, and the order of all of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from taskq import ConfigError, Context, Middleware, Outgoing, Refused, SubmitErrors, TaskQ
from taskq.client.middleware import around_attempts, around_submissions, checked, run_through
from taskq.limits import EXT_BYTES_MAX, META_BYTES_MAX
from taskq.protocol.messages import Confirm, Message, Submit, Verdict
from tests.client.tiny_broker import tiny_broker

CONTEXT = Context("01ab", "send")


class Noting(Middleware):
    """Notes what it is told, in a list that all share."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
        self.notes.append(f"{self.name} submits {len(jobs)}")
        try:
            await call_next()
        except Exception as error:
            self.notes.append(f"{self.name} saw {type(error).__name__}")
            raise
        self.notes.append(f"{self.name} submitted")

    async def before(self, context: Context) -> None:
        self.notes.append(f"{self.name} before {context.task}")

    async def after(self, context: Context, result: Any) -> None:
        self.notes.append(f"{self.name} after {result}")

    async def error(self, context: Context, error: BaseException) -> None:
        self.notes.append(f"{self.name} error {error}")


def confirming(message: Message) -> list[Message]:
    return [Confirm(message.first, len(message.jobs))] if isinstance(message, Submit) else []


def refusing(message: Message) -> list[Message]:
    if not isinstance(message, Submit):
        return []
    return [Confirm(message.first, len(message.jobs), [Verdict(message.first, "invalid", "no")])]


async def test_the_first_is_the_outermost_around_submissions() -> None:
    notes: list[str] = []
    async with tiny_broker(confirming) as broker:
        q = TaskQ(broker.address, middleware=[Noting("one", notes), Noting("two", notes)])

        @q.task
        async def send() -> None: ...

        async with q:
            await send.submit()
            await q.submit_many([send.call(), send.call()])
    assert notes == [
        *("one submits 1", "two submits 1", "two submitted", "one submitted"),
        *("one submits 2", "two submits 2", "two submitted", "one submitted"),
    ]


async def test_submitting_without_asyncio_goes_through_it_too() -> None:
    notes: list[str] = []
    async with tiny_broker(confirming) as broker:
        q = TaskQ(broker.address, middleware=[Noting("one", notes)])

        @q.task
        async def send() -> None: ...

        await asyncio.to_thread(send.submit_sync)
        await asyncio.to_thread(q.sync.submit_many, [send.call()])
        await asyncio.to_thread(q.sync.close)
    assert notes == ["one submits 1", "one submitted"] * 2


async def test_it_adds_to_what_the_job_carries() -> None:
    class Tagging(Middleware):
        async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
            for job in jobs:
                assert (job.task, job.queue) == ("send", "mail")
                job.meta["tenant"] = job.meta.get("tenant", "") + "acme"
                job.ext["x-trace"] = job.job_id.encode()
            await call_next()

    async with tiny_broker(confirming) as broker:
        q = TaskQ(broker.address, middleware=[Tagging()])

        @q.task(name="send", queue="mail")
        async def send() -> None: ...

        async with q:
            job = await send.options(meta={"by": "ann", "tenant": "old-"}, key="k").submit()
            (other,) = await q.submit_many([send.call()])
        first, second = [submit.jobs[0] for submit in broker.said(Submit)]
    assert first.ext is not None and first.ext["x-trace"] == job.id.encode() and first.ext["key"] == b"k"
    read = Outgoing(job.id, "send", send.settings, dict(first.ext))
    assert read.meta == {"by": "ann", "tenant": "old-acme"}
    assert second.ext is not None and second.ext["x-trace"] == other.id.encode()


async def test_it_may_refuse_and_then_nothing_goes_out() -> None:
    class Strict(Middleware):
        async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
            raise PermissionError("not on Sundays")

    async with tiny_broker(confirming) as broker:
        q = TaskQ(broker.address, middleware=[Strict()])

        @q.task
        async def send() -> None: ...

        async with q:
            with pytest.raises(PermissionError, match="Sundays"):
                await send.submit()
            with pytest.raises(PermissionError, match="Sundays"):
                await q.submit_many([send.call()])
        assert broker.said(Submit) == []


async def test_a_refusal_of_the_broker_is_seen_and_cannot_be_swallowed() -> None:
    class Deaf(Middleware):
        async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
            with contextlib.suppress(Refused, SubmitErrors):
                await call_next()

    notes: list[str] = []
    async with tiny_broker(refusing) as broker:
        q = TaskQ(broker.address, middleware=[Deaf(), Noting("inner", notes)])

        @q.task
        async def send() -> None: ...

        async with q:
            with pytest.raises(Refused, match="no"):
                await send.submit()
            with pytest.raises(SubmitErrors):
                await q.submit_many([send.call()])
    assert notes == ["inner submits 1", "inner saw Refused", "inner submits 1", "inner saw SubmitErrors"]


async def test_one_that_goes_no_further_and_says_nothing_is_told() -> None:
    class Forgetful(Middleware):
        async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
            pass

    q = TaskQ("taskq://127.0.0.1:1", middleware=[Forgetful()])

    @q.task
    async def send() -> None: ...

    with pytest.raises(RuntimeError, match=r"Forgetful.*call_next"):
        await send.submit()
    await q.close()


@pytest.mark.parametrize(
    ("ext", "meta", "said"),
    [
        ({f"x-{number}": b"" for number in range(17)}, {}, "17 things"),
        ({"x-large": b"x" * EXT_BYTES_MAX}, {}, "bytes in all"),
        ({}, {"long": "x" * META_BYTES_MAX}, "meta takes"),
    ],
)
def test_more_than_a_job_may_carry(ext: dict[str, bytes], meta: dict[str, str], said: str) -> None:
    job = Outgoing("01ab", "send", TaskQ().task(name="send")(print).settings, ext)
    job.meta.update(meta)
    with pytest.raises(ValueError, match=said):
        job.packed()


def test_what_is_no_bytes() -> None:
    job = Outgoing("01ab", "send", TaskQ().task(name="send")(print).settings, {"x-a": "text"})  # type: ignore[dict-item]  # it is not
    with pytest.raises(TypeError, match="'x-a': str"):
        job.packed()


# -- around attempts: the hooks in order ---------------------------------------------------------------


async def test_the_first_is_the_outermost_around_attempts() -> None:
    notes: list[str] = []

    async def task() -> int:
        notes.append("runs")
        return 5

    chain = [Noting("one", notes), Noting("two", notes)]
    assert await run_through(chain, CONTEXT, task) == 5
    assert notes == ["one before send", "two before send", "runs", "two after 5", "one after 5"]


async def test_an_error_passes_all_of_them() -> None:
    notes: list[str] = []

    async def task() -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await run_through([Noting("one", notes), Noting("two", notes)], CONTEXT, task)
    assert notes[2:] == ["two error broken", "one error broken"]


async def test_it_may_translate_an_error_or_a_result() -> None:
    class Translating(Middleware):
        async def error(self, context: Context, error: BaseException) -> None:
            raise LookupError("translated") from error

    class Doubling(Middleware):
        async def run(self, context: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
            return 2 * await call_next()

    async def broken() -> int:
        raise ValueError("broken")

    async def five() -> int:
        return 5

    with pytest.raises(LookupError, match="translated"):
        await run_through([Translating()], CONTEXT, broken)
    assert await run_through([Doubling()], CONTEXT, five) == 10


# -- what it costs, and what it is --------------------------------------------------------------------------


def test_a_side_that_it_does_not_touch_is_left_alone() -> None:
    class Inert(Middleware):
        """Overrides nothing."""

    class Producing(Middleware):
        async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
            await call_next()

    class Ending(Middleware):
        async def error(self, context: Context, error: BaseException) -> None: ...

    inert, producing, ending = Inert(), Producing(), Ending()
    chain = checked([inert, producing, ending])
    assert around_submissions(chain) == (producing,)
    assert around_attempts(chain) == (ending,)


def test_what_is_no_middleware() -> None:
    with pytest.raises(ConfigError, match=r"write Noting\(\)"):
        TaskQ(middleware=[Noting])  # type: ignore[list-item]  # the class is not
    with pytest.raises(ConfigError, match="is none"):
        TaskQ(middleware=[print])  # type: ignore[list-item]  # nor is this
    with pytest.raises(ConfigError, match="is no list"):
        TaskQ(middleware=Noting("", []))  # type: ignore[arg-type]  # one alone is no list
