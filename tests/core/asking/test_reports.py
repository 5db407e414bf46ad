"""What people are told: how is this job, why does it not run, how is the broker."""

import pytest

from taskq.protocol.messages import Fault, Progress, ProgressItem, Refusal
from tests.core.world import World, id_of


def test_a_job_from_its_submission_to_its_end() -> None:
    world = World()
    submitted_ms = world.now.wall_ms
    world.submit("a", task="work", attempts=3, backoff_ms=1_000)
    report = world.inspect("a")
    assert (report.state, report.attempts, report.max_attempts) == ("ready", 0, 3)
    assert (report.task, report.queue, report.submitted_ms) == ("work", "default", submitted_ms)
    report = world.tick(10).deliver(to="w").inspect("a")
    assert (report.state, report.attempts, report.worker) == ("running", 1, "w")
    assert report.started_ms == submitted_ms + 10
    report = world.nack(by="w").inspect("a")
    assert (report.state, report.attempts, report.failures) == ("scheduled", 1, 1)
    assert report.due_ms == submitted_ms + 10 + 1_000
    report = world.tick(1_000).ack(by="w").inspect("a")
    assert (report.state, report.attempts, report.failures) == ("succeeded", 2, 1)
    assert report.finished_ms == submitted_ms + 1_010


def test_a_dead_job_says_of_what() -> None:
    fault = Fault("ValueError", "no", "Traceback")
    report = World().submit("a").deliver(to="w").nack(by="w", fault=fault).inspect("a")
    assert (report.state, report.fault, report.failures) == ("dead", fault, 1)


def test_a_cancelled_job_says_why() -> None:
    assert (
        World().submit("a").cancel("a", reason="no longer wanted").inspect("a").reason == "no longer wanted"
    )


def test_a_job_that_is_not_there_is_refused_with_words() -> None:
    world = World().producer("producer")
    with pytest.raises(IndexError):
        world.inspect("never was")
    (refusal,) = world.heard("producer", Refusal)
    assert (refusal.code, refusal.request) == ("not_found", 1)
    assert id_of("never was").hex() in refusal.text


def test_progress_is_the_latest_of_the_running_attempt() -> None:
    world = World().submit("a", attempts=2, backoff_ms=0).deliver(to="w")
    lease = world.leases["a"][0]
    for done in (1, 2):
        world.say("w", Progress([ProgressItem(id_of("a"), lease, done, 3, "step")]))
    assert world.inspect("a").progress == ProgressItem(id_of("a"), lease, 2, 3, "step")
    assert world.nack(by="w").inspect("a").progress is None


def test_queues_are_counted() -> None:
    world = World().worker("w", slots=2).submit("a", "b", "c", "d").tick(700).submit("later", delay_ms=9_000)
    world.nack("a", by="w").cancel("d")
    (queue,) = world.status().queues
    assert (queue.name, queue.ready, queue.running, queue.scheduled, queue.dead) == ("default", 0, 2, 1, 1)
    world.submit("e", "f")
    world.tick(50)
    (queue,) = world.status().queues
    assert (queue.ready, queue.workers, queue.oldest_ms) == (2, 1, 50)


def test_the_age_is_that_of_the_oldest_of_all_tasks() -> None:
    world = World().submit("a", task="one").tick(100).submit("b", task="other").tick(10)
    assert world.status().queues[0].oldest_ms == 110


def test_workers_are_listed() -> None:
    world = World().worker("w", slots=3, queues=("default", "mail")).submit("a", "b").tick(1_234)
    (worker,) = world.status().workers
    assert (worker.name, worker.queues, worker.slots, worker.running) == ("w", ["default", "mail"], 3, 2)
    assert (worker.beat_ms, worker.connected) == (1_234, True)


def test_the_broker_says_how_it_is() -> None:
    world = World().submit("a", "b").tick(500)
    status = world.status()
    assert (status.uptime_ms, status.epoch, status.connections) == (500, 1, 1)
    assert (status.counts["jobs"], status.counts["submitted_total"]) == (2, 2)
    assert status.journal_bytes == sum(map(len, world.journal.values()))


def test_startable_is_what_waits_for_a_slot_and_nothing_else() -> None:
    world = World().submit("a", "b", "c", task="free").submit("d", "e", "f", task="tight")
    world.submit("g", queue="closed")

    def startable() -> dict[str, int]:
        return {queue.name: queue.startable for queue in world.status().queues}

    assert startable() == {"closed": 1, "default": 6}
    world.steer("task", "tight", "concurrency", count=2)
    world.steer("queue", "closed", "pause")
    assert startable() == {"closed": 0, "default": 5}
    world.steer("queue", "default", "concurrency", count=4)
    assert startable() == {"closed": 0, "default": 4}
