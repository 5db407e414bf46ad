"""What a job tells while it runs, as its user gets it: items of a stream, events, log lines."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar

from msgspec import DecodeError as Undecodable
from msgspec.msgpack import Decoder

from taskq.client.following import Following, Missed, Restarted
from taskq.client.job import Job, Progress, error_of, moment
from taskq.client.payload import unpack_value
from taskq.client.producer import Producer, resolve
from taskq.errors import DecodeError, NotFound
from taskq.protocol.messages import Chunk, EventItem, FeedKind, JobStateName, LogItem, Outcome

T = TypeVar("T")
S = TypeVar("S")

_ENDS: Final = frozenset({"succeeded", "cancelled", "expired", "dead"})
_items: Final = Decoder(list[bytes])
_events: Final = Decoder(list[EventItem])
_lines: Final = Decoder(list[LogItem])


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. `kind`: `state` (it is in this state now), `failed` (an attempt
    ended without success, and this is what became of the job), or `progress`."""

    kind: str
    at: datetime
    state: JobStateName
    attempt: int  # the one that runs, or the last
    worker: str = ""
    progress: Progress | None = None
    ending: str = ""  # of an attempt that failed: failed, timed_out, crashed, snoozed
    error: str = ""  # `Type: message`
    reason: str = ""  # of a job that has ended
    due_at: datetime | None = None  # what a scheduled job waits for

    @property
    def is_last(self) -> bool:
        """The job has ended."""
        return self.kind == "state" and self.state in _ENDS


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that was logged inside a running job. `level` is logging's name for it, such as INFO."""

    at: datetime
    level: str
    logger: str
    text: str
    attempt: int


class StreamJob(Job[int], Generic[T], gc=False, eq=False):
    """A job of a generator task: `stream()` gives what it yields, `result()` how many items there were."""

    def stream(self) -> AsyncGenerator[T | Restarted | Missed, None]:
        """What the task yields, from the beginning or from what the broker still has of it.

        `Restarted(attempt)`: it was tried again, and what came before is void. `Missed(count)`: so many
        items that should stand here are gone. Ends when the job has succeeded; raises its error, as
        `result()` does, when it ended otherwise, after the items that came before. A consumer that
        takes nothing holds the task back for 30 s; then the oldest items are dropped.
        """
        return stream_of(self)

    def batches(self) -> AsyncGenerator[list[T] | Restarted | Missed, None]:
        """The same in lists, as they arrive."""
        return batches_of(self)

    def _valued(self, outcome: Outcome) -> Any:
        if outcome.state != "succeeded":
            raise error_of(outcome, is_confirmed=self._is_confirmed)
        return count_of(outcome)


def batches_of(job: Job[Any]) -> AsyncGenerator[list[Any] | Restarted | Missed, None]:
    """What the job's task yields, in lists, as they arrive. See `StreamJob.stream`."""
    # What this reads is for a stream the single item, for other jobs the result: both as annotated.
    return _streamed(job, partial(_read_items, job._read))


async def stream_of(job: Job[Any]) -> AsyncGenerator[Any, None]:
    """The same, one by one."""
    async with aclosing(batches_of(job)) as batches:
        async for batch in batches:
            if isinstance(batch, list):
                for item in batch:
                    yield item
            else:
                yield batch


async def _streamed(
    job: Job[Any], read: Callable[[Chunk], list[T]]
) -> AsyncGenerator[list[T] | Restarted | Missed, None]:
    producer = job._app._producer()
    feed = _Feed(producer, Following(job._id, "items"))
    outcomes: list[Outcome] = [] if job._outcome is None else [job._outcome]

    def on_outcome(outcome: Outcome) -> None:
        outcomes.append(outcome)
        feed.ring()

    if not outcomes:
        producer.watch((job._id,), on_outcome)
    following = feed.following
    try:
        while True:
            for entry in feed.entries(read):
                yield entry
            # That there is no such job the outcome says better.
            if following.refused is not None and not isinstance(following.refused, NotFound):
                raise following.refused
            if outcomes and following.is_ended:
                break
            await feed.wait()
        outcome = outcomes[0]
        job._settle(outcome)
        if outcome.state != "succeeded":
            raise error_of(outcome, is_confirmed=job._is_confirmed)
        missing = count_of(outcome) - (following.next - 1)
        if missing > 0:
            yield Missed(missing)
    finally:
        feed.close()
        producer.unwatch((job._id,), on_outcome)


