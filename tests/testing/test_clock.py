"""Time moves when it is moved, and timers fire in their order."""

import asyncio
import contextvars
from datetime import UTC, datetime

import pytest

from taskq.testing.clock import Clock, ClockLoop, clock_var

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


async def test_timers_come_in_the_order_of_their_times_and_then_of_their_making() -> None:
    clock = Clock(asyncio.get_running_loop(), NEW_YEAR)
    called: list[str] = []
    for delay, name in ((20, "c"), (10, "a"), (20, "d"), (10, "b"), (30, "e")):
        clock.call_later(delay, called.append, name)
    gone = clock.call_later(5, called.append, "cancelled")
    gone.cancel()
    begin = clock.us
    assert clock.next_us() == begin + 10
    for timer in clock.move(begin + 20):
        timer.fire()
    assert called == ["a", "b", "c", "d"]
    assert clock.next_us() == begin + 30
    assert [timer.due_us for timer in clock.end()] == [begin + 30]


async def test_a_timer_that_is_cancelled_by_the_one_before_does_not_fire() -> None:
    clock = Clock(asyncio.get_running_loop())
    called: list[str] = []
    later = clock.call_later(10, called.append, "no")
    clock.call_at(clock.us + 5, later.cancel, (), None)
    for timer in clock.move(clock.us + 10):
        timer.fire()
    assert called == []


async def test_cancelled_timers_do_not_pile_up() -> None:
    clock = Clock(asyncio.get_running_loop())
    kept = clock.call_later(10, print)
    for _ in range(10_000):
        clock.call_later(10, print).cancel()
    assert len(clock._timers) < 200
    assert clock.move(clock.us + 10) == [kept]


async def test_both_clocks_of_the_broker_go_together() -> None:
    clock = Clock(asyncio.get_running_loop(), NEW_YEAR)
    before = clock.now
    clock.move(clock.us + 1_500_000)
    assert clock.now.boot_ms - before.boot_ms == clock.now.wall_ms - before.wall_ms == 1_500
    assert clock.moment == datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    with pytest.raises(AssertionError, match="backwards"):
        clock.move(0)


async def test_what_is_called_through_a_clock_loop_is_in_its_context() -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    variables = contextvars.copy_context()
    variables.run(clock_var.set, clock)
    mine = ClockLoop(loop, clock, variables)
    seen: list[Clock | None] = []

    async def look() -> None:
        seen.append(clock_var.get())

    await mine.create_task(look())
    mine.call_soon(lambda: seen.append(clock_var.get()))
    mine.call_soon_threadsafe(lambda: seen.append(clock_var.get()))
    mine.call_later(1, lambda: seen.append(clock_var.get()))
    await asyncio.sleep(0)
    for timer in clock.move(clock.us + 1_000_000):
        timer.fire()
    while len(seen) < 4:
        await asyncio.sleep(0)
    assert seen == [clock] * 4
    assert clock_var.get() is None
    assert mine.time() == clock.us / 1e6
    assert mine.is_running()  # what it does not know, the loop does
