"""Searches: complete, in order, in slices, and never more of them than there is room for."""

import pytest

from taskq import limits
from taskq.protocol.messages import BulkReport, Counted, Fault, GroupDead, Page, Query, Refusal, Tally
from tests.core.world import World, filter_of, id_of, name_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices so small that a search of twenty jobs takes turns."""
    monkeypatch.setattr(limits, "SEARCH_SLICE", 3)
    monkeypatch.setattr(limits, "BULK_SLICE", 2)
    monkeypatch.setattr(limits, "BULK_AHEAD", 4)


def names(count: int) -> list[str]:
    return [f"j{number:03}" for number in range(count)]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("limit", [1, 2, 7, 1_000])
def test_pages_are_in_the_order_of_ids_whatever_came_first(limit: int) -> None:
    world = World().submit(*reversed(names(20))).worker("w", slots=5).ack(by="w")
    assert world.listed(limit=limit) == names(20)
    assert world.listed(limit=limit, states=["succeeded"]) == names(20)[15:]


@pytest.mark.usefixtures("small")
def test_a_page_that_is_not_the_next_one_is_found_as_well() -> None:
    world = World().submit(*names(20))
    assert [name_of(line.id) for line in world.page("j011", limit=2).items] == ["j012", "j013"]
    assert [name_of(line.id) for line in world.page("j003", limit=1).items] == ["j004"]
    assert world.page("j019").items == []
    assert not world.page("j017", limit=2).next


@pytest.mark.usefixtures("small")
def test_what_came_or_went_between_two_pages_harms_no_other() -> None:
    world = World().submit(*names(20))
    first = world.page(limit=5)
    world.cancel("j006", "j007").bulk("delete", ids=["j006"]).submit("j0075")
    rest = world.page(name_of(first.next), limit=100)
    seen = [name_of(line.id) for line in (*first.items, *rest.items)]
    while rest.next:
        rest = world.page(name_of(rest.next), limit=100)
        seen += [name_of(line.id) for line in rest.items]
    assert seen == sorted(seen)
    assert set(names(20)) - {"j006"} <= set(seen)
    assert "j006" not in seen


@pytest.mark.usefixtures("small")
def test_a_line_tells_how_the_job_is_now() -> None:
    world = World().submit(*names(9))
    first = world.page(limit=1)
    world.cancel("j001")
    second = world.page(name_of(first.next), limit=1)
    assert [(name_of(line.id), line.state) for line in second.items] == [("j001", "cancelled")]


@pytest.mark.usefixtures("small")
def test_a_search_looks_at_a_slice_a_turn_and_asks_for_the_next_turn() -> None:
    world = World().submit(*names(10)).say("producer", Tally(1, filter_of()))
    turns = 0
    while not (heard := world.heard("producer", Counted)):
        assert world.broker.next_deadline(world.now) == world.now.boot_ms
        turns += world.turn() is world
    assert turns == 4
    assert (heard[0].count, heard[0].states) == (10, {"ready": 10})
    assert world.broker.next_deadline(world.now) != world.now.boot_ms


@pytest.mark.usefixtures("small")
def test_searches_take_turns() -> None:
    world = World().submit(*names(20)).producer("other")
    world.say("producer", Tally(1, filter_of())).say("other", Tally(1, filter_of(ids=["j001"])))
    world.turn().turn()
    assert world.heard("other", Counted)
    assert not world.heard("producer", Counted)
    assert world.work_off().heard("producer", Counted)


@pytest.mark.usefixtures("small")
def test_a_search_ends_with_its_peer() -> None:
    world = World().submit(*names(20)).bulk_begins("cancel", task="*").lose("producer")
    before = world.tally_by("other")
    assert 0 < before["ready"] < 20
    assert world.tally_by("other") == before


def test_there_are_never_too_many() -> None:
    world = World().producer("p")
    tallies = [Tally(number, filter_of()) for number in range(1, limits.SEARCHES_PER_PEER_MAX + 2)]
    world.say("p", *tallies)
    ((code, text),) = [(refusal.code, refusal.text) for refusal in world.heard("p", Refusal)]
    assert (code, text) == ("busy", "4 searches of this connection are running; wait for one of them")
    world.work_off()
    assert [counted.request for counted in world.heard("p", Counted)] == [1, 2, 3, 4]


def test_nor_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEARCHES_MAX", 2)
    world = World().producer("a").producer("b").producer("c")
    events = [(name, Tally(1, filter_of())) for name in "abc"]
    for name, tally in events[:2]:
        world.broker.searches.begin(world.peers[name].number, tally, world.now)
    world.say("c", events[2][1])
    assert world.refusal("c") == ("busy", "2 searches are running; the limit is 2")


@pytest.mark.parametrize(
    "wanted",
    [{"older_ms": 2, "younger_ms": 1}, {"states": ["succeeded"], "error": "x"}],
    ids=str,
)
def test_a_filter_that_means_nothing_is_refused(wanted: dict[str, object]) -> None:
    world = World().producer("p")
    for command in (Query(1, filter_of(**wanted)), Tally(2, filter_of(**wanted))):
        assert world.search(command, by="p").refusal("p")[0] == "invalid"


def test_a_bulk_verb_wants_to_know_which_jobs() -> None:
    world = World().submit("a").bulk("cancel")
    assert world.refusal() == ("invalid", "cancel wants to be told which jobs; `task:*` means all")
    assert world.state("a") == "ready"


def test_lines_are_light_unless_asked_otherwise() -> None:
    fault = Fault("app.Gone", "no route", "Traceback ...")
    world = World().submit("a", payload=b"args", ext={"key": b"k"}).deliver(to="w").nack(by="w", fault=fault)
    (light,), (full,) = world.page().items, world.page(full=True).items
    assert (light.payload, light.ext, light.key) == (b"", None, "k")
    assert light.fault == Fault("app.Gone", "no route")
    assert (full.payload, full.ext, full.fault) == (b"args", {"key": b"k"}, fault)
    assert (full.ending, full.attempts, full.failures, full.state) == ("failed", 1, 1, "dead")


def test_a_running_job_says_where() -> None:
    world = World().submit("a").deliver(to="w")
    (line,) = world.page().items
    assert (line.worker, line.attempts, line.started_ms) == ("w", 1, world.now.wall_ms)


def test_a_page_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_TARGET", 1_000)
    world = World().submit(*names(9), payload=b"x" * 500)
    page = world.page(full=True)
    assert len(page.items) == 2
    assert name_of(page.next) == "j001"
    assert len(world.page().items) == 5
    assert world.listed() == names(9)


def test_ready_pages_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LISTED_IDS_MAX", 15)
    world = World().submit(*names(10)).producer("a").producer("b")
    for name in "ab":
        world.search(Query(1, filter_of(), b"", 1), by=name)
        assert len(world.broker.searches._listings) == 1
    world.search(Query(2, filter_of(), world.last("a", Page).next, 100), by="a")
    assert [name_of(line.id) for line in world.last("a", Page).items] == names(10)[1:]
    world.lose("b").page()
    assert world.broker.searches._listings == []


@pytest.mark.usefixtures("small")
def test_many_that_are_gone_make_pages_shorter_not_turns_longer() -> None:
    world = World().submit(*names(20), keep_ms=0)
    first = world.page(limit=1)
    world.cancel(*names(20)[1:19])
    pages = [world.page(name_of(first.next))]
    while pages[-1].next:
        pages.append(world.page(name_of(pages[-1].next)))
    assert len(pages) > 3
    assert [name_of(line.id) for page in pages for line in page.items] == ["j019"]


def test_dead_jobs_are_grouped_by_task_and_error(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().worker("w", tasks=("send", "work"))
    for name, task, fault in (
        ("a", "send", Fault("app.Gone", "first")),
        ("b", "work", Fault("app.Gone", "x")),
        ("c", "send", Fault("app.Gone", "second")),
        ("d", "send", Fault("ValueError", "y")),
        ("e", "send", None),
    ):
        world.submit(name, task=task).nack(by="w", fault=fault).tick(1)
    groups = world.groups()
    assert [(group.task, group.error_type, group.count) for group in groups] == [
        ("send", "app.Gone", 2),
        ("send", "ValueError", 1),
        ("send", "failed", 1),
        ("work", "app.Gone", 1),
    ]
    assert (name_of(groups[0].sample), groups[0].message) == ("a", "first")
    assert groups[0].newest_ms - groups[0].oldest_ms == 2
    assert [group.count for group in world.groups(task="work")] == [1]
    for group in groups:
        assert len(world.listed(task=group.task, error_type=group.error_type)) == group.count
    monkeypatch.setattr(limits, "DEAD_GROUPS_MAX", 1)
    assert [(group.task, group.count) for group in world.groups()] == [("send", 2)]


def test_groups_are_of_dead_jobs_only() -> None:
    world = World().producer("producer")
    assert world.submit("a").groups() == []
    world.search(GroupDead(1, filter_of(states=["ready"])))
    assert world.refusal() == ("invalid", "groups are of dead jobs; leave the state out")


@pytest.mark.usefixtures("small")
def test_a_bulk_verb_does_not_run_ahead_of_the_disk() -> None:
    """Turns without a commit between them: after four changes it waits, and asks again in a moment."""
    world = World().submit(*names(20)).producer("other").say("other")
    world.bulk_begins("cancel", task="*")
    broker = world.broker
    for _ in range(10):
        broker.settle(world.now)
    assert len(broker.state.jobs) == 20 - 2 - 4
    assert broker.next_deadline(world.now) == world.now.boot_ms + 1
    world.work_off()
    assert len(broker.state.jobs) == 0


@pytest.mark.usefixtures("small")
def test_what_is_not_journaled_need_not_wait_for_the_disk() -> None:
    world = World().submit(*names(20), durability=2).bulk("cancel", task="*")
    assert world.last("producer", BulkReport).done == 20
    assert world.state(names(1)[0]) == "cancelled"
    assert id_of("j000") in world.broker.state.outcomes
