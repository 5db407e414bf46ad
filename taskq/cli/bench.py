"""`taskq bench`: how many jobs a second, and how long one takes."""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import click

from taskq.cli import output
from taskq.cli.values import COUNT

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.task import Task
    from taskq.testing.fleet import Fleet

# Enough for every code path to have run, and every worker to have said that it is there.
# How long a worker may take to start, connect and run its first job.
FIRST_SECONDS: Final = 15
WARM_UP_JOBS: Final = 2_000
LATENCY_JOBS: Final = 500
# Submitted with one call: bounds what a large bench holds unconfirmed.
CHUNK: Final = 10_000

EXAMPLES: Final = """\b
Examples:
  taskq bench
  taskq bench --jobs 100k -w 2
  taskq bench --self-contained --jobs 10k --json
  TASKQ_URL=taskq://10.0.0.5:7700 taskq bench --jobs 1M -w 8
"""


@dataclass(frozen=True)
class Measured:
    """What `--json` prints. Rates are jobs per second; latency is submit to result, one job at a time."""

    jobs: int
    workers: int
    durability: str
    self_contained: bool
    submit_seconds: float
    submit_rate: float
    complete_seconds: float
    complete_rate: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float


@click.command(epilog=EXAMPLES)
@click.option("--jobs", type=COUNT, default="20k", show_default=True, help="How many to submit at once.")
@click.option("-w", "--workers", type=COUNT, default=1, show_default=True, help="Worker processes to start.")
@click.option("--url", envvar="TASKQ_URL", help="Measure against the broker there.")
@click.option("--self-contained", is_flag=True, help="Start a broker of its own even if TASKQ_URL names one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(jobs: int, workers: int, url: str | None, self_contained: bool, as_json: bool) -> None:
    """Measure jobs per second, with a task that does nothing.

    Without --url and TASKQ_URL it starts a broker of its own, on a free port, with its journal in
    a temporary folder, which is removed. With them it uses that broker, and a queue of its own
    there. The workers are its own in both cases. Every job is synced to disk before it is confirmed, and
    every result comes back.
    """
    if jobs < 1 or workers < 1:
        raise click.UsageError("--jobs and --workers must be at least 1")
    measured = asyncio.run(_bench(jobs, workers, "" if self_contained else url or ""))
    if as_json:
        output.json_line(asdict(measured))
        return
    for line in lines(measured):
        output.data(line)


def lines(measured: Measured) -> list[str]:
    """The measurement for people."""
    jobs = f"{measured.jobs:,}"
    return [
        f"submit    {jobs} in {measured.submit_seconds:.2f} s  {measured.submit_rate / 1000:8.1f} k/s   "
        f"confirmed, durability {measured.durability}",
        f"complete  {jobs} in {measured.complete_seconds:.2f} s  {measured.complete_rate / 1000:8.1f} k/s   "
        f"results received, worker processes: {measured.workers}",
        f"latency   p50 {measured.latency_p50_ms:.2f} ms  p95 {measured.latency_p95_ms:.2f} ms  "
        f"p99 {measured.latency_p99_ms:.2f} ms   one job at a time",
    ]


async def _bench(jobs: int, workers: int, url: str) -> Measured:
    from taskq.cli.bench_tasks import register
    from taskq.cli.question import expect_broker
    from taskq.client.app import TaskQ
    from taskq.testing.fleet import Fleet

    if url:
        await expect_broker(url)
    queue = f"bench-{os.getpid()}-{os.urandom(3).hex()}"
    with Fleet(url) as fleet:
        if not url:
            await fleet.start_broker()
        fleet.start_workers(1, "taskq.cli.bench_tasks:q", "-q", queue, "-w", str(workers))
        async with TaskQ(fleet.url) as app:
            noop = register(app).options(queue=queue)
            output.say("warming up")
            await _first(fleet, noop)
            await _complete(app, noop, min(jobs, WARM_UP_JOBS))
            output.say(f"{jobs:,} jobs, then {LATENCY_JOBS} one by one")
            submitted, completed = await _complete(app, noop, jobs)
            latencies = sorted([await _one(noop) for _ in range(LATENCY_JOBS)])
    return _measured(jobs, workers, not url, submitted, completed, latencies)


async def _first(fleet: "Fleet", noop: "Task[[], None]") -> None:
    """Until a worker has run a job. FleetError when none does: its process ended, or nobody let it in."""
    from taskq.testing.fleet import FleetError

    job = await noop.options(expires=FIRST_SECONDS).submit()
    for _ in range(FIRST_SECONDS):
        try:
            return await job.result(timeout=1)
        except TimeoutError:
            fleet.check()
    await job.cancel(reason="the benchmark gave up")
    raise FleetError(f"no worker ran a job within {FIRST_SECONDS} s\n{fleet.log('worker-1')}")


async def _complete(app: "TaskQ", noop: "Task[[], None]", jobs: int) -> tuple[float, float]:
    """Seconds until all were confirmed, and until all results were here."""
    began = time.perf_counter()
    sent = [
        job for size in _chunks(jobs) for job in await app.submit_many([noop.call() for _ in range(size)])
    ]
    confirmed = time.perf_counter()
    await app.gather(*sent)
    return confirmed - began, time.perf_counter() - began


async def _one(noop: "Task[[], None]") -> float:
    began = time.perf_counter()
    job = await noop.submit()
    await job.result()
    return time.perf_counter() - began


def _chunks(jobs: int) -> Iterator[int]:
    for done in range(0, jobs, CHUNK):
        yield min(CHUNK, jobs - done)


def _measured(
    jobs: int, workers: int, self_contained: bool, submitted: float, completed: float, latencies: list[float]
) -> Measured:
    from taskq.cli.demo_report import percentile

    p50, p95, p99 = (round(percentile(latencies, percent) * 1000, 3) for percent in (50, 95, 99))
    return Measured(
        jobs=jobs,
        workers=workers,
        durability="fsync",
        self_contained=self_contained,
        submit_seconds=round(submitted, 3),
        submit_rate=round(jobs / submitted, 1),
        complete_seconds=round(completed, 3),
        complete_rate=round(jobs / completed, 1),
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
    )
