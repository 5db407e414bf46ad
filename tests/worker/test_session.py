"""What a worker's session holds, says, and says again."""

import pytest

from taskq.client.session import NewJob
from taskq.limits import BATCH_BYTES_TARGET, BATCH_MAX, PAYLOAD_BYTES_MAX
from taskq.protocol.messages import (
    Ack,
    AckAndSubmit,
    Acked,
    Announce,
    Checkpoint,
    Checkpointed,
    CheckpointItem,
    Deliver,
    Delivery,
    Drain,
    Extend,
    Failure,
    Fault,
    Held,
    Items,
    JobSpec,
    Message,
    Nack,
    Progress,
    ProgressItem,
    Recall,
    Resume,
    Resumed,
    Revoke,
    Saved,
    ScheduleSpec,
    Stop,
    Success,
    Terms,
    Undrain,
    Welcome,
)
from taskq.worker.session import Start, WorkerSession

TERMS = Terms("add")


def job_id(lease: int) -> bytes:
    return lease.to_bytes(16, "big")


def a_session() -> WorkerSession:
    return WorkerSession(Announce({"add": "async"}, ["default"], {"async": 10}))


def welcomed() -> WorkerSession:
    session = a_session()
    session.on_welcome(Welcome(1, 0))
    session.outgoing()
    return session


def deliver(session: WorkerSession, *leases: int) -> None:
    session.on_message(Deliver([TERMS], [Delivery(job_id(n), n, 1, 0, b"") for n in leases]))


def succeed(session: WorkerSession, *leases: int, result: bytes = b"r") -> None:
    for lease in leases:
        session.succeed(job_id(lease), lease, result)


def fail(session: WorkerSession, *leases: int, fault: Fault | None = None) -> None:
    for lease in leases:
        session.fail(Failure(job_id(lease), lease, "failed", fault))


def leases(message: Message) -> list[int]:
    assert isinstance(message, Ack | Nack | Resume)
    return [item.lease for item in message.items]


def test_the_first_words_are_who_it_is_and_that_it_holds_nothing() -> None:
    session = a_session()
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    assert session.outgoing() == [
        Announce({"add": "async"}, ["default"], {"async": 10}),
        Resume([], last=True),
    ]
    assert session.outgoing() == []


def test_a_delivery_is_handed_out_once_with_its_terms() -> None:
    session = welcomed()
    deliver(session, 1, 2)
    deliver(session, 2, 3)
    starts = session.take_events()
    assert [start.delivery.lease for start in starts if isinstance(start, Start)] == [1, 2, 3]
    assert all(isinstance(start, Start) and start.terms == TERMS for start in starts)
    assert session.take_events() == []
    assert session.held == [Held(job_id(n), n) for n in (1, 2, 3)]


def test_a_delivery_of_what_is_finished_but_not_recorded_is_ignored() -> None:
    session = welcomed()
    deliver(session, 1)
    session.take_events()
    succeed(session, 1)
    deliver(session, 1)
    assert session.take_events() == []


def test_reports_of_one_turn_go_in_one_ack_and_one_nack_with_rising_seq() -> None:
    session = welcomed()
    deliver(session, 1, 2, 3, 4)
    succeed(session, 1, 3)
    fail(session, 2)
    ack, nack = session.outgoing()
    assert isinstance(ack, Ack) and (ack.seq, leases(ack)) == (1, [1, 3])
    assert isinstance(nack, Nack) and (nack.seq, leases(nack)) == (2, [2])
    fail(session, 4)
    (later,) = session.outgoing()
    assert isinstance(later, Nack) and later.seq == 3
    assert session.outgoing() == []


def test_what_is_reported_is_held_until_the_broker_has_recorded_it() -> None:
    session = welcomed()
    deliver(session, 1, 2)
    succeed(session, 1)
    session.outgoing()
    fail(session, 2)
    session.outgoing()
    assert len(session.held) == 2
    session.on_message(Acked(1))
    assert session.held == [Held(job_id(2), 2)]
    session.on_message(Acked(2))
    assert session.idle and session.held == []


def test_an_attempt_cannot_be_reported_twice() -> None:
    session = welcomed()
    deliver(session, 1)
    succeed(session, 1)
    with pytest.raises(KeyError):
        fail(session, 1)


def test_after_a_reconnect_it_resumes_and_repeats_reports_under_their_old_seq() -> None:
    session = welcomed()
    deliver(session, 1, 2, 3, 4)
    succeed(session, 1)
    fail(session, 2)
    said = session.outgoing()
    session.on_lost()
    succeed(session, 3)
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    announce, resume, *rest = session.outgoing()
    assert isinstance(announce, Announce)
    assert isinstance(resume, Resume) and resume.last
    assert sorted(leases(resume)) == [1, 2, 3, 4]
    assert rest[:2] == said
    assert isinstance(rest[2], Ack) and (rest[2].seq, leases(rest[2])) == (3, [3])
    session.on_message(Acked(3))
    assert session.held == [Held(job_id(4), 4)]


