"""Attempts of async tasks on the loop: a Task each for those that wait, a context each for all."""

import asyncio
from contextvars import ContextVar

from taskq import TaskQ
from taskq.protocol.messages import Delivery, Failure, Terms
from taskq.worker.attempts import Attempt, Definition
from taskq.worker.executors.coroutines import Coroutines, Outcome
from taskq.worker.hooks.scope import WorkerScope

colour: ContextVar[str] = ContextVar("colour", default="none")
EMPTY = b"\x92\x90\x80"


class Floor:
    """Runs functions as attempts, and keeps how each ended."""

    def __init__(self) -> None:
        self.q = TaskQ()
        self.outcomes: dict[int, Outcome] = {}
        self.begun: list[Attempt] = []
        loop = asyncio.get_running_loop()
        self.coroutines = Coroutines(loop, self.begun.append, self._on_done, WorkerScope())
        self._changed = asyncio.Event()

    def definition(self, fn: object) -> Definition:
        return Definition(self.q.task(fn))  # type: ignore[call-overload]  # any function will do

    def submit(self, definition: Definition, lease: int) -> Attempt:
        terms = Terms(definition.name)
        attempt = Attempt(Delivery(bytes(16), lease, 1, 0, EMPTY), terms, definition, self)  # type: ignore[arg-type]
        self.coroutines.submit(attempt)
        return attempt

    def left(self, attempt: Attempt) -> None:
        return None

    def _on_done(self, attempt: Attempt, outcome: Outcome) -> None:
        self.outcomes[attempt.delivery.lease] = outcome
        self._changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()


async def test_a_variable_set_by_one_job_is_not_seen_by_the_next() -> None:
    seen = []

    async def paint() -> None:
        seen.append(colour.get())
        colour.set("red")

    floor = Floor()
    painting = floor.definition(paint)
    for lease in range(3):
        floor.submit(painting, lease)
    await floor.until(3)
    assert seen == ["none"] * 3


async def test_jobs_that_wait_run_side_by_side_each_in_its_own_task() -> None:
    tasks = []
    all_here = asyncio.Barrier(5)

    async def meet() -> None:
        colour.set(str(len(tasks)))
        mine = colour.get()
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(20):  # needs a Task that stays the same through the wait
            await all_here.wait()
        assert colour.get() == mine
        tasks.append(asyncio.current_task())

    floor = Floor()
    meeting = floor.definition(meet)
    for lease in range(5):
        floor.submit(meeting, lease)
    await floor.until(5)
    assert set(floor.outcomes.values()) == {b"\xc0"}
    assert len({id(task) for task in tasks}) == 5


async def test_a_job_that_cancels_its_own_task_harms_no_other() -> None:
    async def quit_at_once() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def wait_a_little() -> None:
        await asyncio.sleep(0)

    floor = Floor()
    quitting, waiting = floor.definition(quit_at_once), floor.definition(wait_a_little)
    for lease in range(0, 6, 2):
        floor.submit(quitting, lease)
        floor.submit(waiting, lease + 1)
    await floor.until(6)
    assert set(floor.outcomes.values()) == {b"\xc0"}


async def test_what_is_raised_before_and_after_a_wait_is_reported() -> None:
    async def early() -> None:
        raise ValueError("early")

    async def late() -> None:
        await asyncio.sleep(0)
        raise ValueError("late")

    floor = Floor()
    floor.submit(floor.definition(early), 1)
    floor.submit(floor.definition(late), 2)
    await floor.until(2)
    faults = [outcome.fault for outcome in floor.outcomes.values() if isinstance(outcome, Failure)]
    assert [fault.message for fault in faults if fault is not None] == ["early", "late"]


async def test_a_cancelled_job_hears_of_it_where_it_waits() -> None:
    heard = []

    async def listen() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append("cancelled")
            return "in order"
        return "not reached"

    floor = Floor()
    attempt = floor.submit(floor.definition(listen), 1)
    while attempt.running is None:
        await asyncio.sleep(0)
    attempt.running.cancel()
    await floor.until(1)
    assert heard == ["cancelled"]
    assert floor.outcomes[1] == b"\xa8in order"
