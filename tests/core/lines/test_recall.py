"""What one worker holds and has not started is asked back for another that has nothing to do; and no more."""

from taskq.protocol.messages import Drain
from tests.core.world import World


def names(count: int, prefix: str = "j") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def loaded(slots: int = 2, extra: int = 2, jobs: int = 4) -> World:
    """A worker that holds jobs beyond its slots."""
    return World().worker("busy", slots=slots + extra, extra={"async": extra}).submit(*names(jobs))


def test_what_was_given_last_is_asked_back_for_a_worker_with_room() -> None:
    world = loaded()
    assert world.holds("busy") == names(4)
    assert world.worker("free", slots=2).recalled("busy") == ["j3", "j2"]
    world.hand_back("j3", "j2", by="busy")
    assert (world.holds("busy"), sorted(world.holds("free"))) == (["j0", "j1"], ["j2", "j3"])
    assert world.count("recalled_total") == 2


def test_returned_jobs_count_no_attempt() -> None:
    world = loaded().worker("free", slots=2).hand_back("j3", by="busy")
    assert world.holds("free") == ["j3"]
    assert (world.job("j3").failures, world.job("j3").crashes) == (0, 0)


def test_no_more_is_asked_for_than_there_is_room() -> None:
    world = loaded(slots=2, extra=4, jobs=6)
    assert world.worker("free", slots=1).recalled("busy") == ["j5"]


def test_what_runs_is_never_asked_for() -> None:
    world = loaded(slots=2, extra=4, jobs=3)
    assert world.worker("free", slots=9).recalled("busy") == ["j2"]


def test_a_worker_is_asked_one_thing_at_a_time() -> None:
    world = loaded(slots=2, extra=4, jobs=6).worker("free", slots=1)
    assert world.recalled("busy") == ["j5"]
    world.worker("other", slots=1).submit("x", queue="elsewhere")
    assert world.recalled("busy") == []
    world.hand_back("j5", by="busy")
    assert world.recalled("busy") == ["j4"]


def test_an_answer_with_nothing_in_it_is_an_answer() -> None:
    """All had started meanwhile."""
    world = loaded().worker("free", slots=1)
    assert world.recalled("busy") == ["j3"]
    world.hand_back(by="busy")
    # What was not handed back has begun: to ask for it again would go to and fro for ever.
    assert world.recalled("busy") == ["j2"]
    for _ in range(2):
        world.hand_back(by="busy")
    assert world.recalled("busy") == ["j1", "j0"]
    assert world.hand_back(by="busy").recalled("busy") == []


def test_the_most_loaded_is_asked_first() -> None:
    world = World().worker("a", slots=4, extra={"async": 2}).worker("b", slots=6, extra={"async": 4})
    world.submit(*names(10)).worker("free", slots=3)
    assert (len(world.recalled("b")), len(world.recalled("a"))) == (3, 0)


def test_two_are_asked_when_one_has_not_enough() -> None:
    world = World().worker("a", slots=4, extra={"async": 2}).worker("b", slots=4, extra={"async": 2})
    world.submit(*names(8)).worker("free", slots=3)
    assert (len(world.recalled("a")), len(world.recalled("b"))) == (2, 1)


def test_nothing_is_asked_for_while_a_job_is_in_line() -> None:
    world = loaded(jobs=9)
    assert world.worker("free", slots=2).holds("free") == ["j4", "j5"]
    assert world.recalled("busy") == []
    assert world.ack("j4", by="free").holds("free") == ["j5", "j6"]
    world.ack("j5", "j6", by="free").ack("j7", "j8", by="free")
    assert world.recalled("busy") == ["j3", "j2"]


def test_it_is_looked_at_when_a_job_ends() -> None:
    world = loaded().worker("free", slots=1)
    assert world.recalled("busy") == ["j3"]
    world.hand_back("j3", by="busy").ack("j3", by="free")
    assert world.recalled("busy") == ["j2"]


