"""One message of every kind with every field set: what the tests of this folder feed to the protocol."""

from typing import Final, get_args

from taskq.protocol import messages as m

ID: Final = bytes(range(16))
OTHER_ID: Final = bytes(range(16, 32))
SESSION: Final = b"s" * 16
NONCE: Final = b"n" * 32
CLUSTER: Final = b"c" * 16
LEASE: Final = (3 << 40) | 17

RETRY: Final = m.RetryTerms(5, 500, 1.5, 60_000, False, 3, False)
MOURN: Final = m.Callback("mail.mourn", "alerts", 1, 5_000, RETRY)
TERMS: Final = m.Terms(
    "mail.send",
    "mail",
    5,
    1_000,
    1_900_000_000_000,
    60_000,
    30_000,
    0,
    m.OS,
    RETRY,
    (("zone", "a"),),
    (("gpu", 1),),
    MOURN,
    MOURN,
    m.COMPRESSED,
)
FAULT: Final = m.Fault("builtins.ValueError", "no such address", "Traceback ...\nValueError")
FILTER: Final = m.Filter(
    ["dead", "ready"], "mail.*", "mail", "ann", 1_000, 60_000, "address", "builtins.ValueError", [ID]
)
SAVED: Final = m.Saved(b"\x05", m.COMPRESSED)
CHUNK: Final = m.Chunk(1, 2, b"\x92\xc4\x01\x01\xc4\x01\x02")
PROGRESS: Final = m.ProgressItem(ID, LEASE, 3, 10, "third page")
SCHEDULE: Final = m.ScheduleSpec(
    "nightly", TERMS, b"\x92\x90\x80", "30 2 * * *", 0, "Europe/Berlin", "all", "queue", 5_000, m.COMPRESSED,
    {"x-a": b"1"},
)  # fmt: skip
REPORT: Final = m.ScheduleReport(
    "nightly", "mail.send", "mail", "30 2 * * *", 0, "Europe/Berlin", "all", "queue", 5_000, "shop.app:q",
    False, True, "month end", 1_900_000_000_000, 1_900_000_000_001, ID, True, [1_900_000_000_002],
    "no such zone",
)  # fmt: skip

