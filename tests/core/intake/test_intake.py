"""A job by its id is one job, however often it is submitted."""

import pytest

from taskq import limits
from taskq.protocol.messages import Confirm, JobSpec, Submit
from tests.core.world import World, id_of, job_terms


def test_a_submission_is_confirmed_by_exactly_its_range() -> None:
    world = World().submit("a", "b").submit("c")
    assert [(each.first, each.count, each.verdicts) for each in world.heard("producer", Confirm)] == [
        (0, 2, []),
        (2, 1, []),
    ]
    assert [world.state(name) for name in "abc"] == ["ready"] * 3


def test_the_same_submission_again_is_the_same_job() -> None:
    world = World().submit("a").submit("a", seq=0)
    assert world.verdicts() == []
    assert world.count("jobs") == 1
    assert world.worker("w", slots=9).holds("w") == ["a"]


def test_the_same_job_under_another_number_is_the_same_job() -> None:
    world = World().submit("a").submit("a").submit("a", by="somebody else")
    assert world.verdicts("somebody else") == []
    assert world.count("submitted_total") == 1


@pytest.mark.parametrize("when", ["waits", "has ended"])
@pytest.mark.parametrize("other", [{"payload": b"other"}, {"task": "other"}])
def test_another_job_under_the_same_id_is_a_conflict(when: str, other: dict[str, str]) -> None:
    world = World().submit("a", payload=b"one")
    if when == "has ended":
        world.worker("w").ack(by="w")
    fields = {"payload": b"one", **other}
    assert world.submit("a", **fields).verdicts() == [(1, "conflict")]  # type: ignore[arg-type] # as given
    assert world.count("submitted_total") == 1


def test_twins_in_one_message_are_one_job_and_impostors_are_told() -> None:
    world = World().producer("producer")
    specs = [JobSpec(id_of("a"), 0, payload) for payload in (b"1", b"1", b"2")]
    world.say("producer", Submit(0, [job_terms()], specs))
    assert world.verdicts() == [(2, "conflict")]
    assert world.count("jobs") == 1


def test_a_job_that_has_ended_is_not_run_again_by_a_repeated_submission() -> None:
    world = World().worker("w", slots=9).submit("a").ack(by="w").submit("a", seq=0)
    assert world.verdicts() == []
    assert world.deliveries == [("a", "w")]


def test_nor_when_its_outcome_was_forgotten() -> None:
    world = World().worker("w", slots=9).submit("a", keep_ms=0).ack(by="w")
    assert world.state("a") == "unknown"
    assert world.submit("a", seq=0, keep_ms=0).verdicts() == []
    assert world.deliveries == [("a", "w")]


def test_nor_after_a_restart() -> None:
    world = (
        World()
        .worker("w", slots=9)
        .submit("a", keep_ms=0)
        .ack(by="w")
        .restart()
        .connect("producer", "producer")
    )
    assert world.submit("a", seq=0, keep_ms=0).verdicts() == []
    assert world.state("a") == "unknown"


def test_what_was_refused_is_decided_anew_when_it_is_said_again() -> None:
    world = World().submit("a")
    world.broker.intake.closed_because = "the disk is full"
    assert world.submit("b").verdicts() == [(1, "busy")]
    world.broker.intake.closed_because = ""
    world.submit("c").submit("b", seq=1)
    assert world.verdicts() == []
    assert world.state("b") == "ready"


@pytest.mark.parametrize("compacted", [False, True])
def test_a_refusal_is_remembered_through_a_restart(compacted: bool) -> None:
    """Said to be accepted, but never there: that would be a confirmed job lost."""
    world = World(slack=0 if compacted else 1 << 30).producer("producer")
    world.broker.intake.closed_because = "the disk is full"
    world.submit("a")
    world.broker.intake.closed_because = ""
    world.submit("b").submit("c").submit("d")
    assert world.state("a") == "unknown"
    world.restart().connect("producer", "producer").submit("a", seq=0)
    assert world.verdicts() == []
    assert world.state("a") == "ready"


