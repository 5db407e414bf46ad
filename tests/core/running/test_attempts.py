"""Leases: given once at a time, fenced, resumed, and given again when their worker is dead."""

import pytest

from taskq import limits
from taskq.protocol.messages import (
    Ack,
    Acked,
    Drain,
    Extend,
    Extension,
    Fault,
    Held,
    Nack,
    Resume,
    Resumed,
    Success,
)
from tests.core.world import World, id_of

BACKSTOP_MS = limits.TIMEOUT_BACKSTOP_MS


# -- fencing ----------------------------------------------------------------------------------


def test_a_success_counts_once() -> None:
    world = World().submit("a").watch("a").deliver(to="w").ack(by="w", result=b"42")
    assert [(outcome.state, outcome.result) for outcome in world.outcome_list()] == [("succeeded", b"42")]
    assert world.odd("w") == []


def test_a_late_success_counts_when_nobody_was_quicker() -> None:
    """Its worker was thought dead; the work is done all the same, and the newer attempt is stopped."""
    world = World().submit("a").watch("a").deliver(to="slow").lose("slow").deliver(to="other")
    world.connect("slow").ack("a", by="slow", result=b"slow")
    assert world.odd("slow") == []
    assert world.stops("other") == ["a"]
    assert world.outcomes() == [("a", "succeeded")]


def test_the_second_of_two_successes_changes_nothing() -> None:
    world = World().submit("a").watch("a").deliver(to="slow").lose("slow").deliver(to="other")
    world.ack(by="other", result=b"other").connect("slow").ack("a", by="slow", result=b"slow")
    assert world.odd("slow") == ["duplicate"]
    assert [outcome.result for outcome in world.outcome_list()] == [b"other"]


def test_a_success_of_a_cancelled_job_is_not_called_recorded() -> None:
    world = World().submit("a").deliver(to="w").cancel("a").ack("a", by="w")
    assert world.odd("w") == ["duplicate"]
    assert world.state("a") == "cancelled"


def test_a_failure_under_a_stale_lease_changes_nothing() -> None:
    world = World().submit("a").deliver(to="slow").lose("slow").deliver(to="other").connect("slow")
    world.nack("a", by="slow", ending="failed", final=True)
    assert world.odd("slow") == ["stale"]
    assert world.state("a") == "running"
    assert world.ack(by="other").state("a") == "succeeded"


def test_a_lease_that_never_was_counts_for_nothing() -> None:
    world = World().submit("a").deliver(to="w")
    never = world.leases["a"][0] + 1_000
    world.say("w", Ack(1, [Success(id_of("a"), never)]))
    assert world.odd("w") == ["stale"]
    assert world.state("a") == "running"


def test_leases_only_grow_through_failures_and_restarts() -> None:
    world = World().submit("a", attempts=9, backoff_ms=0).deliver(to="w")
    for _ in range(3):
        world.nack(by="w")
        world.restart().connect("w").turn()
    leases = world.leases["a"]
    assert len(leases) == 4
    assert leases == sorted(set(leases))


def test_attempts_are_numbered_for_people() -> None:
    world = World().submit("a", attempts=9, backoff_ms=0).worker("w")
    for ending in ("failed", "returned", "snoozed", "crashed", "failed"):
        world.nack(by="w", ending=ending)
    assert world.peers["w"].holds[world.leases["a"][-1]].attempt == 4
    assert world.ack(by="w").inspect("a").attempts == 4


# -- reports said again -----------------------------------------------------------------------


def test_a_report_said_again_is_answered_and_counts_once() -> None:
    world = World().submit("a", attempts=3).deliver(to="w").deafen("w").nack(by="w").connect("w")
    assert world.peers["w"].unconfirmed == []
    assert world.odd("w") == []
    assert world.job("a").failures == 1


def test_a_success_said_again_is_not_called_a_duplicate_though_nothing_is_kept_of_it() -> None:
    world = (
        World()
        .worker("w", slots=2)
        .submit("a", keep_ms=0)
        .submit("b")
        .deafen("w")
        .ack("a", by="w")
        .connect("w")
    )
    assert world.peers["w"].unconfirmed == []
    assert world.odd("w") == []


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("holds_another", [False, True])
def test_a_reported_attempt_is_not_taken_up_again(restarted: bool, holds_another: bool) -> None:
    """Its Resume names what was reported and not confirmed: the attempt has ended all the same."""
    world = World().worker("w", slots=2).submit("a", attempts=3)
    if holds_another:
        world.submit("b")
    world.deafen("w").nack("a", by="w")
    if restarted:
        world.restart().connect("w")
    else:
        world.connect("w")  # before the loss of its old connection was noticed
    assert world.state("a") == "scheduled"
    assert world.job("a").failures == 1
    assert world.tick(1_000).job("a").lease == world.leases["a"][-1] > world.leases["a"][0]


