"""What the broker will say at the end of this turn, joined: one message per peer and kind."""

from collections.abc import Callable
from typing import TypeVar

from msgspec import structs

from taskq import limits
from taskq.core.effects import Close, Effect, Send
from taskq.core.job import Job
from taskq.core.records import TermsIndex
from taskq.protocol.messages import (
    Acked,
    Deliver,
    Delivery,
    Goodbye,
    Outcome,
    Outcomes,
    Reply,
    Reported,
    Revoke,
    Stop,
    Terms,
)


class Parcel:
    """Attempts for one peer, whose jobs' submissions are durable with batch `after`."""

    def __init__(self, peer: int, after: int) -> None:
        self.peer = peer
        self.after = after
        self.index = TermsIndex()
        self.items: list[Delivery] = []

    def add(self, job: Job, lease: int) -> None:
        attempt = job.failures + job.crashes + 1
        terms = self.index.index(job.terms)
        saved = job.before.checkpoint
        self.items.append(Delivery(job.id, lease, attempt, terms, job.payload, job.flags, job.ext, saved))

    def messages(self) -> list[Deliver]:
        """In parts that a peer accepts."""
        terms = self.index.terms
        parts = split(self.items, _payload_bytes)
        if len(terms) <= limits.BATCH_MAX:
            return [Deliver(terms, part) for part in parts]
        return [_only_its_own(terms, part) for part in parts]


class Outbox:
    """Collects a turn's messages. `take` gives them out as effects, each with the batch it waits for."""

    def __init__(self) -> None:
        self._replies: list[tuple[int, Reply]] = []
        self._outcomes: dict[int, list[Outcome]] = {}
        self._acked: dict[int, tuple[int, list[Reported]]] = {}
        self._stops: dict[int, list[Stop]] = {}
        self._parcels: dict[tuple[int, int], Parcel] = {}
        self._after_deliveries: list[tuple[int, Reply]] = []
        self._closes: list[Close] = []
        self._at_once: list[tuple[int, Reply]] = []

    def say(self, peer: int, message: Reply) -> None:
        self._replies.append((peer, message))

    def say_at_once(self, peer: int, message: Reply) -> None:
        """For what tells nothing about jobs."""
        self._at_once.append((peer, message))

    def say_after_deliveries(self, peer: int, message: Reply) -> None:
        """For what is about leases that may be given in this very turn."""
        self._after_deliveries.append((peer, message))

    def outcome(self, peer: int, outcome: Outcome) -> None:
        outcomes = self._outcomes.get(peer)
        if outcomes is None:
            outcomes = self._outcomes[peer] = []
        outcomes.append(outcome)

    def acked(self, peer: int, seq: int, items: list[Reported]) -> None:
        before = self._acked.get(peer)
        if before is not None and len(before[1]) + len(items) > limits.BATCH_MAX:
            self.say(peer, Acked(*before))
        elif before is not None:
            items = [*before[1], *items]
        self._acked[peer] = (seq, items)

    def stop(self, peer: int, stop: Stop) -> None:
        self._stops.setdefault(peer, []).append(stop)

    def parcel(self, peer: int, after: int) -> "Parcel":
        """Deliveries for a peer, of jobs submitted in batch `after`."""
        parcel = self._parcels.get((peer, after))
        if parcel is None:
            parcel = self._parcels[(peer, after)] = Parcel(peer, after)
        return parcel

    def close(self, peer: int, code: str, text: str) -> None:
        self._closes.append(Close(peer, Goodbye(code, text)))

    def take(self, newest: int) -> list[Effect]:
        """All of it, in an order in which every peer may hear it.

        Commit before speaking: a peer must never hear of what the disk does not hold, so all waits
        for the newest record. A delivery waits for its job's submission only: once that is durable,
        running it can at worst happen twice.
        """
        effects: list[Effect] = [Send(peer, message, 0) for peer, message in self._at_once]
        effects += [Send(peer, message, newest) for peer, message in self._replies]
        for peer, (seq, items) in self._acked.items():
            effects.append(Send(peer, Acked(seq, items), newest))
        for peer, outcomes in self._outcomes.items():
            effects += [Send(peer, Outcomes(part), newest) for part in split(outcomes, _result_bytes)]
        for parcel in self._parcels.values():
            effects += [Send(parcel.peer, message, parcel.after) for message in parcel.messages()]
        effects += [Send(peer, message, newest) for peer, message in self._after_deliveries]
        for peer, stops in self._stops.items():
            effects += [Send(peer, Revoke(part), newest) for part in split(stops, _reason_bytes)]
        effects += self._closes
        self._clear()
        return effects

    def _clear(self) -> None:
        self._replies, self._at_once, self._after_deliveries, self._closes = [], [], [], []
        self._outcomes, self._acked, self._stops, self._parcels = {}, {}, {}, {}


T = TypeVar("T")


def split(items: list[T], weigh: Callable[[T], int]) -> list[list[T]]:
    """Parts of at most BATCH_MAX items and about BATCH_BYTES_TARGET bytes: no frame nears its bound."""
    weight = sum(map(weigh, items))
    if len(items) <= limits.BATCH_MAX and weight <= limits.BATCH_BYTES_TARGET:
        return [items]
    parts: list[list[T]] = [[]]
    weight = 0
    for item in items:
        if len(parts[-1]) >= limits.BATCH_MAX or weight > limits.BATCH_BYTES_TARGET:
            parts.append([])
            weight = 0
        parts[-1].append(item)
        weight += weigh(item)
    return parts


def _only_its_own(terms: list[Terms], part: list[Delivery]) -> Deliver:
    """These deliveries with the terms that they need and no others."""
    index = TermsIndex()
    items = [structs.replace(each, terms=index.index(terms[each.terms])) for each in part]
    return Deliver(index.terms, items)


# A character of text takes at most this many bytes.
_CHAR_BYTES = 4


def _result_bytes(outcome: Outcome) -> int:
    if outcome.state == "succeeded":
        return len(outcome.result)
    fault = outcome.fault
    chars = len(outcome.reason) + (len(fault.message) + len(fault.traceback) if fault else 0)
    return chars * _CHAR_BYTES


def _payload_bytes(delivery: Delivery) -> int:
    size = len(delivery.payload)
    if delivery.ext:
        size += limits.EXT_BYTES_MAX
    if delivery.checkpoint is not None:
        size += len(delivery.checkpoint.value)
    return size


def _reason_bytes(stop: Stop) -> int:
    return len(stop.reason) * _CHAR_BYTES
