"""The table of legal moves, and what a job says of itself."""

from typing import Any

import pytest

from taskq.core.job import (
    BECOMES,
    CANCELLED,
    DEAD,
    EXPIRED,
    READY,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    Before,
    Job,
)
from tests.core.world import id_of, job_terms

OUTCOMES = (SUCCEEDED, CANCELLED, EXPIRED, DEAD)


def a_job(**fields: Any) -> Job:
    given = {"id": id_of("a"), "terms": job_terms(), "payload": b"", "submitted_ms": 0, "seq": 1}
    return Job(**{**given, **fields})


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_final(outcome: Any) -> None:
    state: Any
    for state in BECOMES:
        with pytest.raises(AssertionError, match=f"{outcome} -> {state}"):
            a_job(state=outcome).move(state)


def test_only_an_attempt_kills_a_job() -> None:
    assert [state for state, next_states in BECOMES.items() if DEAD in next_states] == [RUNNING]


def test_every_state_that_waits_can_be_cancelled_expire_and_succeed_late() -> None:
    for state in (SCHEDULED, READY, RUNNING):
        assert {SUCCEEDED, CANCELLED, EXPIRED} <= BECOMES[state]


def test_what_runs_is_not_started_again() -> None:
    with pytest.raises(AssertionError):
        a_job(state=RUNNING).move("running")


def test_a_job_knows_all_its_leases() -> None:
    job = a_job(lease=7, before=Before((3, 5)))
    assert [lease for lease in range(9) if job.had(lease)] == [3, 5, 7]


def test_it_expires_by_its_submission_and_never_without_terms() -> None:
    assert a_job(submitted_ms=1000, terms=job_terms(expires_ms=50)).expires_at_ms == 1050
    assert a_job(submitted_ms=1000).expires_at_ms == 0


def test_what_is_rare_counts_as_live_bytes_too() -> None:
    plain = a_job(payload=b"12345").live_bytes
    assert a_job(payload=b"12345", ext={"key": b"value"}).live_bytes == plain + len("key") + len(b"value")
