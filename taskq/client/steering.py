"""Deciding about queues, tasks and keys while all runs: the part of `q.queues` that steers."""

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from taskq.client.bounds import COUNT_MAX, parse_rate
from taskq.client.job import moment
from taskq.client.options import checked_name, reason_of
from taskq.client.producer import ASK_TIMEOUT
from taskq.client.seconds import Seconds, millis_of
from taskq.limits import NAME_CHARS_MAX, WEIGHT_MAX
from taskq.protocol.messages import (
    AskSettings,
    QueueReport,
    Settings,
    Steer,
    Steered,
    Steering,
    SteerKind,
    SteerScope,
)

if TYPE_CHECKING:
    from taskq.client.app import TaskQ


class QueueSteering:
    """What is decided here survives the broker, goes before what tasks declare, and is shown with its
    reason to everybody who asks why a job waits. Each verb takes a queue, or `task=` instead."""

    def __init__(self, app: "TaskQ") -> None:
        self._app = app

    async def list(self) -> list[QueueReport]:
        """The queues that have jobs or workers, with their counts."""
        return (await self._app.status()).queues

    async def decisions(self, name: str = "") -> "builtins.list[Decision]":
        """What was decided about this queue or task, or about all, by people and by code."""
        producer = self._app._producer()
        answer = await producer.ask(
            lambda heard: producer.session.question(lambda number: AskSettings(number, name), heard),
            ASK_TIMEOUT,
        )
        assert isinstance(answer, Settings)
        return [
            Decision(
                scope=item.scope,
                name=item.name,
                kind=item.kind,
                key=item.key,
                per_key=item.per_key,
                count=item.count,
                period_ms=item.period_ms,
                burst=item.burst,
                until=moment(item.until_ms),
                reason=item.reason,
                by=item.by,
                at=moment(item.set_ms),
                is_declared=item.is_declared,
            )
            for item in answer.items
        ]

    async def pause(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        key: str = "",
        seconds: Seconds | None = None,
        reason: str = "",
    ) -> None:
        """Start no more of its jobs, until `resume` or for so long; what runs goes on."""
        for_ms = 0 if seconds is None else millis_of("seconds", seconds)
        if seconds is not None and not for_ms:  # on the wire that is no end
            raise ValueError("seconds is more than 0; leave it out to pause until somebody resumes")
        await self._steer([_about(queue, task, "pause", key=key, for_ms=for_ms)], reason)

    async def resume(self, queue: str | None = None, *, task: str | None = None, key: str = "") -> bool:
        """Go on after a pause. False: it was not paused."""
        return await self._steer([_about(queue, task, "pause", key=key, is_set=False)], "") > 0

    async def limit(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        key: str = "",
        per: Literal["key"] | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
        burst: int = 0,
        reason: str = "",
    ) -> None:
        """At most so many at once over all workers, or so many starts in a while ("10/s"): of all its jobs,
        of one key's, or with `per="key"` of each key's by itself. After a while without any, `burst` may
        start at once; 0: as many as the rate names."""
        items = []
        whose = _whose(key, per)
        if concurrency is not None:
            most = _count("concurrency", concurrency)
            items.append(_about(queue, task, "concurrency", count=most, **whose))
        burst = _count("burst", burst)
        if rate is not None:
            count, period_ms = parse_rate(rate)
            items.append(_about(queue, task, "rate", count=count, period_ms=period_ms, burst=burst, **whose))
        elif burst:
            raise ValueError("burst= is for a rate=; give both")
        if not items:
            raise ValueError("give concurrency= or rate=, or both; `unlimit` takes them back")
        await self._steer(items, reason)

    async def unlimit(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        key: str = "",
        per: Literal["key"] | None = None,
    ) -> bool:
        """Take its limits back: what its task declares holds again. False: there were none."""
        kinds: tuple[SteerKind, ...] = ("concurrency", "rate")
        items = [_about(queue, task, kind, is_set=False, **_whose(key, per)) for kind in kinds]
        return await self._steer(items, "") > 0

    async def weigh(self, queue: str, *, key: str, weight: int, reason: str = "") -> None:
        """Let this key have `weight` jobs in its turn among the keys of the queue; the others have one."""
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f"weight is from 1 to {WEIGHT_MAX}, not {weight!r}")
        if key == "":
            raise ValueError("key is empty, and a weight is for one key of the queue; say which")
        await self._steer([_about(queue, None, "weight", key=key, count=weight)], reason)

    async def drain(self, queue: str, *, reason: str = "") -> None:
        """Accept nothing new in this queue; what is there runs. Submitting to it raises Busy."""
        await self._steer([_about(queue, None, "closed")], reason)

    async def reopen(self, queue: str) -> bool:
        """Accept new jobs again. False: it was not drained."""
        return await self._steer([_about(queue, None, "closed", is_set=False)], "") > 0

    async def _steer(self, items: "builtins.list[Steering]", reason: str) -> int:
        producer = self._app._producer()
        text = reason_of(reason)
        answer = await producer.ask(
            lambda heard: producer.session.question(lambda number: Steer(number, items, text), heard),
            ASK_TIMEOUT,
        )
        assert isinstance(answer, Steered)
        return answer.count


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that was decided about a queue or task, and holds."""

    scope: SteerScope
    name: str
    kind: SteerKind
    key: str
    per_key: bool
    count: int
    period_ms: int
    burst: int
    until: datetime | None  # when a pause ends by itself
    reason: str
    by: str  # the name of who decided it
    at: datetime | None
    is_declared: bool  # by the code of a task


def _about(queue: str | None, task: str | None, kind: SteerKind, **fields: Any) -> Steering:
    if (queue is None) == (task is None):
        raise TypeError("give a queue, or task= instead")
    _check_key(fields.get("key", ""))
    if queue is not None:
        return Steering("queue", checked_name("queue", queue), kind, **fields)
    return Steering("task", checked_name("task", task), kind, **fields)


def _whose(key: str, per: object) -> dict[str, Any]:
    """Of which keys a limit is."""
    if per not in (None, "key"):
        raise ValueError(f"per is 'key', so that each key has a limit of its own, or None, not {per!r:.80}")
    if key and per:
        raise ValueError("key= is for one key, and per='key' for each by itself; give one of them")
    return {"key": key, "per_key": per == "key"}


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"key is a text, not {key!r:.80}")
    if len(key) > NAME_CHARS_MAX:
        raise ValueError(f"key has at most {NAME_CHARS_MAX} characters, not {len(key)}")


def _count(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number, not {value!r:.80}")
    if not 0 <= value <= COUNT_MAX:
        raise ValueError(f"{what} is from 0 to {COUNT_MAX}, not {value}")
    return value
