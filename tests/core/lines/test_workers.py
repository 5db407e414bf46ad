"""Who gets what: one job each in turn, never more than there is room for, only what is known there."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.protocol.messages import Announce, Drain, Resume
from tests.core.world import World, id_of, name_of


def names(count: int, prefix: str = "j") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


# -- turns ------------------------------------------------------------------------------------


def test_workers_take_turns_one_job_each() -> None:
    world = World().worker("x", slots=3).worker("y", slots=3).worker("z", slots=3)
    world.submit(*names(9))
    assert world.served() == ["x", "y", "z"] * 3


def test_who_has_more_room_gets_no_more_than_a_turn_while_others_have_room() -> None:
    world = World().worker("big", slots=100).worker("small", slots=2).submit(*names(6))
    assert world.served() == ["big", "small", "big", "small", "big", "big"]


def test_the_turn_goes_on_where_it_stopped() -> None:
    world = World().worker("x", slots=9).worker("y", slots=9)
    for name in names(6):
        world.submit(name)
    assert world.served() == ["x", "y"] * 3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 8))
def test_over_any_window_the_counts_of_free_workers_differ_by_one(
    workers: int, rounds: int, batch: int
) -> None:
    world = World()
    for number in range(workers):
        world.worker(f"w{number}", slots=1_000)
    for number in range(rounds * workers):
        world.submit(*names(batch, f"{number}."))
    served = world.served()
    # Each once in any window of as many: so over windows of any length, too, they differ by one at most.
    for start in range(len(served) - workers + 1):
        assert len(set(served[start : start + workers])) == workers


def test_queues_take_turns() -> None:
    world = World()
    for queue in "xyz":
        world.submit(*names(4, queue), queue=queue)
    world.worker("w", slots=12, queues="xyz")
    assert [job[0] for job, _ in world.deliveries] == ["x", "y", "z"] * 4


def test_an_empty_queue_costs_the_others_no_turn() -> None:
    world = World().submit(*names(4, "x"), queue="x").submit(*names(4, "z"), queue="z")
    world.worker("w", slots=8, queues="xyz")
    assert [job[0] for job, _ in world.deliveries] == ["x", "z"] * 4


def test_unlike_workers_take_turns_too() -> None:
    world = World().worker("x", slots=4, tasks=("work", "x")).worker("y", slots=4, tasks=("work", "y"))
    world.submit(*names(8))
    assert world.served() == ["x", "y"] * 4


def test_rolling_announces_do_not_starve_anybody() -> None:
    """A deployment: each worker announces again, one after the other, while jobs come in."""
    world = World()
    for worker in "xyz":
        world.worker(worker, slots=100)
    for number in range(30):
        again = "xyz"[number % 3]
        world.say(again, Announce({"work": "async", f"new{number}": "async"}, ["default"], {"async": 100}))
        world.submit(*names(3, f"{number}."))
    counts = Counter(world.served())
    assert sum(counts.values()) == 90
    assert min(counts.values()) >= 25


# -- room -------------------------------------------------------------------------------------


def test_nobody_is_given_more_than_there_is_room_for() -> None:
    world = World().worker("w", slots=2).submit(*names(5))
    assert world.holds("w") == ["j0", "j1"]
    world.ack("j0", by="w")
    assert world.holds("w") == ["j1", "j2"]
    world.nack("j1", by="w")
    assert world.holds("w") == ["j2", "j3"]


def test_executors_have_room_of_their_own() -> None:
    world = World().submit("a", "b", task="coro").submit("c", "d", task="plain").worker("w", slots=0)
    world.say("w", Announce({"coro": "async", "plain": "thread"}, ["default"], {"async": 2, "thread": 1}))
    assert sorted(world.holds("w")) == ["a", "b", "c"]


def test_more_room_is_used_at_once_and_less_room_is_respected() -> None:
    world = World().worker("w", slots=1).submit(*names(6))
    announce = world.peers["w"].announce
    assert announce is not None
    world.say("w", Announce(announce.tasks, announce.queues, {"async": 3}))
    assert world.holds("w") == ["j0", "j1", "j2"]
    world.say("w", Announce(announce.tasks, announce.queues, {"async": 1}))
    world.ack("j0", by="w").ack("j1", by="w")
    assert world.holds("w") == ["j2"]
    world.ack("j2", by="w")
    assert world.holds("w") == ["j3"]


def test_a_cancelled_attempt_has_its_slot_until_the_worker_has_stopped_it() -> None:
    world = World().worker("w").submit("a", "b").cancel("a")
    assert world.holds("w") == ["a"]
    assert world.nack("a", by="w", ending="cancelled").holds("w") == ["b"]


# -- who may be given jobs --------------------------------------------------------------------


def test_only_known_tasks_and_served_queues() -> None:
    world = World().submit("a", task="other").submit("b", queue="other").submit("c").worker("w", slots=9)
    assert world.holds("w") == ["c"]
    world.worker("x", slots=9, tasks=("other",)).worker("y", slots=9, queues=("other",))
    assert (world.holds("x"), world.holds("y")) == (["a"], ["b"])


def test_nothing_before_it_has_said_what_it_holds() -> None:
    world = World().submit("a").connect("w")
    world.say("w", Announce({"work": "async"}, ["default"], {"async": 1}))
    assert world.holds("w") == []
    assert world.say("w", Resume([], last=False)).holds("w") == []
    assert world.say("w", Resume([])).holds("w") == ["a"]


def test_nothing_more_while_it_drains() -> None:
    world = World().worker("w", slots=2).submit("a").say("w", Drain()).submit("b")
    assert world.holds("w") == ["a"]
    assert world.worker("x").holds("x") == ["b"]


def test_nothing_while_it_does_not_read_and_its_share_when_it_does() -> None:
    world = World().worker("w", slots=2).block("w").submit("a")
    assert world.holds("w") == []
    assert world.unblock("w").holds("w") == ["a"]


def test_one_that_does_not_read_costs_the_others_nothing() -> None:
    world = World().worker("w", slots=9).worker("x", slots=9).block("w").submit(*names(4))
    assert world.served() == ["x"] * 4


def test_a_worker_that_left_is_given_nothing() -> None:
    world = World().worker("w").kill("w").submit("a")
    assert world.deliveries == []
    assert world.count("workers") == 0


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["submit", "ack", "announce", "kill", "worker"]), st.integers(0, 3)),
        max_size=60,
    )
)
def test_credit_is_exact_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Never more than the announced room; and never room and a job beside each other."""
    world, room = World().producer("producer"), dict[str, int]()
    for number, (verb, pick) in enumerate(steps):
        name = f"w{pick}"
        match verb:
            case "submit":
                world.submit(f"{number}")
            case "worker" if name not in room:
                room[name] = pick + 1
                world.worker(name, slots=pick + 1)
            case "ack" if name in room and world.holds(name):
                world.ack(world.holds(name)[0], by=name)
            case "announce" if name in room:
                room[name] = (number % 4) + 1
                world.say(name, Announce({"work": "async"}, ["default"], {"async": room[name]}))
            case "kill" if name in room:
                del room[name]
                world.kill(name)
        waiting = [name_of(job.id) for job in world.broker.state.jobs.values() if job.state == "ready"]
        free = [worker for worker, slots in room.items() if len(world.holds(worker)) < slots]
        assert not (waiting and free), f"{waiting} wait though {free} have room"


def test_pools_and_sights_of_workers_that_left_are_not_kept() -> None:
    world = World().submit("a", queue="other")
    for number in range(50):
        world.worker(f"w{number}", tasks=("work", f"t{number}"), queues=("default", "other")).kill(
            f"w{number}"
        )
    assert all(not lane.sights for lane in world.broker.queues.lanes.values())
    assert world.state("a") != "unknown"
    assert id_of("w1") not in world.broker.roster.workers


def test_a_worker_that_announces_other_numbers_stays_in_its_pool() -> None:
    world = World().worker("w", slots=1)
    pool = world.broker.roster.workers[id_of("w")].slots["async"].pool
    world.say("w", Announce({"work": "async"}, ["default"], {"async": 2})).submit("a", "b", "c")
    assert world.holds("w") == ["a", "b"]
    assert world.broker.roster.workers[id_of("w")].slots["async"].pool is pool
    assert pool.members == 1
