"""A scraper can read the page, whatever queues are called."""

import re

from taskq.protocol.messages import QueueReport, StatusReport
from taskq.server.metrics import metrics_text

SAMPLE = re.compile(
    r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{queue=\"(?P<queue>(?:[^\"\\\n]|\\[\\n\"])*)\"\})? (?P<value>\S+)$"
)


def parse(text: str) -> dict[tuple[str, str], float]:
    """Prometheus' text format, strictly: each family has its HELP and TYPE, once and before its samples."""
    samples: dict[tuple[str, str], float] = {}
    helped, typed = set[str](), dict[str, str]()
    assert text.endswith("\n")
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helped
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped
            assert kind == ("counter" if name.endswith("_total") else "gauge")
            typed[name] = kind
        else:
            found = SAMPLE.match(line)
            assert found, line
            assert found["name"] in typed
            key = (found["name"], found["queue"] or "")
            assert key not in samples
            samples[key] = float(found["value"])
    return samples


def a_status(*queues: QueueReport, **counts: int) -> StatusReport:
    return StatusReport(
        request=0,
        version="1",
        wall_ms=0,
        uptime_ms=1_500,
        epoch=1,
        journal="memory:",
        journal_bytes=10**15,
        counts=counts,
        queues=list(queues),
        workers=[],
    )


def test_counts_and_gauges_are_read_back() -> None:
    samples = parse(metrics_text(a_status(jobs=3, submitted_total=10**12), {"commits_total": 7}))
    assert samples["taskq_jobs", ""] == 3
    assert samples["taskq_submitted_total", ""] == 10**12
    assert samples["taskq_commits_total", ""] == 7
    assert samples["taskq_uptime_seconds", ""] == 1.5
    assert samples["taskq_journal_bytes", ""] == 10**15


def test_queues_are_labels_and_may_be_called_anything() -> None:
    queue = QueueReport("default", 1, 2, 3, 4, 5, 6)
    nasty = QueueReport('a"b\\c\nd{}# ', 7, 0, 0, 0, 0, 0)
    samples = parse(metrics_text(a_status(queue, nasty), {}))
    assert samples["taskq_queue_ready", "default"] == 1
    assert samples["taskq_queue_workers", "default"] == 6
    assert samples["taskq_queue_ready", 'a\\"b\\\\c\\nd{}# '] == 7


def test_how_many_slots_there_should_be_is_what_runs_and_what_waits_for_nothing_else() -> None:
    queue = QueueReport("mail", 10, 3, 0, 0, 0, 1, startable=4)
    samples = parse(metrics_text(a_status(queue), {}))
    assert samples["taskq_desired_slots", "mail"] == 7
    assert samples["taskq_queue_startable", "mail"] == 4
