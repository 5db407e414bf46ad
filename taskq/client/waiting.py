"""Waiting for many jobs at once: one callback and one future for all, nothing per job."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from taskq.client.context import refuse_waiting
from taskq.client.job import Job
from taskq.client.producer import ASK_TIMEOUT, Producer, resolve
from taskq.client.session import Answer, OnAnswer
from taskq.limits import BATCH_MAX
from taskq.protocol.messages import Outcome, Receipts

R = TypeVar("R")


async def settle_all(producer: Producer, jobs: Sequence[Job[R]], *, until_failure: bool) -> None:
    """Until every job has its outcome; with `until_failure`, only until the first that did not succeed."""
    wanted = {job._id: job for job in jobs if job._outcome is None}
    if not wanted or (until_failure and any(_has_failed(job) for job in jobs)):
        return
    refuse_waiting(wanted)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    arrived: dict[bytes, Outcome] = {}
    count = len(wanted)

    def on_outcome(outcome: Outcome) -> None:
        arrived[outcome.id] = outcome
        if len(arrived) == count or (until_failure and outcome.state != "succeeded"):
            resolve(done, None)

    producer.watch(wanted, on_outcome)
    try:
        await producer.wait(done, None)
    finally:
        if len(arrived) < count:
            producer.unwatch([id for id in wanted if id not in arrived], on_outcome)
        for job in jobs:
            outcome = arrived.get(job._id)
            if outcome is not None:
                job._settle(outcome)


async def in_order_of_completion(
    producer: Producer, jobs: Sequence[Job[R]], timeout: float | None
) -> AsyncGenerator[Job[R], None]:
    """Each of the jobs once, as they end."""
    for job in jobs:
        if job._outcome is not None:
            yield job
    waiting: dict[bytes, list[Job[R]]] = {}
    for job in jobs:
        if job._outcome is None:
            waiting.setdefault(job._id, []).append(job)
    refuse_waiting(waiting)
    arrived: deque[Outcome] = deque()
    news: list[asyncio.Future[None]] = []

    def on_outcome(outcome: Outcome) -> None:
        arrived.append(outcome)
        if news:
            resolve(news.pop(), None)

    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    producer.watch(list(waiting), on_outcome)
    try:
        while waiting:
            if not arrived:
                news[:] = [loop.create_future()]
                await producer.wait(news[0], None if deadline is None else deadline - loop.time())
            outcome = arrived.popleft()
            for job in waiting.pop(outcome.id):
                job._settle(outcome)
                yield job
    finally:
        producer.unwatch(list(waiting), on_outcome)


async def cancel_all(producer: Producer, jobs: Iterable[Job[Any]], reason: str) -> int:
    """How many were cancelled."""
    ids = list({job._id: None for job in jobs if job._outcome is None})
    asked = []
    for at in range(0, len(ids), BATCH_MAX):
        part = ids[at : at + BATCH_MAX]
        asked.append(producer.ask(partial(_cancel, producer, part, reason), ASK_TIMEOUT))
    return sum([_cancelled(answer) for answer in await asyncio.gather(*asked)])


def _cancel(producer: Producer, ids: list[bytes], reason: str, on_answer: OnAnswer) -> int:
    return producer.session.cancel(ids, reason, on_answer)


def _cancelled(answer: Answer) -> int:
    assert isinstance(answer, Receipts)
    return sum(item.code == "cancelled" for item in answer.items)


def _has_failed(job: Job[R]) -> bool:
    return job._outcome is not None and job._outcome.state != "succeeded"