def test_a_reported_attempt_is_not_taken_up_again_after_its_worker_was_given_up() -> None:
    world = World().worker("w", slots=2).submit("a", "b", attempts=3).deafen("w").nack("a", by="w").lose("w")
    world.connect("w")
    assert world.job("a").failures == 1
    assert world.job("b").state == "running"
    assert world.tick(1_000).holds("w") == ["b", "a"]


def test_reports_are_answered_even_when_they_say_nothing() -> None:
    world = World().worker("w").say("w", Ack(1, []), Nack(2, []))
    assert world.last("w", Acked).seq == 2


# -- dead workers -----------------------------------------------------------------------------


def test_what_a_dead_worker_held_is_given_to_another_in_the_same_turn() -> None:
    world = World().submit("a", "b").worker("w", slots=2).worker("x", slots=2).kill("w")
    assert world.holds("x") == ["a", "b"]
    assert world.job("a").crashes == 1


def test_a_job_that_kills_its_workers_stops_somewhere() -> None:
    world = World().submit("a", crashes=2)
    for number in range(3):
        world.deliver(to=f"w{number}").kill(f"w{number}").tick(60_000)
    assert world.state("a") == "dead"
    report = world.inspect("a")
    assert (report.failures, report.crashes) == (0, 3)


def test_after_the_first_crash_it_waits() -> None:
    world = World().submit("a").deliver(to="w0").kill("w0").deliver(to="w1").kill("w1").worker("w2")
    assert world.holds("w2") == []
    assert world.tick(499).holds("w2") == []
    assert world.tick(501).holds("w2") == ["a"]


# -- resuming ---------------------------------------------------------------------------------


def test_a_worker_that_comes_back_goes_on_with_what_waits_for_no_other() -> None:
    world = World().submit("a").deliver(to="w").lose("w")
    assert world.state("a") == "ready"
    world.connect("w")
    assert world.state("a") == "running"
    assert world.stops("w") == []
    assert world.ack(by="w").state("a") == "succeeded"
    assert len(world.deliveries) == 1


def test_it_is_told_to_stop_what_runs_elsewhere() -> None:
    world = World().submit("a").deliver(to="w").lose("w").deliver(to="x").connect("w")
    assert world.stops("w") == ["a"]
    assert world.nack(by="w", ending="cancelled").state("a") == "running"


@pytest.mark.parametrize("how", ["cancelled", "timed out", "superseded"])
def test_it_is_told_to_stop_what_ended_while_it_was_away(how: str) -> None:
    """Its supervisor vouched for it, so its leases were kept; nobody could tell it to stop."""
    world = World().submit("a", timeout_ms=1_000).deliver(to="w").vouch("w", by="s").lose("w")
    if how == "cancelled":
        world.cancel("a")
    elif how == "timed out":
        world.vouch_for(1_000 + BACKSTOP_MS, "w", by="s")
    else:
        world.worker("x", queues=["other"]).say("x", Ack(1, [Success(id_of("a"), world.leases["a"][0])]))
    world.connect("w")
    assert world.stops("w") == ["a"]
    world.submit("next")
    assert world.nack("a", by="w", ending="cancelled").holds("w") == ["next"]


def test_a_timed_out_attempt_is_not_taken_up_again() -> None:
    world = World().submit("a", timeout_ms=1_000, attempts=2).deliver(to="w").deafen("w")
    world.tick(1_000 + BACKSTOP_MS).connect("w")
    assert world.state("a") == "scheduled"
    assert world.stops("w") == ["a"]


def test_what_never_arrived_is_given_again_and_counts_as_nothing() -> None:
    world = World().worker("w").deafen("w").submit("a").connect("w")
    assert world.holds("w") == ["a"]
    assert (world.job("a").failures, world.job("a").crashes) == (0, 0)


def test_a_resume_in_parts_is_one_resume() -> None:
    world = World().submit("a", "b").worker("w", slots=2).lose("w").connect("w")
    peer = world.peers["w"]
    world.lose("w")
    announce, peer.announce = peer.announce, None
    assert announce is not None
    held = peer.held
    world.connect("w").say("w", announce, Resume(held[:1], last=False))
    assert world.submit("c").holds("w") == ["a", "b"]
    world.say("w", Resume(held[1:], last=True))
    assert world.state("a") == world.state("b") == "running"
    assert all(not resumed.gone for resumed in world.heard("w", Resumed))


