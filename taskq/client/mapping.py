"""`map`: a job for each of any number of items, some at a time, and their results in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from taskq.client.background import run
from taskq.client.job import Job
from taskq.client.making import new_job, outgoing_of, with_ext
from taskq.client.middleware import Outgoing, submit_through
from taskq.client.outbox import outbox_var
from taskq.client.producer import resolve
from taskq.client.session import NewJob, Submission
from taskq.errors import Busy, ConfirmTimeout, Refused
from taskq.limits import BATCH_MAX, CONFIRM_TIMEOUT_MS, HORIZON_MS, MAP_KEPT, MAP_WINDOW, UNCONFIRMED_JOBS_MAX
from taskq.protocol.messages import Outcome

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.task import Call, Mappable

_CONFIRM_SECONDS: Final = CONFIRM_TIMEOUT_MS / 1_000
# Longer than anybody waits: what ends it is the end of the map.
_FOREVER: Final = HORIZON_MS / 1_000
_REASON: Final = "the map() that waited for it has ended"
# Jobs are submitted when there is room for this part of all: in few messages, and never too late.
_PARTS: Final = 8


class Place:
    """An item's place in the order: its job, or why there is none."""

    __slots__ = ("error", "is_confirmed", "is_own", "job")

    def __init__(self, job: Job[Any] | None, error: BaseException | None = None) -> None:
        self.job = job
        self.error = error
        self.is_confirmed = False
        self.is_own = True  # not one that was there already, which others wait for too

    @property
    def is_done(self) -> bool:
        return self.error is not None or (self.job is not None and self.job._outcome is not None)

    def value(self) -> Any:
        """The result. Raises what stands here instead."""
        if self.error is not None:
            raise self.error
        assert self.job is not None
        return self.job._take()


