"""What tests see of what was submitted."""

from datetime import UTC, date, datetime

import pytest

from taskq import TaskQ
from taskq.testing import Embedded
from tests.testing.apps import App, Mail


async def test_calls_are_told_as_their_tasks_get_them() -> None:
    app = App()
    async with Embedded(app.q, run=False) as env:
        mail = Mail("ann", date(2026, 5, 4))
        job = await app.send.options(queue="mail", delay="5m", key="ann", priority=3, meta={"a": "b"}).submit(
            mail, urgent=True
        )
        at = datetime(2030, 1, 1, tzinfo=UTC)
        await app.send.options(at=at).submit(mail=mail)
        first, second = env.submitted("send")
    assert (first.args, first.kwargs) == ((mail,), {"urgent": True})
    assert (first.queue, first.delay, first.key, first.priority) == ("mail", 300, "ann", 3)
    assert (first.meta, first.at, first.job, first.parent) == ({"a": "b"}, None, job, "")
    assert (second.args, second.kwargs, second.at) == ((), {"mail": mail}, at)
    assert first.arguments == {"mail": mail, "urgent": True}
    assert second.arguments == {"mail": mail}
    assert first.terms.task == app.send.name


async def test_a_task_is_meant_by_its_name_or_the_end_of_it() -> None:
    app = App()
    async with Embedded(app.q) as env:
        await app.parent.submit(1)
        await env.drain()
        assert [call.task for call in env.submitted()] == [app.parent.name, app.add.name]
        assert env.submitted(app.add) == env.submitted("add") == env.submitted(app.add.name)
        assert env.submitted("add")[0].parent == env.job("parent").id
        assert await env.job("add").result() == 2
        assert env.submitted("send") == []
        with pytest.raises(LookupError, match="did you mean"):
            env.submitted("ad")
        with pytest.raises(AssertionError, match="0 jobs of send"):
            env.job("send")


async def test_what_was_refused_or_there_already_was_not_submitted() -> None:
    app = App()
    async with Embedded(app.q, run=False) as env:
        same = app.add.options(unique="active", key="one")
        first = await same.submit(1, 1)
        assert await same.submit(1, 1) == first
        assert [call.job for call in env.submitted()] == [first]


async def test_a_task_of_another_app_is_told_as_it_came() -> None:
    app, other = App(), TaskQ()

    @other.task(name="other.pay")
    async def pay(euros: int) -> None: ...

    async with Embedded(app.q, run=False) as env:
        await app.q.submit_many([pay.call(5)])
        (call,) = env.submitted("pay")
    assert (call.task, call.args, call.kwargs, call.arguments) == ("other.pay", (5,), {}, {})
