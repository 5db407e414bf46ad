"""What workers are told goes to their supervisor, and is answered or refused once, whatever happens."""

import pytest

from taskq import limits
from taskq.protocol.messages import (
    Deliver,
    Drain,
    Instruct,
    Instructed,
    Instruction,
    Obeyed,
    Refusal,
    Undrain,
    WorkerText,
    WorkerVerb,
)
from tests.core.world import World, id_of


def a_fleet() -> World:
    """Two processes of one supervisor, one of another, and one that nobody looks after."""
    world = World().worker("box:1").worker("box:2").worker("far:3").worker("alone:4").producer("producer")
    return world.vouch("box:1", "box:2", by="boss").vouch("far:3", by="chief")


def told(world: World, verb: WorkerVerb, name: str, by: str = "boss") -> Instruction:
    world.say("producer", Instruct(7, verb, name, "why not"))
    return world.last(by, Instruction)


def refusal(world: World) -> tuple[str, str]:
    said = world.last("producer", Refusal)
    assert said.request == 7
    return said.code, said.text


def answers(world: World) -> int:
    """In the last turn."""
    return len(world.heard("producer", Instructed)) + len(world.heard("producer", Refusal))


def test_a_supervisor_is_told_and_its_answer_goes_to_who_asked() -> None:
    world = a_fleet()
    instruction = told(world, "stack", "box:1")
    assert (instruction.verb, instruction.sessions, instruction.reason) == (
        "stack",
        [id_of("box:1")],
        "why not",
    )
    text = WorkerText(id_of("box:1"), "it sleeps")
    world.say("boss", Obeyed(instruction.number, [text]))
    assert world.last("producer", Instructed) == Instructed(7, "box:1", [id_of("box:1")], [text])


def test_of_a_running_job_its_worker_is_asked_for_that_attempt() -> None:
    world = World().worker("box:1").vouch("box:1", by="boss").submit("job").turn()
    instruction = told(world, "stack", id_of("job").hex())
    assert (instruction.sessions, instruction.lease) == ([id_of("box:1")], world.leases["job"][0])


def test_a_job_that_runs_nowhere_is_told_apart() -> None:
    world = World().submit("waiting").worker("box:1", tasks=["other"]).vouch("box:1", by="boss")
    world.say("producer", Instruct(7, "stack", id_of("waiting").hex()))
    assert refusal(world)[0] == "conflict"
    world.worker("box:2").turn().ack("waiting", by="box:2")
    world.say("producer", Instruct(7, "stack", id_of("waiting").hex()))
    assert refusal(world) == ("finished", f"job {id_of('waiting').hex()} has ended: it runs nowhere")


def test_jobs_are_not_stopped_like_workers() -> None:
    world = World().worker("box:1").vouch("box:1", by="boss").submit("job").turn()
    world.say("producer", Instruct(7, "stop", id_of("job").hex()))
    assert refusal(world)[0] == "invalid"


def test_by_name_all_of_a_worker_is_meant_and_by_session_one_process() -> None:
    world = a_fleet()
    assert told(world, "drain", "box:1").is_whole
    assert told(world, "drain", "1").is_whole
    assert told(world, "drain", id_of("boss").hex()).is_whole
    assert not told(world, "drain", id_of("box:1").hex()).is_whole
    world.worker("box:1", pid=4_711)
    assert not told(world, "drain", "4711").is_whole


def test_stop_is_for_all_of_a_supervisors_processes() -> None:
    assert told(a_fleet(), "stop", "box:1").sessions == [id_of("box:1"), id_of("box:2")]


def test_a_drained_worker_gets_nothing_from_the_answer_on() -> None:
    world = a_fleet()
    instruction = told(world, "drain", "box:1")
    world.say("boss", Obeyed(instruction.number))
    world.submit("a", "b", "c", "d", "e", "f").turn()
    assert not world.heard("box:1", Deliver)
    assert world.heard("box:2", Deliver)
    world.say("box:1", Drain())  # itself, when its loop turns again
    world.say("box:1", Undrain())
    assert world.heard("box:1", Deliver)


def test_a_worker_that_connects_again_says_again_that_it_is_drained() -> None:
    world = a_fleet()
    instruction = told(world, "drain", "box:1")
    world.say("boss", Obeyed(instruction.number))
    world.lose("box:1").connect("box:1")
    world.submit("a", "b", "c", "d").turn()
    assert world.heard("box:1", Deliver)


def test_a_name_of_two_workers_is_refused_with_both() -> None:
    world = World().producer("producer")
    for session, boss in (("s1", "boss"), ("s2", "chief")):
        world.worker(session).vouch(session, by=boss)
    for worker in world.broker.roster.workers.values():
        worker.name = "twin"
    world.say("producer", Instruct(7, "drain", "twin"))
    code, text = refusal(world)
    assert code == "conflict"
    assert all(f"twin ({id_of(session).hex()[:8]})" in text for session in ("s1", "s2"))


def test_nobody_and_those_without_a_supervisor_are_refused() -> None:
    world = a_fleet()
    world.say("producer", Instruct(7, "stack", "nobody"))
    assert refusal(world)[0] == "not_found"
    world.say("producer", Instruct(7, "stack", "alone:4"))
    assert refusal(world) == (
        "conflict",
        "worker 'alone:4' has no supervisor that is connected now, who alone could tell it",
    )


def test_a_refusal_of_the_supervisor_is_passed_on() -> None:
    world = a_fleet()
    instruction = told(world, "stack", "box:1")
    world.say("boss", Obeyed(instruction.number, code="not_found", text="that process has ended meanwhile"))
    assert refusal(world) == ("not_found", "that process has ended meanwhile")


def test_one_that_does_not_answer_is_given_up_and_may_not_answer_later() -> None:
    world = a_fleet()
    instruction = told(world, "stack", "box:1")
    world.vouch_for(limits.INSTRUCTION_TIMEOUT_MS, "box:1", "box:2", by="boss").beat("producer")
    assert refusal(world)[0] == "unanswered"
    world.say("boss", Obeyed(instruction.number))
    assert answers(world) == 0


def test_one_that_goes_away_is_given_up_at_once() -> None:
    world = a_fleet()
    told(world, "stack", "box:1")
    world.lose("boss")
    assert refusal(world)[0] == "conflict"
    world.tick(limits.INSTRUCTION_TIMEOUT_MS)
    assert answers(world) == 0


def test_nobody_answers_for_another() -> None:
    world = a_fleet()
    instruction = told(world, "stack", "box:1")
    world.say("chief", Obeyed(instruction.number))
    assert answers(world) == 0
    world.say("boss", Obeyed(instruction.number))
    assert answers(world) == 1


def test_who_has_gone_is_forgotten() -> None:
    world = a_fleet()
    instruction = told(world, "stack", "box:1")
    world.lose("producer")
    assert not world.broker.instructions.pending
    world.say("boss", Obeyed(instruction.number))


def test_numbers_are_those_of_this_life_of_the_broker() -> None:
    world = a_fleet()
    before = told(world, "stack", "box:1").number
    world.restart()
    world.worker("box:1").vouch("box:1", by="boss").connect("producer", "producer")
    assert told(world, "stack", "box:1").number > before + 1


def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INSTRUCTIONS_MAX", 1)
    world = a_fleet()
    told(world, "stack", "box:1")
    world.say("producer", Instruct(7, "stack", "box:2"))
    assert refusal(world)[0] == "busy"
