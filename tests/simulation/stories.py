"""What jobs tell of their attempts, and what follows from those: each story is compared with the leases
that were given and given back, each callback with the attempt or the death that it is for (I16).
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgpack

from taskq import limits
from taskq.core import records as r
from taskq.protocol.messages import AttemptReport, Delivery
from tests.simulation.agenda import Violation

if TYPE_CHECKING:
    from tests.simulation.audit import Life

UNCOUNTED: Final = ("returned", "snoozed")


class Stories:
    """Reads along with the audit: what it is given has not been counted yet."""

    def __init__(self) -> None:
        # Callbacks that the batch has to make, and the job that each is about.
        self._due: dict[bytes, bytes] = {}

    def released(self, life: "Life", item: r.Release, wall_ms: int) -> None:
        if item.told is None:
            if item.ending != "returned":
                raise Violation("I16", f"job {item.id.hex()} tells nothing of {item}")
            return
        self._is_true(life, item.id, item.told, item.ending, wall_ms)
        life.told.append(item.told)
        life.story = _longer(life.story, item.told)
        if item.ending not in UNCOUNTED:
            self._expect(life, item.id, item.lease, "failure")

    def ended(self, life: "Life", item: r.SuccessItem | r.EndedItem) -> None:
        is_dead = isinstance(item, r.EndedItem) and item.state == "dead"
        has_failed = (item.failures, item.crashes) != (life.failures, life.crashes)
        if is_dead or has_failed or _expired_after_an_attempt(life, item):
            # The last attempt is told with the end.
            if not item.story:
                raise Violation("I16", f"job {item.id.hex()} tells nothing of its end: {item}")
            last = item.story[-1]
            ending = item.ending if is_dead and isinstance(item, r.EndedItem) else last.ending
            self._is_true(life, item.id, last, ending, item.finished_ms)
            life.told.append(last)
            life.story = _longer(life.story, last)
            if last.ending not in UNCOUNTED:
                self._expect(life, item.id, item.lease, "failure")
        if is_dead:
            self._expect(life, item.id, item.lease, "death")
        if list(item.story) != life.story:
            raise Violation("I16", f"job {item.id.hex()} tells {item.story}, and it was {life.story}")

    def are_told(self, lives: "Mapping[bytes, Life]", made: Sequence[bytes]) -> None:
        """The batch was read: are all callbacks in it that are due, and no others?"""
        due, self._due = self._due, {}
        for id in made:
            about = due.pop(id, None)
            if about is None:
                raise Violation("I16", f"callback {id.hex()} is for nothing that has happened")
            (job_id, arguments, error), _ = _unpacked(lives[id].spec.payload)
            payload = lives[about].spec.payload
            if job_id != about.hex() or not error:
                raise Violation("I16", f"callback {id.hex()} is about {job_id}, not {about.hex()}")
            if arguments is not None and payload not in lives[id].spec.payload:
                raise Violation("I16", f"callback {id.hex()} has other arguments than its job")
        for id, about in due.items():
            raise Violation("I16", f"callback {id.hex()} of job {about.hex()} was not made")

    def _is_true(self, life: "Life", job_id: bytes, told: AttemptReport, ending: str, wall_ms: int) -> None:
        number = life.failures + life.crashes + 1
        truth = (number, ending, life.started_ms, wall_ms)
        if (told.attempt, told.ending, told.started_ms, told.ended_ms) != truth:
            raise Violation("I16", f"job {job_id.hex()} tells {told}; it was {truth}")
        if told.status and (ending != "crashed" or told.status != -9):
            raise Violation("I16", f"job {job_id.hex()} tells of an exit that was not: {told}")

    def _expect(self, life: "Life", job_id: bytes, lease: int, cause: str) -> None:
        callback = life.terms.on_dead if cause == "death" else life.terms.on_failure
        if callback is not None:
            attempt = life.failures + life.crashes + 1
            self._due[callback_id(job_id, lease, attempt, cause)] = job_id


def _expired_after_an_attempt(life: "Life", item: r.SuccessItem | r.EndedItem) -> bool:
    is_expired = isinstance(item, r.EndedItem) and item.state == "expired"
    return is_expired and list(item.story) != life.story


def possible_callbacks(delivery: Delivery) -> dict[bytes, None]:
    """The ids of all that this attempt may cause: its lease may be lost and taken up again, each time as
    another attempt."""
    attempts = range(delivery.attempt, delivery.attempt + 10)
    causes = ("failure", "death")
    return {callback_id(delivery.id, delivery.lease, n, cause): None for n in attempts for cause in causes}


def callback_id(job_id: bytes, lease: int, attempt: int, cause: str) -> bytes:
    """As the manual of the wire has it."""
    words = b"%b%b%b%b" % (job_id, lease.to_bytes(8, "big"), attempt.to_bytes(8, "big"), cause.encode())
    low = int.from_bytes(blake2b(words, digest_size=8).digest(), "big") & (1 << 62) - 1 | 1 << 63
    return job_id[:8] + low.to_bytes(8, "big")


def _unpacked(call: bytes) -> Any:
    """Payloads here are any bytes; some are MessagePack by chance, with keys that no dict can have and
    extension types that nobody has heard of."""
    return msgpack.unpackb(
        call,
        unicode_errors="surrogateescape",
        object_pairs_hook=list,
        strict_map_key=False,
        ext_hook=lambda code, data: (code, data),
    )


def _longer(story: list[AttemptReport], told: AttemptReport) -> list[AttemptReport]:
    """The first ones and the last; of snoozes in a row the last."""
    if story and story[-1].ending == "snoozed" and told.ending == "snoozed":
        return [*story[:-1], told]
    whole = [*story, told]
    first = limits.STORY_FIRST
    return whole[:first] + whole[first:][-limits.STORY_LAST :]