def test_a_refused_job_that_was_accepted_at_last_is_not_run_again() -> None:
    world = World().worker("w", slots=9).producer("producer")
    world.broker.intake.closed_because = "the disk is full"
    world.submit("a", keep_ms=0)
    world.broker.intake.closed_because = ""
    world.submit("b").submit("a", seq=0, keep_ms=0).ack("a", by="w")
    assert world.submit("a", seq=0, keep_ms=0).verdicts() == []
    assert world.deliveries == [("b", "w"), ("a", "w")]


def test_refusals_that_the_client_knows_are_forgotten() -> None:
    world = World().producer("producer")
    world.broker.intake.closed_because = "the disk is full"
    world.submit("a", "b")
    world.broker.intake.closed_because = ""
    world.submit("c", settled=1)
    (session,) = world.broker.state.sessions.values()
    assert list(session.refused) == [1, 2]  # from 1 up to 2
    world.submit("d", settled=2)
    assert list(session.refused) == []


def test_known_jobs_are_confirmed_even_when_nothing_new_is_taken() -> None:
    world = World().submit("a")
    world.broker.intake.closed_because = "the disk is full"
    assert world.submit("a", "b", seq=0).verdicts() == [(1, "busy")]


def test_too_large_and_senseless_jobs_are_refused_and_the_others_are_not() -> None:
    world = World().producer("producer")
    large = b"x" * (limits.PAYLOAD_BYTES_MAX + 1)
    specs = [
        JobSpec(id_of("a"), 0, b""),
        JobSpec(id_of("b"), 0, large),
        JobSpec(id_of("c"), 1, b""),
        JobSpec(id_of("d"), 0, b"", ext={"trace": b"x" * limits.EXT_BYTES_MAX}),
        JobSpec(id_of("e"), 0, b"", ext={"trace": b"x"}),
    ]
    world.say("producer", Submit(0, [job_terms()], specs))
    verdicts = world.verdict_list()
    assert [(each.seq, each.code) for each in verdicts] == [
        (1, "too_large"),
        (2, "invalid"),
        (3, "too_large"),
    ]
    assert str(limits.PAYLOAD_BYTES_MAX) in verdicts[0].text
    assert world.state("a") == world.state("e") == "ready"
    assert world.count("jobs") == 2


def test_each_durability_of_a_mixed_message_is_kept_as_asked() -> None:
    world = World().producer("producer")
    terms = [job_terms(durability=0), job_terms(durability=1), job_terms(durability=2)]
    world.say(
        "producer", Submit(0, terms, [JobSpec(id_of(name), number, b"") for number, name in enumerate("abc")])
    )
    assert [world.state(name) for name in "abc"] == ["ready"] * 3
    world.restart()
    assert [world.state(name) for name in "abc"] == ["ready", "ready", "unknown"]


def test_sequences_of_sessions_do_not_mix() -> None:
    world = World().submit("a", by="one").submit("b", by="other")
    assert world.verdicts("other") == []
    assert world.count("jobs") == 2


def test_a_time_that_nobody_will_see_is_refused() -> None:
    world = World().submit("soon", at_ms=World().now.wall_ms + limits.HORIZON_MS)
    assert world.verdicts() == []
    world.submit("never", at_ms=world.now.wall_ms + limits.HORIZON_MS + 1)
    assert world.verdicts() == [(1, "invalid")]
    assert world.state("never") == "unknown"


def test_a_drained_queue_accepts_nothing_new_and_runs_what_it_has() -> None:
    world = World().submit("a", queue="mail").steer("queue", "mail", "closed", reason="moving")
    world.submit("b", queue="mail").submit("c")
    assert world.state("b") == "unknown"
    assert world.state("c") == "ready"
    assert world.worker("w", queues=("mail",)).holds("w") == ["a"]
    world.restart().submit("d", queue="mail")
    (verdict,) = world.verdict_list()
    assert (verdict.code, verdict.text) == ("busy", "queue 'mail' is drained by ops: moving")
    world.steer("queue", "mail", "closed", is_set=False).submit("e", queue="mail")
    assert world.state("e") == "ready"
