"""Who is told to stop hears why, and who goes on is named."""

import asyncio
import contextlib
import threading

import pytest

from taskq.client.context import current
from taskq.protocol.messages import Failure, Success
from taskq.worker.executors import stops
from tests.worker.test_runner import Gate, Host


async def test_the_cancellation_says_why() -> None:
    heard: list[str] = []
    gate = Gate()

    async def task() -> None:
        gate.began.set()
        try:
            await gate.let.wait()
        except asyncio.CancelledError as error:
            heard.append(str(error))
            raise

    host = Host(task)
    lease = host.deliver("task")
    await gate.began.wait()
    host.revoke(lease, "not needed any more")
    await host.report(lease)
    await host.run("task", timeout_ms=10)
    assert heard == ["not needed any more", "ran longer than its timeout of 0.01 s"]


async def test_a_thread_sees_why() -> None:
    began, seen = threading.Event(), threading.Event()
    reasons: list[str] = []

    def task() -> None:
        began.set()
        while not current().cancelled:
            pass
        reasons.append(current().reason)
        seen.set()

    host = Host(task)
    lease = host.deliver("task")
    await asyncio.to_thread(began.wait, 30)
    host.revoke(lease, "not needed any more")
    await asyncio.to_thread(seen.wait, 30)
    assert reasons == ["not needed any more"]


async def test_who_cleans_up_within_the_grace_is_not_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    async def task() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await gate.let.wait()
        return "cleaned up"

    host = Host(task)
    lease = host.deliver("task", timeout_ms=10)
    attempt = host.runner._attempts[lease]
    while not attempt.cancelled:
        await asyncio.sleep(0)
    gate.let.set()
    assert isinstance(await host.report(lease), Success)
    assert host.runner._stops._told == {} and host.runner.is_empty
    assert "told to stop" not in caplog.text


async def test_who_swallows_it_is_reported_and_named_with_the_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stops, "STOP_GRACE_MS", 50)
    gate = Gate()

    async def deep() -> None:
        while not gate.let.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.let.wait()

    async def task() -> None:
        await deep()

    host = Host(task, slots=5)
    lease = host.deliver("task", timeout_ms=10)
    report = await host.report(lease)
    assert isinstance(report, Failure) and report.ending == "timed_out" and report.fault is not None
    assert "it has ignored that for 0.05 s, in deep at " in report.fault.message
    assert __file__ in report.fault.message
    assert "was told to stop (timed_out)" in caplog.text
    assert host.slots()["async"] == 4, "its slot is taken for as long as it goes on"
    assert not host.runner.is_empty
    gate.let.set()
    while host.slots()["async"] < 5:
        await asyncio.sleep(0)
    assert host.runner.is_empty
