"""Options of jobs: what may be said, its bounds, and the texts that say so."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from taskq import limits
from taskq.client.options import DeclareOptions, SubmitOptions, TaskOptions
from taskq.client.retry import ONCE, RetryPolicy, policy_of
from taskq.client.seconds import Seconds, millis_of
from taskq.errors import ConfigError
from taskq.protocol.messages import MEMORY, OS, RetryTerms, Terms


def submit_options(**options: Any) -> TaskOptions:
    return TaskOptions().changed(options, SubmitOptions.__annotations__)


@pytest.mark.parametrize(
    ("span", "millis"),
    [
        (0, 0),
        (1.5, 1500),
        (0.07, 70),
        (0.0001, 1),
        (timedelta(minutes=2), 120_000),
        ("250ms", 250),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("2 d", 172_800_000),
        ("1w", 604_800_000),
        ("1.5s", 1500),
        ("90", 90_000),
    ],
)
def test_spans_of_time(span: Seconds, millis: int) -> None:
    assert millis_of("delay", span) == millis


@pytest.mark.parametrize(
    "span", [-1, float("nan"), float("inf"), 4e8, "", "5 parsecs", "m5", "-5m", "5m" * 1000, timedelta(-1)]
)
def test_what_is_no_span_is_explained(span: Seconds) -> None:
    with pytest.raises(ValueError, match=r"^delay"):
        millis_of("delay", span)


@pytest.mark.parametrize("span", [True, None, [], b"5m"])
def test_what_is_not_even_like_a_span(span: Any) -> None:
    with pytest.raises(TypeError, match=r"^delay is seconds, a timedelta or text"):
        millis_of("delay", span)


def test_options_become_terms() -> None:
    options = submit_options(
        queue="mail",
        priority=5,
        delay="2s",
        expires=60,
        timeout=timedelta(seconds=1),
        retry=3,
        keep_result="1d",
        durability="os",
    )
    assert options.terms("tasks.send") == Terms(
        task="tasks.send",
        queue="mail",
        priority=5,
        delay_ms=2_000,
        expires_ms=60_000,
        timeout_ms=1_000,
        keep_ms=86_400_000,
        durability=OS,
        retry=RetryTerms(max_attempts=3),
    )


def test_without_options_terms_are_the_wires_defaults() -> None:
    assert TaskOptions().terms("tasks.send") == Terms("tasks.send")


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ({"kye": "x"}, TypeError, "unknown option kye; there are at, bind, confirm_timeout, delay"),
        ({"key": 7}, TypeError, "key is a text, not 7"),
        ({"key": ""}, ValueError, "key is 1 to 200 printable characters, not ''"),
        ({"key": "x" * 1_000_000}, ValueError, "key is 1 to 200 printable characters, not 'xxx"),
        ({"key": "a\nb"}, ValueError, "key is 1 to 200 printable characters"),
        ({"key": "\ud800"}, ValueError, "key is 1 to 200 printable characters"),
        ({"unique": "soon"}, ValueError, "unique is 'queued', 'active', or for how long"),
        ({"unique": 0}, ValueError, "unique is 'queued', 'active', or for how long"),
        ({"unique": True}, ValueError, "unique is 'queued', 'active', or for how long"),
        ({"replace": True}, ValueError, "replace=True goes with unique="),
        ({"unique": "queued", "replace": 1}, TypeError, "replace is True or False, not 1"),
        ({"bind": "yes"}, TypeError, "bind is True or False, not 'yes'"),
        ({"meta": {"a": 1}}, TypeError, "meta is a dict of texts by name"),
        ({"meta": {"a": "x" * 3_000}}, ValueError, "the limit is 2048"),
        ({"priority": 101}, ValueError, "priority is from -100 to 100, not 101"),
        ({"priority": 1.5}, TypeError, "priority is a whole number"),
        ({"priority": True}, TypeError, "priority is a whole number"),
        ({"delay": -1}, ValueError, "delay is from 0 to ten years"),
        ({"delay": 1, "at": 5}, ValueError, "delay and at exclude each other"),
        ({"at": datetime(2026, 1, 1)}, ValueError, "has no time zone"),  # the point
        ({"at": -5}, ValueError, "after 1970"),
        ({"at": "noon"}, TypeError, "aware datetime or seconds"),
        ({"timeout": 0}, ValueError, "timeout is more than 0"),
        ({"expires": 0}, ValueError, "expires is more than 0"),
        ({"retry": 0}, ValueError, "retry is from 1 to 100"),
        ({"retry": "often"}, TypeError, "RetryPolicy or a number"),
        ({"durability": "paper"}, ValueError, "'fsync', 'os' or 'memory'"),
        ({"queue": ""}, ConfigError, "is no name"),
        ({"queue": "a\nb"}, ConfigError, "is no name"),
        ({"queue": "q" * 201}, ConfigError, "1 to 200"),
        ({"queue": 5}, TypeError, "queue is a text"),
        ({"id": "xyz"}, ValueError, "32 hex digits"),
    ],
)
def test_what_is_out_of_bounds_is_explained(
    option: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        submit_options(**option)


def test_a_declaration_has_its_own_options() -> None:
    with pytest.raises(TypeError, match="unknown option delay; there are concurrency, durability, executor"):
        TaskOptions().changed({"delay": 1}, DeclareOptions.__annotations__)


def test_at_is_a_moment() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert submit_options(at=moment).at_ms == submit_options(at=moment.timestamp()).at_ms
    assert submit_options(at=moment).at_ms == 1_767_312_000_000


def test_the_later_word_on_when_replaces_the_earlier() -> None:
    later = submit_options(delay=5).changed({"at": 1e9}, SubmitOptions.__annotations__)
    assert (later.delay_ms, later.at_ms) == (0, 10**12)
    again = later.changed({"delay": 5}, SubmitOptions.__annotations__)
    assert (again.delay_ms, again.at_ms) == (5_000, 0)


def test_keeping_results() -> None:
    kept = [submit_options(keep_result=value).keep_ms for value in (True, False, 0, 1.5)]
    assert kept == [limits.KEEP_RESULT_MS, 0, 0, 1500]
    assert submit_options(durability="memory").durability == MEMORY


def test_ids_of_jobs() -> None:
    id = UUID(int=5)
    assert {submit_options(id=form).id for form in (id, str(id), id.hex)} == {id.bytes}


def test_retry_policies() -> None:
    policy = RetryPolicy.exponential(4, "2s", 3, "1m", "none", max_crashes=0)
    assert policy.terms == RetryTerms(4, 2_000, 3.0, 60_000, False, 0)
    assert policy_of(policy) is policy
    assert policy_of(None) is ONCE
    assert ONCE.terms == RetryTerms()
    assert policy_of(3) == RetryPolicy.exponential(max_attempts=3)
    assert RetryPolicy.exponential().terms.max_attempts == 5


def test_which_exceptions_are_tried_again() -> None:
    policy = RetryPolicy.exponential(on=[OSError, ValueError], give_up_on=[FileNotFoundError])
    errors = [OSError(), ValueError(), FileNotFoundError(), KeyError()]
    assert [policy.is_final(error) for error in errors] == [False, False, True, True]


def test_exceptions_may_be_named_and_asked_about() -> None:
    policy = RetryPolicy.exponential(
        on=["asyncio.exceptions.CancelledError", "OSError", lambda error: "again" in str(error)],
        give_up_on=("builtins.FileNotFoundError", __name__ + ".Hopeless"),
    )
    tried = [OSError(), TimeoutError(), ValueError("try again")]
    assert [policy.is_final(error) for error in tried] == [False] * 3
    assert all(policy.is_final(error) for error in [FileNotFoundError(), Hopeless(), ValueError("no")])


def test_system_exit_is_a_failure_whatever_on_says() -> None:
    assert not RetryPolicy.exponential(on=[OSError]).is_final(SystemExit(1))
    assert RetryPolicy.exponential(give_up_on=[SystemExit]).is_final(SystemExit(1))


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"factor": "2"}, TypeError, "factor is a number, not '2'"),
        ({"factor": True}, TypeError, "factor is a number, not True"),
        ({"factor": 0.5}, ValueError, "factor is from 1 to 100"),
        ({"on_timeout": "no"}, TypeError, "on_timeout is True or False, not 'no'"),
        ({"base": "10m"}, ValueError, "max_delay is at least base, which is '10m', and not 300.0"),
        ({"base": 5, "max_delay": 4}, ValueError, "max_delay is at least base, which is 5, and not 4"),
    ],
)
def test_what_cannot_be_of_a_policy_is_refused_in_words(
    fields: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as refused:
        RetryPolicy.exponential(**fields)
    assert text in str(refused.value)


class Hopeless(OSError):
    pass


@pytest.mark.parametrize("wrong", [ValueError, "OSError", [3], [int], [None]])
def test_what_names_no_exception_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^on (is a list|takes exception classes)"):
        RetryPolicy.exponential(on=wrong)


@pytest.mark.parametrize("name", ["", "not a name", "mod.", "x" * 201])
def test_what_cannot_be_the_name_of_a_class_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a class"):
        RetryPolicy.exponential(give_up_on=[name])


def test_a_policy_of_ten_thousand_attempts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_attempts is from 1 to 100, not 10000"):
        RetryPolicy.exponential(max_attempts=10_000)
    with pytest.raises(ValueError, match=r"^retry is from 1 to 100 attempts, not 10000"):
        policy_of(10_000)


@pytest.mark.parametrize(
    "options",
    [{"max_attempts": 0}, {"max_attempts": 101}, {"factor": 0.5}, {"jitter": "some"}, {"max_crashes": -1}],
)
def test_bounds_of_a_retry_policy(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} is "):
        RetryPolicy.exponential(**options)
