"""A loop that does not turn is told of while it does not, with the task and the line that hold it up."""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator

import pytest

from taskq.worker.insight import loop_watch
from taskq.worker.insight.loop_watch import LoopWatch
from tests.worker.test_runner import Host

SLOW_MS = 20


class Ear(logging.Handler):
    """Hears what is logged, and lets others wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.heard = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.heard:
            self.records.append(record)
            self.heard.notify_all()

    def wait(self, level: int, count: int = 1) -> logging.LogRecord:
        """Blocks until the so-manieth of this level was heard."""
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.of(level)) >= count, 60)
            return self.of(level)[count - 1]

    def of(self, level: int) -> list[logging.LogRecord]:
        return [record for record in self.records if record.levelno == level]


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    logger = logging.getLogger("taskq.worker")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(ear)
    yield ear
    logger.removeHandler(ear)
    logger.setLevel(before)


async def test_a_task_that_blocks_is_named_while_it_blocks(ear: Ear) -> None:
    told = []

    async def stubborn() -> None:
        told.append(ear.wait(logging.WARNING))  # blocks until somebody has complained of it

    host = Host(stubborn, slow_callback_ms=SLOW_MS)
    await host.run("stubborn")
    text = told[0].getMessage()
    assert text.startswith(f"task 'stubborn' (job {1:032x}) blocks the event loop, for ")
    assert re.search(rf"{re.escape(__file__)}:\d+ in Ear.wait", text)  # the user's innermost line
    assert "told.append(ear.wait(logging.WARNING))" in text
    assert vars(told[0])["job"] == f"{1:032x}"
    assert vars(told[0])["task"] == "stubborn"
    ended = await asyncio.to_thread(ear.wait, logging.INFO)
    assert re.match(r"the event loop turns again, after \d+ ms; task 'stubborn'", ended.getMessage())
    host.runner.close()


async def test_so_is_one_that_blocks_after_it_has_waited(ear: Ear) -> None:
    told = []

    async def patient() -> None:
        await asyncio.sleep(0.001)
        told.append(ear.wait(logging.WARNING))

    host = Host(patient, slow_callback_ms=SLOW_MS)
    await host.run("patient")
    assert told[0].getMessage().startswith("task 'patient'")
    host.runner.close()


async def test_what_is_no_task_is_told_apart(ear: Ear) -> None:
    done = asyncio.Event()

    def callback() -> None:
        ear.wait(logging.WARNING)
        done.set()

    async def waiting() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await done.wait()

    host = Host(waiting, slow_callback_ms=SLOW_MS)
    await host.run("waiting")
    (record,) = ear.of(logging.WARNING)
    assert record.getMessage().startswith("code that is not a task blocks the event loop")
    stack = record.getMessage().splitlines()
    assert stack[1].endswith(", in callback")  # not what is around every callback
    host.runner.close()


async def test_an_idle_worker_has_nobody_awake(ear: Ear) -> None:
    async def quick() -> None: ...

    host = Host(quick, slow_callback_ms=SLOW_MS)
    watch = host.runner._loop_watch
    assert watch.is_asleep and watch._thread is None
    await host.run("quick")
    async with asyncio.timeout(60):
        while not watch.is_asleep:
            await asyncio.sleep(0.01)
    await host.run("quick")
    assert not watch.is_asleep
    thread = watch._thread
    assert thread is not None
    host.runner.close()
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()


async def test_zero_watches_nothing() -> None:
    async def quick() -> None: ...

    host = Host(quick)
    await host.run("quick")
    assert host.runner._loop_watch._thread is None
    host.runner.close()


async def test_a_loop_that_was_closed_ends_the_watch() -> None:
    loop = asyncio.new_event_loop()
    watch = LoopWatch(loop, SLOW_MS, lambda: True)
    loop.close()
    watch.rouse()
    assert watch._thread is not None
    await asyncio.to_thread(watch._thread.join, 60)
    assert not watch._thread.is_alive()


def test_what_is_remembered_of_lines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(loop_watch, "BLOCKINGS_REMEMBERED", 3)
    monkeypatch.setattr(loop_watch.time, "monotonic", lambda: clock[0])
    told = loop_watch._Told()
    assert [told._note(("task", "a")) for _ in range(3)] == [0, -1, -1]
    clock[0] += 61
    assert told._note(("task", "a")) == 2
    for line in "bcde":
        assert told._note(("task", line)) == 0
    assert len(told._last) == 3
