"""What a worker holds and what it has to say about it. Pure: runs nothing, waits for nothing.

A shell feeds it what the broker says, runs what `take_events` returns, reports how each attempt
ended, and sends what `outgoing` returns. Each delivered lease is reported exactly once; a report
is kept, and said again after every reconnect, until the broker has recorded it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from taskq.client.session import NewJob
from taskq.limits import BATCH_BYTES_TARGET, BATCH_MAX, PAYLOAD_BYTES_MAX
from taskq.protocol.messages import (
    Ack,
    AckAndSubmit,
    Acked,
    Announce,
    Checkpointed,
    CheckpointItem,
    Deliver,
    Delivery,
    Drain,
    Extend,
    Extension,
    Failure,
    Fault,
    FromBroker,
    Held,
    JobSpec,
    Message,
    Nack,
    Progress,
    ProgressItem,
    Recall,
    Resume,
    Resumed,
    Revoke,
    Stop,
    Success,
    Terms,
    Took,
    Undrain,
    Welcome,
)
from taskq.worker.checkpoints import Checkpoints, OnSaved
from taskq.worker.telling.outflow import Outflow

T = TypeVar("T")


class Start(Struct, gc=False, frozen=True):
    """An attempt that the worker should run."""

    delivery: Delivery
    terms: Terms


Event = Start | Stop | Recall


class WorkerSession:
    """One worker's side of the protocol, over as many connections as it takes.

    `announce` is what it says of itself first; in it `slots` is what each executor runs at once.
    """

    def __init__(self, announce: Announce) -> None:
        self._announce = announce
        self._running: dict[int, bytes] = {}
        self._reported: dict[int, bytes] = {}
        self._events: list[Event] = []
        # Reports that have no sequence number yet: they get one when they are first said.
        self._successes: list[Success] = []
        self._success_bytes = 0
        self._failures: list[Failure] = []
        self._unconfirmed: deque[Ack | Nack | AckAndSubmit] = deque()
        self._reports_again = False  # they are to be said over this connection too
        self._seq = 0
        self._progress: dict[int, ProgressItem] = {}
        # Attempts that have said something of themselves while they ran. One look for all of it: most say
        # nothing.
        self._talkers: dict[int, None] = {}
        self._extended: dict[int, Extension] = {}
        self._unsaid_extensions: dict[int, Extension] = {}
        self._checkpoints = Checkpoints()
        self._enclosed: dict[int, list[NewJob]] = {}
        self._enclosing: list[tuple[Success, list[NewJob]]] = []  # successes that bring jobs with them
        # What has to be said before any report.
        self._due: list[Message] = []
        self._welcome = False
        self._draining = False  # for good
        self._held = False  # until it is released
        self.outflow = Outflow()  # what attempts yield and log

    # -- what the runner asks and says ------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """What to run, to stop, or to hand back if it has not begun, in order; empties the list."""
        events = self._events
        self._events = []
        return events

    def succeed(self, id: bytes, lease: int, result: bytes, flags: int = 0) -> None:
        """The attempt succeeded. A result that is too large becomes a final failure."""
        if len(result) > PAYLOAD_BYTES_MAX:
            self.fail(Failure(id, lease, "failed", too_large(len(result)), final=True))
            return
        self._reported[lease] = self._running.pop(lease)
        success = Success(id, lease, result, flags)
        if self._talkers and lease in self._talkers:
            enclosed = self._fall_silent(lease)
            if enclosed:
                # If the broker refuses them there is another attempt, which is to know how far this came.
                self._checkpoints.hurry(lease)
                self._enclosing.append((success, enclosed))
                return
            self._checkpoints.drop(lease)
        self._successes.append(success)
        self._success_bytes += len(result)

    def fail(self, failure: Failure) -> None:
        """The attempt ended without success; `failure.ending` says how."""
        self._reported[failure.lease] = self._running.pop(failure.lease)
        self._failures.append(failure)
        if self._talkers and failure.lease in self._talkers:
            self._checkpoints.hurry(failure.lease)
            self._fall_silent(failure.lease)

    def extend(self, id: bytes, lease: int, timeout_ms: int) -> None:
        """The running attempt needs this much time from now. Says nothing of one that is over."""
        if lease not in self._running:
            return
        # Said again after a reconnect: an extension lost with a connection would cost the attempt.
        self._extended[lease] = self._unsaid_extensions[lease] = Extension(id, lease, timeout_ms)
        self._talkers[lease] = None

    def checkpoint(self, item: CheckpointItem) -> None:
        """The running attempt has come so far. Only the latest of each is said; a report never before it."""
        if item.lease in self._running:
            self._checkpoints.put(item)
            self._talkers[item.lease] = None

    def when_saved(self, lease: int, on_saved: OnSaved) -> None:
        """Call this when the broker has recorded how far the attempt has come by now."""
        if lease in self._running:
            self._checkpoints.when_saved(lease, on_saved)
        else:
            on_saved("over")

    def close(self) -> None:
        """Nothing will be heard any more: tell those who wait for it."""
        self._checkpoints.close()

    def enclose(self, lease: int, jobs: list[NewJob]) -> None:
        """The attempt's success brings these jobs with it. Says nothing of one that is over."""
        if lease in self._running:
            self._enclosed.setdefault(lease, []).extend(jobs)
            self._talkers[lease] = None

    def progress(self, item: ProgressItem) -> None:
        """How far the running attempt has come; only the latest word of each is said."""
        if item.lease in self._running:
            self._progress[item.lease] = item

    def resize(self, executor: str, slots: int, extra: int = 0) -> None:
        """From now on this executor has so many slots, and may be given so much more to wait for them."""
        announce = self._announce
        self._announce = replace(
            announce,
            slots={**announce.slots, executor: slots + extra},
            extra={**announce.extra, executor: extra},
        )
        if self._welcome:
            # The schedules were said over this connection, and are as they were.
            self._due.append(replace(self._announce, schedules=None))

    def drain(self) -> None:
        """Ask for nothing more. What is delivered all the same is still handed out as Start."""
        if self._draining:
            return
        self._draining = True
        if self._welcome and not self._held:
            self._due.append(Drain())

    def hold(self) -> None:
        """The same, until `release`."""
        if self._welcome and not self.draining:
            self._due.append(Drain())
        self._held = True

    def release(self) -> None:
        """Ask for jobs again, unless it drains for good."""
        self._held = False
        if self._welcome and not self._draining:
            self._due.append(Undrain())

    @property
    def draining(self) -> bool:
        return self._draining or self._held

    @property
    def held(self) -> list[Held]:
        """All leases running, or finished and not yet recorded by the broker."""
        return [Held(id, lease) for part in (self._running, self._reported) for lease, id in part.items()]

    @property
    def idle(self) -> bool:
        """Nothing runs, and the broker has recorded everything that did."""
        return not self._running and not self._reported

    # -- Speaker ----------------------------------------------------------------------------------

    def on_welcome(self, welcome: Welcome) -> None:
        """A connection is there: say who we are, what we hold, and what was never confirmed."""
        self._welcome = True
        self._due = [self._announce]
        if self.draining:
            self._due.append(Drain())
        self._due += _resume(self.held)
        self._due += self._checkpoints.again()
        self._reports_again = True
        self._unsaid_extensions = dict(self._extended)
        self.outflow.on_welcome()

    def on_message(self, message: FromBroker) -> None:
        match message:
            case Deliver():
                self._on_deliver(message)
            case Acked():
                self._on_acked(message.seq)
            case Revoke(items=stops) | Resumed(gone=stops):
                # One that is reported already needs no stopping: its report answers.
                self._events += [stop for stop in stops if stop.lease in self._running]
            case Took():
                self.outflow.on_took(message.items)
            case Recall():
                self._on_recall(message)
            case Checkpointed():
                self._checkpoints.on_checkpointed(message)
            case _:
                # Answers to commands that a worker never gives; newer brokers may say more.
                pass

    def on_lost(self) -> None:
        self._welcome = False
        self._due = []

    def outgoing(self) -> list[Message]:
        """What to say now, in order; nothing while there is no connection."""
        if not self._welcome:
            return []
        messages = self._due
        self._due = []
        if self._unsaid_extensions:
            extensions = list(self._unsaid_extensions.values())
            self._unsaid_extensions = {}
            messages += [Extend(part) for part in _chunks(extensions)]
        if self._progress:
            items = list(self._progress.values())
            self._progress = {}
            messages += [Progress(part) for part in _chunks(items)]
        if self._checkpoints.is_due:
            messages += self._checkpoints.messages()
        if self.outflow:
            messages += self.outflow.outgoing()
        if self._reports_again:
            # After what streams say again: the items of an attempt that is reported are nobody's any more.
            self._reports_again = False
            messages += self._unconfirmed
        if self._successes:
            self._say_successes(messages)
        if self._enclosing:
            self._say_enclosing(messages)
        if self._failures:
            self._say_failures(messages)
        return messages

    # -- private ----------------------------------------------------------------------------------

    def _on_deliver(self, message: Deliver) -> None:
        running, reported, terms = self._running, self._reported, message.terms
        start = self._events.append
        for job in message.jobs:
            lease = job.lease
            if lease in running or lease in reported:
                continue  # said twice: it is held already
            running[lease] = job.id
            start(Start(job, terms[job.terms]))

    def _on_recall(self, recall: Recall) -> None:
        """Others have room: take no more than there are slots for, and say so before what is handed back,
        which would come back at once. That Announce is the answer, so it is said in any case."""
        announce = self._announce
        slots = {name: slots - announce.extra.get(name, 0) for name, slots in announce.slots.items()}
        self._announce = replace(announce, slots=slots, extra=dict.fromkeys(announce.extra, 0))
        self._due.append(replace(self._announce, schedules=None))
        self._events.append(Recall([held for held in recall.items if held.lease in self._running]))

    def _on_acked(self, seq: int) -> None:
        unconfirmed, reported = self._unconfirmed, self._reported
        while unconfirmed and unconfirmed[0].seq <= seq:
            for item in unconfirmed.popleft().items:
                del reported[item.lease]
                if self.outflow.streams:
                    self.outflow.recorded(item.lease)

    def _fall_silent(self, lease: int) -> list[NewJob]:
        """The attempt is over. The jobs that it wants to bring with it."""
        del self._talkers[lease]
        self._extended.pop(lease, None)
        self._unsaid_extensions.pop(lease, None)
        return self._enclosed.pop(lease, [])

    def _say_successes(self, messages: list[Message]) -> None:
        successes = self._successes
        fits = len(successes) <= BATCH_MAX and self._success_bytes <= BATCH_BYTES_TARGET
        for items in [successes] if fits else _split(successes, _success_size):
            self._seq += 1
            ack = Ack(self._seq, items)
            self._unconfirmed.append(ack)
            messages.append(ack)
        self._successes = []
        self._success_bytes = 0

    def _say_enclosing(self, messages: list[Message]) -> None:
        for success, jobs in self._enclosing:
            self._seq += 1
            terms = {job[1]: None for job in jobs}
            index = {each: place for place, each in enumerate(terms)}
            specs = [
                JobSpec(id, index[terms], payload, flags, ext) for id, terms, payload, ext, flags in jobs
            ]
            report = AckAndSubmit(self._seq, success, list(terms), specs)
            self._unconfirmed.append(report)
            messages.append(report)
        self._enclosing = []

    def _say_failures(self, messages: list[Message]) -> None:
        for items in _split(self._failures, _failure_size):
            self._seq += 1
            nack = Nack(self._seq, items)
            self._unconfirmed.append(nack)
            messages.append(nack)
        self._failures = []


def _resume(held: list[Held]) -> Iterator[Resume]:
    parts = list(_chunks(held)) or [[]]
    for part in parts[:-1]:
        yield Resume(part, last=False)
    yield Resume(parts[-1], last=True)


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), BATCH_MAX):
        yield items[start : start + BATCH_MAX]


def _split(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Parts of at most BATCH_MAX items and, where one item does not exceed it alone, the target size."""
    part: list[T] = []
    total = 0
    for item in items:
        item_size = size(item)
        if part and (len(part) == BATCH_MAX or total + item_size > BATCH_BYTES_TARGET):
            yield part
            part, total = [], 0
        part.append(item)
        total += item_size
    if part:
        yield part


def _success_size(success: Success) -> int:
    return len(success.result)


def _failure_size(failure: Failure) -> int:
    fault = failure.fault
    return len(fault.message) + len(fault.traceback) if fault else 0


def too_large(size: int) -> Fault:
    """Of a result."""
    return Fault(
        "taskq.errors.TooLarge",
        f"the result has {size} bytes; the limit is {PAYLOAD_BYTES_MAX}. "
        "Store it elsewhere and return where it is",
    )