def test_a_connection_lost_before_anything_was_said_repeats_it_all_once() -> None:
    session = a_session()
    session.on_welcome(Welcome(1, 0))
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert [type(message) for message in session.outgoing()] == [Announce, Resume]


def test_a_long_resume_comes_in_parts_and_only_the_final_one_says_so() -> None:
    session = welcomed()
    for first in range(1, 2 * BATCH_MAX, BATCH_MAX):
        deliver(session, *range(first, first + BATCH_MAX))
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    _, *parts = session.outgoing()
    assert [(len(leases(part)), isinstance(part, Resume) and part.last) for part in parts] == [
        (BATCH_MAX, False),
        (BATCH_MAX, True),
    ]


def test_what_the_broker_no_longer_grants_is_stopped_and_still_answered() -> None:
    session = welcomed()
    deliver(session, 1, 2, 3)
    session.take_events()
    succeed(session, 3)
    stops = [Stop(job_id(1), 1, "lost"), Stop(job_id(3), 3, "lost"), Stop(job_id(9), 9, "never had it")]
    session.on_message(Resumed(stops))
    assert session.take_events() == stops[:1]
    session.on_message(Revoke([Stop(job_id(2), 2, "cancelled")]))
    assert session.take_events() == [Stop(job_id(2), 2, "cancelled")]
    assert sorted(held.lease for held in session.held) == [1, 2, 3]


def test_reports_are_split_by_count() -> None:
    session = welcomed()
    for first in (1, 1 + BATCH_MAX):
        deliver(session, *range(first, first + BATCH_MAX))
    succeed(session, *range(1, 2 * BATCH_MAX + 1))
    parts = session.outgoing()
    assert [len(leases(part)) for part in parts] == [BATCH_MAX, BATCH_MAX]
    assert [part.seq for part in parts if isinstance(part, Ack)] == [1, 2]
    session.on_message(Acked(2))
    assert session.idle


