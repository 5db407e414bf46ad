"""What becomes of an attempt, whatever its task does. The real session, real tasks, no broker."""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

from taskq.client.app import TaskQ
from taskq.client.context import current
from taskq.client.payload import pack_call, unpack_value
from taskq.client.retry import RetryPolicy
from taskq.errors import Discard, Retry, Snooze, Throttle
from taskq.limits import PAYLOAD_BYTES_MAX, TEXT_CHARS_MAX, TRACEBACK_CHARS_MAX
from taskq.protocol.messages import (
    Ack,
    Acked,
    Announce,
    Deliver,
    Delivery,
    Extend,
    Failure,
    Held,
    Message,
    Nack,
    Progress,
    Recall,
    Revoke,
    Stop,
    Success,
    Terms,
    Welcome,
)
from taskq.worker import runner as runner_module
from taskq.worker.attempts import Definition
from taskq.worker.offer import Offer
from taskq.worker.runner import Runner


class Host:
    """Stands where link and broker would: delivers, and waits for reports."""

    def __init__(
        self,
        *functions: Callable[..., Any],
        slots: int = 10,
        retry: RetryPolicy | int = 1,
        slow_callback_ms: int = 0,
    ) -> None:
        app = TaskQ("taskq://127.0.0.1:1")
        definitions = [Definition(app.task(name=fn.__name__, retry=retry)(fn)) for fn in functions]
        loop = asyncio.get_running_loop()
        self.runner = Runner(
            loop,
            definitions,
            Offer(),
            slots={"async": slots, "thread": slots},
            slow_callback_ms=slow_callback_ms,
        )
        self.runner.attach(self._on_wake)
        self.runner.on_welcome(Welcome(1, 0))
        self.said: list[Message] = self.runner.outgoing()
        self._something = asyncio.Event()
        self._lease = 0

    def _on_wake(self) -> None:
        self._something.set()

    def deliver(
        self, task: str, *args: Any, timeout_ms: int = 0, payload: bytes | None = None, flags: int = 0
    ) -> int:
        self._lease += 1
        data = pack_call(args, {}) if payload is None else payload
        job = Delivery(self._lease.to_bytes(16, "big"), self._lease, 1, 0, data, flags)
        self.runner.on_message(Deliver([Terms(task, timeout_ms=timeout_ms)], [job]))
        self.collect()
        return self._lease

    def revoke(self, lease: int, reason: str = "") -> None:
        self.runner.on_message(Revoke([Stop(lease.to_bytes(16, "big"), lease, reason)]))
        self.collect()

    def recall(self, *leases: int) -> None:
        self.runner.on_message(Recall([Held(lease.to_bytes(16, "big"), lease) for lease in leases]))
        self.collect()

    def collect(self) -> None:
        self.said += self.runner.outgoing()

    def reports(self) -> dict[int, Success | Failure]:
        self.collect()
        return {item.lease: item for said in self.said if isinstance(said, Ack | Nack) for item in said.items}

    async def report(self, lease: int) -> Success | Failure:
        async with asyncio.timeout(30):
            while lease not in self.reports():
                self._something.clear()
                await self._something.wait()
        return self.reports()[lease]

    async def run(self, task: str, *args: Any, **options: Any) -> Success | Failure:
        return await self.report(self.deliver(task, *args, **options))

    async def failure(self, task: str, *args: Any, **options: Any) -> Failure:
        report = await self.run(task, *args, **options)
        assert isinstance(report, Failure), report
        return report

    def slots(self) -> dict[str, int]:
        self.collect()
        return [said.slots for said in self.said if isinstance(said, Announce)][-1]


