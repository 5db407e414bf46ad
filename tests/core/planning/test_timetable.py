"""Schedules that are made, declared, changed, dropped and listed; what is refused and why."""

from typing import Any

import pytest

from taskq import limits
from taskq.protocol.messages import (
    DropSchedule,
    ListSchedules,
    PauseSchedule,
    ResumeSchedule,
    RunSchedule,
    ScheduleList,
    SetSchedule,
)
from tests.core.world import BEGINNING_MS, World, canonical, id_of, schedule_spec


def declaring(world: World, name: str, *specs: Any, app: str = "shop") -> World:
    return world.worker(name, slots=10, app=app, schedules=list(specs))


# -- made at run time -------------------------------------------------------------------------------


def test_the_answer_is_the_schedule_as_it_is_now() -> None:
    world = World().schedule(cron="0 0 * * *", zone="Europe/Berlin", queue="mail", overlap="skip")
    (report,) = world.last("producer", ScheduleList).items
    assert (report.name, report.cron, report.zone, report.overlap) == (
        "s",
        "0 0 * * *",
        "Europe/Berlin",
        "skip",
    )
    assert (report.task, report.queue, report.app, report.is_declared) == ("work", "mail", "", True)
    assert (report.created_ms, report.last_ms, report.last_job) == (BEGINNING_MS, 0, b"")
    assert report.next_ms == [1_700_002_800_000]


def test_the_same_again_changes_nothing() -> None:
    world = World().schedule().tick(10_000)
    seq = world.last_seq
    world.schedule()
    assert world.last_seq == seq
    assert world.tick(10_000).ticks() == [10, 20]


def test_another_job_goes_on_in_the_same_rhythm() -> None:
    world = World().schedule().tick(13_000).schedule(payload=b"other").tick(7_000)
    assert world.ticks() == [10, 20]
    (job,) = [job for job in world.broker.state.jobs.values() if job.payload == b"other"]
    assert job.submitted_ms == BEGINNING_MS + 20_000


def test_another_time_counts_from_now_and_makes_up_for_nothing() -> None:
    world = World().schedule(interval_ms=3_600_000, catch_up="all").tick(1_800_000)
    world.schedule(interval_ms=60_000, catch_up="all").tick(59_999)
    assert world.made() == []
    assert world.tick(1).ticks() == [1_860]


def test_a_change_keeps_the_pause() -> None:
    world = World().schedule().ask(lambda number: PauseSchedule(number, "s", "why"))
    report = world.schedule(interval_ms=5_000).tick(60_000).schedule_report()
    assert (report.is_paused, report.reason, world.made()) == (True, "why", [])


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"cron": "x"}, "invalid", "5 fields"),
        ({"cron": "* * * * *", "interval_ms": 5_000}, "invalid", "either a cron text or an interval"),
        ({"interval_ms": 0}, "invalid", "either a cron text or an interval"),
        ({"interval_ms": 1}, "invalid", "an interval is from 1000 ms"),
        ({"cron": "0 0 31 2 *"}, "invalid", "bad day-of-month"),
        ({"zone": "Mars/Olympus"}, "invalid", "is no time zone"),
        ({"delay_ms": 5}, "invalid", "a delay or a time of their own cannot be"),
        ({"at_ms": 5}, "invalid", "a delay or a time of their own cannot be"),
        ({"payload": bytes(65_537)}, "too_large", "65537 bytes of arguments; of a schedule at most 65536"),
        ({"ext": {"x-a": bytes(5_000)}}, "too_large", "ext is over its limit"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], code: str, text: str) -> None:
    world = World().schedule(**fields)
    said = world.refusal()
    assert said[0] == code
    assert text in said[1]
    assert (world.count("schedules"), world.journal) == (0, {})


def test_there_are_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_MAX", 2)
    world = World().schedule("a").schedule("b").schedule("c")
    assert world.refusal() == ("busy", "there are 2 schedules, which is the limit; drop some")
    world.schedule("a", interval_ms=5_000)
    assert world.schedule_report("a").interval_ms == 5_000


@pytest.mark.parametrize(
    "question",
    [
        lambda number: PauseSchedule(number, "nothing"),
        lambda number: ResumeSchedule(number, "nothing"),
        lambda number: DropSchedule(number, "nothing"),
        lambda number: RunSchedule(number, "nothing", id_of("now")),
        lambda number: ListSchedules(number, "nothing"),
    ],
    ids=["pause", "resume", "drop", "run", "list"],
)
def test_what_is_not_there_is_not_found(question: Any) -> None:
    assert World().ask(question).refusal() == ("not_found", "there is no schedule 'nothing'")


def test_resuming_what_is_not_paused_changes_nothing() -> None:
    world = World().schedule().tick(10_000)
    seq = world.last_seq
    world.ask(lambda number: ResumeSchedule(number, "s"))
    assert world.last_seq == seq


# -- declared in code -------------------------------------------------------------------------------


def test_a_worker_declares_and_its_app_is_named() -> None:
    world = declaring(World(), "w", schedule_spec())
    report = world.schedule_report()
    assert (report.app, report.is_declared) == ("shop", True)
    assert world.live(10_000).holds("w")


