"""`taskq workers`: who runs the jobs, what runs there now, and telling them to drain or to stop."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from taskq.cli import output
from taskq.cli.exits import Exit
from taskq.cli.found import connected, dry_run_option, is_sure, yes_option
from taskq.cli.status import ago
from taskq.limits import RUNNING_SHOWN_MAX

if TYPE_CHECKING:
    from taskq.client.workers import RunningJob, Told, WorkerInfo

EXAMPLES: Final = """\b
Examples:
  taskq workers ls
  taskq workers show box:4711
  taskq workers stack 0192f3c08a7d7e4a9c0f00005b1d2e3f
  taskq workers stop box:4711 --yes
"""
HEAD: Final = ("WORKER", "SESSION", "STATE", "QUEUES", "VERSION", "PID", "RUN/SLOTS", "SINCE", "HEARD")
_TEXTS: Final = 5
_SESSION_CHARS: Final = 8


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  taskq workers {line}" for line in lines) + "\n"


_name = click.argument("name")
_url = click.option(
    "--url", envvar="TASKQ_URL", help="The broker; taskq://127.0.0.1:7700 if nothing says otherwise."
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object for each process.")
_reason = click.option("--reason", default="", help="For people; it is in the worker's log.")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Show workers and what runs there; drain and stop them.

    NAME is a worker's name, or the number behind its last colon: all of its processes. Or the first
    digits (4 or more) of a session, as `ls` shows it: that process.
    """


@command.command(epilog=_examples("ls", "ls --json | jq -r 'select(.state != \"ready\") | .name'"))
@_url
@_json
def ls(url: str | None, as_json: bool) -> None:
    """List the processes that run jobs, by worker.

    State: ready; drained, it was told to take nothing more; coming, it has just connected; deaf, it does
    not read what it is sent; gone, its connection was lost.
    """

    async def ask() -> "list[WorkerInfo]":
        async with connected(url, "viewer") as app:
            return await app.workers.list()

    found = asyncio.run(ask())
    if as_json:
        for info in found:
            output.json_line(as_object(info))
    elif found:
        output.table(HEAD, [row(info) for info in found], left=_TEXTS)
    else:
        output.say("taskq: no worker is connected; start one with: taskq worker APP")


@command.command(epilog=_examples("show box:4711", "show 4711 --json | jq .jobs"))
@_name
@_url
@_json
def show(name: str, url: str | None, as_json: bool) -> None:
    """Show a worker's processes: tasks, labels, resources, and what runs there now."""

    async def ask() -> "list[WorkerInfo]":
        async with connected(url, "viewer") as app:
            return await app.workers.show(name)

    for number, info in enumerate(asyncio.run(ask())):
        if as_json:
            output.json_line(as_object(info))
            continue
        if number:
            output.data("")
        for line in description(info):
            output.data(line)


