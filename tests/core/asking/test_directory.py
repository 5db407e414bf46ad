"""Who is meant by a worker's name, and what is told of whom."""

import pytest

from taskq import limits
from taskq.protocol.messages import ListWorkers, Progress, ProgressItem, Refusal, WorkerDetail, WorkerList
from tests.core.world import World, id_of


def page(world: World, name: str = "", after: bytes = b"") -> WorkerList:
    world.producer("producer").say("producer", ListWorkers(7, name, after))
    return world.last("producer", WorkerList)


def listed(world: World, name: str = "") -> list[WorkerDetail]:
    return page(world, name).items


def sessions(world: World, name: str) -> list[bytes]:
    return [each.session for each in listed(world, name)]


def test_a_list_tells_who_is_there_and_not_all_they_have() -> None:
    world = World().worker("b", slots=3).worker("a", host="box", pid=7, version="1.0", started_ms=5)
    world.submit("job").turn()  # b was there first
    one, other = listed(world)
    assert (one.session, other.session) == (id_of("a"), id_of("b"))
    assert (other.name, other.state, other.slots, other.running) == ("b", "ready", {"async": 3}, 1)
    assert (other.tasks, other.jobs) == ({}, [])


def test_one_that_is_asked_for_by_name_tells_all() -> None:
    world = World().worker(
        "a", host="box", pid=7, version="1.0", started_ms=5, labels={"x": "y"}, resources={"gpu": 2}
    )
    world.submit("job").turn()
    lease = world.leases["job"][0]
    world.say("a", Progress([ProgressItem(id_of("job"), lease, 3, 10)]))
    (a,) = listed(world, "a")
    assert (a.host, a.pid, a.version, a.started_ms) == ("box", 7, "1.0", 5)
    assert (a.tasks, a.labels, a.resources) == ({"work": "async"}, {"x": "y"}, {"gpu": 2})
    (job,) = a.jobs
    assert (job.id, job.task, job.attempt) == (id_of("job"), "work", 1)
    assert job.progress is not None and job.progress.done == 3


@pytest.mark.parametrize("name", ["box:12", "12", id_of("box:12").hex()[:6], id_of("box:12").hex().upper()])
def test_a_worker_has_many_names(name: str) -> None:
    world = World().worker("box:12").worker("other:34")
    assert sessions(world, name) == [id_of("box:12")]


def test_its_own_process_number_is_one_of_them() -> None:
    world = World().worker("box:12", pid=99).worker("other:34", pid=98)
    assert sessions(world, "99") == [id_of("box:12")]


def test_by_its_supervisor_all_that_it_vouches_for() -> None:
    world = World().worker("a").worker("b").worker("c").vouch("a", "b", by="boss")
    assert sessions(world, id_of("boss").hex()[:8]) == [id_of("a"), id_of("b")]
    assert [each.supervisor for each in listed(world)] == [id_of("boss"), id_of("boss"), b""]


def test_who_is_not_there_is_refused_with_what_a_name_can_be() -> None:
    world = World().worker("a").producer("producer").say("producer", ListWorkers(7, "nobody"))
    refusal = world.last("producer", Refusal)
    assert (refusal.request, refusal.code) == (7, "not_found")
    assert "'nobody'" in refusal.text and "first digits of a session" in refusal.text


def test_a_long_list_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WORKERS_PER_PAGE", 2)
    world = World().producer("producer")
    for name in "abc":
        world.worker(name)
    first = page(world)
    assert ([each.name for each in first.items], first.more) == (["a", "b"], True)
    rest = page(world, after=id_of("b"))
    assert ([each.name for each in rest.items], rest.more) == (["c"], False)


def test_states() -> None:
    world = World().worker("a").worker("b")
    world.block("a")
    assert [each.state for each in listed(world)] == ["deaf", "ready"]
    world.unblock("a")
    world.submit("job", "other").turn().vouch("a", "b", by="boss").lose("b")
    assert [each.state for each in listed(world)] == ["ready", "gone"]