@pytest.mark.parametrize("kind", [Ack, Nack])
def test_reports_are_split_by_bytes(kind: type[Message]) -> None:
    session = welcomed()
    deliver(session, 1, 2, 3)
    if kind is Ack:
        succeed(session, 1, 2, 3, result=b"x" * (BATCH_BYTES_TARGET // 2))
        assert [leases(part) for part in session.outgoing()] == [[1, 2], [3]]
        return
    for lease in (1, 2, 3):
        fail(session, lease, fault=Fault("E", "m", "t" * (BATCH_BYTES_TARGET // 2)))
    assert [leases(part) for part in session.outgoing()] == [[1], [2], [3]]


def test_a_result_that_is_too_large_is_a_final_failure_that_says_so() -> None:
    session = welcomed()
    deliver(session, 1, 2)
    succeed(session, 1, result=b"x" * PAYLOAD_BYTES_MAX)
    succeed(session, 2, result=b"x" * (PAYLOAD_BYTES_MAX + 1))
    ack, nack = session.outgoing()
    assert leases(ack) == [1]
    assert isinstance(nack, Nack)
    (failure,) = nack.items
    assert failure.lease == 2 and failure.ending == "failed" and failure.final
    assert failure.fault is not None and str(PAYLOAD_BYTES_MAX + 1) in failure.fault.message


def test_draining_is_said_now_and_after_each_reconnect_once() -> None:
    session = welcomed()
    session.drain()
    session.drain()
    assert session.outgoing() == [Drain()]
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert [type(message) for message in session.outgoing()] == [Announce, Drain, Resume]


def test_draining_while_disconnected_is_said_at_the_welcome() -> None:
    session = a_session()
    session.drain()
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    assert [type(message) for message in session.outgoing()] == [Announce, Drain, Resume]


def test_a_new_size_is_announced_before_the_reports_and_after_reconnects() -> None:
    session = welcomed()
    deliver(session, 1)
    succeed(session, 1)
    session.resize("async", 9)
    announce, ack = session.outgoing()
    assert isinstance(announce, Announce) and announce.slots == {"async": 9}
    assert isinstance(ack, Ack)
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    again = session.outgoing()[0]
    assert isinstance(again, Announce) and again.slots == {"async": 9}


def test_schedules_are_said_with_each_connection_and_not_with_each_word() -> None:
    spec = ScheduleSpec("nightly", Terms("add"), b"", cron="@daily")
    announce = Announce({"add": "async"}, ["default"], {"async": 10}, app="shop", schedules=[spec])
    session = WorkerSession(announce)
    for _ in range(2):
        session.on_welcome(Welcome(1, 0))
        announce = session.outgoing()[0]
        assert isinstance(announce, Announce) and (announce.app, announce.schedules) == ("shop", [spec])
        session.resize("async", 9)
        (resized,) = session.outgoing()
        assert isinstance(resized, Announce) and resized.schedules is None
        session.on_lost()


def test_only_the_latest_progress_of_a_running_attempt_is_said() -> None:
    session = welcomed()
    deliver(session, 1)
    for done in (1, 2):
        session.progress(ProgressItem(job_id(1), 1, done, 2))
    session.progress(ProgressItem(job_id(7), 7, 1))
    assert session.outgoing() == [Progress([ProgressItem(job_id(1), 1, 2, 2)])]


def test_an_extension_is_said_again_after_a_reconnect_while_the_attempt_runs() -> None:
    session = welcomed()
    deliver(session, 1, 2)
    for lease in (1, 2, 7):
        session.extend(job_id(lease), lease, 5_000)
    (extend,) = session.outgoing()
    assert isinstance(extend, Extend) and [item.lease for item in extend.items] == [1, 2]
    succeed(session, 1)
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    again = [message for message in session.outgoing() if isinstance(message, Extend)]
    assert [[item.lease for item in message.items] for message in again] == [[2]]


# -- more than there are slots ------------------------------------------------------------------------


def recall(session: WorkerSession, *leases: int) -> None:
    session.on_message(Recall([Held(job_id(n), n) for n in leases]))


def test_extra_room_is_announced_beside_the_slots() -> None:
    session = welcomed()
    session.resize("async", 10, 5)
    assert session.outgoing() == [
        Announce({"add": "async"}, ["default"], {"async": 15}, extra={"async": 5}),
    ]
    session.resize("async", 9)
    assert session.outgoing() == [
        Announce({"add": "async"}, ["default"], {"async": 9}, extra={"async": 0}),
    ]


def test_a_recall_is_answered_before_what_is_handed_back() -> None:
    """What is handed back must find that there is no extra room any more."""
    session = welcomed()
    session.resize("async", 10, 5)
    deliver(session, 1, 2, 3)
    session.take_events()
    session.outgoing()
    recall(session, 3, 2)
    assert session.take_events() == [Recall([Held(job_id(3), 3), Held(job_id(2), 2)])]
    session.fail(Failure(job_id(3), 3, "returned"))
    announce, nack = session.outgoing()
    assert announce == Announce({"add": "async"}, ["default"], {"async": 10}, extra={"async": 0})
    assert leases(nack) == [3]


def test_a_recall_of_what_is_reported_is_answered_too() -> None:
    session = welcomed()
    deliver(session, 1)
    session.take_events()
    succeed(session, 1)
    recall(session, 1, 99)
    assert session.take_events() == [Recall([])]
    assert [type(message) for message in session.outgoing()] == [Announce, Ack]


def test_after_a_recall_it_reconnects_without_extra_room() -> None:
    session = welcomed()
    session.resize("async", 10, 5)
    recall(session)
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    announce = session.outgoing()[0]
    assert isinstance(announce, Announce)
    assert (announce.slots, announce.extra) == ({"async": 10}, {"async": 0})


# -- checkpoints, and what comes of a success ---------------------------------------------------------

OTHER = Terms("other", delay_ms=5)
JOBS: list[NewJob] = [(b"a" * 16, TERMS, b"1", None, 0), (b"b" * 16, OTHER, b"2", {"key": b"k"}, 1)]
JOBS += [(b"c" * 16, TERMS, b"3", None, 0)]


def checkpoint(session: WorkerSession, lease: int, value: bytes = b"x") -> None:
    session.checkpoint(CheckpointItem(job_id(lease), lease, Saved(value)))


def test_a_checkpoint_is_said_before_the_report_after_it() -> None:
    session = welcomed()
    deliver(session, 1, 2)
    checkpoint(session, 1, b"one")
    session.outgoing()
    checkpoint(session, 1, b"two")
    checkpoint(session, 2)
    assert session.outgoing() == []
    succeed(session, 2)
    (ack,) = session.outgoing()
    assert isinstance(ack, Ack)
    fail(session, 1)
    said, nack = session.outgoing()
    assert isinstance(said, Checkpoint) and said.items[0].saved.value == b"two"
    assert isinstance(nack, Nack)


def test_after_a_reconnect_it_is_said_behind_resume_and_before_the_reports() -> None:
    session = welcomed()
    deliver(session, 1)
    checkpoint(session, 1)
    fail(session, 1)
    session.outgoing()
    session.on_lost()
    assert session.outgoing() == []
    session.on_welcome(Welcome(1, 0))
    kinds = [type(message) for message in session.outgoing()]
    assert kinds == [Announce, Resume, Checkpoint, Nack]
    session.on_message(Checkpointed(2))
    session.on_message(Acked(1))
    session.on_welcome(Welcome(1, 0))
    assert [type(message) for message in session.outgoing()] == [Announce, Resume]


def test_what_an_attempt_says_after_its_end_is_not_heard() -> None:
    session = welcomed()
    deliver(session, 1)
    succeed(session, 1)
    session.outgoing()
    codes: list[str] = []
    checkpoint(session, 1)
    session.enclose(1, JOBS)
    session.when_saved(1, codes.append)
    assert (session.outgoing(), codes) == ([], ["over"])


def test_a_success_brings_the_jobs_of_all_its_blocks() -> None:
    session = welcomed()
    deliver(session, 1, 2)
    session.enclose(1, JOBS[:2])
    session.enclose(1, JOBS[2:])
    succeed(session, 1, 2)
    ack, report = session.outgoing()
    assert isinstance(ack, Ack) and leases(ack) == [2]
    specs = [
        JobSpec(b"a" * 16, 0, b"1"),
        JobSpec(b"b" * 16, 1, b"2", 1, {"key": b"k"}),
        JobSpec(b"c" * 16, 0, b"3"),
    ]
    assert report == AckAndSubmit(2, Success(job_id(1), 1, b"r"), [TERMS, OTHER], specs)
    assert session.held == [Held(job_id(n), n) for n in (1, 2)]
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert session.outgoing()[2:] == [ack, report]
    session.on_message(Acked(2))
    assert session.idle


def test_before_such_a_success_its_checkpoint_is_said() -> None:
    """It may be refused, and there is another attempt then."""
    session = welcomed()
    deliver(session, 1)
    checkpoint(session, 1)
    session.enclose(1, JOBS)
    succeed(session, 1)
    assert [type(message) for message in session.outgoing()] == [Checkpoint, AckAndSubmit]


@pytest.mark.parametrize("how", ["fails", "is too large"])
def test_without_a_success_no_jobs_are_said(how: str) -> None:
    session = welcomed()
    deliver(session, 1)
    session.enclose(1, JOBS)
    if how == "fails":
        fail(session, 1)
    else:
        succeed(session, 1, result=bytes(PAYLOAD_BYTES_MAX + 1))
    assert [type(message) for message in session.outgoing()] == [Nack]


def test_nothing_is_left_of_attempts_that_said_much() -> None:
    session = welcomed()
    deliver(session, *range(1, 101))
    for lease in range(1, 101):
        session.extend(job_id(lease), lease, 1_000)
        checkpoint(session, lease)
        session.enclose(lease, JOBS)
    for lease in range(1, 101, 2):
        succeed(session, lease)
        fail(session, lease + 1)
    reports = [message for message in session.outgoing() if isinstance(message, Nack | AckAndSubmit)]
    session.on_message(Checkpointed(1))
    session.on_message(Acked(reports[-1].seq))
    assert session.idle
    assert not session._talkers and not session._enclosed and not session._extended
    kept = vars(session._checkpoints)
    assert not any(value for value in kept.values() if isinstance(value, dict))


def test_a_held_worker_takes_nothing_until_it_is_released() -> None:
    session = welcomed()
    session.hold()
    session.hold()
    assert session.draining
    assert session.outgoing() == [Drain()]
    session.release()
    assert not session.draining
    assert session.outgoing() == [Undrain()]


def test_who_is_held_says_so_again_over_each_connection() -> None:
    session = welcomed()
    session.hold()
    session.on_lost()
    session.on_welcome(Welcome(1, 0))
    assert Drain() in session.outgoing()
    session.on_lost()
    session.release()
    session.on_welcome(Welcome(1, 0))
    assert not [said for said in session.outgoing() if isinstance(said, Drain | Undrain)]


def test_who_drains_for_good_is_not_released() -> None:
    session = welcomed()
    session.hold()
    session.drain()
    session.release()
    assert session.draining
    assert session.outgoing() == [Drain()]


def test_what_was_yielded_is_said_again_before_its_report() -> None:
    session = welcomed()
    deliver(session, 1)
    stream = session.outflow.open(job_id(1), 1)
    stream.put(b"x")
    session.outflow.is_due(stream)
    succeed(session, 1)
    kinds: list[list[type]] = []
    for _ in range(3):
        kinds.append([type(each) for each in session.outgoing()])
        assert session.outgoing() == []
        session.on_lost()
        session.on_welcome(Welcome(1, 0))
    again: list[type] = [Announce, Resume, Items, Ack]
    assert kinds == [[Items, Ack], again, again]
