"""Lanes: jobs that are alike, first in first out, with a head start for the important."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.job import Job
from taskq.core.lines.lanes import GONE_MIN, GONE_PART, PLACES_PER_BURIAL, Lane, route_of
from tests.core.lines.test_queues import a_job
from tests.core.world import job_terms


def a_lane() -> Lane:
    return Lane(route_of(job_terms(), ""), 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "bury", "take"]), st.integers(0, 60)), max_size=300))
def test_a_lane_is_a_list_without_its_tombstones(steps: list[tuple[str, int]]) -> None:
    lane, model = a_lane(), list[Job]()
    jobs = [a_job(f"{number}") for number in range(61)]
    for verb, number in steps:
        job = jobs[number]
        if verb == "put" and job not in model:
            before = [other for other in (*lane.jobs, *lane._rest) if other in model or other is job]
            lane.put(job)  # one that left and comes back before it was noticed has its old place
            model.insert(before.index(job), job) if job in before else model.append(job)
        elif verb == "bury" and job in model:
            lane.bury(job)
            model.remove(job)
        elif verb == "take" and model:
            assert lane.head() is model[0]
            lane.jobs.popleft()
            model.pop(0)
        assert len(lane) == len(model)
    assert lane.head() is (model[0] if model else None)


def test_tombstones_do_not_pile_up() -> None:
    lane = a_lane()
    lane.put(a_job("first"))
    for number in range(10_000):
        job = a_job(f"{number}")
        lane.put(job)
        lane.bury(job)
    assert lane.places < 100
    assert len(lane) == 1


@pytest.mark.parametrize("step", [1, -1, 7, 4_999])
def test_no_burial_among_many_takes_long(step: int) -> None:
    """Whatever the order, tombstones stay few, and no single burial takes all of them out."""
    lane, count = a_lane(), 20_000
    jobs = [a_job(f"{number}") for number in range(count)]
    for job in jobs:
        lane.put(job)
    for number in range(1, count):
        places = lane.places
        lane.bury(jobs[(number * step) % count])
        assert places - lane.places <= PLACES_PER_BURIAL
        assert len(lane._gone) <= GONE_MIN + count // 2
    assert lane.places <= GONE_MIN + 2 * GONE_PART
    assert lane.head() is jobs[0]
    assert len(lane) == 1


def test_the_order_holds_while_tombstones_are_taken_out() -> None:
    lane = a_lane()
    jobs = [a_job(f"{number}") for number in range(1_000)]
    for job in jobs:
        job.turn = int(job.id.rstrip(b"."))
        lane.put(job)
    for job in jobs[1:900]:
        lane.bury(job)
    last = a_job("last")
    last.turn = 1_000
    lane.put(last)
    left = [jobs[0], *jobs[900:], last]
    assert lane.before(lane.rank(last)) <= lane.places
    for job in left:
        assert lane.place(job, 10) <= lane.places
        assert lane.head() is job
        assert lane.jobs.popleft() is job
    assert lane.head() is None
