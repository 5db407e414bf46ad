"""`q.queues` steers: against the real broker inside this process, and what is refused before it is asked."""

import asyncio
import inspect
from typing import Any

import pytest

from taskq import TaskQ
from taskq.client.queues import QueuesControl
from taskq.client.sync import SyncQueues


@pytest.mark.parametrize(
    ("verb", "fields", "kind", "says"),
    [
        ("limit", {"concurrency": True}, TypeError, "concurrency is a whole number, not True"),
        ("limit", {"concurrency": "3"}, TypeError, "concurrency is a whole number, not '3'"),
        ("limit", {"concurrency": -1}, ValueError, "concurrency is from 0 to 2147483648, not -1"),
        ("limit", {"concurrency": 2**31 + 1}, ValueError, "concurrency is from 0 to 2147483648"),
        ("limit", {"rate": "5/s", "burst": "9"}, TypeError, "burst is a whole number, not '9'"),
        ("limit", {"rate": "5/s", "burst": 2**40}, ValueError, "burst is from 0 to 2147483648"),
        ("limit", {"concurrency": 3, "burst": 5}, ValueError, "burst= is for a rate=; give both"),
        ("limit", {"concurrency": 3, "per": "kex"}, ValueError, "per is 'key', so that each key"),
        ("limit", {"concurrency": 3, "per": "key", "key": "a"}, ValueError, "give one of them"),
        ("limit", {}, ValueError, "give concurrency= or rate="),
        ("limit", {"rate": "fast"}, ValueError, "a rate is written '10/s'"),
        ("unlimit", {"per": "kex"}, ValueError, "per is 'key', so that each key"),
        ("pause", {"key": 5}, TypeError, "key is a text, not 5"),
        ("pause", {"key": "x" * 201}, ValueError, "key has at most 200 characters, not 201"),
        ("pause", {"reason": 5}, TypeError, "reason is a text, not 5"),
        ("pause", {"seconds": 0}, ValueError, "seconds is more than 0; leave it out"),
        ("pause", {"task": "send"}, TypeError, "give a queue, or task= instead"),
        ("resume", {"key": None}, TypeError, "key is a text, not None"),
        ("weigh", {"key": "", "weight": 3}, ValueError, "key is empty"),
        ("weigh", {"key": "a", "weight": 0}, ValueError, "weight is from 1 to"),
        ("drain", {"reason": b"x"}, TypeError, "reason is a text, not b'x'"),
    ],
)
async def test_what_cannot_be_is_refused_before_anybody_is_asked(
    verb: str, fields: dict[str, Any], kind: type[Exception], says: str
) -> None:
    q = TaskQ("taskq://127.0.0.1:1")
    async with asyncio.timeout(5):  # nobody is there
        with pytest.raises(kind) as refused:
            await getattr(q.queues, verb)("mail", **fields)
    assert says in str(refused.value)


async def test_the_same_verbs_without_asyncio() -> None:
    q = TaskQ()

    @q.task(queue="mail")
    async def send() -> None: ...

    def steer() -> None:
        q.sync.queues.pause("mail", key="acme", seconds=60, reason="the provider is down")
        q.sync.queues.limit("mail", rate="10/s", burst=20, per="key")
        q.sync.queues.limit(task=send.name, concurrency=3)
        q.sync.queues.weigh("mail", key="acme", weight=3)
        kinds = {(found.kind, found.scope, found.count) for found in q.sync.queues.decisions()}
        assert kinds == {("pause", "queue", 0), ("rate", "queue", 10), ("concurrency", "task", 3)} | {
            ("weight", "queue", 3)
        }
        assert q.sync.queues.resume("mail", key="acme")
        assert not q.sync.queues.resume("mail", key="acme")
        assert q.sync.queues.unlimit("mail", per="key")
        q.sync.queues.drain("mail")
        assert q.sync.queues.reopen("mail")
        assert q.sync.queues.configure("mail", max_jobs=5).max_jobs == 5
        assert "mail" in {queue.name for queue in q.sync.queues.list()}
        q.sync.close()

    async with q.embedded(queues=["mail"]):
        await asyncio.to_thread(steer)


def test_no_verb_is_missing_without_asyncio() -> None:
    def verbs(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(found).parameters)
            for name, found in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert verbs(SyncQueues) == verbs(QueuesControl)


async def test_a_reason_is_a_text_everywhere() -> None:
    q = TaskQ("taskq://127.0.0.1:1")
    wrong: Any = 5
    for asked in (
        q.job("0" * 32).cancel(reason=wrong),
        q.jobs.cancel("task:*", reason=wrong),
        q.schedules.pause("nightly", reason=wrong),
    ):
        with pytest.raises(TypeError, match="reason is a text, not 5"):
            await asyncio.wait_for(asked, 5)
    await q.close()
