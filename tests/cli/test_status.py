"""What `taskq status` makes of the broker's report."""

import json

import msgspec
import pytest

from taskq.cli import output, status
from taskq.protocol.messages import QueueReport, StatusReport, WorkerReport


@pytest.fixture
def report() -> StatusReport:
    return StatusReport(
        request=1,
        version="0.3.0",
        wall_ms=1_900_000_000_000,
        uptime_ms=273_600_000,
        epoch=3,
        journal="sqlite:taskq.db",
        journal_bytes=1_200_000_000,
        counts={"outcomes": 40, "submitted_total": 5000, "failed_attempts_total": 3},
        queues=[
            QueueReport("default", ready=912, running=64, scheduled=300, dead=0, oldest_ms=1_100, workers=4),
            QueueReport("reports", ready=3, running=0, scheduled=0, dead=2, oldest_ms=75_000, workers=0),
        ],
        workers=[
            WorkerReport(b"\1" * 16, "web-1", ["default", "mail"], 128, 96, beat_ms=400, connected=True),
            WorkerReport(b"\2" * 16, "", ["default"], 32, 0, beat_ms=9_000, connected=False),
        ],
        connections=7,
    )


def test_the_headline_has_the_broker_and_its_counts(report: StatusReport) -> None:
    first, second, third = status.headline("taskq://10.0.0.5:7700", report)
    assert first == (
        "broker  taskq://10.0.0.5:7700  v0.3.0  up 3d 4h  journal sqlite:taskq.db 1.2 GB  7 connections  OK"
    )
    assert second.split() == ["ready", "915", "running", "64/128", "scheduled", "300", "dead", "2"]
    assert third.strip() == "since start: submitted 5,000   failed attempts 3"


def test_warnings_are_counted_and_told(report: StatusReport) -> None:
    report = msgspec.structs.replace(report, warnings=["disk nearly full"])
    assert status.headline("taskq://x:1", report)[0].endswith("warnings: 1")
    assert "disk nearly full" in status.remarks(report)


def test_each_queue_and_worker_has_a_row(report: StatusReport) -> None:
    assert status.queue_rows(report) == [
        ["default", "912", "64", "300", "0", "1.1 s", "4"],
        ["reports", "3", "0", "0", "2", "1m 15s", "0"],
    ]
    assert status.worker_rows(report) == [
        ["web-1", "default,mail", "96/128", "400 ms ago"],
        ["02020202", "default", "0/32", "gone"],
    ]


def test_jobs_that_nobody_takes_are_pointed_out(report: StatusReport) -> None:
    (remark,) = status.remarks(report)
    assert "reports" in remark
    assert "taskq worker" in remark


def test_json_is_the_whole_report_under_its_own_names(
    report: StatusReport, capsys: pytest.CaptureFixture[str]
) -> None:
    output.json_line(status.as_object("taskq://10.0.0.5:7700", report))
    found = json.loads(capsys.readouterr().out)
    assert found["address"] == "taskq://10.0.0.5:7700"
    assert found["counts"] == report.counts
    assert found["queues"][1]["oldest_ms"] == 75_000
    assert found["workers"][0]["session"] == "01" * 16
    assert set(found) == {"address", *StatusReport.__struct_fields__} - {"request"}


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.5 s"),
        (61_000, "1m 1s"),
        (3_660_000, "1h 1m"),
        (90_000_000, "1d 1h"),
    ],
)
def test_durations_for_people(ms: int, text: str) -> None:
    assert status.ago(ms) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (64 * 10**6, "64.0 MB")]
)
def test_sizes_for_people(number: int, text: str) -> None:
    assert status.size(number) == text
