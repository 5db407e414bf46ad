"""What a test of users' tasks costs with taskq.testing: real time, in this process, on each event loop."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Final

from benchmarks.harness.program import NEW_LOOP, Options, run, say
from benchmarks.harness.report import Bound, Report
from taskq import JobFailed, RetryPolicy, TaskQ
from taskq.testing import Embedded

TESTS: Final = 200
TESTS_QUICK: Final = 20
A_TEST: Final = Bound(due=5, goal=2, at_most=True)
LOOPS: Final = {"asyncio": asyncio.new_event_loop, "uvloop": NEW_LOOP}

Measured = Callable[["App"], Awaitable[None]]


class App:
    """A users' app of common size: what is announced when it starts is part of the cost."""

    def __init__(self, extra_tasks: int = 20) -> None:
        q = self.q = TaskQ()

        @q.task
        async def add(a: int, b: int) -> int:
            return a + b

        @q.task
        def plain(a: int, b: int) -> int:
            return a + b

        @q.task(retry=RetryPolicy.exponential(max_attempts=20, base=60, jitter="none", max_delay=7_200))
        async def hopeless() -> None:
            raise OSError("not today")

        for number in range(extra_tasks):
            q.task(name=f"extra.{number}")(add.fn)
        self.add, self.plain, self.hopeless = add, plain, hopeless


async def one_job(app: App) -> None:
    async with Embedded(app.q):
        assert await (await app.add.submit(2, 3)).result() == 5


async def one_in_a_thread(app: App) -> None:
    async with Embedded(app.q):
        assert await (await app.plain.submit(2, 3)).result() == 5


async def a_hundred_jobs(app: App) -> None:
    async with Embedded(app.q) as env:
        await app.q.submit_many([app.add.call(n, n) for n in range(100)])
        await env.drain()
        assert len(env.submitted("add")) == 100


async def a_day_of_retries(app: App) -> None:
    async with Embedded(app.q) as env:
        before = env.now
        with suppress(JobFailed):
            await (await app.hopeless.submit()).result()
        assert (env.now - before).days >= 1


async def a_day_of_cron(app: App) -> None:
    ticks: list[int] = []

    @app.q.every("1m", name="tick")
    async def tick() -> None:
        ticks.append(1)

    async with Embedded(app.q) as env:
        await env.advance("1d")
    assert len(ticks) >= 1_439


async def measure(options: Options) -> Report:
    report = Report("testing_env", options.runs)
    many = TESTS_QUICK if options.quick else TESTS
    programs: list[tuple[str, Measured, int, Bound | None]] = [
        ("start, submit, run, stop", one_job, many, A_TEST),
        ("  the same with a plain function", one_in_a_thread, many, None),
        ("  with 100 jobs, and looking at them", a_hundred_jobs, many // 5, None),
        ("  a day of retries: 20 attempts", a_day_of_retries, many // 5, None),
        ("  a day of a schedule: 1,440 jobs", a_day_of_cron, 1, None),
    ]
    for loop, new_loop in LOOPS.items():
        for what, test, count, bound in programs:
            say(f"{loop}: {what.strip()}")
            each = [
                await asyncio.to_thread(_on_loop, new_loop, lambda test=test, n=count: _ms(test, n))
                for _ in range(options.runs)
            ]
            report.add(f"{what}, {loop}", "-", "ms", each, bound=bound)
    report.notes.append(
        f"The mean of {many} tests a round (of fewer where one takes long), one after the other on one loop, "
        "with the collector on; 23 tasks are announced. Imports are not in it."
    )
    return report


async def _ms(test: Measured, count: int) -> float:
    """The mean time of one, in ms."""
    apps = [App() for _ in range(count)]
    await test(App())  # what is loaded and compiled at first use
    gc.collect()
    began = time.perf_counter()
    for app in apps:
        await test(app)
    return (time.perf_counter() - began) / count * 1_000


def _on_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Coroutine[None, None, float]]
) -> float:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


def main() -> None:
    run(measure, __doc__, runs=3)


if __name__ == "__main__":
    main()
