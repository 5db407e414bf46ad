"""The witness: hears all that the broker hears and says, knows what workers and producers really did,
and compares. It looks into the broker's books only where it says so.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from taskq import limits
from taskq.client.session import NewJob
from taskq.core import records as r
from taskq.core.effects import Batch
from taskq.core.job import RUNNING
from taskq.protocol.ext import BIND, UNIQUE, above, read_unique
from taskq.protocol.messages import (
    FSYNC,
    MEMORY,
    Ack,
    AckAndSubmit,
    Acked,
    Announce,
    Bound,
    Bulk,
    Cancel,
    Checkpoint,
    Checkpointed,
    Command,
    Confirm,
    Deliver,
    Delivery,
    Edit,
    Edited,
    Exited,
    Ext,
    Failure,
    Hello,
    JobReport,
    Message,
    Nack,
    Outcome,
    Outcomes,
    Receipts,
    Resume,
    Steer,
    Submit,
    Success,
    Terms,
    Verb,
    Verdict,
)
from tests.simulation.agenda import MS, SECOND, Agenda, Violation
from tests.simulation.audit import Audit, Life
from tests.simulation.books import Books
from tests.simulation.custody import Custody
from tests.simulation.host import BrokerHost
from tests.simulation.orderbook import OrderBook
from tests.simulation.producers import Producer
from tests.simulation.rooms import Rooms
from tests.simulation.searchbook import SearchBook
from tests.simulation.stories import possible_callbacks
from tests.simulation.workers import Attempt, SimWorker

# The broker reads its clock in whole milliseconds.
TICK_US: Final = 2 * MS
# What commits may take together when the disk is slow or full.
_HELD_US: Final = 3 * SECOND
# The longest wait before another attempt that workers and terms ask for here; crashes may ask for more.
_BACKOFF_MS: Final = 3_000


class Asked:
    """One job as its producer knows it."""

    def __init__(self, terms: Terms, payload: bytes, ext: Ext, us: int) -> None:
        self.terms = terms
        self.above = above(ext)
        self.digest = read_unique(ext[UNIQUE]).digest if UNIQUE in ext else b""
        self.is_bound = BIND in ext
        self.edits: list[Edit] = []
        self.was_held = False  # it waited for room, and its times count from when there was some
        self.is_edited = False  # or may have been replaced by another
        self.not_before_ms = 0  # wall: where an edit has put it off to, in this life
        self.edited_life: Life | None = None
        self.payloads = [payload]
        self.first_us = us
        self.heard_us = us  # by the broker, for the last time
        self.committed_us = 0
        self.is_confirmed = False
        self.is_cancelling = False
        self.receipts = 0  # cancels confirmed, for the present life
        self.told = ""  # the outcome that was told to somebody
        self.results: list[bytes] = []


class History:
    """Implements the interfaces of all that may be observed: Witness, Observer, Books."""

    def __init__(
        self, agenda: Agenda, *, wall_is_steady: bool, all_is_journaled: bool, sample: Callable[[], bool]
    ) -> None:
        self.asked: dict[bytes, Asked] = {}
        self.repeated: dict[bytes, int] = {}
        self.audit = Audit(self.repeated, wall_is_steady=wall_is_steady)
        self.custody = Custody(agenda)
        self.books = Books(sample, all_is_journaled=all_is_journaled, wall_is_steady=wall_is_steady)
        self.begun: dict[int, bytes] = {}
        self.begun_us: dict[int, int] = {}
        self.yielded: dict[int, int] = {}  # by lease: how many items
        self.starts = 0
        self.given_up: dict[int, None] = {}  # leases whose worker has dropped items
        self._began: dict[bytes, int] = {}
        self.over: dict[int, None] = {}  # leases that their workers have reported
        self.search = SearchBook(wall_is_steady=wall_is_steady)
        self.orders = OrderBook(agenda)
        self.has_bulk_cancels = False
        self.is_lossy = False  # memory jobs or jobs without fsync were lost on the way
        self._agenda = agenda
        self._wall_is_steady = wall_is_steady
        self._numbered: dict[bytes, dict[int, bytes]] = {}  # session -> seq -> id
        self._reports: dict[bytes, dict[int, Ack | Nack | AckAndSubmit]] = {}  # session -> not yet acked
        self._odd: dict[int, str] = {}  # leases that were answered by `stale` or `duplicate`
        self._not_before: dict[bytes, tuple[int, int]] = {}  # id -> lease that ended, us
        self._lives: dict[bytes, Life | None] = {}  # the one that was last delivered
        self._exited: dict[bytes, None] = {}
        self._replacements: dict[bytes, list[tuple[Terms, bytes]]] = {}  # digest -> what may have taken over
        self._bounds: dict[str, None] = {}  # kinds of bounds that were ever asked for
        self._trees: dict[tuple[bytes, int], list[bytes]] = {}  # session, request -> tops
        self._made: dict[bytes, None] = {}  # by the broker itself
        self._rooms = Rooms(agenda, lambda id: id in self.asked and id not in self._made)
        self._executors: dict[int, dict[str, str]] = {}  # connection -> task -> executor
        self._possible: dict[bytes, None] = {}  # ids of callbacks that there may be

    # -- what producers do ------------------------------------------------------------------------

    def on_submitted(self, producer: Producer, first: int, jobs: list[NewJob], *, fresh: bool) -> None:
        numbered = self._numbered.setdefault(producer.session, {})
        for seq, (id, terms, payload, ext, _) in enumerate(jobs, first):
            numbered[seq] = id
            if ext and UNIQUE in ext and (unique := read_unique(ext[UNIQUE])).is_replacing:
                self._replacements.setdefault(unique.digest, []).append((terms, payload))
            if id not in self.asked:
                self.asked[id] = Asked(terms, payload, ext or {}, self._agenda.us)
            else:
                self.asked[id].payloads.append(payload)
            self.repeated[id] = self.repeated.get(id, 0) + 1

    def on_decided(self, producer: Producer, jobs: list[NewJob], verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            id = self._numbered[producer.session][verdict.seq]
            if verdict.code == "exists" and self.asked[id].digest and verdict.id in self.asked:
                if self.asked[verdict.id].digest != self.asked[id].digest:
                    raise Violation("U1", f"{id.hex()} is said to be {verdict.id.hex()}, which is another")
            elif verdict.code == "queue_full" or verdict.code == "too_large":
                if not self._bounds:
                    raise Violation("B1", f"{verdict}, and no queue has a bound")
            elif verdict.code not in ("conflict", "busy"):
                raise Violation("I9", f"job {id.hex()} got the verdict {verdict}")
            asked = self.asked[id]
            is_changed = asked.is_edited or asked.digest in self._replacements
            if verdict.code == "conflict" and len(dict.fromkeys(asked.payloads)) < 2 and not is_changed:
                raise Violation("I9", f"job {id.hex()} is said to be another job, and there is none")
            self._agenda.note("verdict", verdict.code, id)

    def on_cancelling(self, ids: list[bytes]) -> None:
        for id in ids:
            self.asked[id].is_cancelling = True

    def on_bulk(self, verb: Verb) -> None:
        """Any job may be cancelled, or be run again; outcomes may be gone earlier."""
        if verb == "cancel":
            self.has_bulk_cancels = True
        if verb == "retry":
            # Of what is in memory only, no journal tells that it began anew.
            fleeting = [id for id, asked in self.asked.items() if asked.terms.durability == MEMORY]
            for id in fleeting:
                self.repeated[id] += 1

    def on_outcome(self, producer: Producer, outcome: Outcome) -> None:
        self._agenda.note(producer.name, "hears", outcome.state, outcome.id)

    # -- what workers do --------------------------------------------------------------------------

    def on_begun(self, worker: SimWorker, attempt: Attempt) -> None:
        delivery = attempt.delivery
        self._agenda.note(worker.name, "begins", delivery.id, delivery.lease)
        if delivery.lease in self.begun:
            raise Violation("I6", f"lease {delivery.lease} was begun twice")
        if delivery.lease in self.over:
            raise Violation("I6", f"lease {delivery.lease} was begun after it was handed back")
        self.begun[delivery.lease] = delivery.id
        self.begun_us[delivery.lease] = self._agenda.us
        self._began[delivery.id] = self._began.get(delivery.id, 0) + 1

    def began(self, id: bytes) -> int:
        return self._began.get(id, 0)

    def on_given_up(self, lease: int) -> None:
        self.given_up[lease] = None

    def on_yielded(self, lease: int, count: int) -> None:
        self.yielded[lease] = count

    def on_reported(self, worker: SimWorker, attempt: Attempt, ending: str, outcome: object) -> None:
        delivery = attempt.delivery
        self._agenda.note(worker.name, "reports", ending, delivery.id, delivery.lease)
        self.over[delivery.lease] = None
        self.audit.blame.reported(delivery.lease)
        self.custody.over(delivery.lease)
        if isinstance(outcome, bytes):
            self.asked[delivery.id].results.append(outcome)
        self.audit.continuity.on_reported(delivery.lease, ending)

    def on_checkpoint(self, worker: SimWorker, attempt: Attempt, value: bytes) -> None:
        delivery = attempt.delivery
        self._agenda.note(worker.name, "checkpoints", delivery.id, value)
        self.audit.continuity.on_checkpoint(delivery.id, delivery.lease, value)

    def on_enclosed(self, worker: SimWorker, attempt: Attempt, jobs: list[NewJob]) -> None:
        delivery = attempt.delivery
        self._agenda.note(worker.name, "encloses", *[job[0] for job in jobs])
        self.audit.continuity.on_enclosed(delivery.id, delivery.lease, jobs)
        for id, terms, payload, ext, _ in jobs:
            self.asked[id] = Asked(terms, payload, ext or {}, self._agenda.us)
            self._made[id] = None
            self.repeated[id] = 1

    def on_arrived(self, lease: int) -> None:
        self.custody.arrived(lease)

    def on_died(self, worker: SimWorker) -> None:
        self.custody.died(worker.session)

    def on_put_down(self, worker: SimWorker, leases: list[int]) -> None:
        self._agenda.note("put down", worker.name, ",".join(map(str, leases)))
        self.audit.blame.put_down(leases)

    # -- the broker's life ------------------------------------------------------------------------

    def on_started(self, host: BrokerHost) -> None:
        self.custody.on_started()
        self.audit.continuity.epoch = host.journal.epoch
        self.starts = host.starts
        self.audit.ticks.was_unable_ms = self._agenda.now.wall_ms
        jobs = host.broker.state.jobs
        for id, asked in self.asked.items():
            if asked.is_confirmed and id not in jobs and not self.audit.state_of(id):
                raise Violation("I1", f"job {id.hex()} was confirmed, and is gone after a restart")

    def on_crashed(self, host: BrokerHost, *, power: bool) -> None:
        if power:
            self.audit.cut_after(host.disk.last_seq)
            for id, asked in self.asked.items():
                is_safe = asked.terms.durability == FSYNC
                if not is_safe and not self.audit.state_of(id):
                    self._lose(asked)
        for asked in self.asked.values():
            if asked.terms.durability == MEMORY:
                self._lose(asked)
        self.custody.on_crashed(lambda lease: lease in self.audit.recorded)
        self.books.on_crashed()
        self.search.on_crashed()
        self.orders.on_crashed()
        self._not_before = {}
        self._executors = {}

    def _lose(self, asked: Asked) -> None:
        """It was promised to nobody that this job survives."""
        self.is_lossy = True
        asked.is_confirmed = False
        asked.receipts = 0
        asked.told = ""

    def on_cut(self, host: BrokerHost, batch: Batch) -> None:
        self.books.on_cut(host, batch)

    def on_written(self, host: BrokerHost, batch: Batch) -> None:
        self.audit.read(batch.seq, batch.blob)
        for lease in self.audit.crashed:
            self.custody.buried(lease)
        for id in self.audit.made:
            life = self.audit.lives[id]
            self._call_back(id, life.terms, life.spec.payload)
            self.asked[id].is_confirmed = True
        for record in self.audit.ticked:
            self._ticked(record)
        for id in self.audit.come:
            self.asked[id].is_confirmed = True
            self.asked[id].heard_us = self._agenda.us
        for id in self.audit.submitted:
            self.asked[id].committed_us = self._agenda.us
        for id in self.audit.revived:
            self.asked[id].heard_us = self._agenda.us  # from now on it may wait as long as it might then
        self.books.on_written(host, batch)

    def _call_back(self, id: bytes, terms: Terms, payload: bytes) -> None:
        """The broker submitted this job itself."""
        self.asked[id] = Asked(terms, payload, {}, self._agenda.us)
        self._made[id] = None
        self.repeated[id] = 1

    def _ticked(self, record: r.Ticked) -> None:
        """A schedule made a job, as if somebody had submitted it, and heard that it is there."""
        spec, terms, now = record.jobs[0], record.terms[0], self._agenda.now
        self._agenda.note("tick", spec.id, terms.task)
        asked = self.asked[spec.id] = Asked(terms, spec.payload, spec.ext or {}, self._agenda.us)
        asked.is_confirmed = terms.durability == FSYNC
        asked.is_cancelling = True  # the next one may do that
        self._made[spec.id] = None
        self.repeated[spec.id] = 1
        if record.due_ms > now.wall_ms and self._wall_is_steady:
            self._not_before[spec.id] = (0, self._agenda.us + (record.due_ms - now.wall_ms) * MS)

    def on_trimmed(self, host: BrokerHost) -> None:
        self.books.on_trimmed(host)

    def on_turn(self, host: BrokerHost) -> None:
        # Memory that is bounded may have been full in the midst of a turn.
        if host.broker.intake.why_closed or host.broker.memory._budget_bytes:
            self.audit.ticks.was_unable_ms = self._agenda.now.wall_ms
            self.audit.continuity.may_refuse = True
        self.books.on_turn(host, self._agenda.now)
        self.search.on_turn(host)
        self._nobody_is_held_for_long(host)
        self.orders.on_turn(host)
        self._rooms.on_turn(host)

    def _nobody_is_held_for_long(self, host: BrokerHost) -> None:
        for feed in host.broker.news.feeds:
            held_ms = self._agenda.now.boot_ms - feed.held_ms
            if feed.held_ms and held_ms > limits.STREAM_HOLD_MS + 1_000:
                raise Violation("F5", f"the stream of {feed.id.hex()} is held back for {held_ms} ms")

    # -- what the broker hears --------------------------------------------------------------------

    def on_connected(self, hello: Hello, number: int) -> None:
        self._agenda.note("+", number, hello.name)
        self.custody.on_connected(hello, number)
        self.orders.on_connected(hello)

    def on_lost(self, hello: Hello, number: int) -> None:
        self._agenda.note("-", number, hello.name)
        self.custody.on_lost(hello, number)
        self.orders.on_lost(number)

    def on_bytes(self, number: int) -> None:
        self.custody.on_bytes(number)

    def on_closing(self, hello: Hello, number: int, code: str) -> None:
        self._agenda.note("close", number, hello.name, code)
        self.custody.on_closing(hello, number, code)

    def on_heard(self, host: BrokerHost, hello: Hello, number: int, command: Command) -> None:
        self.custody.on_heard(number, command)
        self.search.on_heard(host, number, command, self._agenda.now.wall_ms)
        self.orders.on_heard(hello, number, command)
        match command:
            case Announce():
                self._agenda.note("<", number, "Announce", command.slots)
                self._executors[number] = command.tasks
                self.books.on_announced(number, command)
            case Submit():
                self._agenda.note("<", number, "Submit", command.first, len(command.jobs))
                for spec in command.jobs:
                    self.asked[spec.id].heard_us = self._agenda.us
            case Edit():
                self._agenda.note("<", number, "Edit", command.id)
                asked = self.asked[command.id]
                asked.is_edited, asked.not_before_ms = True, 0
                self._not_before.pop(command.id, None)
                asked.edits.append(command)
                if command.payload is not None:
                    asked.payloads.append(command.payload)
            case Bound():
                self._agenda.note("<", number, "Bound", command.queue)
                self._bounds[command.when_full] = None
                self.audit.continuity.has_bounds = True
            case Steer():
                self._agenda.note("<", number, "Steer")
                self.audit.continuity.has_bounds = True
            case Cancel(tree=True):
                self._agenda.note("<", number, "Cancel", command.request)
                self._trees[hello.session, command.request] = command.ids
            case Ack() | Nack() | AckAndSubmit():
                self._agenda.note("<", number, type(command).__name__, command.seq, _leases(command))
                self._reports.setdefault(hello.session, {})[command.seq] = command
                self.books.on_reported(number, [item.lease for item in command.items])
                if isinstance(command, Nack):
                    self._expect_backoffs(host, hello, command)
            case Resume():
                for held in command.items:
                    # An older attempt that may be taken up again: what the newer one asked for is over then.
                    if held.lease < self._not_before.get(held.id, (0, 0))[0]:
                        del self._not_before[held.id]
                self._agenda.note("<", number, "Resume")
            case Bulk(verb="retry"):
                self._agenda.note("<", number, "Bulk", command.verb)
                for id, asked in self.asked.items():
                    if asked.terms.durability == MEMORY:  # no record will tell which of them
                        asked.heard_us = self._agenda.us
                        self._not_before.pop(id, None)  # the wish of an attempt that it died of
            case Checkpoint():
                self._agenda.note("<", number, "Checkpoint", command.seq, len(command.items))
                self.audit.continuity.on_heard(hello.session, command.seq, command.items)
            case Exited():
                self._exited.update(dict.fromkeys(child.session for child in command.children))
            case _:
                self._agenda.note("<", number, type(command).__name__)

    def _expect_backoffs(self, host: BrokerHost, hello: Hello, nack: Nack) -> None:
        """A worker asks for a time of its own; looks into the broker's books for whether it may."""
        if hello.session in self._exited:
            return
        for failure in nack.items:
            job = host.broker.state.jobs.get(failure.id)
            if job is None or job.state is not RUNNING or job.lease != failure.lease:
                continue
            wait_ms = max(failure.after_ms, failure.hold_ms)
            if wait_ms > 0 and failure.ending in ("failed", "snoozed"):
                self._not_before[failure.id] = (failure.lease, self._agenda.us + wait_ms * MS)

    # -- what the broker says ---------------------------------------------------------------------

    def on_said(self, host: BrokerHost, hello: Hello, number: int, message: Message) -> None:
        self.search.on_said(host, number, message)
        self.orders.on_said(host, hello, number, message)
        match message:
            case Confirm():
                self._agenda.note(">", number, "Confirm", message.first, message.count)
                self._rooms.on_confirm(number, message)
                self._confirmed(hello.session, message)
            case Edited():
                self._agenda.note(">", number, "Edited", message.id, message.state)
                self._edited(message)
            case Deliver():
                for delivery in message.jobs:
                    self._agenda.note(">", number, "Deliver", delivery.id, delivery.lease)
                    self._delivered(host, hello, number, delivery, message.terms[delivery.terms])
            case Acked():
                self._agenda.note(">", number, "Acked", message.seq, len(message.items))
                self._acked(host, hello.session, message)
            case Checkpointed():
                self._agenda.note(">", number, "Checkpointed", message.seq, len(message.items))
                durable = {id: asked.terms.durability != MEMORY for id, asked in self.asked.items()}
                self.audit.continuity.on_said(hello.session, message.seq, message.items, durable)
            case Outcomes():
                for outcome in message.items:
                    self._ended(host, outcome, is_heard=not host.peers[number].wire.is_cut)
            case Receipts():
                self._is_felled(host, self._trees.get((hello.session, message.request), []))
                for receipt in message.items:
                    self._cancelled(host, receipt.id, receipt.code)
            case JobReport():
                self._agenda.note(">", number, "JobReport", message.state, len(message.history))
                self.audit.is_told(message)
            case _:
                self._agenda.note(">", number, type(message).__name__)

    def _confirmed(self, session: bytes, confirm: Confirm) -> None:
        refused = {verdict.seq: None for verdict in confirm.verdicts}
        for verdict in confirm.verdicts:
            if verdict.code == "held":
                self.asked[self._numbered[session][verdict.seq]].was_held = True
        for seq in range(confirm.first, confirm.first + confirm.count):
            if seq in refused:
                continue
            id = self._numbered[session].get(seq, b"")
            if not id:
                raise Violation("I9", f"number {seq} was confirmed, and nobody submitted it")
            asked = self.asked[id]
            if asked.terms.durability == MEMORY:
                continue
            if id not in self.audit.lives:
                raise Violation("I4", f"job {id.hex()} was confirmed, and the journal does not hold it")
            asked.is_confirmed = True

    def _delivered(
        self, host: BrokerHost, hello: Hello, number: int, delivery: Delivery, terms: Terms
    ) -> None:
        id, lease, us = delivery.id, delivery.lease, self._agenda.us
        if id not in self.asked and id in self._possible:  # of a job in memory only
            self._call_back(id, terms, delivery.payload)
        if terms.durability == MEMORY and (terms.on_failure or terms.on_dead):
            self._possible.update(possible_callbacks(delivery))
        asked = self.asked.get(id)
        if asked is None or not self._was_asked(asked, terms, delivery.payload):
            raise Violation("I2", f"{delivery} is not what anybody submitted")
        if lease >> 40 != host.journal.epoch:
            raise Violation("I8", f"lease {lease} is not of epoch {host.journal.epoch}")
        if terms.durability != MEMORY and id not in self.audit.lives:
            raise Violation("I4", f"job {id.hex()} was delivered, and the journal does not hold it")
        life = self.audit.lives.get(id)
        if asked.receipts and (self.repeated[id] == 1 if life is None else life.end is not None):
            raise Violation("I7", f"job {id.hex()} was delivered after its cancelling was confirmed")
        is_sure = (self._wall_is_steady or host.starts == 1) and not asked.is_edited
        is_early = self._agenda.now.wall_ms < asked.not_before_ms - TICK_US // MS
        if self._wall_is_steady and is_early and life is asked.edited_life:
            raise Violation("E1", f"job {id.hex()} was delivered before the time to which it was put off")
        asked.not_before_ms = 0
        if is_sure and us < asked.first_us + terms.delay_ms * MS - TICK_US:
            raise Violation("I7", f"job {id.hex()} was delivered before its delay of {terms.delay_ms} ms")
        # A delivery waits for the commit of its submission, or of the copy that compaction made of it.
        from_us = max(asked.heard_us, asked.committed_us) if asked.was_held else asked.heard_us
        if asked.was_held and terms.durability == MEMORY:
            is_sure = False  # when it was let in, the journal does not say
        expired_us = max(from_us + terms.expires_ms * MS, asked.committed_us) + _HELD_US
        if is_sure and terms.expires_ms and us > expired_us:
            raise Violation(
                "I7", f"job {id.hex()} was delivered though it expired after {terms.expires_ms} ms"
            )
        if (
            terms.at_ms
            and not terms.delay_ms
            and not asked.is_edited
            and self._agenda.latest_wall_ms() < terms.at_ms
        ):
            raise Violation("I7", f"job {id.hex()} was delivered before its time")
        if self._lives.get(id, life) is not life or (life is None and self.repeated[id] > 1):
            # It has ended, was forgotten, and came back under its old id.
            self.custody.begin_anew(id)
            self._not_before.pop(id, None)
        self._lives[id] = life
        ended, not_before_us = self._not_before.get(id, (lease, 0))
        # Unless an older attempt was taken up again meanwhile, and had another wish.
        is_last = life is None or life.lease in (ended, lease)
        if asked.digest in self._replacements:
            is_last = False  # who replaced it had another wish
        if lease > ended and is_last and us < not_before_us - TICK_US:
            raise Violation("I7", f"job {id.hex()} was delivered before the time that its worker asked for")
        self.audit.continuity.on_delivered(id, lease, delivery.checkpoint)
        self.custody.give(hello, number, delivery, terms)
        self.books.on_delivered(hello, number, lease, self._executors[number][terms.task])

    def _was_asked(self, asked: Asked, terms: Terms, payload: bytes) -> bool:
        """Is this what somebody submitted, or what it was changed into?"""
        others = self._replacements.get(asked.digest, [])
        if others and terms != asked.terms:
            asked.is_edited = True
        if asked.is_edited:
            payloads = [*asked.payloads, *(other[1] for other in others)]
            return terms.task in (asked.terms.task, *(o[0].task for o in others)) and payload in payloads
        if payload in [other[1] for other in others]:
            # What replaces a job does not make it less durable, and these terms may differ in nothing else.
            strong = asked.terms.durability
            mine = [replace(o[0], durability=min(o[0].durability, strong)) for o in others]
            return terms in mine
        return payload in asked.payloads and terms == asked.terms

    def _edited(self, edited: Edited) -> None:
        asked = self.asked[edited.id]
        if edited.state == "scheduled" and not asked.digest and len(asked.edits) == 1:
            asked.not_before_ms, asked.edited_life = edited.due_ms, self.audit.lives.get(edited.id)

    def _is_felled(self, host: BrokerHost, tops: list[bytes]) -> None:
        """All below a tree's top are cancelled when its receipt is said."""
        for job in host.broker.state.jobs.values():
            for top in above(job.ext) if job.ext else ():
                if top in tops and top not in host.broker.state.jobs and self.repeated[top] == 1:
                    raise Violation("T1", f"job {job.id.hex()} is below {top.hex()}, whose tree is cancelled")

    def _acked(self, host: BrokerHost, session: bytes, acked: Acked) -> None:
        for odd in acked.items:
            self._odd[odd.lease] = odd.code
        reports = self._reports.get(session, {})
        for seq in [seq for seq in reports if seq <= acked.seq]:
            for item in reports.pop(seq).items:
                if item.lease not in self._odd:
                    self._is_recorded(host, session, item)

    def _is_recorded(self, host: BrokerHost, session: bytes, item: Success | Failure) -> None:
        asked = self.asked[item.id]
        if isinstance(item, Success):
            is_lost = asked.terms.durability == MEMORY or (self.is_lossy and item.id not in self.audit.lives)
            life = self.audit.lives.get(item.id)
            if life is not None and item.lease in life.failed_under:
                return  # what was to come of it was refused
            if not is_lost and not self.audit.has_ever_ended(item.id):
                raise Violation("I4", f"success of {item.id.hex()} was acked, and the journal has no outcome")
            return
        job = host.broker.state.jobs.get(item.id)
        if job is not None and job.state is RUNNING and job.lease == item.lease and job.holder == session:
            raise Violation("V2", f"lease {item.lease} of {item.id.hex()} was reported, and is still held")

    def _ended(self, host: BrokerHost, outcome: Outcome, *, is_heard: bool) -> None:
        self._agenda.note("outcome", outcome.state, outcome.id)
        id = outcome.id
        asked = self.asked[id]
        durable = asked.terms.durability != MEMORY
        if outcome.state == "unknown":
            # It may have been refused over this connection, and accepted over the next.
            if id in host.broker.state.jobs and self.repeated[id] == 1 and is_heard:
                raise Violation("I1", f"job {id.hex()} is said to be unknown, and is there")
            if asked.is_confirmed and not self.audit.has_ever_ended(id):
                raise Violation("I1", f"job {id.hex()} was confirmed, and is said to be unknown")
            return
        if durable and not self.audit.has_ended(id, outcome.state):
            there = self.audit.state_of(id) or "no outcome"
            raise Violation("I4", f"job {id.hex()} is said to be {outcome.state}; the journal has {there}")
        if asked.told not in ("", outcome.state) and self.repeated[id] == 1:
            raise Violation("I3", f"job {id.hex()} was {asked.told}, and is now {outcome.state}")
        asked.told = outcome.state
        self._is_plausible(host, asked, outcome)

    def _is_plausible(self, host: BrokerHost, asked: Asked, outcome: Outcome) -> None:
        """It can have happened."""
        name = outcome.id.hex()
        match outcome.state:
            case "succeeded":
                if outcome.result not in asked.results:
                    raise Violation("I2", f"job {name} succeeded with a result that no worker gave")
            case "cancelled":
                is_asked = asked.is_cancelling or self.has_bulk_cancels
                if not is_asked and not self._is_reason(asked, outcome.reason):
                    raise Violation("I2", f"job {name} is cancelled, and nobody asked: {outcome.reason}")
            case "expired" if asked.is_edited or self._replacements.get(asked.digest):
                pass  # by other terms than were asked for at first
            case "expired":
                waited_ms = (self._agenda.us - asked.first_us) // MS + 1
                # A broker that restarts has only the wall clock to go by; and a job whose next
                # attempt would come too late expires when the last one ends.
                life = self.audit.lives.get(outcome.id)
                is_sure = life is not None and life.crashes < 2 and (self._wall_is_steady or host.starts == 1)
                early_ms = _BACKOFF_MS if life is not None and life.lease else 0
                wait_ms = asked.terms.expires_ms - early_ms if is_sure else 1
                if not asked.terms.expires_ms or waited_ms < wait_ms:
                    raise Violation("I7", f"job {name} expired after {waited_ms} ms, not {wait_ms}")
            case _:
                if not outcome.ending:
                    raise Violation("I2", f"job {name} is dead for no reason")

    def _is_reason(self, asked: Asked, reason: str) -> bool:
        """May the broker have cancelled this by itself?"""
        if reason.startswith("dropped for a newer job"):
            return "drop_oldest" in self._bounds
        if reason.startswith("a job above it"):
            return any(self.asked[upper].is_cancelling for upper in asked.above if upper in self.asked)
        if reason.startswith("the client that it is bound to"):
            return asked.is_bound
        return bool(asked.digest) and "waits already" in reason

    def _cancelled(self, host: BrokerHost, id: bytes, code: str) -> None:
        self._agenda.note("receipt", code, id)
        asked = self.asked[id]
        if code == "cancelled":
            if asked.terms.durability != MEMORY and not self.audit.has_ended(id, "cancelled"):
                raise Violation("I4", f"cancelling {id.hex()} was confirmed; the journal does not have it")
            asked.receipts += 1
        elif asked.terms.durability == MEMORY or self.audit.has_ever_ended(id):
            return  # it was dead, and may have been revived since; in memory nobody knows
        elif id in host.broker.state.jobs and self.repeated[id] == 1:
            raise Violation("I1", f"cancelling {id.hex()} got {code}, and it is there")


def _leases(command: Ack | Nack | AckAndSubmit) -> str:
    return ",".join(str(item.lease) for item in command.items)
