"""A budget for what the broker holds: outcomes give way, submissions are refused, the rest goes on."""

from tests.core.world import World

KIB = 1024


def test_above_it_nothing_new_is_accepted_and_the_text_says_how_much() -> None:
    world = World(memory_bytes=100 * KIB).submit("a", payload=b"x" * 99 * KIB).submit("b", payload=b"x" * KIB)
    (verdict,) = world.verdict_list()
    assert verdict.code == "busy"
    assert verdict.text == (
        "the broker's memory is full: 1 jobs, 0 outcomes and 0 held submissions take about 0.1 MiB; "
        "its budget is 0.1 MiB"
    )


def test_of_one_message_as_much_as_there_is_room_for() -> None:
    world = World(memory_bytes=100 * KIB).submit(*"abcd", payload=b"x" * 40 * KIB)
    assert world.verdicts() == [(2, "busy"), (3, "busy")]


def test_acks_and_cancels_still_work_and_make_room() -> None:
    world = World(memory_bytes=100 * KIB).submit("a", "b", payload=b"x" * 49 * KIB)
    assert world.submit("c", payload=b"x" * 2 * KIB).verdicts() == [(2, "busy")]
    world.deliver(to="w").ack("a", by="w").cancel("b")
    assert (world.state("a"), world.state("b")) == ("succeeded", "cancelled")
    assert world.submit("d").verdicts() == []


def test_known_jobs_are_still_confirmed() -> None:
    world = World(memory_bytes=100 * KIB).submit("a", payload=b"x" * 99 * KIB)
    assert world.submit("a", seq=0, payload=b"x" * 99 * KIB).verdicts() == []


def test_outcomes_make_room_for_jobs() -> None:
    world = World(memory_bytes=100 * KIB).worker("w")
    for name in "abc":
        world.submit(name).ack(by="w", result=b"r" * 20 * KIB)
    assert world.count("outcomes") == 3
    world.submit("d", task="nobody's", payload=b"x" * 60 * KIB)
    assert world.count("outcomes") == 1
    assert world.state("c") == "succeeded"
    assert world.submit("e").verdicts() == []


def test_but_keep_their_share() -> None:
    world = World(memory_bytes=100 * KIB).worker("w").submit("a").ack(by="w", result=b"r" * 10 * KIB)
    world.submit("b", "c", task="nobody's", payload=b"x" * 45 * KIB)
    assert world.verdicts() == [(2, "busy")]
    assert world.state("a") == "succeeded"


def test_jobs_are_counted_by_what_they_carry() -> None:
    world = World().submit("a", payload=b"x" * 1_000, ext={"key": b"abc"})
    assert world.broker.state.job_bytes == 1_006
    assert world.deliver(to="w").ack(by="w").broker.state.job_bytes == 0


def test_held_submissions_count_and_wait_on() -> None:
    world = World(memory_bytes=10 * KIB).bound(max_jobs=1, when_full="wait").submit("a")
    world.submit("b", payload=b"x" * 8 * KIB)
    assert world.verdicts() == [(1, "held")]
    assert world.submit("c", queue="other", payload=b"x" * KIB).verdicts() == [(2, "busy")]
    assert world.worker("w").ack(by="w").holds("w") == ["b"]
