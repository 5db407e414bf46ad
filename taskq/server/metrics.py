"""The broker's numbers in Prometheus' text format (version 0.0.4), written by hand: it is a dozen lines."""

from taskq.protocol.messages import StatusReport

_HELP = {
    "jobs": "Jobs without an outcome.",
    "outcomes": "Outcomes kept.",
    "outcome_bytes": "Memory that outcomes take, against the budget.",
    "sessions": "Producer sessions remembered.",
    "watched": "Jobs whose outcome somebody waits for.",
    "timers": "Timers set.",
    "peers": "Connections that said hello.",
    "workers": "Worker sessions.",
    "schedules": "Schedules.",
    "submitted_total": "Jobs accepted.",
    "ticked_total": "Jobs made by schedules.",
    "delivered_total": "Attempts given to workers.",
    "redelivered_total": "Attempts that were not a job's first.",
    "succeeded_total": "Jobs that succeeded.",
    "dead_total": "Jobs that died.",
    "cancelled_total": "Jobs that were cancelled.",
    "expired_total": "Jobs that expired while they waited.",
    "failed_attempts_total": "Attempts that failed or timed out.",
    "crashed_attempts_total": "Attempts whose worker died.",
    "callbacks_total": "Jobs that the broker submitted itself, after failures and deaths.",
    "checkpoints_total": "Checkpoints recorded.",
    "outboxes_refused_total": "Attempts that failed because a job of their outbox was refused.",
    "loop_late_ms": "How late the newest turn began, in ms.",
    "commits_total": "Commits.",
    "journal_bytes": "Bytes in the journal.",
    "uptime_seconds": "Since the start.",
}
_BY_QUEUE = {
    "ready": "Jobs waiting for a worker.",
    "running": "Jobs running.",
    "scheduled": "Jobs waiting for a time.",
    "dead": "Dead jobs kept.",
    "oldest_ms": "Age of the job that has waited longest, in ms.",
    "workers": "Workers that serve the queue.",
    "startable": "Jobs ready that wait for nothing but a slot: no pause, no limit holds them up.",
}
_DESIRED = "Slots in use if there were enough: jobs that run, and those that wait for nothing but a slot."


def metrics_text(status: StatusReport, extra: dict[str, float]) -> str:
    """The page at /metrics."""
    lines: list[str] = []
    values: dict[str, float] = {
        **status.counts,
        **extra,
        "journal_bytes": status.journal_bytes,
        "uptime_seconds": status.uptime_ms / 1000,
    }
    for name, value in values.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [
            f"# HELP taskq_{name} {_HELP.get(name, name)}",
            f"# TYPE taskq_{name} {kind}",
            f"taskq_{name} {value:g}" if isinstance(value, float) else f"taskq_{name} {value}",
        ]
    for name, text in _BY_QUEUE.items():
        lines += [f"# HELP taskq_queue_{name} {text}", f"# TYPE taskq_queue_{name} gauge"]
        lines += [
            f'taskq_queue_{name}{{queue="{_escape(queue.name)}"}} {getattr(queue, name)}'
            for queue in status.queues
        ]
    # Not taskq_queue_*: this one is for autoscalers, who read it by its own name.
    lines += [f"# HELP taskq_desired_slots {_DESIRED}", "# TYPE taskq_desired_slots gauge"]
    lines += [
        f'taskq_desired_slots{{queue="{_escape(queue.name)}"}} {queue.running + queue.startable}'
        for queue in status.queues
    ]
    return "\n".join(lines) + "\n"


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