def test_saying_again_what_it_holds_takes_nothing_away() -> None:
    world = World().submit("a").deliver(to="w")
    world.say("w", Resume(world.peers["w"].held))
    assert world.last("w", Resumed).gone == []


def test_only_the_worker_that_was_given_up_may_go_on() -> None:
    world = World().submit("a").deliver(to="w").kill("w").worker("thief")
    world.nack(by="thief", ending="returned", after_ms=60_000)
    world.say("thief", Resume([Held(id_of("a"), world.leases["a"][0])]))
    assert len(world.last("thief", Resumed).gone) == 1
    assert world.state("a") == "scheduled"


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_taken_up_out_of_the_line_and_handed_back_it_stands_there_once(is_cancelled: bool) -> None:
    """It stood there twice once: two workers were given it in one turn."""
    world = World().submit("a").deliver(to="w").lose("w").connect("w").say("w", Drain())
    assert world.state("a") == "running"
    world.nack(by="w", ending="returned")
    if is_cancelled:
        world.cancel("a")
    world.submit("z").worker("x", slots=9)
    assert world.holds("x") == (["z"] if is_cancelled else ["a", "z"])


# -- restarts ---------------------------------------------------------------------------------


def test_after_a_restart_a_worker_that_comes_back_goes_on() -> None:
    world = World().submit("a").deliver(to="w").restart().worker("x").connect("w")
    assert world.holds("x") == []
    assert world.ack(by="w").state("a") == "succeeded"
    assert len(world.deliveries) == 1


def test_after_a_restart_the_work_of_those_who_stay_away_is_given_to_others() -> None:
    world = World().submit("a").deliver(to="w").restart().worker("x").tick(limits.RESUME_GRACE_MS - 1)
    assert world.holds("x") == []
    assert world.tick(1).holds("x") == ["a"]


def test_what_waits_is_held_back_until_the_expected_are_back() -> None:
    """They may be running it, by the last deliveries of the killed broker."""
    world = World().submit("a", "b").deliver(to="w").restart().worker("x")
    assert world.holds("x") == []
    assert world.connect("w").holds("x") == ["b"]


def test_nothing_is_held_back_when_nobody_is_expected() -> None:
    assert World().submit("a").restart().worker("w").holds("w") == ["a"]


def test_new_jobs_are_not_held_back() -> None:
    world = World().submit("a", "b").deliver(to="w").restart().worker("x").submit("new")
    assert world.holds("x") == ["new"]


@pytest.mark.parametrize("how", ["cancel", "expire", "ack", "resume"])
def test_what_is_held_back_can_leave_like_any_other(how: str) -> None:
    world = World().submit("a").deliver(to="w").submit("b", expires_ms=500).restart()
    before = world.epoch << 40
    match how:
        case "cancel":
            assert world.cancel("b").receipts() == [("b", "cancelled")]
        case "expire":
            assert world.tick(500).state("b") == "expired"
        case "ack":
            assert (
                world.worker("x").say("x", Ack(1, [Success(id_of("b"), before - 1)])).state("b")
                == "succeeded"
            )
        case "resume":
            world.worker("x").say("x", Resume([Held(id_of("b"), before - 1)]))
            assert world.last("x", Resumed).gone == []
            assert world.state("b") == "running"
    world.tick(limits.RESUME_GRACE_MS).worker("y", slots=9)
    assert [job for job, _ in world.deliveries] == ["a", "a"]


def test_a_delivery_that_the_killed_broker_did_not_write_down_goes_on() -> None:
    world = World().submit("a").deliver(to="w")
    last = max(world.journal)
    del world.journal[last]  # the batch with the delivery
    world.last_seq = last - 1
    world.restart().connect("w")
    assert world.holds("w") == ["a"]
    assert world.ack(by="w").state("a") == "succeeded"
    assert len(world.deliveries) == 1


# -- timeouts ---------------------------------------------------------------------------------


def test_the_broker_steps_in_when_a_worker_does_not_end_a_timed_out_attempt() -> None:
    world = World().submit("a", timeout_ms=1_000, attempts=2, backoff_ms=7).watch("a").deliver(to="w")
    world.tick(1_000 + BACKSTOP_MS - 1)
    assert world.state("a") == "running"
    world.tick(1)
    assert (world.state("a"), world.stops("w"), world.job("a").failures) == ("scheduled", ["a"], 1)


