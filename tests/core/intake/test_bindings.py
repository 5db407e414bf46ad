"""Jobs that live no longer than the client that submitted them."""

from taskq import limits
from tests.core.world import World, id_of

BOUND = {"bind": id_of("producer")}


def test_a_goodbye_ends_them_at_once() -> None:
    world = World().submit("a", "b", ext=BOUND).submit("c").deliver(to="w").watch("a", by="other")
    world.part("producer")
    assert [world.state(name) for name in "abc"] == ["cancelled", "cancelled", "ready"]
    (outcome,) = world.outcome_list("other")
    assert outcome.reason == "the client that it is bound to has gone"
    assert world.broker.state.kin.bound == {}


def test_a_running_one_is_told_to_stop() -> None:
    world = World().submit("a", ext=BOUND).deliver(to="w").part("producer")
    assert world.stops("w") == ["a"]


def test_who_is_lost_may_come_back() -> None:
    world = World().submit("a", ext=BOUND).lose("producer").tick(limits.BIND_GRACE_MS - 1)
    assert world.state("a") == "ready"
    world.connect("producer", "producer").tick(limits.BIND_GRACE_MS)
    assert world.state("a") == "ready"


def test_who_does_not_come_back_in_time_is_gone() -> None:
    world = World().submit("a", ext=BOUND).lose("producer").tick(limits.BIND_GRACE_MS)
    assert world.state("a") == "cancelled"


def test_a_second_loss_has_its_own_time() -> None:
    world = World().submit("a", ext=BOUND).lose("producer").tick(5_000)
    world.connect("producer", "producer").tick(1).lose("producer").tick(limits.BIND_GRACE_MS - 1)
    assert world.state("a") == "ready"
    assert world.tick(1).state("a") == "cancelled"


def test_the_loss_of_an_old_connection_is_no_loss() -> None:
    world = World().submit("a", ext=BOUND)
    old = world.peers["producer"].number
    world.connect("producer", "producer")
    world.peers["old"] = type(world.peers["producer"])("old", "producer")
    world.peers["old"].number = old
    world.lose("old").tick(limits.BIND_GRACE_MS)
    assert world.state("a") == "ready"


def test_after_a_restart_it_is_the_same_from_the_start() -> None:
    world = World().submit("a", ext=BOUND).restart().tick(limits.BIND_GRACE_MS)
    assert world.state("a") == "cancelled"
    world = World().submit("a", ext=BOUND).restart().connect("producer", "producer")
    assert world.tick(limits.BIND_GRACE_MS).state("a") == "ready"


def test_the_jobs_of_others_stay() -> None:
    world = World().submit("a", by="other", ext={"bind": id_of("other")}).submit("b", ext=BOUND)
    world.part("producer")
    assert (world.state("a"), world.state("b")) == ("ready", "cancelled")
