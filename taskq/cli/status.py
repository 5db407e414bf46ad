"""`taskq status`: one screenful of how the broker is."""

from typing import TYPE_CHECKING, Any, Final

import click

from taskq.cli import output
from taskq.cli.found import url_option

if TYPE_CHECKING:
    from taskq.protocol.messages import StatusReport

EXAMPLES: Final = """\b
Examples:
  taskq status
  taskq status --url taskq://10.0.0.5:7700
  taskq status --json | jq .counts.ready
"""


@click.command(epilog=EXAMPLES)
@url_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every number as it is.")
def command(url: str | None, as_json: bool) -> None:
    """Show the broker, its queues and its workers."""
    import asyncio

    from taskq.cli.question import ask
    from taskq.protocol.messages import Status, StatusReport

    answer = asyncio.run(ask(url, Status(request=1), StatusReport))
    if as_json:
        output.json_line(as_object(answer.address, answer.message))
        return
    for line in headline(answer.address, answer.message):
        output.data(line)
    if answer.message.queues:
        output.data("")
        output.table(
            ["QUEUE", "READY", "RUN", "SCHED", "DEAD", "OLDEST", "WORKERS"], queue_rows(answer.message)
        )
    if answer.message.workers:
        output.data("")
        output.table(["WORKER", "QUEUES", "SLOTS", "BEAT"], worker_rows(answer.message), left=2)
    for line in remarks(answer.message):
        output.data(line)


def as_object(address: str, report: "StatusReport") -> dict[str, Any]:
    """The documented shape of `--json`: the report's own names, session ids as hex."""
    from msgspec.structs import asdict

    found = asdict(report)
    del found["request"]
    found["queues"] = [asdict(queue) for queue in report.queues]
    found["workers"] = [{**asdict(worker), "session": worker.session.hex()} for worker in report.workers]
    return {"address": address, **found}


def headline(address: str, report: "StatusReport") -> list[str]:
    """The lines on the broker itself: who it is, what it holds, what it has done since it started."""
    slots = sum(worker.slots for worker in report.workers if worker.connected)
    ready, running, scheduled, dead = (
        sum(numbers)
        for numbers in zip(
            (0, 0, 0, 0),
            *((queue.ready, queue.running, queue.scheduled, queue.dead) for queue in report.queues),
            strict=True,
        )
    )
    state = f"warnings: {len(report.warnings)}" if report.warnings else "OK"
    totals = {
        name.removesuffix("_total"): number for name, number in report.counts.items() if "_total" in name
    }
    return [
        f"broker  {address}  v{report.version}  up {ago(report.uptime_ms)}  "
        f"journal {report.journal} {size(report.journal_bytes)}  {report.connections:,} connections  {state}",
        f"        ready {ready:,}   running {running:,}/{slots:,}   scheduled {scheduled:,}   dead {dead:,}",
        "        since start: "
        + "   ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in totals.items()),
    ]


def queue_rows(report: "StatusReport") -> list[list[str]]:
    return [
        [
            queue.name,
            *(f"{number:,}" for number in (queue.ready, queue.running, queue.scheduled, queue.dead)),
            ago(queue.oldest_ms) if queue.ready else "-",
            f"{queue.workers:,}",
        ]
        for queue in report.queues
    ]


def worker_rows(report: "StatusReport") -> list[list[str]]:
    return [
        [
            worker.name or worker.session.hex()[:8],
            ",".join(worker.queues),
            f"{worker.running:,}/{worker.slots:,}",
            f"{ago(worker.beat_ms)} ago" if worker.connected else "gone",
        ]
        for worker in report.workers
    ]


def remarks(report: "StatusReport") -> list[str]:
    """What wants to be seen to: the broker's own warnings, work that nobody takes."""
    waiting = [queue.name for queue in report.queues if queue.ready and not queue.workers]
    idle = (
        [f"no worker takes from: {', '.join(waiting)}; start one with: taskq worker APP"] if waiting else []
    )
    return [*report.warnings, *idle]


def ago(ms: int) -> str:
    """A duration for people: its two largest units."""
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    minutes = ms // 60_000
    if minutes < 60:
        return f"{minutes}m {ms // 1000 % 60}s"
    hours = minutes // 60
    return f"{hours}h {minutes % 60}m" if hours < 24 else f"{hours // 24}d {hours % 24}h"


def size(number: int) -> str:
    """Bytes for people."""
    for unit, power in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= power:
            return f"{number / power:.1f} {unit}"
    return f"{number} B"
