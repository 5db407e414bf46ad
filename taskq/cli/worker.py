"""`taskq worker`: runs the tasks of an application."""

from typing import Final

import click

from taskq import limits
from taskq.cli.main import Talk
from taskq.cli.values import ADDRESS, AMOUNTS, COUNT, DURATION, PAIRS, SIZE, joined

EXAMPLES: Final = """\b
Examples:
  taskq worker tasks:q
  taskq worker shop.tasks:q -q high:3,default -c 50 -w 4
  taskq worker shop.tasks:q -q urgent,default --strict
  taskq worker shop.tasks:q --label region=eu --label disk=ssd --resource gpu=2
  taskq worker tasks:q --max-jobs 10k --max-memory 500MB
  taskq worker tasks:q --burst
  taskq worker tasks:q --reload --grace 2s
  TASKQ_URL=taskq://10.0.0.5:7700 TASKQ_TOKEN_FILE=token taskq worker tasks:q
"""


@click.command(epilog=EXAMPLES)
@click.argument("app", envvar="TASKQ_WORKER_APP")
@click.option(
    "-q",
    "--queues",
    metavar="NAMES",
    help="Queues, separated by commas; else `default` and those that the tasks name. They take turns; "
    "`high:3,default` gives high three jobs for each one of default.",
)
@click.option(
    "--strict", is_flag=True, help="No turns: a later queue is served when the earlier ones are empty."
)
@click.option(
    "--label",
    "labels",
    type=PAIRS,
    multiple=True,
    metavar="NAME=TEXT",
    help="What this worker is, for jobs that ask for it; may be repeated.",
)
@click.option(
    "--resource",
    "resources",
    type=AMOUNTS,
    multiple=True,
    metavar="NAME=COUNT",
    help="What this worker has, for jobs that take of it; may be repeated.",
)
@click.option(
    "-c", "--slots", type=COUNT, default=100, show_default=True, help="Jobs at once in each process."
)
@click.option("-w", "--processes", type=COUNT, default=1, show_default=True, help="Processes that run jobs.")
@click.option(
    "--process-slots",
    type=COUNT,
    default=0,
    help="In each, processes for tasks with executor='process'; 0: as there are processors for it.",
)
@click.option("--max-jobs", type=COUNT, default=0, help="Replace a process after about so many jobs.")
@click.option(
    "--max-memory",
    type=SIZE,
    default="0",
    metavar="SIZE",
    help="Replace a process that takes more memory, such as 500MB. Another is ready first; what runs ends.",
)
@click.option("--burst", is_flag=True, help="End when there is nothing left to do.")
@click.option(
    "--reload", is_flag=True, help="Start anew when a .py in or below the current directory is saved."
)
@click.option(
    "--grace",
    type=DURATION,
    default=f"{limits.GRACE_MS // 1000}s",
    show_default=True,
    help="How long running jobs may take to end after the first SIGTERM or SIGINT.",
)
@click.option(
    "--job-logs",
    metavar="LEVEL",
    default="info",
    show_default=True,
    help="What is logged inside jobs is kept for `taskq jobs logs` from this level on; off: nothing.",
)
@click.option(
    "--slow-callback",
    type=DURATION,
    default=f"{limits.SLOW_CALLBACK_MS}ms",
    show_default=True,
    help="Warn when a task keeps the event loop from turning for so long, with the line; 0 for never.",
)
@click.option(
    "--http",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="Serve /healthz, /readyz and /metrics there, for Kubernetes and the like.",
)
@click.option("--name", default="", help="What people see this worker as; HOST:PID if nothing is said.")
@click.option("--url", envvar="TASKQ_URL", help="The broker; the app's own if nothing is said.")
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="The event loop; auto is uvloop where it is installed.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    app: str,
    queues: str | None,
    strict: bool,
    labels: tuple[dict[str, str], ...],
    resources: tuple[dict[str, int], ...],
    slots: int,
    processes: int,
    process_slots: int,
    max_jobs: int,
    max_memory: int,
    burst: bool,
    reload: bool,
    grace: int,
    job_logs: str,
    slow_callback: int,
    http: tuple[str, int] | None,
    name: str,
    url: str | None,
    loop: str,
) -> int:
    """Run the tasks of APP, which is module:object, such as tasks:q. The current directory is importable.

    The first SIGTERM or SIGINT: take no more, finish within --grace, hand the rest back. The second: now.
    """
    from msgspec import convert

    from taskq.cli import logs, output
    from taskq.server.http import HttpPages
    from taskq.worker import supervisor
    from taskq.worker.offer import parse_queues
    from taskq.worker.settings import LoopName, WorkerSettings

    debug = ctx.ensure_object(Talk).debug
    logs.configure(debug=debug)
    settings = WorkerSettings(
        app=app,
        urls=tuple(url.split(",")) if url else (),
        queues=parse_queues(queues) if queues else (),
        strict=strict,
        labels=joined("--label", labels),
        resources=joined("--resource", resources),
        slots=slots,
        processes=processes,
        process_slots=process_slots,
        max_jobs=max_jobs,
        max_memory_bytes=max_memory,
        grace_ms=grace,
        job_logs=job_logs,
        slow_callback_ms=slow_callback,
        http=http,
        burst=burst,
        name=name,
        loop=convert(loop, LoopName),
    )
    if not reload:
        return supervisor.run(settings, child_module="taskq.cli.worker_child", make_pages=HttpPages)
    from taskq.worker import reloading

    return reloading.run(settings, "taskq.cli.worker_reloaded", say=output.say, debug=debug)