def test_the_last_timeout_is_final_and_says_so() -> None:
    world = World().submit("a", timeout_ms=1_000).watch("a").deliver(to="w").tick(1_000 + BACKSTOP_MS)
    (outcome,) = world.outcome_list()
    assert (outcome.state, outcome.ending) == ("dead", "timed_out")
    assert outcome.fault is not None
    assert "1 s" in outcome.fault.message


def test_an_extension_gives_more_time_from_now() -> None:
    world = World().submit("a", timeout_ms=1_000).deliver(to="w").tick(900)
    world.say("w", Extend([Extension(id_of("a"), world.leases["a"][0], 3_000)]))
    assert world.tick(2_999 + BACKSTOP_MS).state("a") == "running"
    assert world.tick(1).state("a") == "dead"


def test_a_timeout_goes_on_through_a_restart() -> None:
    world = World().submit("a", timeout_ms=5_000).deliver(to="w").tick(1_000).restart().connect("w")
    assert world.tick(4_000 + BACKSTOP_MS - 1).state("a") == "running"
    assert world.tick(1).state("a") == "dead"


def test_the_timeout_of_an_old_attempt_does_not_end_the_new_one() -> None:
    world = (
        World().submit("a", timeout_ms=1_000, attempts=5, backoff_ms=0).deliver(to="w").tick(900).nack(by="w")
    )
    assert world.tick(100 + BACKSTOP_MS).state("a") == "running"


# -- delays and backoffs ----------------------------------------------------------------------


def test_a_failed_attempt_is_given_again_after_its_backoff() -> None:
    world = World().submit("a", attempts=3, backoff_ms=500).deliver(to="w").nack(by="w")
    assert world.state("a") == "scheduled"
    assert world.tick(499).holds("w") == []
    assert world.tick(1).holds("w") == ["a"]
    assert world.nack(by="w").tick(999).holds("w") == []
    assert world.tick(1).holds("w") == ["a"]


def test_a_delay_runs_on_the_clock_that_nobody_sets() -> None:
    world = World().worker("w").submit("a", delay_ms=1_000)
    assert world.tick(0, wall_ms=3_600_000).holds("w") == []
    assert world.tick(1_000, wall_ms=0).holds("w") == ["a"]


def test_a_calendar_time_follows_the_calendar() -> None:
    world = World().worker("w")
    world.submit("a", at_ms=world.now.wall_ms + 3_600_000)
    assert world.tick(1_000).holds("w") == []
    assert world.tick(1_000, wall_ms=3_599_000).holds("w") == ["a"]


def test_a_time_in_the_past_is_now() -> None:
    world = World().worker("w")
    assert world.submit("a", at_ms=1).holds("w") == ["a"]


def test_what_waits_for_a_time_waits_on_after_a_restart() -> None:
    world = World().submit("a", delay_ms=1_000).submit("b", at_ms=World().now.wall_ms + 1_000)
    world.tick(600).restart().worker("w", slots=2)
    assert world.tick(399).holds("w") == []
    assert sorted(world.tick(1).holds("w")) == ["a", "b"]


# -- what is counted ----------------------------------------------------------------------------


def test_a_job_that_snoozes_for_ever_stays_small() -> None:
    world = World().submit("a").worker("w")
    for _ in range(3 * limits.PAST_LEASES_MAX):
        world.nack(by="w", ending="snoozed")
    assert len(world.job("a").past) == limits.PAST_LEASES_MAX
    assert len(world.leases["a"]) == 3 * limits.PAST_LEASES_MAX + 1


def test_faults_reach_those_who_wait() -> None:
    fault = Fault("ValueError", "no", "Traceback ...")
    world = World().submit("a").watch("a").deliver(to="w").nack(by="w", fault=fault)
    (outcome,) = world.outcome_list()
    assert (outcome.state, outcome.ending, outcome.fault, outcome.attempts) == ("dead", "failed", fault, 1)


def test_many_are_given_in_several_turns_and_none_waits_for_an_event() -> None:
    count = limits.DELIVERIES_PER_TURN
    world = World()
    for part, size in enumerate((count, count, 5)):
        world.submit(*(f"{part}.{number}" for number in range(size)))
    world.worker("w", slots=10 * count)
    for given in (count, 2 * count, 2 * count + 5):
        assert len(world.deliveries) == given
        deadline_ms = world.broker.next_deadline(world.now)
        assert deadline_ms is not None
        assert (deadline_ms <= world.now.boot_ms) == (given <= 2 * count)
        world.turn()
