"""The promises one by one: directed stories, with nothing left to chance but delays."""

from taskq import limits
from taskq.errors import JournalFull
from taskq.protocol.messages import MEMORY, OS, Acked, Confirm, RetryTerms, Terms
from tests.simulation.agenda import MS, SECOND
from tests.simulation.producers import Producer
from tests.simulation.workers import SimSupervisor, SimWorker
from tests.simulation.world import Plan, World

JOB = Terms("add", retry=RetryTerms(max_attempts=3, base_ms=0))


class Story(World):
    """A world in which nothing happens by itself. Attempts take exactly `job_ms` and succeed."""

    def __init__(self, job_ms: int = 1_000) -> None:
        quiet = Plan(
            seconds=0,
            producers=0,
            supervisors=0,
            children=0,
            lone_workers=0,
            actions=0,
            faults=0,
            wall=False,
            power=False,
            slack_bytes=1_000_000,
        )
        super().__init__(1, plan=quiet)
        self.is_healed = True  # nobody replaces who dies
        self.temper.steady(job_ms)
        self.host.start()
        self.producer: Producer = self.add_producer()
        self.wait(SECOND // 2)

    def wait(self, us: int) -> "Story":
        self.agenda.run_until(self.agenda.us + us)
        return self

    def worker(self, supervisor: SimSupervisor | None = None, *, greed: int = 0) -> SimWorker:
        worker = self.add_worker(supervisor, able=True)
        worker.greed = greed
        worker.ask_for_more(1.0)
        self.wait(SECOND // 2)
        return worker

    def child(self) -> SimWorker:
        """A worker under a supervisor of its own."""
        return self.worker(self.add_supervisor())

    def submit(self, count: int = 1, terms: Terms = JOB) -> list[bytes]:
        ids = [job[0] for job in self.producer.submit(count, terms=terms)]
        self.wait(100 * MS)
        return ids

    def begun(self, id: bytes) -> int:
        """How many attempts of this job have begun."""
        return list(self.history.begun.values()).count(id)

    def state(self, id: bytes) -> str:
        job = self.host.broker.state.jobs.get(id)
        return job.state if job is not None else self.history.audit.state_of(id)

    def back(self) -> "Story":
        """Until the broker is up again and everybody had time to reconnect."""
        return self.wait(2_500 * MS)


def test_without_faults_each_job_runs_once() -> None:
    story = Story(job_ms=20)
    story.worker()
    ids = story.submit(40)
    story.rest()
    assert [story.begun(id) for id in ids] == [1] * 40


def test_a_restart_of_the_broker_interrupts_nobody() -> None:
    story = Story(job_ms=6_000)
    first, second = story.worker(), story.worker()
    ids = story.submit(12)
    assert len(first.attempts) == len(second.attempts) == 6
    story.host.crash()
    story.back().host.crash()
    story.rest()
    assert [story.begun(id) for id in ids] == [1] * 12
    assert all(story.history.audit.lives[id].crashes == 0 for id in ids)


def test_a_worker_that_does_not_come_back_after_a_restart_is_dead() -> None:
    story = Story()
    worker = story.worker()
    (id,) = story.submit()
    story.host.crash()
    worker.kill()
    story.worker()
    story.rest()
    assert story.begun(id) == 2
    assert story.history.audit.lives[id].crashes == 1


def test_a_blocked_child_keeps_its_jobs() -> None:
    """Its supervisor vouches for it, however long its loop stands still."""
    story = Story()
    child = story.child()
    (id,) = story.submit()
    child.freeze(60 * SECOND)
    other = story.worker()
    story.wait(55 * SECOND)
    assert (story.state(id), story.begun(id), list(other.attempts)) == ("running", 1, [])
    story.rest()
    assert story.begun(id) == 1


def test_a_blocked_child_keeps_its_jobs_over_a_restart() -> None:
    story = Story()
    child = story.child()
    (id,) = story.submit()
    child.freeze(20 * SECOND)
    story.host.crash()
    story.worker()
    story.rest()
    assert story.begun(id) == 1


def test_a_frozen_worker_for_whom_nobody_vouches_is_dead_after_two_beats() -> None:
    story = Story()
    worker = story.worker()
    (id,) = story.submit()
    worker.freeze(60 * SECOND)
    story.worker()
    story.wait(8 * SECOND)
    assert story.begun(id) == 1
    story.wait((limits.BEAT_MS * limits.SILENT_BEATS - 8_000 + 1_000) * MS)
    assert story.begun(id) == 2
    story.rest()
    assert story.state(id) == "succeeded"


def test_what_a_killed_child_held_runs_elsewhere_at_once() -> None:
    story = Story()
    child = story.child()
    (id,) = story.submit()
    other = story.worker()
    child.kill()
    story.wait(100 * MS)
    assert [attempt.delivery.id for attempt in other.attempts.values()] == [id]
    story.rest()


def test_a_child_that_only_lost_its_connection_goes_on() -> None:
    story = Story()
    child = story.child()
    (id,) = story.submit()
    story.worker()
    assert child.link.wire is not None
    child.link.wire.cut(0, 300 * MS)
    story.rest()
    assert story.begun(id) == 1
    assert story.history.audit.lives[id].crashes == 0


def test_each_loss_of_a_connection_has_a_second_of_its_own() -> None:
    story = Story(job_ms=5_000)
    child = story.child()
    (id,) = story.submit()
    story.worker()
    for back_us in (20 * MS, 600 * MS):
        assert child.link.wire is not None
        child.link.wire.cut(0, back_us)
        story.wait(990 * MS)
    story.rest()
    assert story.begun(id) == 1


def test_a_lone_worker_that_comes_back_in_time_goes_on() -> None:
    story = Story()
    worker = story.worker()
    (id,) = story.submit()
    assert worker.link.wire is not None
    worker.link.wire.cut(0, 0)
    story.rest()
    assert story.begun(id) == 1


def test_a_lease_that_the_dead_broker_never_wrote_down_is_taken_up() -> None:
    story = Story()
    (id,) = story.submit()
    story.host.doom = "before"
    story.worker()
    story.rest()
    assert story.host.starts == 2
    assert story.begun(id) == 1


def test_a_success_whose_ack_was_lost_counts_once() -> None:
    story = Story()
    story.worker()
    (id,) = story.submit()
    story.host.snip = Acked
    story.rest()
    assert story.begun(id) == 1
    assert story.host.snip is None


def test_a_job_whose_confirm_was_lost_is_stored_once() -> None:
    """Though its outcome is not kept: the session's numbers tell."""
    story = Story(job_ms=1)
    story.worker()
    story.host.snip = Confirm
    (id,) = story.submit(terms=Terms("add", keep_ms=0))
    story.rest()
    assert story.begun(id) == 1
    assert story.host.snip is None


def test_a_job_that_was_refused_and_is_said_again_is_accepted() -> None:
    """Its confirm was lost, and with it the refusal; later jobs were accepted meanwhile."""
    story = Story(job_ms=1)
    story.worker()
    assert story.producer.link.wire is not None
    story.producer.link.wire.down.stall()
    story.host.broker.intake.closed_because = "no room"
    (refused,) = story.submit()
    story.host.broker.intake.closed_because = ""
    (accepted,) = story.submit()
    story.producer.link.wire.cut(0, 0)
    story.rest()
    assert (story.begun(refused), story.begun(accepted)) == (1, 1)


def test_nothing_is_confirmed_while_the_disk_is_full() -> None:
    story = Story()
    story.host.trouble = [JournalFull("full")] * 3
    story.submit(5)
    story.wait(2 * SECOND)
    assert not story.history.audit.lives
    story.worker()
    story.rest()
    assert len(story.history.audit.lives) == 5


def test_a_power_cut_takes_only_what_did_not_ask_for_the_disk() -> None:
    story = Story()
    (safe,) = story.submit()
    (weak,) = story.submit(terms=Terms("add", durability=OS))
    (weaker,) = story.submit(terms=Terms("add", durability=MEMORY))
    story.host.crash(power=True)
    story.back()
    assert [story.state(id) for id in (safe, weak, weaker)] == ["ready", "", ""]


def test_a_killed_broker_takes_only_what_is_in_memory() -> None:
    story = Story()
    (safe,) = story.submit()
    (weak,) = story.submit(terms=Terms("add", durability=OS))
    (weaker,) = story.submit(terms=Terms("add", durability=MEMORY))
    story.host.crash()
    story.back()
    assert [story.state(id) for id in (safe, weak, weaker)] == ["ready", "ready", ""]


def test_a_worker_that_leaves_hands_back_and_nothing_counts() -> None:
    story = Story(job_ms=5_000)
    worker = story.worker()
    ids = story.submit(6)
    worker.leave(SECOND)
    story.worker()
    story.rest()
    assert [story.begun(id) for id in ids] == [2] * 6
    lives = [story.history.audit.lives[id] for id in ids]
    assert all((life.failures, life.crashes) == (0, 0) for life in lives)


def test_a_worker_that_does_not_read_gets_nothing_more() -> None:
    story = Story()
    slow, quick = story.worker(), story.worker()
    number = next(peer.number for peer in story.host.peers.values() if peer.hello.session == slow.session)
    story.host.stall(number, 5 * SECOND)
    story.wait(10 * MS)
    ids = story.submit(8)
    assert (len(slow.attempts), len(quick.attempts)) == (0, 6)
    story.rest()
    assert [story.begun(id) for id in ids] == [1] * 8


def test_setting_the_wall_clock_moves_no_delay_and_no_expiry() -> None:
    story = Story()
    story.worker()
    (delayed,) = story.submit(terms=Terms("add", delay_ms=5_000))
    (expiring,) = story.submit(terms=Terms("add", queue="nobody", expires_ms=5_000))
    story.agenda.jump_wall(3_600_000)
    story.wait(4_500 * MS)
    assert (story.state(delayed), story.state(expiring)) == ("scheduled", "ready")
    story.agenda.jump_wall(-7_200_000)
    story.wait(600 * MS)
    assert (story.state(delayed), story.state(expiring)) == ("running", "expired")
    story.rest()


def test_what_a_worker_has_not_begun_goes_to_one_that_has_room() -> None:
    story = Story(job_ms=5_000)
    busy = story.worker(greed=100)
    ids = story.submit(12)
    assert (len(busy.attempts), len(busy.lanes["async"].waiting)) == (12, 6)
    other = story.worker()
    assert (len(busy.attempts), len(other.attempts)) == (6, 6)
    story.rest()
    assert [story.begun(id) for id in ids] == [1] * 12


def test_what_has_begun_meanwhile_is_left_alone() -> None:
    """The question comes when all that waited has got a slot."""
    story = Story(job_ms=300)
    busy = story.worker(greed=100)
    ids = story.submit(12)
    busy.freeze(2 * SECOND)
    story.worker()
    story.rest()
    assert [story.begun(id) for id in ids] == [1] * 12