class Window:
    """The items between the last one that was taken and the last one whose result was. Lives on the loop
    that it is made in; `free` may be asked from any thread."""

    def __init__(self, app: "TaskQ", concurrency: int) -> None:
        self._app = app
        self._producer = app._producer()
        self._concurrency = concurrency
        self._order: deque[Place] = deque()
        self._open: dict[bytes, list[Place]] = {}
        self._unfinished = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._sending: dict[asyncio.Task[None], None] = {}
        self.is_fed = False  # there are no more items

    @property
    def free(self) -> int:
        """How many more items may be added now."""
        kept = MAP_KEPT * self._concurrency - len(self._order)
        return max(min(self._concurrency - self._unfinished, kept, self._producer.session.room), 0)

    @property
    def is_empty(self) -> bool:
        return not self._order

    @property
    def is_ready(self) -> bool:
        """Is there a result to take?"""
        return bool(self._order) and self._order[0].is_done

    @property
    def should_feed(self) -> bool:
        """Is there so much room that it should be filled, or nothing else to do?"""
        free = self.free
        return free > 0 and (free * _PARTS >= self._concurrency or not self.is_ready)

    def add(self, calls: "Iterable[Call[Any] | Exception]") -> None:
        """Submit these, as many as there is room for; what cannot be called has its place all the same."""
        producer, jobs, places = self._producer, [], []
        around, outgoing = self._app._around_submissions, []
        for call in calls:
            if isinstance(call, Exception):
                self._order.append(Place(None, call))
                continue
            new = new_job(call.task, call.payload, producer.ids, producer.id)
            jobs.append(new)
            if around:
                outgoing.append(outgoing_of(call.task, new))
            place = Place(call.task.kind_of_job(self._app, new[0], call.task.read_result))
            places.append(place)
            self._order.append(place)
        self._unfinished += len(jobs)
        if outgoing:
            sending = asyncio.get_running_loop().create_task(
                self._submit_through(jobs, places, outgoing), name="taskq map"
            )
            self._sending[sending] = None
            sending.add_done_callback(self._sending.pop)
        elif jobs:
            producer.session.submit(jobs, lambda submission: self._decided(places, submission))
            producer.link.wake()
        self._notify()

    def take(self) -> Place:
        """The first of all, which is done."""
        place = self._order.popleft()
        self._notify()
        return place

    async def wait(self) -> None:
        """Until something has changed: a result came, or was taken, or there was an item.

        ConfirmTimeout when there is no connection, and was none for as long as `submit` would wait.
        """
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(news)
        if self._producer.session.room <= 0:
            self._producer.session.when_room(self._notify)
        try:
            await self._producer.wait(news, _CONFIRM_SECONDS)
        except TimeoutError:
            self._check_confirmed()
        finally:
            if news in self._waiting:
                self._waiting.remove(news)

    async def close(self) -> None:
        """Ask that what is on its way does not complete. Waits for no answer."""
        sending = list(self._sending)
        for task in sending:
            task.cancel()
        try:
            if sending:
                await asyncio.wait(sending)
        finally:
            self._cancel_rest()

    def _cancel_rest(self) -> None:
        producer = self._producer
        jobs = [place.job for place in self._order if place.is_own and not place.is_done]
        ids = list({job._id: None for job in jobs if job is not None})
        producer.session.unwatch(self._open, self._on_outcome)
        self._order.clear()
        self._open = {}
        if not producer.is_over:
            for at in range(0, len(ids), BATCH_MAX):
                producer.session.cancel(ids[at : at + BATCH_MAX], _REASON, _ignore)
            producer.link.wake()

    async def _submit_through(
        self, jobs: list[NewJob], places: list[Place], outgoing: list[Outgoing]
    ) -> None:
        """Inside of all middleware. What that raises stands in the places of what was not submitted."""

        async def submit() -> None:
            at = 0
            for submission in await self._producer.submit(with_ext(jobs, outgoing), _FOREVER):
                self._decided(places[at : at + submission.count], submission)
                at += submission.count

        try:
            await submit_through(self._app._around_submissions, outgoing, submit)
        except Exception as error:
            undecided = [place for place in places if not place.is_confirmed]
            for place in undecided:
                place.error = error
            self._unfinished -= len(undecided)
            self._notify()

    def _decided(self, places: list[Place], submission: Submission) -> None:
        """The broker has confirmed them, or not."""
        for verdict in submission.verdicts:
            place = places[verdict.seq - submission.first]
            assert place.job is not None
            if verdict.code == "exists":
                place.job._id = verdict.id or place.job._id
                place.is_own = False
                continue
            place.error = Refused.from_code(verdict.code, verdict.text)
            place.error.add_note(f"job {place.job.id}")
            self._unfinished -= 1
        confirmed = [place for place in places if place.error is None]
        for place in places:
            place.is_confirmed = True
        if self._order:  # else it is closed
            self._watch(confirmed)
        self._notify()

    def _watch(self, places: list[Place]) -> None:
        ids = []
        for place in places:
            assert place.job is not None
            place.job._is_confirmed = True
            ids.append(place.job._id)
        try:
            self._producer.watch(ids, self._on_outcome)
        except Busy as error:  # of all that this client waits for
            for place in places:
                place.error = error
            self._unfinished -= len(places)
            return
        for id, place in zip(ids, places, strict=True):
            self._open.setdefault(id, []).append(place)

    def _on_outcome(self, outcome: Outcome) -> None:
        for place in self._open.pop(outcome.id, ()):
            assert place.job is not None
            place.job._settle(outcome)
            self._unfinished -= 1
        self._notify()

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            resolve(news, None)

    def _check_confirmed(self) -> None:
        link = self._producer.link
        place = self._order[0] if self._order else None
        if link.connected or place is None or place.is_confirmed or place.job is None:
            return
        error = ConfirmTimeout(place.job.id, _CONFIRM_SECONDS)
        error.add_note(link.trouble)
        raise error


