"""Lines: first in first out, nobody twice, nobody forgotten."""

from typing import Any

import pytest

from taskq import limits
from taskq.core.job import Job
from taskq.core.lines.queues import LANES_BEFORE_SWEEP, Queues
from taskq.core.lines.registry import Registry
from taskq.core.timers import Timers
from taskq.protocol.messages import Announce
from tests.core.world import World, id_of, job_terms


def a_job(name: str, *, ext: dict[str, bytes] | None = None, **terms: Any) -> Job:
    return Job(id=id_of(name), terms=job_terms(**terms), payload=b"", submitted_ms=0, seq=1, ext=ext)


def some_queues() -> Queues:
    return Queues(Registry(Timers(), {}))


def test_first_in_first_out() -> None:
    world = World().submit("a", "b").submit("c").worker("w", slots=9)
    assert world.holds("w") == ["a", "b", "c"]


def test_tasks_of_a_queue_go_in_the_order_of_their_waiting() -> None:
    world = World().submit("a", task="one").submit("b", task="other").submit("c", task="one")
    assert world.worker("w", slots=9, tasks=("one", "other")).holds("w") == ["a", "b", "c"]


def test_who_left_the_line_is_not_served_and_the_others_keep_their_places() -> None:
    world = World().submit("a", "b", "c", "d").cancel("a", "c").worker("w", slots=9)
    assert world.holds("w") == ["b", "d"]


def test_a_job_that_is_tried_again_goes_to_the_end() -> None:
    world = World().submit("a", "b", attempts=2, backoff_ms=0).deliver(to="w").nack("a", by="w").worker("x")
    assert world.holds("w") + world.holds("x") == ["b", "a"]


def test_names_of_empty_lines_do_not_pile_up() -> None:
    queues = some_queues()
    for number in range(3 * LANES_BEFORE_SWEEP):
        job = a_job("a", queue=f"q{number}")
        queues.put(job)
        queues.bury(job)
        assert queues.lane(job).head() is None
    assert len(queues.lanes) <= LANES_BEFORE_SWEEP + 1


def test_jobs_put_aside_can_leave_like_those_in_line() -> None:
    queues, jobs = some_queues(), [a_job(name) for name in "abc"]
    for job in jobs:
        queues.put_aside(job)
    queues.bury(jobs[1])
    assert queues.aside == 2
    assert queues.take_aside() == [jobs[0], jobs[2]]
    assert queues.aside == 0


@pytest.mark.parametrize("ext", [None, {"key": b"k"}])
def test_terms_that_are_all_different_do_not_pile_up(ext: dict[str, bytes] | None) -> None:
    queues = some_queues()
    for number in range(3 * limits.TERMS_CACHE_MAX):
        queues.put(a_job(f"{number}", at_ms=number, ext=ext))
    assert len(queues.lanes) == 1
    assert len(queues._by_terms) + len(queues._by_key) <= limits.TERMS_CACHE_MAX


def test_a_worker_that_reads_again_gives_its_resources_to_those_that_wait_for_them() -> None:
    world = World().worker("w1", slots=3, resources={"gpu": 1}).worker("w2", slots=3, resources={"gpu": 1})
    world.submit("a", resources=(("gpu", 1),)).submit("c")
    assert world.deliveries == [("a", "w1"), ("c", "w2")]
    world.block("w2").submit("b", resources=(("gpu", 1),))
    assert world.state("b") == "ready"
    assert world.unblock("w2").holds("w2") == ["c", "b"]


def test_a_job_that_is_handed_back_goes_before_those_of_other_tasks_that_came_later() -> None:
    world = World().worker("w", tasks=("work", "other"))
    world.submit("a").submit("b", task="other").submit("c")
    world.say("w", Announce({"work": "async", "other": "async"}, ["default"], {"async": 0}))
    world.nack("a", by="w", ending="returned")
    assert world.worker("v", tasks=("work", "other")).holds("v") == ["a"]
