"""A job tells of its attempts that did not succeed: briefly, and as they were."""

import pytest

from taskq import limits
from taskq.core.effects import Now
from taskq.core.job import NOTHING
from taskq.core.running.story import longer, story_bytes, told
from taskq.protocol.messages import AttemptReport, Ending, Failure, Fault
from tests.core.world import World, canonical, id_of

MANY = limits.STORY_FIRST + limits.STORY_LAST


def report(attempt: int, ending: Ending = "failed") -> AttemptReport:
    return AttemptReport(attempt, ending, attempt, attempt + 1, "w", "E: m")


def test_the_first_and_the_last_are_told() -> None:
    story: tuple[AttemptReport, ...] = ()
    for attempt in range(1, 101):
        story = longer(story, report(attempt))
        assert len(story) <= MANY
    first, last = story[: limits.STORY_FIRST], story[limits.STORY_FIRST :]
    assert [each.attempt for each in first] == [1, 2, 3]
    assert [each.attempt for each in last] == list(range(101 - limits.STORY_LAST, 101))


def test_of_many_snoozes_in_a_row_the_last_is_told() -> None:
    story: tuple[AttemptReport, ...] = ()
    for ending in ("failed", "snoozed", "snoozed", "failed", "snoozed", "snoozed"):
        story = longer(story, report(1, ending))
    assert [each.ending for each in story] == ["failed", "snoozed", "failed", "snoozed"]


def test_long_errors_are_cut() -> None:
    failure = Failure(id_of("a"), 1, "failed", Fault("E", "x" * 5_000))
    each = told(failure, attempt=1, started_ms=1, worker="w", now=Now(5, 7))
    assert each is not None
    assert len(each.error) == limits.STORY_ERROR_CHARS
    assert (each.started_ms, each.ended_ms) == (1, 7)
    assert story_bytes((each,)) > limits.STORY_ERROR_CHARS


def test_a_job_that_never_failed_has_nothing_to_tell() -> None:
    world = World().submit("a").deliver(to="w")
    assert world.job("a").before is NOTHING
    assert world.ack(by="w").inspect("a").history == []


def test_each_attempt_is_told_with_its_number_and_its_times() -> None:
    world = World().submit("a", attempts=4, backoff_ms=0).deliver(to="w")
    began_ms = world.now.wall_ms
    world.tick(30).nack(by="w", fault=Fault("ValueError", "bad"))
    world.tick(10).nack(by="w", ending="snoozed", after_ms=5, fault=Fault("Snooze", "later"))
    world.tick(5).nack(by="w", ending="returned").tick().kill("w").worker("x")
    first, second, third = world.inspect("a").history
    assert first == AttemptReport(1, "failed", began_ms, began_ms + 30, "w", "ValueError: bad")
    assert (second.attempt, second.ending, second.error) == (2, "snoozed", "Snooze: later")
    assert (third.attempt, third.ending, third.worker) == (2, "crashed", "w")
    world.ack(by="x")
    assert world.history("a") == [(1, "failed"), (2, "snoozed"), (2, "crashed")]
    assert world.inspect("a").attempts == 3


def test_a_job_that_kills_its_workers_tells_of_the_signal_after_restarts_too() -> None:
    world = World().submit("a", crashes=2)
    for number in range(3):
        name = f"w{number}"
        world.worker(name).vouch(name, by="boss").tick(10_000)
        assert world.holds(name) == ["a"]
        world.restart().connect("boss", "supervisor").vouch(name, by="boss")
        world.exited(name, by="boss", status=-9, text="signal SIGKILL")
        del world.peers[name]
        world.restart()
    dead = world.inspect("a")
    assert (dead.state, dead.crashes, dead.failures) == ("dead", 3, 0)
    assert [(each.attempt, each.ending, each.status) for each in dead.history] == [
        (1, "crashed", -9),
        (2, "crashed", -9),
        (3, "crashed", -9),
    ]
    assert dead.history[-1].error == "WorkerDied: signal SIGKILL"
    assert dead.fault is not None and dead.fault.message == "signal SIGKILL"


def test_a_timeout_of_the_brokers_own_is_told() -> None:
    world = World().submit("a", timeout_ms=1_000, attempts=2, backoff_ms=0).deliver(to="w")
    world.vouch("w", by="boss").vouch_for(1_000 + limits.TIMEOUT_BACKSTOP_MS, "w", by="boss")
    assert world.history("a") == [(1, "timed_out")]


def test_a_job_that_expires_after_an_attempt_tells_of_it() -> None:
    world = World().submit("a", expires_ms=50, attempts=5).deliver(to="w").tick(60).nack(by="w")
    told_of = world.inspect("a")
    assert (told_of.state, told_of.failures, told_of.attempts) == ("expired", 1, 1)
    assert world.history("a") == [(1, "failed")]


@pytest.mark.parametrize("end", ["nothing", "success", "death", "cancel"])
def test_a_story_survives_restarts_and_compaction(end: str) -> None:
    world = World(slack=0).submit("a", attempts=3, backoff_ms=0, payload=b"x" * 500).worker("w")
    world.nack(by="w", fault=Fault("E", "first")).nack(by="w", fault=Fault("E", "second"))
    if end == "success":
        world.ack(by="w")
    elif end == "death":
        world.nack(by="w", fault=Fault("E", "third"))
    elif end == "cancel":
        world.cancel("a")
    told_of = world.inspect("a").history
    assert len(told_of) == (3 if end == "death" else 2)
    for number in range(30):
        world.submit(f"other {number}").cancel(f"other {number}")
    assert min(world.journal) > 3, "the batches that told it first are gone"
    assert canonical(world.recovered()) == canonical(world.broker.state)
    assert world.restart().inspect("a").history == told_of


def test_stories_count_against_the_budgets() -> None:
    long = Fault("E", "x" * 190)
    world = World().submit("a", attempts=50, backoff_ms=0).worker("w")
    before = world.broker.state.live_bytes
    for _ in range(40):
        world.nack(by="w", fault=long)
    grown = world.broker.state.live_bytes - before
    assert MANY * 190 < grown < MANY * 300
    world.ack(by="w")
    assert world.broker.state.outcome_bytes > MANY * 190
