"""Again, when, or never."""

from random import Random
from typing import Any

import pytest

from taskq import limits
from taskq.core.job import Job
from taskq.core.running.retry import Verdict, backoff_ms, crash_backoff_ms, judge
from taskq.protocol.messages import Ending, Failure, RetryTerms
from tests.core.world import id_of, job_terms

RNG = Random(0)


def verdict(
    ending: Ending,
    *,
    failures: int = 0,
    crashes: int = 0,
    terms: dict[str, Any] | None = None,
    **fields: Any,
) -> Verdict:
    job = Job(
        id=id_of("a"),
        terms=job_terms(**(terms or {})),
        payload=b"",
        submitted_ms=0,
        seq=1,
        failures=failures,
        crashes=crashes,
    )
    return judge(job, Failure(job.id, 1, ending, **fields), RNG)


@pytest.mark.parametrize("ending", ["failed", "timed_out"])
def test_a_failure_is_tried_again_until_no_attempt_is_left(ending: Ending) -> None:
    seen = [verdict(ending, failures=failures, terms={"attempts": 3}) for failures in range(3)]
    assert [each.dead for each in seen] == [False, False, True]
    assert [each.failures for each in seen] == [1, 2, 3]


def test_a_timeout_may_be_final_where_a_failure_is_not() -> None:
    terms = {"attempts": 3, "on_timeout": False}
    assert verdict("timed_out", terms=terms) == Verdict(True, 0, 1, 0)
    assert not verdict("failed", terms=terms).dead
    assert not verdict("crashed", terms=terms).dead


def test_a_throttled_job_comes_again_when_its_key_may() -> None:
    assert verdict("snoozed", failures=1, hold_key="ann", hold_ms=700) == Verdict(False, 700, 1, 0)


def test_without_a_policy_a_failure_is_final() -> None:
    assert verdict("failed").dead


@pytest.mark.parametrize("ending", ["discarded", "rejected"])
def test_what_is_final_is_final_whatever_is_left(ending: Ending) -> None:
    assert verdict(ending, terms={"attempts": 100}).dead


def test_a_failure_may_say_that_it_is_final() -> None:
    assert verdict("failed", terms={"attempts": 100}, final=True).dead


@pytest.mark.parametrize("ending", ["returned", "snoozed"])
def test_handing_back_and_snoozing_count_as_nothing(ending: Ending) -> None:
    assert verdict(ending, failures=2, crashes=1, after_ms=70) == Verdict(False, 70, 2, 1)


def test_a_task_may_choose_its_wait() -> None:
    assert verdict("failed", terms={"attempts": 5}, after_ms=12).wait_ms == 12
    assert verdict("failed", terms={"attempts": 5}, after_ms=0).wait_ms == 0


def test_crashes_are_counted_apart_and_end_somewhere() -> None:
    seen = [verdict("crashed", crashes=crashes, terms={"crashes": 2}) for crashes in range(3)]
    assert [(each.dead, each.failures, each.crashes) for each in seen] == [
        (False, 0, 1),
        (False, 0, 2),
        (True, 0, 3),
    ]


def test_the_first_crash_is_forgiven_at_once_and_the_next_wait_longer() -> None:
    rng = Random(1)
    assert crash_backoff_ms(1, rng) == 0
    for crashes, step_ms in ((2, 1_000), (3, 2_000), (4, 4_000), (100, limits.CRASH_BACKOFF_MAX_MS)):
        waits = {crash_backoff_ms(crashes, rng) for _ in range(100)}
        assert step_ms / 2 <= min(waits) < max(waits) <= step_ms


def test_backoff_doubles_up_to_its_maximum() -> None:
    retry = RetryTerms(base_ms=100, factor=2.0, max_delay_ms=1_000, jitter=False)
    assert [backoff_ms(retry, failures, RNG) for failures in range(1, 7)] == [
        100,
        200,
        400,
        800,
        1_000,
        1_000,
    ]


def test_jitter_spreads_over_the_whole_step() -> None:
    retry = RetryTerms(base_ms=1_000, jitter=True)
    waits = sorted(backoff_ms(retry, 1, Random(seed)) for seed in range(200))
    assert 0 <= waits[0] < 100
    assert 900 < waits[-1] <= 1_000
    assert 400 < waits[100] < 600


def test_the_largest_terms_overflow_nothing() -> None:
    retry = RetryTerms(base_ms=limits.HORIZON_MS, factor=100.0, max_delay_ms=limits.HORIZON_MS, jitter=False)
    assert backoff_ms(retry, limits.ATTEMPTS_MAX, RNG) == limits.HORIZON_MS
