"""Why is this job not running? The exact reason, with what would have to change."""

import pytest

from taskq.protocol.messages import Limit
from tests.core.world import World, id_of


def why(world: World, name: str = "a") -> str:
    return world.inspect(name).why


@pytest.mark.parametrize(
    ("job", "worker", "reason"),
    [
        ({}, None, "no connected worker knows task 'work'"),
        ({"task": "other"}, {}, "no connected worker knows task 'other'"),
        ({"queue": "mail"}, {}, "w know task 'work', but none of them serves queue 'mail'"),
        (
            {"labels": (("gpu", "a100"),)},
            {},
            "no worker has what it asks for: w has no label gpu, and gpu=a100 is asked for",
        ),
        (
            {"labels": (("gpu", "a100"),)},
            {"labels": {"gpu": "t4"}},
            "no worker has what it asks for: w has gpu=t4, and gpu=a100 is asked for",
        ),
        (
            {"resources": (("gpu", 2),)},
            {"resources": {"gpu": 1}},
            "no worker has what it asks for: w has 1 of gpu, not 2",
        ),
        ({}, {"slots": 0}, "it waits for room on 1 worker; it is the next one"),
        ({"delay_ms": 90_000}, {}, "it is due in 90.0 s"),
        ({"delay_ms": 7_200_000}, {}, "it is due in 2.0 h"),
        ({}, {}, "it runs on w, for 0 ms"),
    ],
)
def test_the_reason(job: dict[str, object], worker: dict[str, object] | None, reason: str) -> None:
    world = World()
    if worker is not None:
        world.worker("w", **worker)  # type: ignore[arg-type] # of many kinds
    assert why(world.submit("a", **job)) == reason  # type: ignore[arg-type] # the same


def test_after_a_restart() -> None:
    world = World().submit("a").submit("b").deliver(to="w").restart()
    assert why(world) == "it was running; its worker is expected back"
    assert "has restarted" in why(world, "b")


def test_a_pause_says_whose_it_is_and_why() -> None:
    world = World().worker("w").steer("queue", "default", "pause", reason="deploying v2").submit("a")
    assert why(world) == "queue 'default' is paused by ops: deploying v2"
    world.steer("queue", "default", "pause", is_set=False).steer(
        "task", "work", "pause", key="k", for_ms=60_000
    )
    world.submit("b", "c", key="k")
    assert why(world, "b") == "task 'work', key 'k' is paused by ops for another 60.0 s"


def test_a_limit_says_who_holds_it() -> None:
    world = World().worker("w", slots=9, declared=[Limit("task", "work", "concurrency", 1)]).submit("a", "b")
    assert why(world, "b") == f"task 'work' may run 1 at once: {id_of('a').hex()} run"
    world.steer("task", "work", "concurrency", count=0)
    assert why(world, "b") == "task 'work' may run 0 at once: none run"


def test_a_rate_says_when() -> None:
    world = World().worker("w", slots=9, declared=[Limit("task", "work", "rate", 1, False, 60_000)])
    assert why(world.submit("a", "b"), "b") == "task 'work' may start 1 in 60.0 s: the next in 60.0 s"


def test_resources_in_use() -> None:
    world = World().worker("w", slots=9, resources={"gpu": 1}).submit("a", "b", resources=(("gpu", 1),))
    assert why(world, "b") == "it needs 1 of gpu, which is in use on w"


def test_its_place_in_line_is_a_bound() -> None:
    def submitted(world: World) -> World:
        return world.submit(*"abcde").submit("k1", "k2", key="k").submit("p", priority=1)

    def bound(text: str) -> int:
        return int(text.split("at most ")[1].split()[0]) if "at most" in text else 0

    world = submitted(World().worker("w", slots=0))
    bounds = {name: bound(why(world, name)) for name in (*"abcde", "k1", "k2", "p")}
    order = [job for job, _ in submitted(World()).worker("w", slots=9).deliveries]
    assert all(order.index(name) <= bounds[name] for name in order)
    assert bounds == {"p": 1, "a": 3, "b": 5, "c": 7, "d": 7, "e": 7, "k1": 1, "k2": 3}
