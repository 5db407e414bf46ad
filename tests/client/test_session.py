"""The producer's session: messages in, messages out; nothing is lost, nothing said twice without need."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq import limits
from taskq.client.following import Following
from taskq.client.session import Answer, ClientSession, NewJob, Submission
from taskq.errors import NotFound, Refused
from taskq.protocol.messages import (
    Cancel,
    Confirm,
    Follow,
    Inspect,
    JobReport,
    ListWorkers,
    Message,
    Outcome,
    Outcomes,
    Receipt,
    Receipts,
    Refusal,
    Status,
    Steer,
    Steering,
    Submit,
    Terms,
    Unsupported,
    Unwatch,
    Verdict,
    Watch,
    Welcome,
)

ADD = Terms("tasks.add")
MAIL = Terms("tasks.mail", queue="mail")

M = TypeVar("M", bound=Message)


def an_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def jobs(*numbers: int, terms: Terms = ADD, payload: bytes = b"x") -> list[NewJob]:
    return [(an_id(number), terms, payload, None, 0) for number in numbers]


class Decisions(list[Submission]):
    """Submissions in the order in which they were decided."""

    def __call__(self, submission: Submission) -> None:
        self.append(submission)


def welcomed() -> ClientSession:
    session = ClientSession()
    session.on_welcome(Welcome(1, 0))
    return session


def said(session: ClientSession, kind: type[M]) -> list[M]:
    messages = session.outgoing()
    assert all(type(message) is kind for message in messages), messages
    return [message for message in messages if isinstance(message, kind)]


def outcome(number: int) -> Outcome:
    return Outcome(an_id(number), "succeeded", b"\x01")


def ids_of(submit: Submit) -> list[int]:
    return [int.from_bytes(job.id, "big") for job in submit.jobs]


# -- submitting ---------------------------------------------------------------------------------


def test_nothing_is_said_before_the_welcome() -> None:
    session = ClientSession()
    session.submit(jobs(1), Decisions())
    session.watch([an_id(1)], lambda _: None)
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    assert [type(message) for message in session.outgoing()] == [Submit, Watch]
    assert session.outgoing() == []


def test_everything_of_one_turn_is_one_message_with_shared_terms() -> None:
    session = welcomed()
    equal_to_add = Terms("tasks.add")
    for number, terms in enumerate([ADD, MAIL, ADD, equal_to_add], start=1):
        session.submit(jobs(number, terms=terms), Decisions())
    [submit] = said(session, Submit)
    assert submit.terms == [ADD, MAIL]
    assert [job.terms for job in submit.jobs] == [0, 1, 0, 0]
    assert (submit.first, ids_of(submit), submit.settled) == (0, [1, 2, 3, 4], 0)


def test_sequences_go_on_from_message_to_message() -> None:
    session = welcomed()
    session.submit(jobs(1, 2), Decisions())
    [first] = said(session, Submit)
    session.submit(jobs(3), Decisions())
    [second] = said(session, Submit)
    assert (first.first, second.first) == (0, 2)


def test_a_group_has_one_answer() -> None:
    session = welcomed()
    decided = Decisions()
    group = session.submit(jobs(*range(500)), decided)
    [submit] = said(session, Submit)
    assert not decided
    session.on_message(Confirm(submit.first, 500))
    assert decided == [group]
    assert (group.count, group.undecided, group.verdicts) == (500, 0, [])


def test_a_group_over_several_messages_is_decided_with_the_last() -> None:
    session = welcomed()
    decided = Decisions()
    session.submit(jobs(*range(limits.BATCH_MAX + 3)), decided)
    large, small = said(session, Submit)
    assert (len(large.jobs), len(small.jobs), small.first) == (limits.BATCH_MAX, 3, limits.BATCH_MAX)
    session.on_message(Confirm(small.first, 3))
    assert not decided
    session.on_message(Confirm(large.first, limits.BATCH_MAX))
    assert len(decided) == 1


def test_messages_are_split_by_size() -> None:
    session = welcomed()
    half = bytes(limits.BATCH_BYTES_TARGET // 2)
    session.submit(jobs(1, 2, 3, 4, 5, payload=half), Decisions())
    assert [len(submit.jobs) for submit in said(session, Submit)] == [2, 2, 1]


def test_verdicts_go_to_whom_they_concern() -> None:
    session = welcomed()
    decided = Decisions()
    one = session.submit(jobs(1, 2), decided)
    two = session.submit(jobs(3), decided)
    three = session.submit(jobs(4, 5), decided)
    session.outgoing()
    refused, exists = Verdict(1, "queue_full"), Verdict(3, "exists", id=an_id(9))
    session.on_message(Confirm(0, 5, [refused, exists]))
    assert decided == [one, two, three]
    assert (one.verdicts, two.verdicts, three.verdicts) == ([refused], [], [exists])


def test_a_held_job_is_decided_alone_and_later() -> None:
    session = welcomed()
    decided = Decisions()
    group = session.submit(jobs(1, 2, 3), decided)
    session.outgoing()
    session.on_message(Confirm(0, 3, [Verdict(1, "held")]))
    assert (decided, group.undecided) == ([], 1)
    session.on_message(Confirm(1, 1, [Verdict(1, "queue_full")]))
    assert decided == [group]
    assert group.verdicts == [Verdict(1, "queue_full")]
    assert session.room == limits.UNCONFIRMED_JOBS_MAX


def test_a_held_job_is_said_again_with_its_number() -> None:
    session = welcomed()
    session.submit([*jobs(1), *jobs(2, terms=MAIL)], Decisions())
    session.outgoing()
    session.on_message(Confirm(0, 2, [Verdict(1, "held")]))
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    [again] = said(session, Submit)
    assert (again.first, ids_of(again), again.terms, again.jobs[0].terms) == (1, [2], [MAIL], 0)
    assert again.settled == 1


def test_what_is_not_confirmed_is_said_again_with_the_same_numbers_and_ids() -> None:
    session = welcomed()
    decided = Decisions()
    session.submit(jobs(1, 2), decided)
    first = said(session, Submit)
    session.submit(jobs(3), decided)
    second = said(session, Submit)
    session.on_lost()
    session.submit(jobs(4), decided)
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    again = said(session, Submit)
    assert again[:2] == first + second
    assert (again[2].first, ids_of(again[2])) == (3, [4])
    for submit in again:
        session.on_message(Confirm(submit.first, len(submit.jobs)))
    assert len(decided) == 3


def test_what_is_confirmed_is_not_said_again() -> None:
    session = welcomed()
    session.submit(jobs(1), Decisions())
    session.outgoing()
    session.on_message(Confirm(0, 1))
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert session.outgoing() == []


def test_settled_is_the_lowest_number_not_decided() -> None:
    session = welcomed()
    for number in (1, 2, 3):
        session.submit(jobs(number), Decisions())
        session.outgoing()
    session.on_message(Confirm(0, 1))
    session.on_message(Confirm(2, 1))
    session.submit(jobs(4), Decisions())
    assert [submit.settled for submit in said(session, Submit)] == [1]
    session.on_message(Confirm(1, 1))
    session.on_message(Confirm(3, 1))
    session.submit(jobs(5), Decisions())
    assert [submit.settled for submit in said(session, Submit)] == [4]


@pytest.mark.parametrize("confirm", [Confirm(0, 2), Confirm(7, 1), Confirm(0, 3)])
def test_a_confirm_of_nothing_changes_nothing(confirm: Confirm) -> None:
    session = welcomed()
    decided = Decisions()
    session.submit(jobs(1), decided)
    session.outgoing()
    session.on_message(confirm)
    assert not decided
    session.on_message(Confirm(0, 1))
    session.on_message(Confirm(0, 1))
    assert len(decided) == 1


def test_room_is_taken_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNCONFIRMED_JOBS_MAX", 3)
    session = welcomed()
    calls: list[str] = []
    session.submit(jobs(1, 2, 3), Decisions())
    assert session.room == 0
    session.when_room(lambda: calls.append("room"))
    session.outgoing()
    assert calls == []
    session.on_message(Confirm(0, 3))
    session.on_message(Confirm(0, 3))
    assert (calls, session.room) == (["room"], 3)


def test_no_jobs_are_decided_at_once() -> None:
    session = welcomed()
    decided = Decisions()
    session.submit([], decided)
    assert len(decided) == 1
    assert session.outgoing() == []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["submit", "group", "send", "confirm", "confirm last", "hold", "cut"])))
def test_whatever_happens_each_job_is_decided_once_under_one_number(steps: list[str]) -> None:
    session = ClientSession()
    decided = Decisions()
    submitted: list[Submission] = []
    numbered: dict[int, bytes] = {}  # what a broker has heard, by number
    unanswered: list[Submit] = []
    made = 0

    def confirm(submit: Submit, verdicts: list[Verdict]) -> None:
        session.on_message(Confirm(submit.first, len(submit.jobs), verdicts))

    def send() -> None:
        for submit in said(session, Submit):
            unanswered.append(submit)
            for seq, job in enumerate(submit.jobs, start=submit.first):
                assert numbered.setdefault(seq, job.id) == job.id

    for step in [*steps, "cut", "send"]:
        match step:
            case "submit" | "group":
                count = 1 if step == "submit" else 3
                submitted.append(session.submit(jobs(*range(made, made + count)), decided))
                made += count
            case "send":
                send()
            case "confirm" if unanswered:
                confirm(unanswered.pop(0), [])
            case "confirm last" if unanswered:
                confirm(unanswered.pop(), [])
            case "hold" if unanswered:
                submit = unanswered.pop(0)
                confirm(submit, [Verdict(submit.first, "held")])
            case "cut":
                session.on_lost()
                unanswered.clear()
                session.on_welcome(Welcome(1, 0))
    for submit in unanswered:
        confirm(submit, [])
    assert numbered == {seq: an_id(seq) for seq in range(made)}
    assert sorted(each.first for each in decided) == [each.first for each in submitted]
    assert session.room == limits.UNCONFIRMED_JOBS_MAX


# -- watching -----------------------------------------------------------------------------------


def test_watches_of_one_turn_are_one_message() -> None:
    session = welcomed()
    heard: list[Outcome] = []
    session.watch([an_id(1)], heard.append)
    session.watch([an_id(2), an_id(3)], heard.append)
    assert said(session, Watch) == [Watch([an_id(1), an_id(2), an_id(3)])]
    session.on_message(Outcomes([outcome(3), outcome(1)]))
    assert heard == [outcome(3), outcome(1)]


def test_many_watches_are_split() -> None:
    session = welcomed()
    session.watch([an_id(number) for number in range(limits.BATCH_MAX + 1)], lambda _: None)
    assert [len(watch.ids) for watch in said(session, Watch)] == [limits.BATCH_MAX, 1]


def test_several_wait_for_one_job_and_it_is_watched_once() -> None:
    session = welcomed()
    heard: list[str] = []
    for name in "abc":
        session.watch([an_id(1)], lambda _, name=name: heard.append(name))  # type: ignore[misc]  # mypy infers no default
    assert said(session, Watch) == [Watch([an_id(1)])]
    session.on_message(Outcomes([outcome(1)]))
    session.on_message(Outcomes([outcome(1)]))
    assert heard == ["a", "b", "c"]


def test_only_the_last_to_leave_unwatches() -> None:
    session = welcomed()
    first: list[Outcome] = []
    second: list[Outcome] = []
    hear_first, hear_second = first.append, second.append
    session.watch([an_id(1)], hear_first)
    session.watch([an_id(1)], hear_second)
    session.outgoing()
    session.unwatch([an_id(1)], hear_first)
    assert session.outgoing() == []
    session.unwatch([an_id(1)], hear_second)
    assert said(session, Unwatch) == [Unwatch([an_id(1)])]
    session.on_message(Outcomes([outcome(1)]))
    assert first == second == []


def test_who_has_heard_already_may_leave_while_others_wait() -> None:
    session = welcomed()
    heard: list[str] = []

    def gone(_: Outcome) -> None:
        heard.append("gone")

    session.watch([an_id(1)], gone)
    session.on_message(Outcomes([outcome(1)]))
    for name in "ab":
        session.watch([an_id(1)], lambda _, name=name: heard.append(name))  # type: ignore[misc]  # as above
    session.unwatch([an_id(1)], gone)
    session.unwatch([an_id(2)], gone)
    session.on_message(Outcomes([outcome(1)]))
    assert heard == ["gone", "a", "b"]


def test_a_watch_taken_back_in_the_same_turn_is_never_said() -> None:
    session = welcomed()
    heard: list[Outcome] = []
    hear = heard.append
    session.watch([an_id(1)], hear)
    session.unwatch([an_id(1)], hear)
    assert session.outgoing() == []
    session.watch([an_id(1)], hear)
    session.outgoing()
    session.unwatch([an_id(1)], hear)
    session.watch([an_id(1)], hear)
    assert session.outgoing() == []
    session.on_message(Outcomes([outcome(1)]))
    assert heard == [outcome(1)]


def test_a_watch_after_a_late_outcome_is_said() -> None:
    session = welcomed()
    heard: list[Outcome] = []
    hear = heard.append
    session.watch([an_id(1)], hear)
    session.outgoing()
    session.unwatch([an_id(1)], hear)
    session.on_message(Outcomes([outcome(1)]))  # it crossed our change of mind
    session.watch([an_id(1)], hear)
    assert said(session, Watch) == [Watch([an_id(1)])]


def test_what_is_waited_for_is_watched_again_after_a_reconnect() -> None:
    session = welcomed()
    heard: list[Outcome] = []
    session.watch([an_id(1), an_id(2)], heard.append)
    session.outgoing()
    session.on_message(Outcomes([outcome(1)]))
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert said(session, Watch) == [Watch([an_id(2)])]


def test_submissions_are_said_before_watches() -> None:
    session = welcomed()
    session.watch([an_id(1)], lambda _: None)
    session.submit(jobs(1), Decisions())
    session.status(lambda _: None)
    assert [type(message) for message in session.outgoing()] == [Submit, Watch, Status]


# -- asking -------------------------------------------------------------------------------------


def report(number: int) -> JobReport:
    return JobReport(number, an_id(1), "tasks.add", "default", "ready")


def test_answers_find_who_asked() -> None:
    session = welcomed()
    answers: list[tuple[str, Answer]] = []
    one = session.inspect(an_id(1), lambda answer: answers.append(("one", answer)))
    two = session.cancel([an_id(2)], "enough", lambda answer: answers.append(("two", answer)))
    assert session.outgoing() == [Inspect(one, an_id(1)), Cancel(two, [an_id(2)], "enough")]
    receipts = Receipts(two, [Receipt(an_id(2), "cancelled")])
    session.on_message(receipts)
    session.on_message(report(one))
    session.on_message(report(one))
    assert answers == [("two", receipts), ("one", report(one))]


def test_what_an_older_broker_does_not_know_is_an_answer_too() -> None:
    session = welcomed()
    answers: list[Any] = []
    session.question(lambda number: ListWorkers(number), answers.append)
    session.inspect(an_id(1), lambda answer: pytest.fail(f"that one it knows: {answer}"))
    following = Following(an_id(1), "items")
    session.follow(following)
    session.outgoing()
    session.on_message(Unsupported(int(str(ListWorkers.__struct_config__.tag))))
    assert following.refused is None
    session.on_message(Unsupported(int(str(Follow.__struct_config__.tag))))
    for error in (*answers, following.refused):
        assert isinstance(error, Refused)
        assert error.code == "unsupported"
        assert "upgrade it" in str(error)
    assert len(answers) == 1


def test_a_refusal_is_an_answer() -> None:
    session = welcomed()
    answers: list[Any] = []
    number = session.inspect(an_id(1), answers.append)
    session.outgoing()
    session.on_message(Refusal(number, "not_found", "no such job"))
    [error] = answers
    assert isinstance(error, NotFound)
    assert str(error) == "no such job"


@pytest.mark.parametrize(
    "steering",
    [
        Steering("queue", "x" * 201, "pause"),
        Steering("queue", "mail", "pause", key="k" * 1_000_000),
        Steering("queue", "mail", "concurrency", count=-1),
        Steering("queue", "mail", "concurrency", count=2**31 + 1),
    ],
)
def test_what_no_broker_would_read_is_refused_before_it_is_said(steering: Steering) -> None:
    """Said, it would close the connection, and be said again on the next one, and the next."""
    session = ClientSession()
    with pytest.raises(Refused, match="Steer: Expected"):
        session.question(lambda number: Steer(number, [steering]), print)


def test_questions_are_asked_again_after_a_reconnect() -> None:
    session = welcomed()
    answers: list[Answer] = []
    one = session.inspect(an_id(1), answers.append)
    two = session.status(answers.append)
    session.outgoing()
    session.on_message(report(one))
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert session.outgoing() == [Status(two)]


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_forgotten_question_is_dropped(is_asked: bool) -> None:
    session = welcomed()
    answers: list[Answer] = []
    number = session.inspect(an_id(1), answers.append)
    if is_asked:
        session.outgoing()
    session.forget(number)
    assert session.outgoing() == []
    session.on_message(report(number))
    assert answers == []


def test_it_costs_one_entry_for_a_group() -> None:
    """The promise behind the producer's budget: nothing in the session grows by waiter per job."""
    session = welcomed()
    on_outcome: Callable[[Outcome], None] = lambda _: None  # noqa: E731  # one callback, 500 places
    session.submit(jobs(*range(500)), Decisions())
    session.watch([an_id(number) for number in range(500)], on_outcome)
    [batch] = session._batches.values()
    assert len(batch.shares) == 1
    assert set(session._watchers.values()) == {on_outcome}