async def in_order(
    task: "Mappable[Any, Any]",
    items: Iterable[Any] | AsyncIterable[Any],
    concurrency: int | None,
    *,
    return_exceptions: bool,
) -> AsyncGenerator[Any, None]:
    """The results, in the order of the items. See `Task.map`."""
    window = _window(task.app, concurrency)
    feed: asyncio.Task[None] | None = None
    calls: Iterator[Call[Any] | Exception] = iter(())
    if isinstance(items, AsyncIterable):
        feed = asyncio.get_running_loop().create_task(_feed(window, task, items), name="taskq map")
    else:
        calls = _calls(task, items)
    try:
        while not (window.is_fed and window.is_empty):
            if feed is None and not window.is_fed and window.should_feed:
                _fill(window, calls)
            elif window.is_ready:
                place = window.take()
                yield _outcome(place) if return_exceptions else place.value()
            else:
                await window.wait()
    finally:
        if feed is not None:
            feed.cancel()
            await asyncio.wait([feed])
        await window.close()


def in_order_sync(
    task: "Mappable[Any, Any]",
    items: Iterable[Any],
    concurrency: int | None,
    *,
    return_exceptions: bool,
) -> Generator[Any, None, None]:
    """The same, blocking; the items are taken in the thread that asks for results."""
    window = run(_opened(task.app, concurrency))
    calls = _calls(task, items)
    try:
        while not (window.is_fed and window.is_empty):
            free = 0 if window.is_fed else window.free
            for place in run(_go_on(window, list(islice(calls, free)), free)):
                yield _outcome(place) if return_exceptions else place.value()
    finally:
        run(window.close())


def _window(app: "TaskQ", concurrency: int | None) -> Window:
    if outbox_var.get(None) is not None:
        raise RuntimeError(
            "map() inside the block of current().outbox() would wait for jobs that are submitted later; "
            "use it outside the block"
        )
    if concurrency is None:
        concurrency = MAP_WINDOW
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency is a number of jobs, not {concurrency!r}")
    if not 1 <= concurrency <= UNCONFIRMED_JOBS_MAX:
        raise ValueError(f"concurrency={concurrency}; 1 to {UNCONFIRMED_JOBS_MAX} jobs may be on their way")
    return Window(app, concurrency)


def _calls(task: "Mappable[Any, Any]", items: Iterable[Any]) -> "Iterator[Call[Any] | Exception]":
    """Each item as a call, or what is wrong with it; an iterable that raises ends with that."""
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            yield error
            return
        yield _call(task, item)


def _call(task: "Mappable[Any, Any]", item: Any) -> "Call[Any] | Exception":
    try:
        return task.call(item)
    except Exception as error:
        return error


def _fill(window: Window, calls: "Iterator[Call[Any] | Exception]") -> None:
    free = window.free
    some = list(islice(calls, free))
    window.is_fed = len(some) < free
    window.add(some)


async def _feed(window: Window, task: "Mappable[Any, Any]", items: AsyncIterable[Any]) -> None:
    """Takes items as they come, beside the results."""
    try:
        async for item in items:
            window.add([_call(task, item)])
            while not window.free:
                await window.wait()
    except Exception as error:
        window.add([error])
    finally:
        window.is_fed = True
        window.add(())


def _outcome(place: Place) -> Any:
    try:
        return place.value()
    except Exception as error:
        return error


async def _opened(app: "TaskQ", concurrency: int | None) -> Window:
    return _window(app, concurrency)


async def _go_on(window: Window, calls: "list[Call[Any] | Exception]", free: int) -> list[Place]:
    """Add these, and take what is ready: some, unless there is room for more."""
    if len(calls) < free:
        window.is_fed = True
    if calls:
        window.add(calls)
    while not window.is_ready and not window.is_empty and (window.is_fed or not window.free):
        await window.wait()
    ready = []
    while window.is_ready:
        ready.append(window.take())
    return ready


def _ignore(answer: object) -> None:
    """Whether they were cancelled matters to nobody."""
