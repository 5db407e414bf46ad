"""A schedule as it is remembered, and the ids of the jobs that it makes."""

from hashlib import blake2b
from typing import Final

from msgspec import Struct

from taskq.core import records as r
from taskq.core.job import ext_bytes
from taskq.protocol.ids import RANDOM_BITS, SLOTS, make_id
from taskq.protocol.messages import ScheduleSpec

# A record's own fields: names, times, the terms.
_RECORD_BYTES: Final = 300
_SLOT_SHIFT: Final = 64


class Schedule(Struct, kw_only=True):
    """One schedule. Times are wall times in ms."""

    spec: ScheduleSpec
    app: str  # whose code declares it; empty: somebody made it at run time
    slot: int  # of its jobs' queue
    created_ms: int
    since_ms: int  # where an interval counts from
    floor_ms: int  # all ticks up to here are decided: made, passed over or waiting
    last_ms: int = 0  # of the newest job: its tick, or when somebody asked for it
    last_job: bytes = b""
    runs: tuple[bytes, ...] = ()  # the newest jobs that somebody asked for: asked again, they are there
    waiting_ms: int = 0  # the tick whose job is made when the last one has ended
    is_paused: bool = False
    reason: str = ""
    seq: int = 0  # the batch that holds its latest full record

    @property
    def live_bytes(self) -> int:
        """What its full record takes in the journal, about."""
        return len(self.spec.payload) + ext_bytes(self.spec.ext) + _RECORD_BYTES


def schedule_of(record: r.ScheduleSet, seq: int) -> Schedule:
    return Schedule(
        spec=record.spec,
        app=record.app,
        slot=record.slot,
        created_ms=record.created_ms,
        since_ms=record.since_ms,
        floor_ms=record.floor_ms,
        last_ms=record.last_ms,
        last_job=record.last_job,
        runs=tuple(record.runs),
        waiting_ms=record.waiting_ms,
        is_paused=record.is_paused,
        reason=record.reason,
        seq=seq,
    )


def record_of(schedule: Schedule) -> r.ScheduleSet:
    return r.ScheduleSet(
        spec=schedule.spec,
        app=schedule.app,
        slot=schedule.slot,
        created_ms=schedule.created_ms,
        since_ms=schedule.since_ms,
        floor_ms=schedule.floor_ms,
        last_ms=schedule.last_ms,
        last_job=schedule.last_job,
        runs=list(schedule.runs),
        waiting_ms=schedule.waiting_ms,
        is_paused=schedule.is_paused,
        reason=schedule.reason,
    )


def tick_id(schedule: Schedule, tick_ms: int) -> bytes:
    """The id of the job of this tick: always the same one, so that it cannot be made twice."""
    digest = blake2b(f"{schedule.spec.name}\0{tick_ms}".encode(), digest_size=8).digest()
    return make_id(tick_ms, schedule.slot, int.from_bytes(digest, "big") >> (64 - RANDOM_BITS))


def with_slot(id: bytes, slot: int) -> bytes:
    """The id, in the partition of this slot."""
    mask = (SLOTS - 1) << _SLOT_SHIFT
    return (int.from_bytes(id, "big") & ~mask | slot << _SLOT_SHIFT).to_bytes(len(id), "big")
