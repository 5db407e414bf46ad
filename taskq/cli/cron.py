"""`taskq cron`: the broker's schedules: which there are, when they are due, and what to do about them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from taskq.cli import output
from taskq.cli.found import url_option
from taskq.cli.status import ago
from taskq.errors import NotFound
from taskq.limits import NEXT_TICKS_MAX, TEXT_CHARS_MAX

if TYPE_CHECKING:
    from datetime import datetime

    from taskq.client.schedules import ScheduleInfo
    from taskq.protocol.messages import Message

EXAMPLES: Final = """\b
Examples:
  taskq cron ls
  taskq cron next nightly
  taskq cron pause nightly --reason "month end"
"""
HEAD: Final = ("SCHEDULE", "WHEN", "ZONE", "TASK", "STATE", "NEXT", "LAST")
LEFT: Final = len(HEAD)


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  taskq cron {line}" for line in lines) + "\n"


_name = click.argument("name")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a schedule.")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Show and change the broker's schedules."""


@command.command(epilog=_examples("ls", "ls --json | jq -r 'select(.is_paused) | .name'"))
@url_option
@_json
def ls(url: str | None, as_json: bool) -> None:
    """List the schedules, by name.

    A schedule that is "not declared" comes from code that no worker of its app has any more; it
    goes on until it is removed with `taskq cron rm`.
    """
    rows = []
    for part in _pages(url):
        if as_json:
            for info in part:
                output.json_line(as_object(info))
        rows += [row(info) for info in part]
    if not rows:
        output.say("taskq: no schedules")
    elif not as_json:
        output.table(HEAD, rows, left=LEFT)


@command.command(epilog=_examples("next nightly", "next nightly -n 12 --json"))
@_name
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, NEXT_TICKS_MAX),
    default=5,
    show_default=True,
    help="How many times.",
)
@url_option
@_json
def next(name: str, count: int, url: str | None, as_json: bool) -> None:
    """Print the next times of a schedule, in its own zone. None while it is paused."""
    from taskq.protocol.messages import ListSchedules

    info = _one(url, ListSchedules(1, name, ticks=count), role="viewer")
    if as_json:
        output.json_line(as_object(info))
        return
    for moment in info.next_at:
        output.data(moment.isoformat())
    if not info.next_at:
        output.say(f"{name} has no next time: {state(info)}")


@command.command(epilog=_examples("run nightly", "run nightly --json"))
@_name
@url_option
@_json
def run(name: str, url: str | None, as_json: bool) -> None:
    """Make one job of a schedule now, also while it is paused, and print the job's id.

    Refused (exit code 5) when the last job has no outcome yet and the overlap is skip or queue.
    """
    from taskq.client.ids import IdMaker
    from taskq.protocol.messages import RunSchedule

    info = _one(url, RunSchedule(1, name, IdMaker().new_id(0)), role="producer")
    if as_json:
        output.json_line(as_object(info))
    else:
        output.data(info.last_job)


@command.command(epilog=_examples('pause nightly --reason "month end"'))
@_name
@click.option("--reason", help="For people; shown by ls. The one it is paused for, if not said.")
@url_option
@_json
def pause(name: str, reason: str | None, url: str | None, as_json: bool) -> None:
    """Make no more jobs of a schedule until it is resumed; what runs goes on."""
    from taskq.protocol.messages import ListSchedules, PauseSchedule

    if reason is None:
        reason = _one(url, ListSchedules(1, name), role="producer").reason
    _changed(_one(url, PauseSchedule(1, name, reason[:TEXT_CHARS_MAX]), role="producer"), as_json)


@command.command(epilog=_examples("resume nightly"))
@_name
@url_option
@_json
def resume(name: str, url: str | None, as_json: bool) -> None:
    """Go on with a schedule, from its next time; what was missed in the pause is not made up for.

    Exit code 4: it is not paused.
    """
    from taskq.protocol.messages import ListSchedules, ResumeSchedule

    if not _one(url, ListSchedules(1, name), role="producer").is_paused:
        raise NotFound(f"the schedule {name!r} is not paused")
    _changed(_one(url, ResumeSchedule(1, name), role="producer"), as_json)


@command.command(epilog=_examples("rm nightly"))
@_name
@url_option
@_json
def rm(name: str, url: str | None, as_json: bool) -> None:
    """Remove a schedule; its jobs stay.

    Refused (exit code 5) while a connected worker declares it in code: pause it, or change the code.
    """
    from taskq.protocol.messages import DropSchedule

    info = _one(url, DropSchedule(1, name), role="producer")
    if as_json:
        output.json_line(as_object(info))
    else:
        output.say(f"removed {info.name}")


# -- how they are shown ---------------------------------------------------------------------------


def as_object(info: "ScheduleInfo") -> dict[str, Any]:
    """The schedule as JSON has it: times in ISO 8601, spans in milliseconds."""
    from dataclasses import asdict
    from datetime import timedelta

    found = asdict(info)
    every: timedelta | None = found.pop("every")
    jitter: timedelta = found.pop("jitter")
    found["every_ms"] = None if every is None else every // timedelta(milliseconds=1)
    found["jitter_ms"] = jitter // timedelta(milliseconds=1)
    for name in ("created_at", "last_at"):
        found[name] = None if found[name] is None else found[name].isoformat()
    found["next_at"] = [moment.isoformat() for moment in found["next_at"]]
    return found


def row(info: "ScheduleInfo") -> list[str]:
    when = info.cron if info.every is None else f"every {ago(int(info.every.total_seconds() * 1000))}"
    following = _moment(info.next_at[0] if info.next_at else None)
    return [info.name, when, info.tz, info.task, state(info), following, _moment(info.last_at)]


def state(info: "ScheduleInfo") -> str:
    """In a word or two, what somebody should know first."""
    if info.trouble:
        return f"broken: {info.trouble}"
    if info.is_paused:
        return f"paused: {info.reason}" if info.reason else "paused"
    if not info.is_declared:
        return f"not declared by {info.app} any more"
    return "a job waits" if info.is_waiting else "on"


def _moment(moment: "datetime | None") -> str:
    return "-" if moment is None else moment.isoformat(" ", "seconds")


def _changed(info: "ScheduleInfo", as_json: bool) -> None:
    if as_json:
        output.json_line(as_object(info))
    else:
        output.say(f"{info.name}: {state(info)}, next {_moment(info.next_at[0] if info.next_at else None)}")


# -- asking ---------------------------------------------------------------------------------------


def _one(url: str | None, question: "Message", *, role: Any) -> "ScheduleInfo":
    return _asked(url, question, role)[0][0]


def _pages(url: str | None) -> "Iterator[list[ScheduleInfo]]":
    from taskq.protocol.messages import ListSchedules

    after, more = "", True
    while more:
        part, more = _asked(url, ListSchedules(1, after=after), "viewer")
        yield part
        after = part[-1].name if part else ""


def _asked(url: str | None, question: "Message", role: Any) -> "tuple[list[ScheduleInfo], bool]":
    import asyncio

    from taskq.cli.question import ask
    from taskq.client.schedules import ScheduleInfo
    from taskq.protocol.messages import ScheduleList

    answer = asyncio.run(ask(url, question, ScheduleList, role=role)).message
    return [ScheduleInfo.of(item) for item in answer.items], answer.more
