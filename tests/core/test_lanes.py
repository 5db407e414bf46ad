"""Lanes: jobs that are alike, first in first out, with a head start for the important."""

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.job import Job
from taskq.core.lanes import Lane, route_of
from tests.core.test_queues import a_job
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
            before = [other for other in lane.jobs if other in model or other is job]
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
    assert len(lane.jobs) < 100
    assert len(lane) == 1