async def events_of(job: Job[Any]) -> AsyncGenerator[Event | Missed, None]:
    """See `Job.events`."""
    async with aclosing(_followed(job, "events", _read_events, live=True)) as entries:
        async for entry in entries:
            if isinstance(entry, Missed):
                yield entry
                continue
            for event in entry:
                yield event
                if event.is_last:
                    return


async def logs_of(job: Job[Any], *, follow: bool) -> AsyncGenerator[LogLine | Missed, None]:
    """See `Job.logs`."""
    async with aclosing(_followed(job, "logs", _read_lines, live=follow)) as entries:
        async for entry in entries:
            if isinstance(entry, Missed):
                yield entry
                continue
            for line in entry:
                yield line


async def _followed(
    job: Job[Any], kind: FeedKind, read: Callable[[Chunk], list[T]], *, live: bool
) -> AsyncGenerator[list[T] | Missed, None]:
    feed = _Feed(job._app._producer(), Following(job._id, kind, live=live))
    try:
        while True:
            for entry in feed.entries(read):
                assert not isinstance(entry, Restarted)
                yield entry
            if feed.following.refused is not None:
                raise feed.following.refused
            if feed.following.is_ended:
                return
            await feed.wait()
    finally:
        feed.close()


class _Feed:
    """A following on this event loop: whoever takes from it waits here."""

    def __init__(self, producer: Producer, following: Following) -> None:
        self.following = following
        self._producer = producer
        self._news: asyncio.Future[None] | None = None
        following.on_news = self.ring
        producer.session.follow(following)
        producer.link.wake()

    def ring(self) -> None:
        """There is news."""
        if self._news is not None:
            resolve(self._news, None)

    async def wait(self) -> None:
        """For news."""
        if self.following.has_more:
            return
        self._news = asyncio.get_running_loop().create_future()
        await self._producer.wait(self._news, None)

    def entries(self, read: Callable[[Chunk], list[T]]) -> Iterator[list[T] | Restarted | Missed]:
        """What has arrived. What was yielded counts as taken when the next is asked for."""
        following, producer = self.following, self._producer
        while (entry := following.take()) is not None:
            if not isinstance(entry, Chunk):
                yield entry
                continue
            yield read(entry)
            if following.took(entry):
                producer.session.follows.took(following)
                producer.link.wake()

    def close(self) -> None:
        self._producer.session.follows.remove(self.following)
        self._producer.link.wake()


def _read_items(read: Callable[[bytes], T], chunk: Chunk) -> list[T]:
    return list(map(read, _decoded(_items, chunk)))


def _read_events(chunk: Chunk) -> list[Event]:
    return [_event(item) for item in _decoded(_events, chunk)]


def _read_lines(chunk: Chunk) -> list[LogLine]:
    return [_line(item) for item in _decoded(_lines, chunk)]


def _decoded(decoder: "Decoder[list[S]]", chunk: Chunk) -> list[S]:
    try:
        entries = decoder.decode(chunk.data)
    except Undecodable as error:
        raise DecodeError(f"entries {chunk.first} to {chunk.first + chunk.count - 1}: {error}") from None
    if len(entries) != chunk.count:
        raise DecodeError(f"entries {chunk.first} and on: {len(entries)} of them, not {chunk.count}")
    return entries


def _event(item: EventItem) -> Event:
    is_failure = item.kind == "failed"
    return Event(
        kind=item.kind,
        at=datetime.fromtimestamp(item.at_ms / 1000, UTC),
        state=item.state,
        attempt=item.attempt,
        worker=item.worker,
        progress=Progress(item.done, item.total, item.text) if item.kind == "progress" else None,
        ending=item.text if is_failure else "",
        error=item.error,
        reason=item.text if item.kind == "state" else "",
        due_at=moment(item.due_ms),
    )


def _line(item: LogItem) -> LogLine:
    at = datetime.fromtimestamp(item.at_ms / 1000, UTC)
    return LogLine(at, logging.getLevelName(item.level), item.logger, item.text, item.attempt)


def count_of(outcome: Outcome) -> int:
    """How many items there were, as the result says."""
    value = unpack_value(outcome.result) if outcome.result else 0
    return value if isinstance(value, int) else 0
