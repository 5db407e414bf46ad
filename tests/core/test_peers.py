"""Who is alive: silence, not reading, and the word of supervisors."""

from taskq import limits
from taskq.core.effects import Received
from taskq.core.peers import SILENCE_MS
from taskq.protocol.messages import Ping, Pong, Vouch
from tests.core.world import World, id_of

# -- silence ----------------------------------------------------------------------------------


def test_a_silent_worker_is_given_up_and_its_work_given_to_others_in_the_same_turn() -> None:
    world = World().submit("a").deliver(to="w").worker("x").tick(SILENCE_MS - 1).beat("x").tick(1)
    assert world.peers["w"].goodbye is not None
    assert world.peers["w"].goodbye.code == "silent"
    assert world.holds("x") == ["a"]


def test_its_socket_need_not_be_closed_for_that() -> None:
    """A frozen host acknowledges nothing: closing may take for ever."""
    world = World().submit("a").deliver(to="w")
    number = world.peers["w"].number
    world.tick(SILENCE_MS)
    world.turn(Received(number, Ping(7)))
    assert world.state("a") == "ready"
    assert world.count("peers") == 0


def test_anything_that_is_heard_counts() -> None:
    world = World().worker("w").tick(SILENCE_MS - 1).beat("w").tick(SILENCE_MS - 1)
    assert world.peers["w"].goodbye is None
    world.say("w", Ping(1)).tick(SILENCE_MS - 1)
    assert world.peers["w"].goodbye is None
    assert world.tick(1).peers["w"].goodbye is not None


def test_the_wall_clock_silences_nobody() -> None:
    world = World().worker("w").producer("p").tick(1, wall_ms=10**10).tick(1, wall_ms=-(10**10))
    assert world.peers["w"].goodbye is world.peers["p"].goodbye is None


def test_silent_producers_go_too() -> None:
    world = World().producer("p").tick(SILENCE_MS)
    assert world.peers["p"].goodbye is not None


def test_a_ping_is_answered_with_its_token() -> None:
    world = World().producer("p").say("p", Ping(42))
    assert world.heard("p", Pong) == [Pong(42)]


# -- supervisors ------------------------------------------------------------------------------


def test_a_busy_process_is_alive_when_its_supervisor_says_so() -> None:
    world = World().submit("a").deliver(to="w").vouch("w", by="s").vouch_for(10 * SILENCE_MS, "w", by="s")
    assert world.peers["w"].goodbye is None
    assert world.state("a") == "running"


def test_without_its_supervisor_its_own_silence_counts() -> None:
    world = (
        World().submit("a").deliver(to="w").vouch("w", by="s").vouch_for(SILENCE_MS, "w", by="s").lose("s")
    )
    assert world.turn().peers["w"].goodbye is not None
    assert world.state("a") == "ready"


def test_a_process_that_ended_is_dead_at_once_and_why_is_known() -> None:
    world = World().submit("a", crashes=0).watch("a").deliver(to="w").vouch("w", by="s")
    world.exited("w", by="s", text="killed by SIGKILL")
    (outcome,) = world.outcome_list()
    assert outcome.fault is not None
    assert "SIGKILL" in outcome.fault.message


def test_a_lost_connection_waits_for_the_supervisors_word() -> None:
    world = World().submit("a").deliver(to="w").vouch("w", by="s").lose("w").worker("x")
    assert world.holds("x") == []
    assert world.exited("w", by="s").holds("x") == ["a"]


def test_a_process_that_lives_keeps_its_leases_and_comes_back() -> None:
    world = World().submit("a").deliver(to="w").vouch("w", by="s").lose("w").worker("x")
    world.vouch_for(5_000, "w", by="s").beat("x").connect("w")
    assert world.ack(by="w").state("a") == "succeeded"
    assert world.holds("x") == []


def test_a_supervisor_that_says_nothing_is_not_waited_for() -> None:
    world = World().submit("a").deliver(to="w").vouch("w", by="s").lose("w").worker("x")
    assert world.tick(limits.VOUCH_WAIT_MS - 1).holds("x") == []
    assert world.tick(1).holds("x") == ["a"]


def test_a_supervisor_that_dies_with_its_process_is_not_waited_for() -> None:
    world = World().submit("a").deliver(to="w").vouch("w", by="s").worker("x").lose("w").lose("s")
    assert world.holds("x") == ["a"]


def test_a_process_no_longer_counted_is_given_up() -> None:
    world = World().submit("a").deliver(to="w").vouch("w", by="s").lose("w").worker("x")
    assert world.say("s", Vouch([])).holds("x") == ["a"]


# -- not reading ------------------------------------------------------------------------------


def test_who_does_not_read_for_long_is_closed() -> None:
    world = World().submit("a").deliver(to="w").worker("x").block("w").tick(limits.PEER_UNREAD_MS - 1)
    assert world.beat("w", "x").peers["w"].goodbye is None
    world.tick(1)
    assert world.peers["w"].goodbye is not None
    assert world.peers["w"].goodbye.code == "unread"
    assert world.holds("x") == ["a"]


def test_who_reads_again_in_time_is_not() -> None:
    world = World().worker("w").block("w").tick(9_000).unblock("w").beat("w").tick(500).block("w")
    assert world.tick(5_000).beat("w").tick(limits.PEER_UNREAD_MS - 5_001).peers["w"].goodbye is None


def test_a_vouched_process_that_does_not_read_is_not_closed() -> None:
    world = (
        World().worker("w").vouch("w", by="s").block("w").vouch_for(3 * limits.PEER_UNREAD_MS, "w", by="s")
    )
    assert world.peers["w"].goodbye is None
    assert world.submit("a").holds("w") == []
    assert world.unblock("w").holds("w") == ["a"]


def test_a_process_that_does_not_read_is_closed_once_nobody_vouches_for_it() -> None:
    world = (
        World().worker("w").vouch("w", by="s").block("w").vouch_for(2 * limits.PEER_UNREAD_MS, "w", by="s")
    )
    world.beat("w").lose("s").tick()
    assert world.peers["w"].goodbye is not None
    assert world.peers["w"].goodbye.code == "unread"


# -- sessions ---------------------------------------------------------------------------------


def test_a_session_that_connects_again_replaces_its_old_connection() -> None:
    world = World().submit("a").deliver(to="w")
    old = world.peers["w"].number
    world.connect("w")
    assert world.count("peers") == 2  # the producer's, and the new one
    assert world.holds("w") == ["a"]
    world.turn(Received(old, Ping(1)))
    assert world.heard("w", Pong) == []
    assert world.ack(by="w").state("a") == "succeeded"


def test_nobody_is_left_when_all_have_gone() -> None:
    world = World()
    for number in range(20):
        world.worker(f"w{number}").vouch(f"w{number}", by=f"s{number}").kill(f"w{number}").kill(f"s{number}")
    world.tick(SILENCE_MS)
    assert world.count("peers") == world.count("workers") == 0
    assert not world.broker.peers.is_vouched(id_of("w1"))
    assert world.count("timers") <= 2