@command.command(epilog=_examples("drain box:4711 --reason 'a new kernel'", "drain 5b1d"))
@_name
@_reason
@yes_option
@dry_run_option
@_url
@_json
def drain(name: str, reason: str, yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Let a worker take no more jobs. What runs goes on; `resume` ends it."""
    return asyncio.run(_tell("drain", name, reason, url, yes=yes, dry_run=dry_run, as_json=as_json))


@command.command(epilog=_examples("resume box:4711"))
@_name
@_reason
@_url
@_json
def resume(name: str, reason: str, url: str | None, as_json: bool) -> int:
    """Let a worker take jobs again after a drain."""
    return asyncio.run(_tell("resume", name, reason, url, yes=True, dry_run=False, as_json=as_json))


@command.command(epilog=_examples("stop box:4711", "stop 4711 --yes --reason 'scaling down'"))
@_name
@_reason
@yes_option
@dry_run_option
@_url
@_json
def stop(name: str, reason: str, yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Let a worker end, with all of its processes.

    As after SIGTERM: it takes no more, finishes what runs within its grace, and hands the rest back.
    """
    return asyncio.run(_tell("stop", name, reason, url, yes=yes, dry_run=dry_run, as_json=as_json))


@command.command(epilog=_examples("stack box:4711", "stack 0192f3c08a7d7e4a9c0f00005b1d2e3f"))
@click.argument("name", metavar="NAME|JOB-ID")
@_url
@_json
def stack(name: str, url: str | None, as_json: bool) -> None:
    """Print live stacks: of a worker's jobs, threads and asyncio tasks, or of one running job.

    It is answered also while the worker's event loop is blocked.
    """

    async def ask() -> None:
        async with connected(url) as app:
            found = await app.workers.stack(name)
        for number, each in enumerate(found):
            if as_json:
                output.json_line(asdict(each))
                continue
            if len(found) > 1:
                output.data(f"{'' if not number else chr(10)}process {each.session[:_SESSION_CHARS]}")
            output.data(each.text or "nothing runs there")

    asyncio.run(ask())


async def _tell(
    verb: Literal["drain", "resume", "stop"],
    name: str,
    reason: str,
    url: str | None,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    async with connected(url) as app:
        if dry_run or not yes:
            what = _what(await app.workers.show(name))
            if dry_run:
                output.data(f"{verb} would be for {what}")
                return Exit.OK
            if verb == "drain":
                question = f"{what}, will take no more. Go on?"
            else:
                question = f"{what}, will finish what runs within its grace, and end. Go on?"
            if not is_sure(question, f"{verb} is for {what}"):
                output.say("taskq: nothing was done")
                return Exit.FAILED
        told: Told = await getattr(app.workers, verb)(name, reason=reason)
    if as_json:
        output.json_line(asdict(told))
        return Exit.OK
    said = {"drain": "takes no more", "resume": "takes jobs again", "stop": "was told to stop"}[verb]
    output.say(f"taskq: worker {told.name!r}, {_processes(len(told.sessions))}, {said}")
    return Exit.OK


def row(info: "WorkerInfo") -> list[str]:
    heard = "-" if info.silent_for is None else ago(round(info.silent_for.total_seconds() * 1_000))
    return [
        info.name,
        info.session[:_SESSION_CHARS],
        info.state,
        ",".join(info.queues),
        info.version or "-",
        str(info.pid or "-"),
        f"{info.running:,}/{sum(info.slots.values()):,}",
        _since(info.started),
        heard,
    ]


def description(info: "WorkerInfo") -> list[str]:
    """All that is known of a process, for people."""
    slots = ", ".join(f"{name} {count:,}" for name, count in info.slots.items())
    lines = [
        f"{info.name}  session {info.session}  {info.state}",
        f"  host       {info.host or '-'}, process {info.pid or '-'}, taskq {info.version or '-'}, "
        f"for {_since(info.started)}",
        f"  supervisor {info.supervisor or 'none is connected'}",
        f"  queues     {', '.join(info.queues)}",
        f"  slots      {slots or '-'}; {info.running:,} in use",
    ]
    for what, pairs in (("labels", info.labels), ("resources", info.resources)):
        if pairs:
            lines.append(f"  {what:<10} {', '.join(f'{name}={value}' for name, value in pairs.items())}")
    tasks = [f"{task} ({executor})" for task, executor in sorted(info.tasks.items())]
    lines.append(f"  tasks      {', '.join(tasks) or '-'}")
    lines += [f"  runs       {_job(job)}" for job in info.jobs]
    if info.running > len(info.jobs) >= RUNNING_SHOWN_MAX:
        lines.append(f"             and {info.running - len(info.jobs):,} more")
    return lines


def as_object(info: "WorkerInfo") -> dict[str, Any]:
    """The documented shape of `--json`: the fields of WorkerInfo; times in ISO 8601, durations in seconds."""
    found = asdict(info)
    found["started"] = info.started.isoformat() if info.started else None
    found["silent_for"] = None if info.silent_for is None else info.silent_for.total_seconds()
    for told, job in zip(found["jobs"], info.jobs, strict=True):
        told["started"] = job.started.isoformat() if job.started else None
    return found


def _job(job: "RunningJob") -> str:
    done = f", {job.done:,}/{job.total:,}" if job.total else f", {job.done:,}" if job.done else ""
    more = f" {job.message}" if job.message else ""
    return f"{job.id}  {job.task}, attempt {job.attempt}, for {_since(job.started)}{done}{more}"


def _what(found: "Sequence[WorkerInfo]") -> str:
    jobs = sum(info.running for info in found)
    running = f"{jobs:,} running job{'' if jobs == 1 else 's'}"
    return f"worker {found[0].name!r}, {_processes(len(found))} with {running}"


def _processes(count: int) -> str:
    return f"{count:,} process{'' if count == 1 else 'es'}"


def _since(moment: datetime | None) -> str:
    if moment is None:
        return "-"
    return ago(max(round((datetime.now(UTC) - moment).total_seconds() * 1_000), 0))