def test_a_changed_one_replaces() -> None:
    world = declaring(World(), "old", schedule_spec(payload=b"1"))
    declaring(world, "new", schedule_spec(payload=b"2"))
    assert world.broker.state.schedules["s"].spec.payload == b"2"
    world.connect("old")
    assert world.broker.state.schedules["s"].spec.payload == b"2", "it says nothing new"


def test_a_removed_one_is_reported_and_goes_on_until_it_is_dropped() -> None:
    world = declaring(World(), "old", schedule_spec("a"), schedule_spec("b"))
    declaring(world, "new", schedule_spec("a"))
    assert world.schedule_report("b").is_declared, "while an old worker is there"
    world.kill("old")
    assert not world.schedule_report("b").is_declared
    assert world.schedule_report("a").is_declared
    assert world.live(10_000).ticks() == [10, 10]
    world.ask(lambda number: DropSchedule(number, "b"))
    assert world.count("schedules") == 1


def test_without_a_worker_of_its_app_nobody_knows() -> None:
    world = declaring(World(), "w", schedule_spec()).kill("w")
    declaring(world, "other", schedule_spec("else"), app="other shop")
    assert world.schedule_report().is_declared


def test_the_last_one_that_is_removed_is_reported_too() -> None:
    world = declaring(declaring(World(), "old", schedule_spec()).kill("old"), "new")
    assert not world.schedule_report().is_declared


def test_what_is_declared_is_changed_and_removed_in_the_code() -> None:
    world = declaring(World(), "w", schedule_spec())
    world.schedule(interval_ms=5_000)
    assert world.refusal() == (
        "conflict",
        "the schedule 's' is declared in the code of shop; change it there",
    )
    world.ask(lambda number: DropSchedule(number, "s"))
    assert world.refusal()[0] == "conflict"
    world.kill("w").ask(lambda number: DropSchedule(number, "s"))
    assert world.count("schedules") == 0


def test_code_takes_over_what_was_made_at_run_time() -> None:
    world = declaring(World().schedule(), "w", schedule_spec())
    assert world.schedule_report().app == "shop"


def test_a_pause_holds_against_the_code() -> None:
    world = declaring(World(), "w", schedule_spec())
    world.ask(lambda number: PauseSchedule(number, "s"))
    declaring(world.restart(), "w", schedule_spec(payload=b"new"))
    assert world.live(20_000).made() == []


def test_what_cannot_be_declared_is_a_warning_and_the_worker_works() -> None:
    world = declaring(World(), "w", schedule_spec("good"), schedule_spec("bad", zone="Mars/Olympus"))
    (warning,) = world.status().warnings
    assert warning.startswith("the schedule 'bad' of shop: 'Mars/Olympus' is no time zone")
    assert world.live(10_000).holds("w")
    declaring(world, "w", schedule_spec("good"))
    assert world.status().warnings == []


def test_an_announcement_without_a_word_on_schedules_leaves_them_declared() -> None:
    world = declaring(World(), "w", schedule_spec())
    world.worker("w")
    assert world.schedule_report().is_declared


def test_those_who_say_nothing_declare_nothing() -> None:
    world = World().worker("w")
    assert (world.count("schedules"), world.journal) == (0, {})


def test_declaring_again_after_a_restart_writes_nothing() -> None:
    world = declaring(World(), "w", schedule_spec()).restart()
    seq = world.last_seq
    world.connect("w")
    assert world.last_seq == seq
    assert canonical(world.recovered()) == canonical(world.broker.state)


def test_sessions_that_are_gone_are_forgotten() -> None:
    world = World()
    for number in range(20):
        declaring(world, f"w{number}", schedule_spec()).kill(f"w{number}")
    assert len(world.broker.timetable._declared) == 1


# -- listed -----------------------------------------------------------------------------------------


def test_a_list_is_by_name_and_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_MAX", 2)
    world = World()
    for name in "daceb":
        world.schedule(name)
    world.ask(lambda number: DropSchedule(number, "c"))
    found, after, more = [], "", True
    while more:
        page = world.ask(lambda number, after=after: ListSchedules(number, after=after)).last(
            "producer", ScheduleList
        )
        found += [item.name for item in page.items]
        after, more = found[-1], page.more
    assert found == ["a", "b", "d", "e"]


def test_nothing_is_an_empty_list() -> None:
    world = World().ask(lambda number: ListSchedules(number))
    assert world.last("producer", ScheduleList) == ScheduleList(1, [])


def test_the_next_times() -> None:
    world = World().schedule().tick(12_000)
    assert world.schedule_report(ticks=3).next_ms == [BEGINNING_MS + ms for ms in (20_000, 30_000, 40_000)]
    assert world.schedule_report(ticks=0).next_ms == []


def test_how_many_there_are_is_counted() -> None:
    world = World().schedule("a").schedule("b").tick(10_000)
    assert (world.count("schedules"), world.count("ticked_total")) == (2, 2)


def test_a_name_is_one_schedule_whoever_makes_it() -> None:
    world = World().schedule(by="ann").schedule(by="bob", interval_ms=5_000)
    assert world.count("schedules") == 1
    assert (
        world.ask(lambda number: SetSchedule(number, schedule_spec())).schedule_report().interval_ms == 10_000
    )
