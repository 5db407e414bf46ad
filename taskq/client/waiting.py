"""Waiting for many jobs at once: one callback and one future for all, nothing per job."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

from taskq.client.job import Job
from taskq.client.producer import Producer, resolve
from taskq.protocol.messages import Outcome

R = TypeVar("R")


async def settle_all(producer: Producer, jobs: Sequence[Job[R]], *, until_failure: bool) -> None:
    """Until every job has its outcome; with `until_failure`, only until the first that did not succeed."""
    wanted = {job._id: job for job in jobs if job._outcome is None}
    if not wanted or (until_failure and any(_has_failed(job) for job in jobs)):
        return
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


def _has_failed(job: Job[R]) -> bool:
    return job._outcome is not None and job._outcome.state != "succeeded"
