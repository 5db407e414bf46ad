"""Those who wait hear each outcome once, however they came to wait."""

from taskq.core.effects import Received
from taskq.protocol.messages import Cancel
from tests.core.world import World, id_of


def test_who_watches_hears_when_it_ends() -> None:
    world = World().submit("a").watch("a")
    assert world.outcomes() == []
    assert world.deliver(to="w").ack(by="w").outcomes() == [("a", "succeeded")]
    assert world.turn().outcomes() == []


def test_who_watches_too_late_hears_at_once() -> None:
    world = World().submit("a").deliver(to="w").ack(by="w", result=b"42").watch("a")
    assert [outcome.result for outcome in world.outcome_list()] == [b"42"]


def test_what_is_not_there_is_unknown() -> None:
    assert World().watch("never was").outcomes() == [("never was", "unknown")]


def test_a_job_submitted_and_watched_in_one_turn_is_known() -> None:
    world = World().submit("a").watch("a", "b")
    assert world.outcomes() == [("b", "unknown")]


def test_every_watcher_hears_once() -> None:
    world = World().submit("a").watch("a", by="p").watch("a", by="q").watch("a", by="q").watch("a", by="r")
    world.deliver(to="w").ack(by="w")
    assert [world.outcomes(name) for name in "pqr"] == [[("a", "succeeded")]] * 3


def test_who_no_longer_watches_hears_nothing_and_the_others_do() -> None:
    world = (
        World().submit("a").watch("a", by="p").watch("a", by="q").unwatch("a", by="p").unwatch("a", by="r")
    )
    world.deliver(to="w").ack(by="w")
    assert (world.outcomes("p"), world.outcomes("q")) == ([], [("a", "succeeded")])


def test_who_comes_back_watches_again() -> None:
    world = World().submit("a").watch("a").lose("producer").connect("producer", "producer").watch("a")
    world.deliver(to="w").ack(by="w")
    assert world.outcomes() == [("a", "succeeded")]


def test_after_a_restart_too() -> None:
    world = World().submit("a").watch("a").restart().connect("producer", "producer").watch("a")
    assert world.deliver(to="w").ack(by="w").outcomes() == [("a", "succeeded")]


def test_an_outcome_survives_a_restart() -> None:
    world = World().submit("a").deliver(to="w").ack(by="w", result=b"42").restart()
    assert world.connect("producer", "producer").watch("a").outcome_list()[0].result == b"42"


def test_a_result_that_is_not_kept_is_pushed_first() -> None:
    world = World().submit("a", keep_ms=0).watch("a").deliver(to="w").ack(by="w", result=b"42")
    assert [outcome.result for outcome in world.outcome_list()] == [b"42"]
    assert world.watch("a").outcomes() == [("a", "unknown")]


def test_watching_leaves_nothing_behind() -> None:
    world = World().submit("a").worker("w", slots=9)
    for number in range(50):
        world.submit(f"j{number}", queue="nobody").watch("a", f"j{number}", by=f"p{number}").kill(
            f"p{number}"
        )
        world.cancel(f"j{number}")
    world.watch("a").ack(by="w")
    assert world.count("watched") == 0


def test_what_the_broker_waits_for_itself_is_noticed_beside_those_who_watch() -> None:
    world = World().submit("a", "b", "c").watch("a").watch("b")
    watchers = world.broker.watchers
    for name in ("a", "a", "c"):
        watchers.tie(id_of(name))
    world.watch("c").unwatch("c")
    cancel = Cancel(1, [id_of(name) for name in "abc"])
    world.broker.handle(Received(world.peers["producer"].number, cancel), world.now)
    assert watchers.take_noticed() == [id_of("a"), id_of("c")]
    assert watchers.take_noticed() == []
    world.turn()
    assert world.outcomes() == [("a", "cancelled"), ("b", "cancelled")]
