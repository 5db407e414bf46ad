"""What a producer has said and not yet heard back: what to say next, what to say again, who waits.

Pure: no loop, clock, socket or chance. Whoever waits leaves a callback. A job costs one struct and
one place in a list; five hundred submitted together are one batch with one waiter.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from taskq import limits
from taskq.client.following import Following
from taskq.client.follows import Follows
from taskq.errors import Busy, Refused
from taskq.protocol.connection import check_speakable
from taskq.protocol.messages import (
    Bound,
    Bounded,
    BulkReport,
    Cancel,
    Confirm,
    Counted,
    DeadGroups,
    Edit,
    Edited,
    Ext,
    Fed,
    Follow,
    FromBroker,
    Inspect,
    Instructed,
    JobReport,
    JobSpec,
    Message,
    Outcome,
    Outcomes,
    Page,
    Receipts,
    Refusal,
    ScheduleList,
    Settings,
    Status,
    StatusReport,
    Steered,
    Submit,
    Terms,
    Unsupported,
    Unwatch,
    Verdict,
    Watch,
    Welcome,
    WorkerList,
)

NewJob = tuple[bytes, Terms, bytes, Ext | None, int]  # id, terms, payload, what is rare, flags of the payload
OnOutcome = Callable[[Outcome], None]
Answer = (
    JobReport
    | Receipts
    | StatusReport
    | Steered
    | Settings
    | Page
    | Counted
    | BulkReport
    | DeadGroups
    | ScheduleList
    | Edited
    | Bounded
    | WorkerList
    | Instructed
    | Refused
)
OnAnswer = Callable[[Answer], None]

# What a job costs in a frame beside its payload: id, index, and the lengths of each.
_JOB_BYTES: Final = 32
_TERMS_BYTES: Final = 128
# And with a key: mostly much less.
_KEYED_BYTES: Final = 64

T = TypeVar("T")


class Submission:
    """Jobs submitted together, and what the broker said of them where that is not `accepted`."""

    __slots__ = ("_on_decided", "count", "first", "undecided", "verdicts")

    def __init__(self, first: int, on_decided: "Callable[[Submission], None]") -> None:
        self.first = first
        self.count = 0
        self.undecided = 0
        self.verdicts: list[Verdict] = []
        self._on_decided = on_decided

    def decide(self, count: int) -> None:
        self.undecided -= count
        assert self.undecided >= 0, "decided more jobs than were submitted"
        if not self.undecided:
            self._on_decided(self)


class _Batch:
    """The jobs of one Submit message. It stays as it is until confirmed, so that it can be said again."""

    __slots__ = ("bytes", "first", "index_of", "jobs", "shares", "terms")

    def __init__(self, first: int) -> None:
        self.first = first
        self.terms: list[Terms] = []
        self.index_of: dict[Terms, int] = {}
        self.jobs: list[JobSpec] = []
        self.bytes = 0
        self.shares: list[tuple[int, int, Submission]] = []  # first, count, whose

    def index(self, terms: Terms) -> int:
        """Where these terms stand in the message; equal terms stand there once."""
        index = self.index_of.get(terms)
        if index is None:
            index = self.index_of[terms] = len(self.terms)
            self.terms.append(terms)
            self.bytes += _TERMS_BYTES
        return index


class ClientSession:
    """A speaker (see link.py) for a producer. Call the link's `wake` after any of its verbs."""

    def __init__(self) -> None:
        self._is_welcome = False
        self._next_seq = 0
        self._unconfirmed = 0
        self._batches: dict[int, _Batch] = {}  # by first seq: all that is not decided
        self._held: dict[int, _Batch] = {}  # the same, of one job each, that wait for room
        self._unsent: list[_Batch] = []
        self._open: _Batch | None = None  # the last of the unsent, while it has room
        self._on_room: list[Callable[[], None]] = []
        self._watchers: dict[bytes, OnOutcome | dict[OnOutcome, None]] = {}
        self._to_watch: dict[bytes, None] = {}
        self._to_unwatch: dict[bytes, None] = {}
        self._next_request = 1
        self._requests: dict[int, tuple[Message, OnAnswer]] = {}
        self._unasked: dict[int, None] = {}
        self.follows = Follows()

    # -- submitting ---------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more jobs may be submitted now; see `when_room`."""
        return limits.UNCONFIRMED_JOBS_MAX - self._unconfirmed

    def when_room(self, call: Callable[[], None]) -> None:
        """Call this once, when jobs have been decided and there is room."""
        self._on_room.append(call)

    def submit(self, jobs: Iterable[NewJob], on_decided: Callable[[Submission], None]) -> Submission:
        """Submit these jobs, in order, at most `room` of them; `on_decided` hears when all are decided."""
        submission = Submission(self._next_seq, on_decided)
        batch: _Batch | None = self._open
        last_terms: Terms | None = None
        index = 0
        for id, terms, payload, ext, flags in jobs:
            if (
                batch is None
                or len(batch.jobs) >= limits.BATCH_MAX
                or batch.bytes >= limits.BATCH_BYTES_TARGET
            ):
                self._share(batch, submission)
                batch = self._new_batch()
                last_terms = None
            if terms is not last_terms:
                index, last_terms = batch.index(terms), terms
            if ext or flags:
                batch.jobs.append(JobSpec(id, index, payload, flags, ext))
                batch.bytes += limits.EXT_BYTES_MAX if ext and len(ext) > 1 else _KEYED_BYTES
            else:
                batch.jobs.append(JobSpec(id, index, payload))
            batch.bytes += len(payload) + _JOB_BYTES
        self._share(batch, submission)
        submission.count = submission.undecided
        self._unconfirmed += submission.count
        assert self._unconfirmed <= limits.UNCONFIRMED_JOBS_MAX, "submitted more than there is room for"
        if not submission.count:
            submission.decide(0)
        return submission

    def _new_batch(self) -> _Batch:
        batch = self._open = self._batches[self._next_seq] = _Batch(self._next_seq)
        self._unsent.append(batch)
        return batch

    def _share(self, batch: _Batch | None, submission: Submission) -> None:
        """All jobs of the batch that were not numbered before are this submission's."""
        if batch is None:
            return
        end = batch.first + len(batch.jobs)
        count = end - self._next_seq
        if count:
            batch.shares.append((self._next_seq, count, submission))
            submission.undecided += count
            self._next_seq = end

    # -- waiting for outcomes -----------------------------------------------------------------

    def watch(self, ids: Iterable[bytes], on_outcome: OnOutcome) -> None:
        """Call this with each job's outcome, once each. Raises Busy when far too many are watched."""
        watchers = self._watchers
        if len(watchers) > limits.WATCHED_PER_PEER_MAX:
            raise Busy(f"{len(watchers)} jobs are watched; the limit is {limits.WATCHED_PER_PEER_MAX}")
        to_watch, to_unwatch = self._to_watch, self._to_unwatch
        for id in ids:
            present = watchers.get(id)
            if present is not None:
                # A dict: a thousand that wait for one job must not look through each other.
                if isinstance(present, dict):
                    present[on_outcome] = None
                elif present != on_outcome:
                    watchers[id] = {present: None, on_outcome: None}
                continue
            watchers[id] = on_outcome
            # The broker still watches what it was not yet told to forget.
            if to_unwatch and id in to_unwatch:
                del to_unwatch[id]
            else:
                to_watch[id] = None

    def unwatch(self, ids: Iterable[bytes], on_outcome: OnOutcome) -> None:
        """This one waits no longer. What nobody waits for any more, the broker is told to forget."""
        for id in ids:
            present = self._watchers.get(id)
            if isinstance(present, dict):
                present.pop(on_outcome, None)
                if len(present) == 1:
                    (self._watchers[id],) = present
            elif present == on_outcome:
                del self._watchers[id]
                if self._to_watch.pop(id, "said") is not None:  # what was not said is not taken back
                    self._to_unwatch[id] = None

    # -- asking -------------------------------------------------------------------------------

    def inspect(self, id: bytes, on_answer: OnAnswer) -> int:
        """Ask what is known of a job. Returns the number for `forget`."""
        return self._ask(Inspect(self._next_request, id), on_answer)

    def cancel(self, ids: list[bytes], reason: str, on_answer: OnAnswer, *, tree: bool = False) -> int:
        """Ask that these jobs do not complete, nor those below them. Returns the number for `forget`."""
        return self._ask(Cancel(self._next_request, ids, reason, tree), on_answer)

    def edit(self, id: bytes, changes: Mapping[str, Any], on_answer: OnAnswer) -> int:
        """Ask that a job that waits is changed; `changes` are fields of Edit. Returns as the others."""
        return self._ask(Edit(self._next_request, id, **changes), on_answer)

    def bound(self, queue: str, bound: Mapping[str, Any], on_answer: OnAnswer) -> int:
        """Say how much may wait in a queue; `bound` are fields of Bound. Returns as the others."""
        return self._ask(Bound(self._next_request, queue, **bound), on_answer)

    def status(self, on_answer: OnAnswer) -> int:
        """Ask how the broker is. Returns the number for `forget`."""
        return self._ask(Status(self._next_request), on_answer)

    def question(self, make: Callable[[int], Message], on_answer: OnAnswer) -> int:
        """Ask anything else: `make` gives the message its number. Returns the number for `forget`.

        Raises Refused for what no broker would read: it would be asked again on every new connection.
        """
        message = make(self._next_request)
        check_speakable(message)
        return self._ask(message, on_answer)

    def forget(self, request: int) -> None:
        """Nobody waits for this answer any more."""
        self._requests.pop(request, None)
        self._unasked.pop(request, None)

    def _ask(self, message: Message, on_answer: OnAnswer) -> int:
        number = self._next_request
        self._next_request += 1
        self._requests[number] = (message, on_answer)
        self._unasked[number] = None
        return number

    # -- following ----------------------------------------------------------------------------

    def follow(self, following: Following) -> None:
        """Hear a feed of a job, until `unfollow`; over reconnects too, from where it has come to."""
        self.follows.add(following, self._next_request)
        self._next_request += 1

    # -- as a speaker -------------------------------------------------------------------------

    def on_welcome(self, welcome: Welcome) -> None:
        """Everything that is not answered is said again: the same numbers, the same ids, in order."""
        self._is_welcome = True
        self._open = None
        undecided = {**self._batches, **self._held}
        self._unsent = [undecided[first] for first in sorted(undecided)]
        # What waited for room is decided anew, in its order.
        self._batches, self._held = {batch.first: batch for batch in self._unsent}, {}
        self._to_watch = dict.fromkeys(self._watchers)
        self._to_unwatch = {}
        self._unasked = dict.fromkeys(self._requests)
        self.follows.on_welcome()

    def on_lost(self) -> None:
        self._is_welcome = False

    def outgoing(self) -> list[Message]:
        if not self._is_welcome:
            return []
        said: list[Message] = []
        if self._unsent:
            settled = self._settled()
            said += [Submit(batch.first, batch.terms, batch.jobs, settled) for batch in self._unsent]
            self._unsent = []
            self._open = None
        if self._to_unwatch:
            said += [Unwatch(ids) for ids in _parts(list(self._to_unwatch))]
            self._to_unwatch = {}
        if self._to_watch:
            said += [Watch(ids) for ids in _parts(list(self._to_watch))]
            self._to_watch = {}
        if self._unasked:
            said += [self._requests[number][0] for number in self._unasked]
            self._unasked = {}
        if self.follows:
            said += self.follows.outgoing()
        return said

    def _settled(self) -> int:
        """All below this are decided. Batches stand in the order of their numbers, and so do those of
        one job that wait for room: there may be very many, so the least is not looked for."""
        firsts = [next(iter(batches)) for batches in (self._batches, self._held) if batches]
        return min(firsts)

    def on_message(self, message: FromBroker) -> None:
        match message:
            case Outcomes():
                self._on_outcomes(message)
            case Confirm():
                self._on_confirm(message)
            case JobReport() | Receipts() | StatusReport() | Steered() | Settings() | ScheduleList():
                self._on_answer(message.request, message)
            case Edited() | Bounded() | Page() | Counted() | BulkReport() | DeadGroups():
                self._on_answer(message.request, message)
            case Fed():
                self.follows.on_fed(message)
            case Refusal() if message.request in self.follows:
                self.follows.on_refused(message.request, Refused.from_code(message.code, message.text))
            case WorkerList() | Instructed():
                self._on_answer(message.request, message)
            case Refusal():
                self._on_answer(message.request, Refused.from_code(message.code, message.text))
            case Unsupported():
                self._on_unsupported(message.number)
            case _:
                # The rest is for workers, or for the link.
                pass

    def _on_outcomes(self, outcomes: Outcomes) -> None:
        take = self._watchers.pop
        for outcome in outcomes.items:
            watcher = take(outcome.id, None)
            if watcher is None:
                # The broker forgot it by answering; a later watch must be said.
                self._to_unwatch.pop(outcome.id, None)
            elif isinstance(watcher, dict):
                for each in watcher:
                    each(outcome)
            else:
                watcher(outcome)

    def _on_answer(self, number: int, answer: Answer) -> None:
        request = self._requests.pop(number, None)
        self._unasked.pop(number, None)
        if request is not None:
            request[1](answer)

    def _on_unsupported(self, number: int) -> None:
        """The broker has no such message: whoever asked with one would wait without end."""
        refused = Refused(
            "the broker is older than this client, and cannot answer that; upgrade it", code="unsupported"
        )
        asked = [key for key, (message, _) in self._requests.items() if _number(message) == number]
        for request in asked:
            self._on_answer(request, refused)
        if number == _number(Follow):
            self.follows.on_unsupported(refused)

    def _on_confirm(self, confirm: Confirm) -> None:
        batches = self._held if confirm.first in self._held else self._batches
        if batches is self._held and any(verdict.code == "held" for verdict in confirm.verdicts):
            return  # it waits on, in its place
        batch = batches.get(confirm.first)
        if batch is None or len(batch.jobs) != confirm.count:
            return  # decided before: the answer to something that was said twice
        del batches[confirm.first]
        held = self._note(batch, confirm.verdicts) if confirm.verdicts else {}
        self._unconfirmed -= confirm.count - sum(held.values())
        for first, count, submission in batch.shares:
            count -= held.get(first, 0)
            if count:
                submission.decide(count)
        if self._on_room and self.room > 0:
            waiting, self._on_room = self._on_room, []
            for call in waiting:
                call()

    def _note(self, batch: _Batch, verdicts: list[Verdict]) -> dict[int, int]:
        """Give each verdict to its submission. Returns how many jobs of each share are still undecided."""
        held: dict[int, int] = {}
        for verdict in verdicts:
            if not batch.first <= verdict.seq < batch.first + len(batch.jobs):
                continue
            share = bisect_right(batch.shares, verdict.seq, key=lambda share: share[0]) - 1
            first, _, submission = batch.shares[share]
            if verdict.code == "held":
                held[first] = held.get(first, 0) + 1
                self._hold(batch, verdict.seq, submission)
            else:
                submission.verdicts.append(verdict)
        return held

    def _hold(self, batch: _Batch, seq: int, submission: Submission) -> None:
        """The broker decides this one later, by its own Confirm: from now on it is a batch of one."""
        job = batch.jobs[seq - batch.first]
        alone = self._held[seq] = _Batch(seq)
        alone.index(batch.terms[job.terms])
        alone.jobs.append(JobSpec(job.id, 0, job.payload, job.flags, job.ext))
        alone.shares.append((seq, 1, submission))


def _number(message: Message | type[Message]) -> object:
    """Of this kind of message on the wire."""
    return message.__struct_config__.tag


def _parts(items: list[T]) -> Iterable[list[T]]:
    if len(items) <= limits.BATCH_MAX:
        return [items]
    return (items[at : at + limits.BATCH_MAX] for at in range(0, len(items), limits.BATCH_MAX))