SAMPLES: Final[list[m.Message]] = [
    m.Greeting(1, 1, NONCE, CLUSTER, 3, 1, 16_777_216, 1_048_576, 2_000, 5_000, True, ["zstd"]),
    m.Hello(1, SESSION, "worker", "host:123", "shop", ["zstd"], "abcd1234", b"p" * 32),
    m.Welcome(1, 1_900_000_000_000, 7, ["zstd"]),
    m.Goodbye("shutdown", "the broker stops"),
    m.Refusal(9, "not_found", "no such job"),
    m.Ping(1),
    m.Pong(1),
    m.Unsupported(99),
    m.Moved(12, 3, "taskq://10.0.0.2:7700"),
    m.Submit(
        7,
        [TERMS, m.Terms("mail.count")],
        [
            m.JobSpec(ID, 0, b"\x92\x91\x02\x80", m.COMPRESSED, {"key": b"ann"}),
            m.JobSpec(OTHER_ID, 1, b"\x92\x90\x80"),
        ],
        6,
    ),
    m.Confirm(7, 2, [m.Verdict(8, "exists", "the same key is queued", OTHER_ID)]),
    m.Watch([ID, OTHER_ID]),
    m.Unwatch([ID]),
    m.Outcomes(
        [
            m.Outcome(ID, "dead", b"", 0, "failed", FAULT, 5, "out of attempts"),
            m.Outcome(OTHER_ID, "succeeded", b"\x05", m.COMPRESSED, attempts=1),
            m.Outcome(SESSION, "unknown"),
        ]
    ),
    m.Cancel(2, [ID], "not wanted", True),
    m.Receipts(2, [m.Receipt(ID, "cancelled")], 7),
    m.Inspect(3, ID),
    m.JobReport(
        3, ID, "mail.send", "mail", "dead", 4, 2, 1, 5, 11, 12, 13, 14, "host:123", FAULT, "discarded",
        PROGRESS, "it is dead", [m.AttemptReport(1, "crashed", 12, 13, "host:123", "WorkerDied: signal", -9)],
        {"key": b"ann"},
    ),
    m.Status(4),
    m.StatusReport(
        4, "1.0", 1_900_000_000_000, 60_000, 3, "sqlite:taskq.db", 4_096, {"ready": 1},
        [m.QueueReport("mail", 1, 1, 0, 0, 15, 1, 1)],
        [m.WorkerReport(SESSION, "host:123", ["mail"], 100, 1, 20, True)], 2, ["the disk is nearly full"],
    ),
    m.Steer(
        1, [m.Steering("queue", "mail", "pause", "acme", True, False, 3, 1_000, 2, 60_000)], "a deployment"
    ),
    m.Steered(1, 2),
    m.AskSettings(1, "mail"),
    m.Settings(
        1,
        [m.SettingReport("task", "send", "rate", "a", True, 9, 1_000, 3, 7, "why", "who", 5, True)],
    ),
    m.Query(5, FILTER, ID, 50, True),
    m.Page(
        5,
        [
            m.JobLine(
                ID, "mail.send", "mail", "dead", 4, 2, 1, 5, 11, 12, 13, 14, "ann", "host:123", "failed",
                FAULT, "discarded", b"\x92\x91\x02\x80", m.COMPRESSED, {"key": b"ann"},
            ),
            m.JobLine(OTHER_ID, "mail.send", "mail", "ready"),
        ],
        OTHER_ID,
    ),
    m.Tally(6, FILTER),
    m.Counted(6, 3, {"dead": 2, "ready": 1}),
    m.Bulk(7, "cancel", FILTER, "not wanted", True),
    m.BulkReport(7, 3, 2, {"dead": 1}),
    m.GroupDead(8, FILTER),
    m.DeadGroups(8, [m.DeadGroup("mail.send", "ValueError", 2, 11, 14, ID, "no such address")], 1),
    m.Announce(
        {"mail.send": "async"},
        ["mail"],
        {"async": 100},
        {"zone": "a"},
        {"gpu": 2},
        [3],
        True,
        [m.Limit("task", "mail.send", "rate", 10, True, 1_000, 5)],
        {"async": 50},
        "shop.app:q",
        [SCHEDULE],
        "box",
        4_711,
        "1.0",
        1_900_000_000_000,
    ),
    m.Deliver(
        [TERMS], [m.Delivery(ID, LEASE, 2, 0, b"\x92\x91\x02\x80", m.COMPRESSED, {"key": b"ann"}, SAVED)]
    ),
    m.Ack(1, [m.Success(ID, LEASE, b"\x05", m.COMPRESSED)]),
    m.Nack(2, [m.Failure(ID, LEASE, "failed", FAULT, True, 1_000, "ann", 2_000, -11)]),
    m.Acked(2, [m.Reported(LEASE, "duplicate")]),
    m.Revoke([m.Stop(ID, LEASE, "cancelled by ann")]),
    m.Extend([m.Extension(ID, LEASE, 60_000)]),
    m.Progress([PROGRESS]),
    m.Resume([m.Held(ID, LEASE)], False),
    m.Resumed([m.Stop(ID, LEASE, "given to another worker")]),
    m.Drain(),
    m.Items([m.Told(ID, LEASE, [CHUNK])]),
    m.Logs([m.Told(ID, LEASE, [CHUNK])]),
    m.Took([m.Mark(LEASE, 3, 7)]),
    m.Recall([m.Held(ID, LEASE)]),
    m.Checkpoint(1, [m.CheckpointItem(ID, LEASE, SAVED)]),
    m.Checkpointed(1, [m.Unsaved(LEASE, "stale")]),
    m.AckAndSubmit(
        3, m.Success(ID, LEASE, b"\x05", m.COMPRESSED), [TERMS], [m.JobSpec(OTHER_ID, 0, b"\x92\x90\x80")]
    ),
    m.Vouch([SESSION]),
    m.Exited([m.ChildExit(SESSION, -9, "killed", [7, 9], True)]),
    m.SetSchedule(5, SCHEDULE),
    m.PauseSchedule(6, "nightly", "month end"),
    m.ResumeSchedule(7, "nightly"),
    m.DropSchedule(8, "nightly"),
    m.RunSchedule(9, "nightly", ID),
    m.ListSchedules(10, "nightly", "m", 5),
    m.ScheduleList(10, [REPORT], True),
    m.Edit(5, ID, "mail", 3, 1_000, 1_900_000_000_000, 60_000, b"\x92\x91\x02\x80", m.COMPRESSED),
    m.Edited(5, ID, "scheduled", 1_900_000_000_000),
    m.Bound(6, "mail", 1_000, 1_000_000, "wait"),
    m.Bounded(6, "mail", 1_000, 1_000_000, "wait", 10, 1_000, 2),
    m.Follow(7, ID, "items", LEASE, 3, 2, False),
    m.Unfollow([7]),
    m.Fed(7, LEASE, 2, [CHUNK], 3, True),
    m.Taken([m.Mark(LEASE, 3, 7)]),
    m.Instruction(8, "stack", [SESSION], LEASE, "it is slow", True),
    m.Obeyed(8, [m.WorkerText(SESSION, "Thread loop:")], "not_found", "no such job"),
    m.Undrain(),
    m.ListWorkers(11, "host:123", SESSION),
    m.WorkerList(
        11,
        [
            m.WorkerDetail(
                SESSION, "host:123", "drained", CLUSTER[:16], "host", 4_711, "1.0", 1_900_000_000_000, 20,
                ["mail"], {"async": 100}, 1, {"zone": "a"}, {"gpu": 2}, {"mail.send": "async"},
                [m.RunningJob(ID, "mail.send", "mail", 2, 1_900_000_000_000, PROGRESS)],
            )
        ],
        True,
    ),
    m.Instruct(12, "drain", "host:123", "a new kernel"),
    m.Instructed(12, "host:123", [SESSION], [m.WorkerText(SESSION, "Thread loop:")]),
]  # fmt: skip

TO_BROKER: Final = [message for message in SAMPLES if isinstance(message, get_args(m.ToBroker))]
FROM_BROKER: Final = [message for message in SAMPLES if isinstance(message, get_args(m.FromBroker))]
KINDS: Final[set[type[m.Message]]] = set(m.Message.__subclasses__())
