"""Lines: first in first out, nobody twice, nobody forgotten."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.job import Job
from taskq.core.queues import LANES_BEFORE_SWEEP, Lane, Queues
from tests.core.world import World, id_of, job_terms


def a_job(name: str, **terms: Any) -> Job:
    return Job(id=id_of(name), terms=job_terms(**terms), payload=b"", submitted_ms=0, seq=1)


def test_first_in_first_out() -> None:
    world = World().submit("a", "b").submit("c").worker("w", slots=9)
    assert world.holds("w") == ["a", "b", "c"]


def test_tasks_of_a_queue_go_in_the_order_of_their_waiting() -> None:
    world = World().submit("a", task="one").submit("b", task="other").submit("c", task="one")
    assert world.worker("w", slots=9, tasks=("one", "other")).holds("w") == ["a", "b", "c"]


def test_who_left_the_line_is_not_served_and_the_others_keep_their_places() -> None:
    world = World().submit("a", "b", "c", "d").cancel("a", "c").worker("w", slots=9)
    assert world.holds("w") == ["b", "d"]


def test_a_released_job_goes_to_the_end() -> None:
    world = World().submit("a", "b").deliver(to="w").nack("a", by="w", ending="returned").worker("x")
    assert world.holds("w") + world.holds("x") == ["b", "a"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "bury", "take"]), st.integers(0, 60)), max_size=300))
def test_a_lane_is_a_list_without_its_tombstones(steps: list[tuple[str, int]]) -> None:
    lane, model = Lane("q", "t", 1), list[Job]()
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
    lane = Lane("q", "t", 1)
    lane.put(a_job("first"))
    for number in range(10_000):
        job = a_job(f"{number}")
        lane.put(job)
        lane.bury(job)
    assert len(lane.jobs) < 100
    assert len(lane) == 1


def test_names_of_empty_lines_do_not_pile_up() -> None:
    queues = Queues()
    for number in range(3 * LANES_BEFORE_SWEEP):
        job = a_job("a", queue=f"q{number}")
        queues.put(job)
        queues.bury(job)
        head = queues.lanes[(f"q{number}", "work")].head()
        assert head is None
    assert len(queues.lanes) <= LANES_BEFORE_SWEEP + 1


def test_jobs_put_aside_can_leave_like_those_in_line() -> None:
    queues, jobs = Queues(), [a_job(name) for name in "abc"]
    for job in jobs:
        queues.put_aside(job)
    queues.bury(jobs[1])
    assert queues.aside == 2
    assert queues.take_aside() == [jobs[0], jobs[2]]
    assert queues.aside == 0
