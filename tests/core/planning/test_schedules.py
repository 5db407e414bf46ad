"""Ticks: each decided once, over restarts and clocks that are set; overlap, catch-up, jitter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq import limits
from taskq.core.effects import Now
from taskq.core.planning.schedule import with_slot
from taskq.errors import ConfigError
from taskq.protocol.calendar import Cron, due
from taskq.protocol.ids import job_slot, slot_of
from taskq.protocol.messages import MEMORY, DropSchedule, PauseSchedule, ResumeSchedule, RunSchedule
from tests.core.world import BEGINNING_MS, World, canonical, id_of, moment_of, name_of, schedule_spec

HOUR_MS = 3_600_000


def rounds(world: World, count: int, ms: int = 10_000) -> World:
    for _ in range(count):
        world.live(ms)
    return world


# -- when ---------------------------------------------------------------------------------------


def test_an_interval_counts_from_the_beginning_and_does_not_drift() -> None:
    world = World().schedule(interval_ms=10_000)
    for ms in (9_999, 700, 9_301, 9_900, 9_900, 200):
        world.tick(ms)
    assert world.ticks() == [10, 20, 30, 40]
    assert world.now.wall_ms - BEGINNING_MS == 40_000


def test_a_cron_text_is_due_at_whole_seconds() -> None:
    world = World().tick(300).schedule(cron="*/15 * * * * *")
    rounds(world, 60, 1_000)
    assert world.ticks() == [10, 25, 40, 55]


def test_nothing_is_due_early() -> None:
    world = World().schedule()
    assert world.tick(9_999).ticks() == []
    assert world.tick(1).ticks() == [10]


def test_the_job_is_delivered_in_the_turn_of_its_tick() -> None:
    world = World().worker("w").schedule(payload=b"args", flags=1, ext={"x-a": b"1"})
    world.live(10_000)
    (delivery,) = world.peers["w"].holds.values()
    assert (delivery.payload, delivery.flags, delivery.ext) == (b"args", 1, {"x-a": b"1"})
    assert moment_of(delivery.id) == BEGINNING_MS + 10_000
    assert slot_of(delivery.id) == job_slot("default", "default")


def test_two_schedules_of_one_task_make_two_jobs() -> None:
    world = World().schedule("a").schedule("b").tick(10_000)
    assert world.ticks() == [10, 10]
    assert len(set(world.made())) == 2


def test_jitter_moves_the_job_and_not_the_tick() -> None:
    world = World().schedule(jitter_ms=5_000)
    rounds(world, 100, 1_000)
    late = [job.due_ms - moment_of(job.id) for job in world.broker.state.jobs.values()]
    assert world.ticks() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert all(0 <= ms <= 5_000 for ms in late)
    assert len(set(late)) > 5
    assert len({id(job.terms) for job in world.broker.state.jobs.values()}) == 1, "they share their terms"
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_a_job_with_jitter_is_not_given_away_before_its_time() -> None:
    world = World(seed=3).worker("w").schedule(jitter_ms=5_000).tick(10_000)
    (job,) = world.broker.state.jobs.values()
    assert job.due_ms > world.now.wall_ms
    world.restart().connect("w").tick(job.due_ms - world.now.wall_ms - 1)
    assert not world.peers["w"].holds
    world.tick(1)
    assert world.peers["w"].holds


# -- exactly once ---------------------------------------------------------------------------------


def test_a_restart_makes_no_tick_twice_and_loses_none() -> None:
    world = World().worker("w").schedule()
    for _ in range(5):
        world.tick(10_000).restart().connect("w")
        world.ack(by="w")
    assert world.ticks() == [10, 20, 30, 40, 50]
    assert len(world.deliveries) == 5


def test_a_tick_whose_job_ended_and_was_forgotten_does_not_come_again() -> None:
    world = World().worker("w").schedule(keep_ms=0).live(10_000).ack(by="w")
    assert world.made() == []
    world.restart().connect("w").turn()
    assert world.made() == []


def test_a_clock_set_back_makes_no_tick_twice() -> None:
    world = World().schedule()
    rounds(world, 3)
    world.tick(0, wall_ms=-25_000)
    rounds(world, 2)
    assert world.ticks() == [10, 20, 30]
    world.restart()
    assert rounds(world, 2).ticks() == [10, 20, 30, 40]


def test_two_workers_that_declare_one_schedule_make_its_ticks_once() -> None:
    world = World()
    for name in ("a", "b", "c"):
        world.worker(name, app="shop", schedules=[schedule_spec()])
    world.tick(10_000)
    assert world.ticks() == [10]
    assert world.restart().connect("a").connect("b").tick(10_000).ticks() == [10, 20]


def test_jobs_in_memory_may_be_lost_and_their_ticks_do_not_come_again() -> None:
    world = World().schedule(durability=MEMORY, catch_up="all").tick(10_000)
    assert world.ticks() == [10]
    assert world.restart().ticks() == []
    assert world.tick(10_000).ticks() == [20]


@settings(deadline=None, max_examples=60)
@given(
    catch_up=st.sampled_from(["last", "all"]),
    overlap=st.sampled_from(["allow", "skip", "queue", "cancel"]),
    steps=st.lists(
        st.tuples(st.integers(0, 25_000), st.sampled_from(["", "", "restart", "ack", "down", "compact"])),
        max_size=40,
    ),
)
def test_whatever_happens_each_tick_is_made_once_and_read_back(
    catch_up: str, overlap: str, steps: list[tuple[int, str]]
) -> None:
    world = World(slack=0).worker("w", slots=3).schedule(catch_up=catch_up, overlap=overlap)
    for ms, what in steps:
        if what == "down":
            world.now = world.now._replace(boot_ms=world.now.boot_ms + ms, wall_ms=world.now.wall_ms + ms)
        if what in ("down", "restart"):
            world.restart().connect("w")
        if what == "ack" and world.holds("w"):
            world.ack(by="w")
        for job in world.stops("w"):
            world.nack(job, by="w", ending="cancelled")
        world.tick(ms)
        assert canonical(world.recovered()) == canonical(world.broker.state)
    ids = [job for job, _ in world.deliveries]
    assert len(set(ids)) == len(ids) or any(what in ("down", "restart") for _, what in steps)
    passed = (world.now.wall_ms - BEGINNING_MS) // 10_000
    ticks = world.ticks()
    assert ticks == sorted(set(ticks))
    if overlap in ("allow", "cancel") and catch_up == "all":
        assert ticks == [10.0 * number for number in range(1, passed + 1)]
    assert world.broker.state.schedules["s"].floor_ms == BEGINNING_MS + 10_000 * passed


# -- what was missed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "away_s", "ticks"),
    [
        ("skip", 35, [40]),  # the newest is not too old to count
        ("skip", 5, [10]),
        ("last", 35, [40]),
        ("all", 35, [10, 20, 30, 40]),
    ],
)
def test_catching_up_after_an_absence(catch_up: str, away_s: int, ticks: list[int]) -> None:
    world = World().schedule(catch_up=catch_up).tick(5_000)
    world.now = world.now._replace(wall_ms=world.now.wall_ms + away_s * 1_000)
    assert world.restart().ticks() == ticks


@pytest.mark.parametrize(("catch_up", "made"), [("skip", 0), ("last", 1), ("all", 20)])
def test_catching_up_after_the_clock_was_set_forward(catch_up: str, made: int) -> None:
    world = World().schedule(catch_up=catch_up, interval_ms=HOUR_MS).tick(0, wall_ms=20 * HOUR_MS + 120_000)
    assert len(world.made()) == made
    assert world.ticks()[-1:] == ([20 * 3_600] if made else [])
    assert len(world.tick(HOUR_MS - 120_000).made()) == made + 1


def test_a_thousand_are_made_up_for_a_part_in_each_turn() -> None:
    world = World().schedule(catch_up="all", interval_ms=1_000).tick(0, wall_ms=5_000_000)
    assert len(world.made()) == limits.TICKS_PER_TURN
    assert world.broker.next_deadline(world.now) == world.now.boot_ms
    world.restart().turn()
    for _ in range(limits.CATCH_UP_MAX // limits.TICKS_PER_TURN):
        world.turn()
    assert world.ticks() == [4_001.0 + number for number in range(1_000)]


def test_ticks_wait_while_nothing_is_accepted() -> None:
    world = World().schedule()
    world.broker.intake.closed_because = "the disk is nearly full"
    assert world.tick(10_500).ticks() == []
    world.broker.intake.closed_because = ""
    assert world.tick(1_000).ticks() == [10]
    world.broker.intake.closed_because = "full again"
    world.tick(10_000).tick(0, wall_ms=-30_000)
    world.broker.intake.closed_because = ""
    assert world.tick(1_000).ticks() == [10]
    assert world.tick(20_000, wall_ms=29_000).ticks() == [10, 20]


# -- overlap --------------------------------------------------------------------------------------


def test_skip_makes_none_while_the_last_has_no_outcome() -> None:
    world = World().worker("w", slots=5).schedule(overlap="skip")
    rounds(world, 3)
    assert world.ticks() == [10]
    world.connect("w").ack(by="w")
    assert rounds(world.restart().connect("w"), 1).ticks() == [10, 40]


def test_queue_makes_one_that_waits_for_the_last() -> None:
    world = World().worker("w", slots=5).schedule(overlap="queue")
    rounds(world, 3)
    assert world.ticks() == [10]
    assert world.schedule_report().is_waiting
    world.connect("w").ack(by="w")
    assert world.ticks() == [10, 20]
    assert len(world.holds("w")) == 1, "it was delivered in the turn in which the last one ended"
    assert not world.schedule_report().is_waiting
    world.ack(by="w")
    assert rounds(world, 1).ticks() == [10, 20, 40]


def test_what_waits_survives_a_restart() -> None:
    world = World().worker("w", slots=5).schedule(overlap="queue")
    rounds(world, 2).restart().connect("w")
    assert world.ticks() == [10]
    assert world.ack(by="w").ticks() == [10, 20]
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_what_waits_is_made_when_the_last_is_cancelled() -> None:
    world = World().schedule(overlap="queue")
    rounds(world, 2)
    (first,) = world.made()
    assert world.cancel(name_of(first)).ticks() == [10, 20]


def test_cancel_ends_the_last_first_and_says_why() -> None:
    world = World().worker("w", slots=1).schedule(overlap="cancel")
    rounds(world, 2)
    first, second = world.made()
    kept = world.broker.state.outcomes[first].item
    assert (kept.state, kept.reason) == ("cancelled", "the next job of the schedule 's' was due")  # type: ignore[union-attr]
    assert len(world.stops("w")) == 1
    world.nack(*world.stops("w"), by="w", ending="cancelled")
    assert [held.id for held in world.peers["w"].holds.values()] == [second]


def test_allow_makes_them_all() -> None:
    assert rounds(World().schedule(), 3).ticks() == [10, 20, 30]


# -- paused, resumed, run -------------------------------------------------------------------------


def test_a_pause_stays_over_a_restart_and_is_not_made_up_for() -> None:
    world = World().schedule(catch_up="all").tick(10_000)
    world.ask(lambda number: PauseSchedule(number, "s", "holidays"))
    world.tick(30_000).restart().tick(30_000)
    assert world.ticks() == [10]
    report = world.schedule_report()
    assert (report.is_paused, report.reason, report.next_ms) == (True, "holidays", [])
    world.ask(lambda number: ResumeSchedule(number, "s")).tick(5_000)
    assert rounds(world, 1).ticks() == [10, 80]
    assert not world.schedule_report().is_paused


def test_running_it_now_is_one_job_however_often_it_is_asked() -> None:
    world = World().schedule()
    for _ in range(2):
        world.ask(lambda number: RunSchedule(number, "s", id_of("now")))
        world.restart()
    (job,) = world.made()
    assert job == with_slot(id_of("now"), job_slot("default", "default"))
    report = world.schedule_report()
    assert (report.last_job, report.last_ms) == (job, world.now.wall_ms)
    assert len(world.tick(10_000).made()) == 2, "the tick comes all the same"


def test_running_it_now_is_one_job_also_when_its_outcome_is_not_kept() -> None:
    world = World(slack=0).worker("w").schedule(keep_ms=0)
    for _ in range(3):
        world.ask(lambda number: RunSchedule(number, "s", id_of("now")))
        if world.holds("w"):
            world.ack(by="w")
        world.restart().connect("w")
    assert (world.made(), len(world.deliveries)) == ([], 1)


def test_running_it_now_minds_its_overlap() -> None:
    world = World().worker("w").schedule(overlap="skip").live(10_000)
    world.ask(lambda number: RunSchedule(number, "s", id_of("now")))
    code, text = world.refusal()
    assert code == "conflict"
    assert "has no outcome yet" in text
    world.ack(by="w").ask(lambda number: RunSchedule(number, "s", id_of("now")))
    assert len(world.made()) == 2


def test_nothing_is_run_while_nothing_is_accepted() -> None:
    world = World().schedule()
    world.broker.intake.closed_because = "the disk is nearly full"
    world.ask(lambda number: RunSchedule(number, "s", id_of("now")))
    assert world.refusal() == ("busy", "the disk is nearly full")


# -- what is kept ---------------------------------------------------------------------------------


def test_compaction_keeps_schedules_and_what_they_have_done() -> None:
    world = World(slack=0).worker("w").schedule("a").schedule("b", interval_ms=HOUR_MS)
    for _ in range(50):
        world.tick(10_000)
        world.connect("w").ack(by="w")
    assert min(world.journal) > 20
    assert canonical(world.recovered()) == canonical(world.broker.state)
    world.restart().connect("w").tick(0)
    assert len(world.deliveries) == 50


def test_a_dropped_schedule_does_not_come_back() -> None:
    world = World(slack=0).schedule().tick(10_000)
    world.ask(lambda number: DropSchedule(number, "s")).restart().tick(20_000)
    assert world.ticks() == [10], "its jobs stay"
    assert world.count("schedules") == 0
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_a_zone_that_is_gone_stops_the_schedule_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().schedule(cron="* * * * * *", zone="Europe/Berlin")
    monkeypatch.setattr("taskq.core.planning.schedules.calendar_of", _no_zone)
    world.restart().tick(5_000)
    report = world.schedule_report()
    assert (world.ticks(), report.next_ms, report.trouble) == ([], [], "no such zone here")


def test_the_timers_of_what_was_replaced_are_not_kept() -> None:
    world = World()
    for number in range(200):
        world.schedule(interval_ms=1_000 + number)
    later = Now(world.now.boot_ms, world.now.wall_ms + 60_000)
    world.broker.timers.look(later)
    ticks = [timer for timer in world.broker.timers.due(later, 1_000) if timer[0] == "tick"]
    assert len([timer for timer in ticks if world.broker._is_wanted(timer)]) == 1 < len(ticks)


def test_the_newest_are_found_among_millions() -> None:
    assert due(Cron("* * * * * *"), 0, 10**12, 3) == [10**12 - 2_000, 10**12 - 1_000, 10**12]


def _no_zone(*_: object) -> None:
    raise ConfigError("no such zone here")
