"""`q.queues`: what may be said of queues while they are in use."""

from dataclasses import dataclass
from typing import Literal, get_args

from taskq.client.options import checked_name
from taskq.client.producer import ASK_TIMEOUT
from taskq.client.steering import QueueSteering
from taskq.protocol.messages import Bounded, WhenFull

_COUNT_MAX = 2**53


class QueuesControl(QueueSteering):
    """Made by TaskQ. What is said here is journaled, and survives the broker."""

    async def configure(
        self,
        queue: str,
        *,
        max_jobs: int | None = None,
        max_bytes: int | None = None,
        when_full: Literal["reject", "wait", "drop_oldest"] = "reject",
    ) -> "QueueBound":
        """Bound what may wait in a queue: so many jobs, so many bytes of arguments. Without either, none.

        Replaces what was said before. Running jobs do not count, and one that is tried again always fits.
        A submission to a full queue is refused with QueueFull ("reject"); or it waits until there is room,
        and so does `await submit()`, at most its `confirm_timeout` ("wait"); or the job that has waited
        longest is cancelled for it ("drop_oldest").
        """
        name = checked_name("queue", queue)
        bound = {
            "max_jobs": _bound("max_jobs", max_jobs),
            "max_bytes": _bound("max_bytes", max_bytes),
            "when_full": _when_full(when_full),
        }
        producer = self._app._producer()
        answer = await producer.ask(
            lambda on_answer: producer.session.bound(name, bound, on_answer), ASK_TIMEOUT
        )
        assert isinstance(answer, Bounded)
        return QueueBound(
            queue=name,
            max_jobs=answer.max_jobs or None,
            max_bytes=answer.max_bytes or None,
            when_full=answer.when_full,
            jobs=answer.jobs,
            bytes=answer.bytes,
            held=answer.held,
        )


@dataclass(frozen=True, slots=True)
class QueueBound:
    """A queue's bound, and what waited in it when that was said."""

    queue: str
    max_jobs: int | None
    max_bytes: int | None
    when_full: WhenFull
    jobs: int
    bytes: int
    held: int  # submissions that wait for room


def _bound(name: str, value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number or None, not {value!r}")
    if not 1 <= value <= _COUNT_MAX:
        raise ValueError(f"{name} is from 1 to {_COUNT_MAX}, or None for no bound; not {value}")
    return value


def _when_full(value: object) -> str:
    if not isinstance(value, str) or value not in get_args(WhenFull):
        raise ValueError(f"when_full is 'reject', 'wait' or 'drop_oldest', not {value!r}")
    return value
