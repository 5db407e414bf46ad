"""What a supervisor says of a process that it ended itself: who is to blame, and who is not."""

from taskq.protocol.messages import ChildExit, Exited
from tests.core.world import World, id_of

KILLED = "killed by its supervisor"


def _put_down(world: World, *guilty: str) -> World:
    leases = [world.broker.state.jobs[id_of(name)].lease for name in guilty]
    return world.say("boss", Exited([ChildExit(id_of("w"), -9, KILLED, leases, True)]))


def _three_at(name: str) -> World:
    world = World().submit("a", timeout_ms=1_000, attempts=2, backoff_ms=0).submit("b").submit("c")
    return world.worker(name, slots=3).vouch(name, by="boss")


def test_the_culprit_has_timed_out_and_the_others_are_handed_back_uncounted() -> None:
    world = _put_down(_three_at("w"), "a")
    assert world.history("a") == [(1, "timed_out")]
    told = world.inspect("a").history[0].error
    assert told == (
        "TimeoutError: the attempt ran longer than its timeout of 1 s and could not be stopped; " + KILLED
    )
    for name in ("b", "c"):
        assert world.history(name) == []
        report = world.inspect(name)
        assert (report.failures, report.crashes) == (0, 0)
    # At once, and what was handed back has its old places, in front.
    world.worker("x", slots=3)
    assert world.holds("x") == ["b", "c", "a"]


def test_it_does_not_matter_whether_the_connection_is_lost_first() -> None:
    world = _put_down(_three_at("w").lose("w"), "a")
    assert world.history("a") == [(1, "timed_out")]
    assert world.inspect("b").crashes == 0
    assert world.state("b") == "ready"


def test_a_restarted_broker_that_hears_it_again_blames_the_same() -> None:
    world = _three_at("w").restart().connect("boss", "supervisor").vouch("w", by="boss")
    _put_down(world, "a")
    assert world.history("a") == [(1, "timed_out")]
    assert (world.inspect("b").crashes, world.state("b")) == (0, "ready")


def test_said_twice_it_counts_once() -> None:
    world = _three_at("w")
    leases = [world.broker.state.jobs[id_of("a")].lease]
    for _ in range(2):
        world.say("boss", Exited([ChildExit(id_of("w"), -9, KILLED, leases, True)]))
    assert world.history("a") == [(1, "timed_out")]


def test_a_lease_that_is_not_held_any_more_is_not_blamed() -> None:
    world = _three_at("w")
    lease = world.broker.state.jobs[id_of("a")].lease
    world.cancel("a")
    world.say("boss", Exited([ChildExit(id_of("w"), -9, KILLED, [lease], True)]))
    assert world.inspect("a").state == "cancelled"
    assert world.state("b") == "ready"


def test_the_last_attempt_is_final() -> None:
    world = World().submit("a", timeout_ms=1_000).worker("w").vouch("w", by="boss")
    _put_down(world, "a")
    report = world.inspect("a")
    assert (report.state, report.failures, report.crashes) == ("dead", 1, 0)
