"""Schedules declared in code: what becomes of a decorator, and what is refused at it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskq import ConfigError, ScheduleInfo, TaskQ
from taskq.client.payload import unpack_call
from taskq.client.schedules import spec_of
from taskq.client.task import AsyncTask, PlainTask
from taskq.errors import TaskqError
from taskq.protocol.messages import ScheduleReport, ScheduleSpec


def declared(q: TaskQ) -> list[ScheduleSpec]:
    return list(q.schedules.declared.values())


def test_a_function_becomes_a_task_with_a_schedule() -> None:
    q = TaskQ()

    @q.cron("30 2 * * *", tz="Europe/Berlin", catch_up="last", overlap="skip", jitter="5m")
    async def nightly() -> int:
        return 1

    (spec,) = declared(q)
    assert isinstance(nightly, AsyncTask)
    assert q.tasks[nightly.name] is nightly
    assert (spec.name, spec.terms, unpack_call(spec.payload)) == (nightly.name, nightly.terms, ([], {}))
    assert (spec.cron, spec.interval_ms, spec.zone) == ("30 2 * * *", 0, "Europe/Berlin")
    assert (spec.catch_up, spec.overlap, spec.jitter_ms) == ("last", "skip", 300_000)


def test_a_task_stays_the_task_that_it_was() -> None:
    q = TaskQ()

    @q.task(queue="reports", retry=3)
    def report(day: str = "today") -> str:
        return day

    same = q.every(timedelta(minutes=90), name="often")(report)
    (spec,) = declared(q)
    assert same is report
    assert isinstance(report, PlainTask)
    assert report("x") == "x"
    assert (spec.name, spec.interval_ms, spec.zone) == ("often", 5_400_000, "UTC")
    assert (spec.terms.queue, spec.terms.retry.max_attempts) == ("reports", 3)


def test_a_task_may_have_several() -> None:
    q = TaskQ()

    @q.cron("@daily", name="day")
    @q.cron("@hourly", name="hour")
    @q.every("90s")
    def beat() -> None: ...

    assert [spec.name for spec in declared(q)] == [beat.name, "hour", "day"]


def test_options_of_a_task_are_those_of_its_jobs() -> None:
    q = TaskQ()

    @q.task
    def beat() -> None: ...

    q.cron("@daily")(beat.options(queue="other", expires=60))
    (spec,) = declared(q)
    assert (spec.terms.queue, spec.terms.expires_ms) == ("other", 60_000)


def test_two_of_one_name_are_a_mistake() -> None:
    q = TaskQ()

    def beat() -> None: ...

    q.every("1m")(beat)
    q.every("1m")(q.tasks[f"{__name__}.{beat.__qualname__}"])
    with pytest.raises(ConfigError, match="give one of them another name="):
        q.every("2m")(q.tasks[f"{__name__}.{beat.__qualname__}"])


def test_a_function_that_wants_arguments() -> None:
    q = TaskQ()

    def add(a: int, b: int = 0) -> int:
        return a + b

    with pytest.raises(ConfigError, match=r"without arguments: .*add\(\): missing a required argument: 'a'"):
        q.cron("@daily")(add)
    assert declared(q) == []


def test_a_task_of_another_app() -> None:
    q, other = TaskQ(), TaskQ()

    @other.task
    def beat() -> None: ...

    with pytest.raises(ConfigError, match="is of another app"):
        q.cron("@daily")(beat)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cron": "daily"}, "5 fields"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "is no time zone"),
        ({"every": 0.5}, "an interval is from 1 s to ten years, not 0.5"),
        ({"every": 0}, "an interval is from 1 s to ten years, not 0"),
        ({"every": "999ms"}, "an interval is from 1 s to ten years, not '999ms'"),
        ({"every": "soon"}, "'soon' is no span of time"),
        ({"every": -1}, "from 0 to ten years"),
        ({}, "either a cron text or an interval"),
        ({"cron": "@daily", "every": 5}, "one of cron= and every="),
        ({"every": 5, "overlap": "both"}, "overlap is one of allow, skip, queue, cancel, not 'both'"),
        ({"every": 5, "catch_up": "some"}, "catch_up is one of skip, last, all, not 'some'"),
        ({"every": 5, "jitter": "2d"}, "jitter is at most 24 hours"),
        ({"every": 5, "jitter": -1}, "from 0 to ten years"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(options: Any, text: str) -> None:
    q = TaskQ()

    @q.task
    def beat() -> None: ...

    with pytest.raises(ConfigError) as caught:
        spec_of("beat", beat.call(), options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cron": 5}, "cron is a text such as '30 2 * * *' or '@daily', not 5"),
        ({"cron": None}, "cron is a text such as '30 2 * * *' or '@daily', not None"),
        ({"cron": "@daily", "tz": 5}, "tz is a text such as 'Europe/Berlin', not 5"),
        ({"every": True}, "an interval is seconds, a timedelta or text like '5m', not True"),
    ],
)
def test_what_is_of_another_kind_is_refused_in_words(options: Any, text: str) -> None:
    q = TaskQ()

    @q.task
    def beat() -> None: ...

    with pytest.raises(TypeError) as caught:
        spec_of("beat", beat.call(), options)
    assert text in str(caught.value)


@pytest.mark.parametrize("n", ["5", 2.0, True])
async def test_how_many_next_times_is_a_number(n: Any) -> None:
    with pytest.raises(TypeError, match="n is a whole number, not"):
        await TaskQ("taskq://127.0.0.1:1").schedules.next("a", n)


def test_jobs_with_a_time_of_their_own() -> None:
    q = TaskQ()

    @q.task
    def beat() -> None: ...

    for task in (beat.options(delay=5), beat.options(at=datetime.now(UTC)), beat.options(id="0" * 32)):
        with pytest.raises(ConfigError, match="delay, at and id cannot be"):
            q.cron("@daily")(task)


def test_arguments_that_are_too_large_and_options_that_are_none() -> None:
    q = TaskQ()

    @q.task
    def swallow(data: bytes) -> None: ...

    with pytest.raises(ConfigError, match="bytes of arguments; of a schedule at most 65536"):
        spec_of("s", swallow.call(bytes(70_000)), {"every": 5})
    with pytest.raises(TypeError, match="unknown option often; there are cron, every, tz"):
        spec_of("s", swallow.call(b""), {"often": 5})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("name", ["", "x" * 201, "a,b", "a\nb"])
def test_a_name_that_is_none(name: str) -> None:
    q = TaskQ()

    @q.task
    def beat() -> None: ...

    with pytest.raises(TaskqError):
        q.every("1m", name=name)(beat)


def test_a_report_is_read_in_its_own_zone() -> None:
    report = ScheduleReport(
        *("s", "work", "default", "@daily", 0, "Europe/Berlin", "skip", "queue", 1_500, "shop", False, True),
        *("why", 1_767_225_600_000, 0, b"", True, [1_767_222_000_000], ""),
    )
    info = ScheduleInfo.of(report)
    assert info.created_at.isoformat() == "2026-01-01T01:00:00+01:00"
    assert [moment.isoformat() for moment in info.next_at] == ["2026-01-01T00:00:00+01:00"]
    assert (info.every, info.jitter) == (None, timedelta(seconds=1.5))
    assert (info.last_at, info.last_job, info.is_waiting, info.is_declared) == (None, "", True, False)


def test_an_app_is_called_as_it_says_or_as_its_module() -> None:
    named, nameless = TaskQ(name="shop"), TaskQ()
    assert (named.name, nameless.name) == ("shop", "")

    @nameless.task
    def beat() -> None: ...

    assert nameless.name == __name__
