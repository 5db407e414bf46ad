"""Trees: what was submitted inside a job, and inside that. One call cancels all of it."""

import pytest

from taskq import limits
from taskq.protocol.messages import Receipts
from tests.core.world import World, canonical, id_of


def below(*names: str) -> dict[str, bytes]:
    """The ext of a job submitted inside the first of these, that inside the second, and so on."""
    ext = {"parent": id_of(names[0])}
    if names[1:]:
        ext["ancestors"] = b"".join(map(id_of, names[1:]))
    return ext


def family() -> World:
    """a > b > d; a > c."""
    world = World().submit("a").submit("b", "c", ext=below("a")).submit("d", ext=below("b", "a"))
    return world.submit("other")


def test_a_tree_is_cancelled_with_its_top() -> None:
    world = family().watch("d").cancel("a", tree=True, reason="enough")
    answer = world.last("producer", Receipts)
    assert ([each.code for each in answer.items], answer.descendants) == (["cancelled"], 3)
    assert [world.state(name) for name in "abcd"] == ["cancelled"] * 4
    assert world.state("other") == "ready"
    assert world.outcome_list()[0].reason == "a job above it was cancelled: enough"
    assert world.broker.state.kin.below == {}


def test_without_that_word_only_the_job_is() -> None:
    world = family().cancel("a")
    assert [world.state(name) for name in "abcd"] == ["cancelled", "ready", "ready", "ready"]


def test_a_branch_is_cancelled_and_the_rest_is_not() -> None:
    world = family().cancel("b", tree=True)
    assert [world.state(name) for name in "abcd"] == ["ready", "cancelled", "ready", "cancelled"]


def test_running_ones_are_told_to_stop() -> None:
    world = family().worker("w", slots=9).cancel("a", tree=True)
    assert sorted(world.stops("w")) == ["a", "b", "c", "d"]


def test_those_above_may_have_ended_long_ago() -> None:
    world = World().worker("w").submit("a", keep_ms=0).submit("b", ext=below("a"), keep_ms=0)
    world.submit("c", ext=below("b", "a"), delay_ms=1_000).ack("a", by="w").ack("b", by="w")
    world.restart().cancel("a", tree=True)
    answer = world.last("producer", Receipts)
    assert ([each.code for each in answer.items], answer.descendants) == (["unknown"], 1)
    assert world.state("c") == "cancelled"


@pytest.mark.parametrize("slack", [0, 1 << 30])
def test_a_tree_is_one_after_a_restart(slack: int) -> None:
    world = World(slack=slack).submit("a").submit("b", ext=below("a")).submit("x").cancel("x").restart()
    assert canonical(world.recovered()) == canonical(world.broker.state)
    assert world.cancel("a", tree=True).state("b") == "cancelled"


def test_what_is_submitted_too_late_inside_a_cancelled_tree_is_cancelled_too() -> None:
    world = World().worker("w", slots=9).submit("a").submit("b", ext=below("a")).cancel("a", tree=True)
    world.submit("c", ext=below("b", "a"))
    assert world.verdicts() == []
    assert world.state("c") == "cancelled"


def test_but_not_inside_a_later_job_of_the_same_id() -> None:
    world = World().submit("a", keep_ms=0).cancel("a", tree=True).submit("a", keep_ms=0)
    assert world.submit("b", ext=below("a")).state("b") == "ready"


def test_a_large_tree_is_cancelled_in_slices_and_receipted_at_the_end() -> None:
    names = [f"job-{number}" for number in range(limits.CANCEL_SLICE * 2 + 10)]
    world = World().submit("a").submit(*names, ext=below("a")).cancel("a", tree=True)
    assert world.heard("producer", Receipts) == []
    assert world.count("jobs") == limits.CANCEL_SLICE + 10
    assert world.tick().heard("producer", Receipts) == []
    (answer,) = world.tick().heard("producer", Receipts)
    assert answer.descendants == len(names)
    assert world.count("jobs") == 0