def test_extra_room_of_others_is_no_reason() -> None:
    world = loaded().worker("other", slots=4, extra={"async": 4})
    assert world.recalled("busy") == []


def test_only_workers_that_are_alike_share() -> None:
    world = (
        loaded().worker("other", slots=4, tasks=("work", "more")).worker("else", slots=4, queues=("mail",))
    )
    assert world.recalled("busy") == []


def test_who_announced_nothing_extra_is_never_asked() -> None:
    """It may not know the message."""
    world = World().worker("old", slots=4).submit(*names(4))
    announce = world.peers["old"].announce
    assert announce is not None
    announce.slots["async"] = 2
    world.say("old", announce).worker("free", slots=4)
    assert world.recalled("old") == []


def test_what_has_ended_meanwhile_is_not_asked_for() -> None:
    world = loaded().cancel("j3").worker("free", slots=2)
    assert world.recalled("busy") == ["j2", "j1"]


def test_who_does_not_read_or_is_gone_is_not_asked() -> None:
    world = loaded().block("busy").worker("free", slots=1)
    assert world.recalled("busy") == []
    assert world.unblock("busy").recalled("busy") == ["j3"]
    world = loaded().vouch("busy", by="boss").lose("busy").worker("free", slots=1)
    assert world.recalled("busy") == []


def test_a_question_that_was_lost_is_asked_again() -> None:
    world = loaded().vouch("busy", by="boss").deafen("busy").worker("free", slots=1)
    assert world.recalled("busy") == []
    world.lose("busy").connect("busy")
    assert world.recalled("busy") == ["j3"]


def test_a_worker_that_died_leaves_no_question_behind() -> None:
    world = loaded().worker("free", slots=1).kill("busy")
    world.worker("more", slots=4, extra={"async": 2}).submit(*names(9, "k"))
    assert not world.broker.recall._asked
    assert list(world.broker.recall._generous) == [
        world.broker.roster.workers[b"more".ljust(16, b".")].session
    ]


def test_recalled_jobs_do_not_come_back_as_extra() -> None:
    """Nobody else can take it after all: it goes where there is a slot, not round in circles."""
    world = loaded(slots=1, extra=1, jobs=2).worker("free", slots=1)
    assert world.recalled("busy") == ["j1"]
    world.kill("free").hand_back("j1", by="busy")
    assert (world.holds("busy"), world.state("j1")) == (["j0"], "ready")
    assert world.ack("j0", by="busy").holds("busy") == ["j1"]


def test_what_is_handed_back_goes_to_the_front_of_its_line() -> None:
    world = World().worker("busy", slots=2).submit("a", "b", "c")
    world.say("busy", Drain()).nack("b", by="busy", ending="returned").nack("a", by="busy", ending="returned")
    assert world.worker("other", slots=3).deliveries[-3:] == [("a", "other"), ("b", "other"), ("c", "other")]


def test_and_not_before_those_that_waited_longer() -> None:
    world = World().worker("busy", slots=2).submit("a").submit("b").submit("c")
    world.say("busy", Drain()).nack("b", by="busy", ending="returned").nack("a", by="busy", ending="returned")
    assert world.worker("other", slots=3).deliveries[-3:] == [("a", "other"), ("b", "other"), ("c", "other")]


def test_what_is_handed_back_after_it_was_taken_up_again_stands_in_line_once() -> None:
    world = World().worker("w").submit("a", "b").vouch("w", by="boss").kill("w")
    world.tick(60_000).worker("x", slots=5)
    assert sorted(world.holds("x")) == ["a", "b"]
    world.nack("a", by="x", ending="returned")
    assert sorted(world.holds("x")) == ["a", "b"]


def test_people_are_told_of_slots_not_of_what_may_wait_for_them() -> None:
    (report,) = loaded().status().workers
    assert (report.slots, report.running) == (2, 4)
