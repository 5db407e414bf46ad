"""A broker with its journal, clocks and peers, so that tests of the core read like sentences.

    World().submit("a").deliver(to="slow").kill("slow").deliver(to="other")

Each verb is one turn: events are handled, what is due fires, the batch is committed, and what was
said reaches its peers. Jobs, workers and producers have names; the world keeps their ids, leases and
sequences as real ones do. Anything said to a peer that the real wire would refuse fails the test.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Literal, Self, TypeVar

import msgspec

from taskq import limits
from taskq.core.broker import Broker, Event
from taskq.core.effects import Blocked, Close, Connected, Effect, Heard, Lost, Now, Received, Send, Unblocked
from taskq.core.indexes import holds
from taskq.core.job import Job
from taskq.core.ledger import fold
from taskq.core.retention import DeadBounds
from taskq.core.state import State
from taskq.protocol.messages import (
    AboutJobs,
    Ack,
    AckAndSubmit,
    Acked,
    Announce,
    Bound,
    Bulk,
    BulkReport,
    Cancel,
    Checkpoint,
    CheckpointItem,
    ChildExit,
    Command,
    Confirm,
    Counted,
    DeadGroup,
    DeadGroups,
    Deliver,
    Delivery,
    Edit,
    Exited,
    Failure,
    Filter,
    FromBroker,
    Goodbye,
    GroupDead,
    Held,
    Hello,
    Inspect,
    JobReport,
    JobSpec,
    ListSchedules,
    Message,
    Nack,
    Outcome,
    Outcomes,
    Page,
    Query,
    Recall,
    Receipts,
    Refusal,
    Reported,
    Resume,
    Resumed,
    RetryTerms,
    Revoke,
    Role,
    Saved,
    ScheduleList,
    ScheduleReport,
    ScheduleSpec,
    SetSchedule,
    Status,
    StatusReport,
    Steer,
    Steering,
    Submit,
    Success,
    Tally,
    Terms,
    Unwatch,
    Verb,
    Verdict,
    Vouch,
    Watch,
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromBroker).decode

M = TypeVar("M", bound=Message)

BEGINNING_MS = 1_700_000_000_000  # wall: 14 November 2023, 22:13:20


def id_of(name: str) -> bytes:
    """The id of the job, or the session of the peer, that has this name."""
    return bytes.fromhex(name) if len(name) == 32 else name.encode().ljust(16, b".")


def name_of(id: bytes) -> str:
    """Jobs that the broker makes have no names: their ids."""
    name = id.rstrip(b".").decode("latin1")
    return name if name.isascii() and name.isprintable() else id.hex()


class Peer:
    """One end of a connection, and what its process remembers beyond it."""

    def __init__(self, name: str, role: Role) -> None:
        self.name = name
        self.role = role
        self.number = 0  # its connection; 0: none
        self.is_deaf = False
        self.heard: list[Message] = []  # since somebody looked
        self.goodbye: Goodbye | None = None
        self.next_seq = 0  # of submissions
        # What a worker announces, holds and has reported.
        self.announce: Announce | None = None
        self.holds: dict[int, Delivery] = {}
        self.terms: dict[int, Terms] = {}
        self.stops: dict[int, str] = {}
        self.report = 0
        self.unconfirmed: list[Ack | Nack | AckAndSubmit] = []

    def hear(self, message: Message) -> None:
        if self.is_deaf:
            return
        message = _decode(_encode(message))  # refuses what a real peer would
        self.heard.append(message)
        match message:
            case Deliver():
                for job in message.jobs:
                    self.holds[job.lease] = job
                    self.terms[job.lease] = message.terms[job.terms]
            case Revoke(items=stops) | Resumed(gone=stops):
                self.stops.update({stop.lease: stop.reason for stop in stops if stop.lease in self.holds})
            case Acked():
                self.unconfirmed = [report for report in self.unconfirmed if report.seq > message.seq]
            case _:
                return

    @property
    def held(self) -> list[Held]:
        """All that runs, and all that was reported without being confirmed."""
        running = [Held(job.id, lease) for lease, job in self.holds.items()]
        return running + [Held(item.id, item.lease) for report in self.unconfirmed for item in report.items]


class World:
    """See above. `slack` is what the journal may be too large before it is compacted."""

    def __init__(
        self,
        *,
        slack: int = 1 << 30,
        outcome_bytes: int = 1 << 30,
        dead_jobs: int = limits.DEAD_JOBS_MAX,
        dead_bytes: int = 1 << 30,
        memory_bytes: int = 0,
        seed: int = 0,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._slack = slack
        self._outcome_bytes = outcome_bytes
        self._dead_jobs = dead_jobs
        self._dead_bytes = dead_bytes
        self._seed = seed
        self.now = Now(boot_ms=1_000_000, wall_ms=BEGINNING_MS)
        self.journal: dict[int, bytes] = {}
        self.last_seq = 0
        self.last_durability = 0
        self.epoch = 0
        self.peers: dict[str, Peer] = {}
        self.effects: list[Effect] = []  # of the last turn
        self.deliveries: list[tuple[str, str]] = []  # (job, worker), all there ever were
        self.leases: dict[str, list[int]] = defaultdict(list)
        self._connections = 0
        self._requests = 0
        self._by_number: dict[int, Peer] = {}
        self._begin()

    # -- producers ----------------------------------------------------------------------------

    def submit(
        self,
        *names: str,
        by: str = "producer",
        seq: int | None = None,
        payload: bytes = b"",
        ext: dict[str, bytes] | None = None,
        key: str = "",
        settled: int = 0,
        **terms: Any,
    ) -> Self:
        """Submit jobs in one message; without names, the next letter. Keywords are the terms'."""
        if key:
            ext = {**(ext or {}), "key": key.encode()}
        peer = self.producer(by).peers[by]
        names = names or (chr(ord("a") + peer.next_seq),)
        first = peer.next_seq if seq is None else seq
        specs = [JobSpec(id_of(name), 0, payload, 0, ext) for name in names]
        peer.next_seq = max(peer.next_seq, first + len(specs))
        return self.say(by, Submit(first, [job_terms(**terms)], specs, settled))

    def watch(self, *names: str, by: str = "producer") -> Self:
        return self.producer(by).say(by, Watch([id_of(name) for name in names]))

    def unwatch(self, *names: str, by: str = "producer") -> Self:
        return self.producer(by).say(by, Unwatch([id_of(name) for name in names]))

    def cancel(self, *names: str, by: str = "producer", reason: str = "", tree: bool = False) -> Self:
        self._requests += 1
        ids = [id_of(name) for name in names]
        return self.producer(by).say(by, Cancel(self._requests, ids, reason, tree))

    def edit(self, name: str, *, by: str = "producer", **changes: Any) -> Self:
        """Change a job; the answer is in `edited` or `refusal`."""
        self._requests += 1
        return self.producer(by).say(by, Edit(self._requests, id_of(name), **changes))

    def bound(self, queue: str = "default", *, by: str = "producer", **bounds: Any) -> Self:
        """What may wait in a queue."""
        self._requests += 1
        return self.producer(by).say(by, Bound(self._requests, queue, **bounds))

    def steer(
        self, scope: Any, name: str, kind: Any, *, by: str = "ops", reason: str = "", **fields: Any
    ) -> Self:
        """An operator decides something."""
        self._requests += 1
        if not self._is_connected(by):
            self.connect(by, "operator")
        return self.say(by, Steer(self._requests, [Steering(scope, name, kind, **fields)], reason))

    def inspect(self, name: str, *, by: str = "producer") -> JobReport:
        self._requests += 1
        self.producer(by).say(by, Inspect(self._requests, id_of(name)))
        return self.last(by, JobReport)

    def status(self, *, by: str = "producer") -> StatusReport:
        self.producer(by).say(by, Status(1))
        return self.last(by, StatusReport)

    # -- many jobs at once --------------------------------------------------------------------

    def search(self, command: AboutJobs, *, by: str = "producer") -> Self:
        """Ask, and take turns until it is answered."""
        self.producer(by).say(by, command)
        return self.work_off()

    def work_off(self) -> Self:
        """Take turns until no search runs."""
        while self.broker.searches.running:
            assert self.broker.next_deadline(self.now) in (self.now.boot_ms, self.now.boot_ms + 1)
            self.turn()
        return self

    def page(self, after: str = "", *, limit: int = 100, full: bool = False, **wanted: Any) -> Page:
        self._requests += 1
        start = id_of(after) if after else b""
        self.search(Query(self._requests, filter_of(**wanted), start, limit, full))
        return self.last("producer", Page)

    def listed(self, *, limit: int = 100, **wanted: Any) -> list[str]:
        """All pages, one after the other: the names on them."""
        page = self.page(limit=limit, **wanted)
        names = [name_of(line.id) for line in page.items]
        while page.next:
            page = self.page(name_of(page.next), limit=limit, **wanted)
            names += [name_of(line.id) for line in page.items]
        return names

    def tally(self, **wanted: Any) -> dict[str, int]:
        """How many there are by state; the sum under `all`."""
        return self.tally_by("producer", **wanted)

    def tally_by(self, by: str, **wanted: Any) -> dict[str, int]:
        self._requests += 1
        counted = self.search(Tally(self._requests, filter_of(**wanted)), by=by).last(by, Counted)
        return {"all": counted.count, **counted.states}

    def groups(self, **wanted: Any) -> list[DeadGroup]:
        self._requests += 1
        return self.search(GroupDead(self._requests, filter_of(**wanted))).last("producer", DeadGroups).items

    def bulk(self, verb: Verb, *, reason: str = "", dry_run: bool = False, **wanted: Any) -> Self:
        self._requests += 1
        return self.search(Bulk(self._requests, verb, filter_of(**wanted), reason, dry_run))

    def bulk_begins(self, verb: Verb, **wanted: Any) -> Self:
        """Two turns of it: the first slice is done, if there is more than one."""
        self._requests += 1
        bulk = Bulk(self._requests, verb, filter_of(**wanted))
        return self.producer("producer").say("producer", bulk).turn()

    def bulk_report(self, by: str = "producer") -> tuple[int, int, dict[str, int]]:
        """(matched, done, why not) of the last one."""
        report = self.last(by, BulkReport)
        return report.matched, report.done, report.skipped

    # -- workers ------------------------------------------------------------------------------

    def deliver(self, *, to: str, slots: int = 1) -> Self:
        """A worker with room for one, or one more, is given what is ready."""
        before = len(self.deliveries)
        if to not in self.peers:
            self.worker(to, slots=slots)
        else:
            self.turn()
        assert any(worker == to for _, worker in self.deliveries[before:]), f"nothing was delivered to {to}"
        return self

    def ack(self, *names: str, by: str, result: bytes = b"") -> Self:
        """These attempts succeeded; without names, all that the worker holds."""
        items = [Success(job.id, job.lease, result) for job in self._finish(by, names)]
        return self._report(by, Ack(0, items))

    def nack(self, *names: str, by: str, ending: Any = "failed", **fields: Any) -> Self:
        """These attempts did not."""
        items = [Failure(job.id, job.lease, ending, **fields) for job in self._finish(by, names)]
        return self._report(by, Nack(0, items))

    def ack_with(
        self, *names: str, by: str, payload: bytes = b"", ext: dict[str, bytes] | None = None, **terms: Any
    ) -> Self:
        """The one attempt that it holds succeeded, and these jobs come of it. Keywords are their terms'."""
        specs = [JobSpec(id_of(name), 0, payload, 0, ext) for name in names]
        return self.ack_with_specs(specs, [job_terms(**terms)], by=by)

    def ack_with_specs(self, specs: list[JobSpec], terms: list[Terms], *, by: str) -> Self:
        (job,) = self._finish(by, ())
        return self._report(by, AckAndSubmit(0, Success(job.id, job.lease), terms, specs))

    def checkpoint(self, value: bytes, *names: str, by: str) -> Self:
        """These attempts have come so far; without names, all that the worker holds."""
        wanted = [id_of(name) for name in names]
        held = [job for job in self.peers[by].holds.values() if not wanted or job.id in wanted]
        items = [CheckpointItem(job.id, job.lease, Saved(value)) for job in held]
        return self.say(by, Checkpoint(1, items))

    def checkpointed(self, by: str) -> dict[str, bytes]:
        """What a worker's attempts began with."""
        held = self.peers[by].holds.values()
        return {name_of(job.id): job.checkpoint.value for job in held if job.checkpoint is not None}

    def hand_back(self, *names: str, by: str) -> Self:
        """A worker's answer to a recall: no extra room from now on, and these, which have not started."""
        peer = self.peers[by]
        assert peer.announce is not None
        before = peer.announce
        slots = {name: count - before.extra.get(name, 0) for name, count in before.slots.items()}
        peer.announce = msgspec.structs.replace(before, slots=slots, extra=dict.fromkeys(before.extra, 0))
        if not names:
            return self.say(by, peer.announce)
        items = [Failure(job.id, job.lease, "returned") for job in self._finish(by, names)]
        peer.report += 1
        nack = Nack(peer.report, items)
        peer.unconfirmed.append(nack)
        return self.say(by, peer.announce, nack)

    def _finish(self, by: str, names: Iterable[str]) -> list[Delivery]:
        holds = self.peers[by].holds
        wanted = [id_of(name) for name in names]
        done = [job for job in holds.values() if not wanted or job.id in wanted]
        assert done, f"{by} holds none of {names}"
        for job in done:
            del holds[job.lease]
            self.peers[by].stops.pop(job.lease, None)
        return done

    def _report(self, by: str, report: Ack | Nack | AckAndSubmit) -> Self:
        peer = self.peers[by]
        peer.report += 1
        report = msgspec.structs.replace(report, seq=peer.report)
        peer.unconfirmed.append(report)
        return self.say(by, report)

    # -- schedules ----------------------------------------------------------------------------

    def schedule(self, name: str = "s", *, by: str = "producer", **fields: Any) -> Self:
        """Make a schedule; without another word, a job of "work" every 10 seconds."""
        return self.ask(lambda number: SetSchedule(number, schedule_spec(name, **fields)), by=by)

    def ask(self, question: Callable[[int], Command], *, by: str = "producer") -> Self:
        """Ask something that has a number."""
        self._requests += 1
        return self.producer(by).say(by, question(self._requests))

    def schedule_report(self, name: str = "s", *, ticks: int = 1, by: str = "producer") -> ScheduleReport:
        self.ask(lambda number: ListSchedules(number, name, ticks=ticks), by=by)
        (item,) = self.last(by, ScheduleList).items
        return item

    def refusal(self, name: str = "producer") -> tuple[str, str]:
        """Code and text of the last refusal."""
        refusal = self.last(name, Refusal)
        return refusal.code, refusal.text

    def ticks(self, task: str = "work") -> list[float]:
        """For which times there were jobs of this task, in seconds since the world began."""
        return [(moment_of(job) - BEGINNING_MS) / 1_000 for job in self.made(task)]

    def made(self, task: str = "work") -> list[bytes]:
        """The ids of all jobs of this task that there are or of which the outcome is kept, by id."""
        state = self.broker.state
        jobs = [job.id for job in state.jobs.values() if job.terms.task == task]
        return sorted(jobs + [id for id, kept in state.outcomes.items() if kept.terms.task == task])

    # -- who is there -------------------------------------------------------------------------

    def producer(self, name: str) -> Self:
        """A producer of this name is connected."""
        return self if self._is_connected(name) else self.connect(name, "producer")

    def worker(
        self,
        name: str,
        *,
        slots: int = 1,
        tasks: Iterable[str] = ("work",),
        queues: Iterable[str] = ("default",),
        **announced: Any,
    ) -> Self:
        """A worker connects, says what it runs, and that it holds nothing."""
        peer = self._peer(name, "worker")
        peer.announce = Announce(dict.fromkeys(tasks, "async"), list(queues), {"async": slots}, **announced)
        return self.connect(name, "worker")

    def connect(self, name: str, role: Role = "worker") -> Self:
        """A process connects, or the same process connects again."""
        peer = self._peer(name, role)
        self._connections += 1
        peer.number, peer.is_deaf, peer.goodbye = self._connections, False, None
        self._by_number[peer.number] = peer
        events: list[Event] = [Connected(peer.number, Hello(1, id_of(name), role, name))]
        if peer.announce is not None:
            first: list[Command] = [peer.announce, Resume(peer.held), *peer.unconfirmed]
            events += [Received(peer.number, command) for command in first]
        return self.turn(*events)

    def lose(self, name: str) -> Self:
        """Its connection is lost; the process goes on."""
        peer = self.peers[name]
        number, peer.number = peer.number, 0
        return self.turn(Lost(number))

    def part(self, name: str) -> Self:
        """It says goodbye, and is not seen again."""
        peer = self.peers.pop(name)
        return self.turn(Lost(peer.number, parted=True))

    def kill(self, name: str) -> Self:
        """The process dies, and its connection with it."""
        peer = self.peers.pop(name)
        del self._by_number[peer.number]
        return self.turn(Lost(peer.number))

    def deafen(self, name: str) -> Self:
        """From now on what is said to it is lost on the way."""
        self.peers[name].is_deaf = True
        return self

    def block(self, name: str) -> Self:
        return self.turn(Blocked(self.peers[name].number))

    def unblock(self, name: str) -> Self:
        return self.turn(Unblocked(self.peers[name].number))

    def beat(self, *names: str) -> Self:
        """They are heard of."""
        return self.turn(*(Heard(self.peers[name].number) for name in names))

    def vouch(self, *names: str, by: str) -> Self:
        """A supervisor says that these are its processes, and alive."""
        if not self._is_connected(by):
            self.connect(by, "supervisor")
        return self.say(by, Vouch([id_of(name) for name in names]))

    def vouch_for(self, ms: int, *names: str, by: str) -> Self:
        """It goes on saying so for a while; time passes."""
        for _ in range(ms // limits.VOUCH_EVERY_MS):
            self.tick(limits.VOUCH_EVERY_MS).vouch(*names, by=by)
        return self.tick(ms % limits.VOUCH_EVERY_MS)

    def exited(self, name: str, *, by: str, status: int = -9, text: str = "") -> Self:
        """A supervisor says that this process of its own has ended."""
        return self.say(by, Exited([ChildExit(id_of(name), status, text)]))

    def _is_connected(self, name: str) -> bool:
        return name in self.peers and self.peers[name].number != 0

    def _peer(self, name: str, role: Role) -> Peer:
        return self.peers.setdefault(name, Peer(name, role))

    # -- time, turns, crashes -----------------------------------------------------------------

    def tick(self, ms: int = 0, *, wall_ms: int | None = None) -> Self:
        """Time passes, on both clocks or as told."""
        self.now = Now(self.now.boot_ms + ms, self.now.wall_ms + (ms if wall_ms is None else wall_ms))
        return self.turn()

    def live(self, ms: int) -> Self:
        """Time passes, and everybody beats."""
        while ms > 0:
            self.tick(min(ms, 2_500)).beat(*(name for name in self.peers if self._is_connected(name)))
            ms -= 2_500
        return self

    def say(self, name: str, *commands: Command) -> Self:
        number = self.peers[name].number
        return self.turn(*(Received(number, command) for command in commands))

    def turn(self, *events: Event) -> Self:
        """Handle the events, settle, commit, and let the peers hear."""
        for event in events:
            self.broker.handle(event, self.now)
        self.effects = self.broker.settle(self.now)
        self._commit()
        before = len(self.deliveries)
        for effect in self.effects:
            self._carry_out(effect)
        # What goes to one peer goes together; leases tell in which order it was given.
        self.deliveries[before:] = sorted(self.deliveries[before:], key=lambda each: self.leases[each[0]][-1])
        return self

    def restart(self) -> Self:
        """The broker is killed, and another one starts from what was committed."""
        for peer in self.peers.values():
            peer.number = 0
        self._by_number.clear()
        self._begin()
        return self.turn()

    def _begin(self) -> None:
        self.epoch += 1
        self.broker = Broker(
            Random(self._seed + self.epoch),
            outcome_bytes=self._outcome_bytes,
            dead=DeadBounds(jobs=self._dead_jobs, bytes=self._dead_bytes),
            memory_bytes=self._memory_bytes,
            compact_slack_bytes=self._slack,
        )
        self.broker.recover(self.journal.items())
        self.broker.ledger.go_on_from(self.last_seq)
        self.broker.begin(self.epoch, self.now)

    def _commit(self) -> None:
        batch = self.broker.cut()
        if batch is None:
            return
        self.last_seq = batch.seq
        self.last_durability = batch.durability
        self.journal[batch.seq] = batch.blob
        before = self.broker.compaction.trim_before(batch.seq)
        for seq in [seq for seq in self.journal if before is not None and seq < before]:
            del self.journal[seq]

    def _carry_out(self, effect: Effect) -> None:
        peer = self._by_number.get(effect.peer)
        if peer is None or peer.number != effect.peer:
            return
        if isinstance(effect, Close):
            peer.goodbye = effect.goodbye
            peer.number = 0
            self.broker.handle(Lost(effect.peer), self.now)
            return
        assert effect.after <= self.last_seq, "waits for a batch that there will never be"
        if isinstance(effect.message, Deliver):
            for job in effect.message.jobs:
                self.deliveries.append((name_of(job.id), peer.name))
                self.leases[name_of(job.id)].append(job.lease)
        peer.hear(effect.message)

    # -- what came of it ----------------------------------------------------------------------

    def state(self, name: str) -> str:
        """A job's state or outcome; `unknown` when there is none."""
        job = self.broker.state.jobs.get(id_of(name))
        if job is not None:
            return job.state
        kept = self.broker.state.outcomes.get(id_of(name))
        return "unknown" if kept is None else kept.state

    def history(self, name: str) -> list[tuple[int, str]]:
        """(attempt, ending) of each that a job tells of."""
        return [(each.attempt, each.ending) for each in self.inspect(name).history]

    def job(self, name: str) -> Job:
        return self.broker.state.jobs[id_of(name)]

    def holds(self, name: str) -> list[str]:
        """The jobs that a worker's process runs, in the order of delivery."""
        return [name_of(job.id) for _, job in sorted(self.peers[name].holds.items())]

    def stops(self, name: str) -> list[str]:
        """The jobs that a worker was told to stop and still runs."""
        peer = self.peers[name]
        return [name_of(peer.holds[lease].id) for lease in peer.stops]

    def recalled(self, name: str) -> list[str]:
        """The jobs that a worker was asked for, since somebody looked."""
        return [name_of(held.id) for message in self.heard(name, Recall) for held in message.items]

    def heard(self, name: str, kind: type[M]) -> list[M]:
        """The messages of a kind that a peer has heard since this was asked last."""
        peer = self.peers[name]
        found = [message for message in peer.heard if isinstance(message, kind)]
        peer.heard = [message for message in peer.heard if not isinstance(message, kind)]
        return found

    def last(self, name: str, kind: type[M]) -> M:
        """The newest message of a kind."""
        return self.heard(name, kind)[-1]

    def outcomes(self, name: str = "producer") -> list[tuple[str, str]]:
        """(job, state) of the outcomes that a peer heard."""
        return [(name_of(outcome.id), outcome.state) for outcome in self.outcome_list(name)]

    def outcome_list(self, name: str = "producer") -> list[Outcome]:
        return [outcome for message in self.heard(name, Outcomes) for outcome in message.items]

    def verdicts(self, name: str = "producer") -> list[tuple[int, str]]:
        """(sequence, code) of the last confirm."""
        return [(verdict.seq, verdict.code) for verdict in self.verdict_list(name)]

    def verdict_list(self, name: str = "producer") -> list[Verdict]:
        return self.last(name, Confirm).verdicts

    def receipts(self, name: str = "producer") -> list[tuple[str, str]]:
        return [(name_of(item.id), item.code) for item in self.last(name, Receipts).items]

    def odd(self, name: str) -> list[Literal["duplicate", "stale"]]:
        """What was odd about the reports of a worker."""
        items: list[Reported] = [item for acked in self.heard(name, Acked) for item in acked.items]
        return [item.code for item in items]

    def served(self, since: int = 0) -> list[str]:
        """Who was given jobs, in order."""
        return [worker for _, worker in self.deliveries[since:]]

    def count(self, name: str) -> int:
        return self.broker.counts()[name]

    def recovered(self) -> State:
        """The state that the journal adds up to."""
        return fold(self.journal.items())

    def sends(self) -> list[Send]:
        return [effect for effect in self.effects if isinstance(effect, Send)]


def job_terms(
    task: str = "work",
    *,
    attempts: int = 1,
    crashes: int = 5,
    backoff_ms: int = 1_000,
    factor: float = 2.0,
    max_delay_ms: int = 300_000,
    jitter: bool = False,
    on_timeout: bool = True,
    **fields: Any,
) -> Terms:
    """Terms, with the retry's spelled out; without jitter, so that times can be told."""
    retry = RetryTerms(attempts, backoff_ms, factor, max_delay_ms, jitter, crashes, on_timeout)
    return Terms(task, retry=retry, **fields)


def filter_of(*, ids: Iterable[str] = (), **wanted: Any) -> Filter:
    """A filter; ids are names."""
    return Filter(ids=[id_of(name) for name in ids], **wanted)


def schedule_spec(name: str = "s", **fields: Any) -> ScheduleSpec:
    """A schedule; what is no field of its own is of the terms."""
    own = {key: fields.pop(key) for key in list(fields) if key in ScheduleSpec.__struct_fields__}
    if "cron" not in own:
        own.setdefault("interval_ms", 10_000)
    return ScheduleSpec(name, own.pop("terms", None) or job_terms(**fields), own.pop("payload", b""), **own)


def moment_of(id: bytes) -> int:
    """The time in an id."""
    return int.from_bytes(id[:6], "big")


def canonical(state: State) -> dict[str, Any]:
    """All of a state that a fold must give again. A job that is due is ready, with or without a word."""
    return {
        "jobs": {
            name_of(job.id): (
                "running" if job.state == "running" else "waits",
                job.terms,
                job.payload,
                job.flags,
                job.ext,
                job.submitted_ms,
                job.due_ms,
                job.failures,
                job.crashes,
                job.lease,
                job.past,
                job.holder,
                job.started_ms,
                job.story,
                job.before.checkpoint,
                job.seq,
            )
            for job in state.jobs.values()
        },
        "outcomes": {
            name_of(id): (msgspec.structs.replace(kept.item, terms=0), kept.terms, kept.seq, kept.size)
            for id, kept in state.outcomes.items()
        },
        "sessions": {
            name_of(id): (session.floor, session.settled, session.refused, session.seen_ms, session.seq)
            for id, session in state.sessions.items()
        },
        "settings": dict(state.settings),
        "sums": (
            state.outcome_bytes,
            state.live_bytes,
            state.unfinished,
            state.dead,
            state.dead_jobs,
            state.dead_bytes,
            state.job_bytes,
        ),
        "schedules": {name: msgspec.structs.asdict(each) for name, each in state.schedules.items()},
        "claims": {digest: (kept.claim, kept.seq) for digest, kept in state.uniques.claims.items()},
        "holders": {digest: id for digest, id in state.uniques.holders.items() if holds(state.jobs[id])},
        "kin": (
            {top: sorted(below) for top, below in state.kin.below.items()},
            {session: sorted(bound) for session, bound in state.kin.bound.items()},
        ),
        "lines": {
            queue: (line.bound, line.jobs, line.bytes, line.seq, sorted(line.order or ()))
            for queue, line in state.lines.items()
        },
    }