class Gate:
    """An async task that tells when it has begun, and ends when it is let."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.let = asyncio.Event()

    def task(self, name: str = "gated") -> Callable[[], Awaitable[str]]:
        async def gated() -> str:
            self.began.set()
            await self.let.wait()
            return "through"

        gated.__name__ = name
        return gated


# -- returning ------------------------------------------------------------------------------------


async def test_what_an_async_task_returns_is_its_result() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    report = await Host(add).run("add", 2, 3)
    assert isinstance(report, Success) and unpack_value(report.result) == 5


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    def where() -> str:
        return threading.current_thread().name

    report = await Host(where).run("where")
    assert isinstance(report, Success)
    assert unpack_value(report.result).startswith("taskq-job")


async def test_plain_functions_run_side_by_side_up_to_their_slots() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet() -> int:
        return both.wait()

    host = Host(meet, slots=2)
    leases = [host.deliver("meet") for _ in range(4)]
    results = [await host.report(lease) for lease in leases]
    assert all(isinstance(report, Success) for report in results)


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_each_job_has_a_context_of_its_own(kind: str) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")

    def plain(name: str) -> str:
        before = mark.get()
        mark.set(name)
        return before

    async def coroutine(name: str) -> str:
        return plain(name)

    host = Host(plain, coroutine, slots=1)
    for name in ("one", "two"):
        report = await host.run("coroutine" if kind == "async" else "plain", name)
        assert isinstance(report, Success) and unpack_value(report.result) == "unset"
    assert mark.get() == "unset"


@pytest.mark.parametrize("kind", ["at once", "later", "thread"])
async def test_jobs_see_the_variables_of_where_their_worker_was_made(kind: str) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")
    seen = []

    def look() -> None:
        seen.append(mark.get())
        mark.set("the job's own")

    async def look_at_once() -> None:
        look()

    async def look_later() -> None:
        await asyncio.sleep(0)
        look()

    task = {"at once": look_at_once, "later": look_later, "thread": look}[kind]
    mark.set("the worker's")
    host = Host(task)
    mark.set("of what came later")
    for _ in range(3):
        await host.run(task.__name__)
    assert seen == ["the worker's"] * 3
    host.runner.scope.variables = contextvars.copy_context()
    await host.run(task.__name__)
    assert seen[-1] == "of what came later"
    assert mark.get() == "of what came later"


async def test_no_more_than_its_slots_run_at_once() -> None:
    first, second = Gate(), Gate()
    host = Host(first.task("first"), second.task("second"), slots=1)
    leases = [host.deliver("first"), host.deliver("second")]
    await first.began.wait()
    assert not second.began.is_set()
    first.let.set()
    await host.report(leases[0])
    await second.began.wait()
    second.let.set()
    assert isinstance(await host.report(leases[1]), Success)


# -- raising --------------------------------------------------------------------------------------


async def test_an_exception_is_reported_with_type_message_and_the_users_frames_only() -> None:
    def helper() -> NoReturn:
        raise LookupError("no such row")

    async def broken() -> None:
        helper()

    failure = await Host(broken).failure("broken")
    assert (failure.ending, failure.final, failure.after_ms) == ("failed", False, -1)
    assert failure.fault is not None
    assert (failure.fault.type, failure.fault.message) == ("LookupError", "no such row")
    assert "in helper" in failure.fault.traceback and "in broken" in failure.fault.traceback
    assert "worker/runner.py" not in failure.fault.traceback


async def test_a_thread_reports_exceptions_in_the_same_way() -> None:
    def broken() -> None:
        raise LookupError("no such row")

    failure = await Host(broken).failure("broken")
    assert failure.fault is not None and failure.fault.type == "LookupError"
    assert "in broken" in failure.fault.traceback and "worker/runner.py" not in failure.fault.traceback


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


async def test_types_are_qualified_and_a_str_that_raises_is_survived() -> None:
    async def broken() -> None:
        raise OddError

    failure = await Host(broken).failure("broken")
    assert failure.fault is not None
    assert failure.fault.type == f"{__name__}.OddError"
    assert "failed" in failure.fault.message


async def test_what_an_exception_says_is_cut_and_made_sendable() -> None:
    def deep(n: int) -> None:
        if n == 0:
            raise ValueError("\ud800" + "x" * 3 * TEXT_CHARS_MAX)
        (lambda: other(n - 1))()

    def other(n: int) -> None:
        deep(n)

    async def broken() -> None:
        deep(200)

    failure = await Host(broken).failure("broken")
    assert failure.fault is not None
    assert len(failure.fault.message) == TEXT_CHARS_MAX
    assert 0 < len(failure.fault.traceback) <= TRACEBACK_CHARS_MAX
    assert "the middle was cut" in failure.fault.traceback
    (failure.fault.message + failure.fault.traceback).encode()


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_no_exception_ends_the_worker(error: BaseException, kind: str) -> None:
    def plain() -> None:
        raise error

    async def coroutine() -> None:
        raise error

    async def fine() -> str:
        return "fine"

    host = Host(plain, coroutine, fine)
    failure = await host.failure("coroutine" if kind == "async" else "plain")
    assert (failure.ending, failure.final) == ("failed", False)
    assert failure.fault is not None and type(error).__name__ in failure.fault.type
    assert isinstance(await host.run("fine"), Success)


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (KeyError(), False),
        (LookupError(), False),
        (ValueError(), True),
        (IndexError(), True),
        (SystemExit(), False),
    ],
)
async def test_the_retry_policy_says_which_exceptions_are_final(error: BaseException, final: bool) -> None:
    async def broken() -> None:
        raise error

    host = Host(broken, retry=RetryPolicy.exponential(on=(LookupError,), give_up_on=(IndexError,)))
    assert (await host.failure("broken")).final is final


def spoilt() -> Retry:
    """A wish that was no time when it was raised."""
    wish = Retry()
    wish.after = float("nan")
    return wish


@pytest.mark.parametrize(
    ("error", "ending", "after_ms", "final"),
    [
        (Retry(), "failed", -1, False),
        (Retry(after=1.5, reason="busy"), "failed", 1_500, False),
        (Snooze(60), "snoozed", 60_000, False),
        (Discard("of no use"), "discarded", -1, True),
        (Throttle("ann", 2.5), "snoozed", 2_500, False),
        (spoilt(), "failed", -1, False),
    ],
)
async def test_tasks_can_say_what_should_happen_next(
    error: Exception, ending: str, after_ms: int, final: bool
) -> None:
    async def wishful() -> None:
        raise error

    failure = await Host(wishful, retry=RetryPolicy.exponential(on=(KeyError,))).failure("wishful")
    assert (failure.ending, failure.after_ms, failure.final) == (ending, after_ms, final)
    assert failure.fault is not None


async def test_a_throttle_names_the_key_and_how_long() -> None:
    async def polite() -> None:
        raise Throttle("api.example", 30, "429")

    failure = await Host(polite).failure("polite")
    assert (failure.hold_key, failure.hold_ms) == ("api.example", 30_000)
    assert failure.fault is not None and failure.fault.message == "429"


async def test_a_policy_that_fails_itself_leaves_a_failure_that_tells_both() -> None:
    def undecided(error: BaseException) -> bool:
        raise LookupError("no opinion")

    async def broken() -> None:
        raise ValueError("the task's own")

    host = Host(broken, retry=RetryPolicy.exponential(on=[undecided]))
    failure = await host.failure("broken")
    assert (failure.ending, failure.final) == ("failed", False)
    assert failure.fault is not None
    assert "no opinion" in failure.fault.traceback and "the task's own" in failure.fault.traceback


# -- results and arguments ------------------------------------------------------------------------


async def test_a_result_that_cannot_be_sent_is_a_final_failure_that_names_its_type() -> None:
    class Car:
        pass

    async def build() -> Car:
        return Car()

    failure = await Host(build).failure("build")
    assert (failure.ending, failure.final) == ("failed", True)
    assert failure.fault is not None and "Car" in failure.fault.message and "build()" in failure.fault.message


@pytest.mark.parametrize("size", [PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, 3 * PAYLOAD_BYTES_MAX])
async def test_a_result_that_is_too_large_is_a_final_failure(size: int) -> None:
    async def build() -> bytes:
        return b"x" * size

    failure = await Host(build).failure("build")
    assert (failure.ending, failure.final) == ("failed", True)
    assert failure.fault is not None and str(PAYLOAD_BYTES_MAX) in failure.fault.message


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_arguments_that_cannot_be_read_are_rejected(kind: str) -> None:
    def plain() -> None: ...
    async def coroutine() -> None: ...

    host = Host(plain, coroutine)
    failure = await host.failure("coroutine" if kind == "async" else "plain", payload=b"\xc1")
    assert failure.ending == "rejected"
    assert failure.fault is not None and failure.fault.type == "taskq.errors.DecodeError"


async def test_arguments_that_do_not_fit_the_function_are_rejected() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    failure = await Host(add).failure("add", 1)
    assert (failure.ending, failure.final) == ("rejected", True)
    assert failure.fault is not None and failure.fault.type == "TypeError" and "'b'" in failure.fault.message


async def test_unknown_flags_are_rejected_not_guessed() -> None:
    async def add() -> None: ...

    failure = await Host(add).failure("add", flags=4)
    assert (failure.ending, failure.final) == ("rejected", True)
    assert failure.fault is not None and "0x4" in failure.fault.message


async def test_an_unknown_task_is_rejected_and_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    with caplog.at_level(logging.WARNING, "taskq.worker"):
        for _ in range(3):
            failure = await host.failure("ghost")
            assert failure.ending == "rejected"
            assert failure.fault is not None and "'ghost'" in failure.fault.message
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# -- stopping -------------------------------------------------------------------------------------


async def test_a_revoked_task_is_cancelled_and_its_finally_runs() -> None:
    cleaned = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    host = Host(slow)
    lease = host.deliver("slow")
    await asyncio.sleep(0)
    host.revoke(lease, "not needed")
    failure = await host.report(lease)
    assert isinstance(failure, Failure) and failure.ending == "cancelled"
    assert failure.fault is not None and "not needed" in failure.fault.message
    assert cleaned == [True]


async def test_a_task_revoked_before_its_first_step_never_runs_and_is_reported() -> None:
    ran = []

    async def quick() -> None:
        ran.append(True)

    host = Host(quick)
    lease = host.deliver("quick")
    host.revoke(lease)
    failure = await host.report(lease)
    assert isinstance(failure, Failure) and failure.ending == "cancelled"
    assert ran == []


async def test_a_task_revoked_while_it_waits_for_a_slot_never_runs() -> None:
    gate = Gate()
    host = Host(gate.task(), slots=1)
    running, waiting = host.deliver("gated"), host.deliver("gated")
    host.revoke(waiting)
    assert isinstance(await host.report(waiting), Failure)
    gate.let.set()
    assert isinstance(await host.report(running), Success)


async def test_a_task_that_swallows_its_cancellation_keeps_its_slot_and_its_result() -> None:
    gate, after = Gate(), Gate()

    async def stubborn() -> str:
        gate.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await gate.let.wait()
        return "done all the same"

    host = Host(stubborn, after.task("after"), slots=1)
    lease = host.deliver("stubborn")
    await gate.began.wait()
    host.revoke(lease)
    next_lease = host.deliver("after")
    for _ in range(5):
        await asyncio.sleep(0)
    assert host.reports() == {} and not after.began.is_set()
    gate.let.set()
    report = await host.report(lease)
    assert isinstance(report, Success) and unpack_value(report.result) == "done all the same"
    await after.began.wait()
    after.let.set()
    await host.report(next_lease)


async def test_a_revoked_thread_is_reported_at_once_and_its_slot_is_missed_until_it_returns() -> None:
    began, let = threading.Event(), threading.Event()

    def slow() -> str:
        began.set()
        let.wait(30)
        return "too late"

    host = Host(slow, slots=2)
    lease = host.deliver("slow")
    await asyncio.to_thread(began.wait, 30)
    host.revoke(lease)
    failure = await host.report(lease)
    assert isinstance(failure, Failure) and failure.ending == "cancelled"
    assert host.slots()["thread"] == 1
    let.set()
    other = await host.run("slow")
    assert isinstance(other, Success)
    async with asyncio.timeout(30):
        while host.slots()["thread"] != 2:
            await asyncio.sleep(0)
    assert len(host.reports()) == 2


@pytest.mark.parametrize("field", ["on", "give_up_on"])
async def test_a_policy_that_raises_does_not_hide_what_the_task_raised(field: str) -> None:
    def hasty(error: BaseException) -> bool:
        raise KeyError(error.args[1])

    async def boom() -> None:
        raise OSError("disk on fire", 5)

    which: Any = {field: [hasty]}
    failure = await Host(boom, retry=RetryPolicy.exponential(**which)).failure("boom")
    assert failure.fault is not None and (failure.ending, failure.final) == ("failed", False)
    assert (failure.fault.type, failure.fault.message) == ("OSError", "[Errno disk on fire] 5")
    assert "of its retry policy raised KeyError: 5" in failure.fault.traceback


async def test_an_error_that_takes_no_note_is_told_all_the_same() -> None:
    class Shy(Exception):
        def add_note(self, note: str) -> NoReturn:
            raise RuntimeError("no notes")

    def hasty(error: BaseException) -> NoReturn:
        raise KeyError

    async def boom() -> None:
        raise Shy("please")

    failure = await Host(boom, retry=RetryPolicy.exponential(on=[hasty])).failure("boom")
    assert failure.fault is not None and failure.fault.message == "please" and not failure.final


# -- timeouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_an_attempt_that_takes_too_long_is_timed_out(kind: str) -> None:
    let = threading.Event()

    def plain() -> None:
        let.wait(30)

    async def coroutine() -> None:
        await asyncio.Event().wait()

    host = Host(plain, coroutine)
    failure = await host.failure("coroutine" if kind == "async" else "plain", timeout_ms=20)
    let.set()
    assert failure.ending == "timed_out" and not failure.final
    assert failure.fault is not None and "0.02 s" in failure.fault.message
    assert failure.fault.type == "TimeoutError"


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_timeout_that_is_extended_does_not_end_the_attempt(kind: str) -> None:
    gate, let = Gate(), threading.Event()

    async def coroutine() -> None:
        current().extend(60)
        await asyncio.to_thread(let.wait, 30)

    def plain() -> None:
        current().extend(60)
        let.wait(30)

    host = Host(coroutine, plain, gate.task())
    extended = host.deliver("coroutine" if kind == "async" else "plain", timeout_ms=100)
    short = await host.run("gated", timeout_ms=200)
    assert isinstance(short, Failure) and short.ending == "timed_out"
    assert extended not in host.reports()
    assert [item.lease for said in host.said if isinstance(said, Extend) for item in said.items] == [extended]
    let.set()
    assert isinstance(await host.report(extended), Success)


# -- what a task sees of its job --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_task_knows_its_job_and_tells_how_far_it_is(kind: str) -> None:
    def plain() -> list[object]:
        context = current()
        context.progress(1, 2, "half")
        return [context.job_id, context.task, context.attempt, context.deadline is not None]

    async def coroutine() -> list[object]:
        return plain()

    host = Host(plain, coroutine)
    name = "coroutine" if kind == "async" else "plain"
    lease = host.deliver(name, timeout_ms=60_000)
    report = await host.report(lease)
    assert isinstance(report, Success)
    assert unpack_value(report.result) == [f"{lease:032x}", name, 1, True]
    (progress,) = [said for said in host.said if isinstance(said, Progress)]
    assert [(item.lease, item.done, item.total, item.text) for item in progress.items] == [
        (lease, 1, 2, "half")
    ]


async def test_a_task_in_a_thread_can_see_that_it_should_stop() -> None:
    began, over = threading.Event(), threading.Event()
    seen: list[str] = []

    def patient() -> None:
        context = current()
        began.set()
        while not context.cancelled:
            threading.Event().wait(0.001)
        seen.append(context.reason)
        over.set()

    host = Host(patient)
    lease = host.deliver("patient")
    await asyncio.to_thread(began.wait, 30)
    host.revoke(lease, "not needed")
    await asyncio.to_thread(over.wait, 30)
    assert seen == ["not needed"]


# -- the end --------------------------------------------------------------------------------------


async def test_draining_hands_back_what_has_not_begun_and_finishes_the_rest() -> None:
    gate = Gate()
    host = Host(gate.task(), slots=1)
    running, waiting = host.deliver("gated"), host.deliver("gated")
    await gate.began.wait()
    host.runner.drain()
    late = host.deliver("gated")
    for lease in (waiting, late):
        report = await host.report(lease)
        assert isinstance(report, Failure) and report.ending == "returned"
    gate.let.set()
    assert isinstance(await host.report(running), Success)


async def test_handing_back_cancels_tasks_and_abandoning_gives_up_on_those_that_do_not_stop() -> None:
    gate, begun, let = Gate(), asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        while not let.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let.wait()

    host = Host(gate.task(), stubborn)
    polite, rude = host.deliver("gated"), host.deliver("stubborn")
    await gate.began.wait()
    await begun.wait()
    host.runner.hand_back()
    report = await host.report(polite)
    assert isinstance(report, Failure) and report.ending == "returned"
    assert rude not in host.reports()
    host.runner.abandon()
    report = await host.report(rude)
    assert isinstance(report, Failure) and report.ending == "returned"
    assert host.runner.is_empty
    let.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(host.reports()) == 2


async def test_it_is_idle_when_the_broker_has_recorded_the_last_report() -> None:
    async def quick() -> None: ...

    host = Host(quick)
    assert await host.runner.wait_idle(0)
    await host.run("quick")
    assert not await host.runner.wait_idle(0)
    waiting = asyncio.create_task(host.runner.wait_idle(30))
    await asyncio.sleep(0)
    host.runner.on_message(Acked(1))
    assert await waiting


# -- more than there are slots ------------------------------------------------------------------------


def endings(host: Host) -> dict[int, str]:
    return {
        lease: report.ending if isinstance(report, Failure) else "succeeded"
        for lease, report in host.reports().items()
    }


async def test_what_waits_for_a_slot_is_handed_back_when_it_is_asked_for() -> None:
    gate = Gate()
    host = Host(gate.task(), slots=1)
    running, first, second = (host.deliver("gated") for _ in range(3))
    await gate.began.wait()
    host.recall(second, running)
    assert endings(host) == {second: "returned"}
    gate.let.set()
    await host.report(first)
    assert endings(host) == {second: "returned", running: "succeeded", first: "succeeded"}


async def test_what_has_a_slot_but_has_not_begun_is_handed_back_too() -> None:
    began = []

    async def mark(number: int) -> None:
        began.append(number)

    host = Host(mark)
    leases = [host.deliver("mark", number) for number in range(3)]
    host.recall(leases[1])
    for lease in leases:
        await host.report(lease)
    assert endings(host) == dict(zip(leases, ("succeeded", "returned", "succeeded"), strict=True))
    assert began == [0, 2]


async def test_a_thread_that_has_a_slot_goes_on() -> None:
    let = threading.Event()

    def work() -> None:
        let.wait(30)

    host = Host(work, slots=1)
    running, waiting = host.deliver("work"), host.deliver("work")
    host.recall(running, waiting)
    assert endings(host) == {waiting: "returned"}
    let.set()
    assert isinstance(await host.report(running), Success)


async def test_what_waits_too_long_is_handed_back_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "LINE_WAIT_MS", 20)
    gate = Gate()
    host = Host(gate.task(), slots=1)
    running, waiting = host.deliver("gated"), host.deliver("gated")
    report = await host.report(waiting)
    assert isinstance(report, Failure)
    assert report.ending == "returned"
    gate.let.set()
    assert isinstance(await host.report(running), Success)


async def test_the_timeout_of_what_waits_begins_when_it_begins() -> None:
    gate = Gate()
    seen: list[float] = []

    async def look() -> None:
        deadline = current().deadline
        assert deadline is not None
        seen.append((deadline - datetime.now(UTC)).total_seconds())

    host = Host(gate.task(), look, slots=1)
    host.deliver("gated")
    waiting = host.deliver("look", timeout_ms=60_000)
    await gate.began.wait()
    assert host.runner.left(host.runner._attempts[waiting]) is None
    gate.let.set()
    assert isinstance(await host.report(waiting), Success)
    assert 50 < seen[0] <= 60


async def test_tiny_tasks_ask_for_more_and_a_recall_ends_that(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(runner_module, "monotonic", lambda: clock[0])

    async def tiny() -> None: ...

    host = Host(tiny, slots=2)
    for _ in range(300):
        await host.run("tiny")
    clock[0] += 1
    await host.run("tiny")
    assert host.slots()["async"] == 6  # 300 a second: six in 20 ms
    host.recall()
    assert host.slots()["async"] == 2
    await host.run("tiny")
    assert host.slots()["async"] == 2
