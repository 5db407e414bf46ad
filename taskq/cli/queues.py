"""`taskq queues`: what waits where, and deciding about it: pause, limit, weigh, drain."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from taskq.cli import output
from taskq.cli.exits import Exit
from taskq.cli.found import act, checked, dry_run_option, is_sure, url_option, yes_option
from taskq.cli.status import queue_rows
from taskq.cli.values import DURATION
from taskq.errors import ConfigError, NotFound
from taskq.limits import NAME_CHARS_MAX, TEXT_CHARS_MAX, WEIGHT_MAX

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.jobs import BulkResult
    from taskq.protocol.messages import SettingReport, Steering, SteerScope

EXAMPLES: Final = """\b
Examples:
  taskq queues ls
  taskq queues pause mail --reason "the provider is down"
  taskq queues limit mail --rate 100/s --key acme
  taskq queues limit --task send_mail --concurrency 20
"""
COUNT_MAX: Final = 2**31  # as on the wire
_UNITS: Final = (
    (86_400_000, "a day", "d"),
    (3_600_000, "an hour", "h"),
    (60_000, "a minute", "min"),
    (1_000, "a second", "s"),
)
HEAD: Final = ("QUEUE", "READY", "RUN", "SCHED", "DEAD", "OLDEST", "WORKERS")


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  taskq queues {line}" for line in lines) + "\n"


_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_reason = click.option("--reason", default="", help="For people; shown to all who ask why a job waits.")
_name = click.argument("queue", required=False)
_task = click.option("--task", help="A task instead of a queue.")


def _checked_key(_ctx: click.Context, _param: click.Parameter, key: str) -> str:
    if len(key) > NAME_CHARS_MAX:
        raise click.BadParameter(f"a key has at most {NAME_CHARS_MAX} characters, not {len(key)}")
    return key


_key = click.option("--key", default="", callback=_checked_key, help="Only this key of it.")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Show queues; pause, limit and drain them, tasks, and single keys.

    What is decided here survives a restart of the broker, goes before what tasks declare, and is
    shown with its reason to everybody who asks why a job waits.
    """


@command.command(epilog=_examples("ls", "ls --json | jq -r 'select(.ready > 1000) | .name'"))
@url_option
@_json
def ls(url: str | None, as_json: bool) -> None:
    """List the queues that have jobs or workers."""
    from msgspec.structs import asdict

    from taskq.cli.question import ask
    from taskq.protocol.messages import Status, StatusReport

    report = asyncio.run(ask(url, Status(1), StatusReport)).message
    if as_json:
        for queue in report.queues:
            output.json_line(asdict(queue))
    elif report.queues:
        output.table(HEAD, queue_rows(report))
    else:
        output.say("taskq: no queue has jobs or workers")


@command.command(epilog=_examples("show", "show mail", "show mail --json"))
@_name
@url_option
@_json
def show(queue: str | None, url: str | None, as_json: bool) -> None:
    """Show what was decided, about one queue or task or about all: pauses, limits, weights."""
    from taskq.cli.question import ask
    from taskq.protocol.messages import AskSettings, Settings

    found = asyncio.run(ask(url, AskSettings(1, queue or ""), Settings)).message.items
    for setting in found:
        if as_json:
            output.json_line(as_object(setting))
        else:
            output.data(sentence(setting))
    if not found:
        output.say(f"taskq: nothing was decided about {queue!r}" if queue else "taskq: nothing was decided")


@command.command(epilog=_examples("pause mail", "pause mail --key acme --for 10m", "pause --task send_mail"))
@_name
@_task
@_key
@click.option("--for", "for_ms", type=DURATION, help="Resume by itself after so long.")
@_reason
@url_option
def pause(
    queue: str | None, task: str | None, key: str, for_ms: int | None, reason: str, url: str | None
) -> None:
    """Start no more jobs of a queue, a task or a key; what runs goes on."""
    if for_ms == 0:
        raise click.UsageError("--for is more than 0; leave it out to pause until somebody resumes")
    scope, name = _spot(queue, task)
    _steer(url, reason, scope=scope, name=name, kind="pause", key=key, for_ms=for_ms or 0)
    output.say(f"taskq: {_called(scope, name, key)} is paused")
    if scope == "queue":
        _warn_of_no_queue(url, name)


@command.command(epilog=_examples("resume mail", "resume mail --key acme", "resume --task send_mail"))
@_name
@_task
@_key
@url_option
def resume(queue: str | None, task: str | None, key: str, url: str | None) -> None:
    """Go on after a pause or a drain."""
    scope, name = _spot(queue, task)
    back = _steer(url, "", scope=scope, name=name, kind="pause", key=key, is_set=False)
    if scope == "queue" and not key:
        back += _steer(url, "", scope=scope, name=name, kind="closed", is_set=False)
    if not back:
        raise NotFound(f"{_called(scope, name, key)} is not paused")
    output.say(f"taskq: {_called(scope, name, key)} goes on")


@command.command(epilog=_examples("drain mail --reason 'moving to postbox'"))
@click.argument("queue")
@_reason
@yes_option
@dry_run_option
@url_option
def drain(queue: str, reason: str, yes: bool, dry_run: bool, url: str | None) -> int:
    """Accept no new jobs in a queue; those that are there run. `resume` opens it again."""
    from taskq.cli.question import ask
    from taskq.protocol.messages import Status, StatusReport

    report = asyncio.run(ask(url, Status(1), StatusReport)).message
    scope, name = _spot(queue, None)
    left = sum(each.ready + each.running + each.scheduled for each in report.queues if each.name == queue)
    question = f"queue {queue!r} will refuse new jobs, and run the {left:,} that it has. Go on?"
    if dry_run:
        output.data(f"{left:,} jobs would be run, and none accepted")
        return Exit.OK
    if not yes and not is_sure(question, f"drain is for a queue with {left:,} jobs"):
        output.say("taskq: nothing was done")
        return Exit.FAILED
    _steer(url, reason, scope=scope, name=name, kind="closed")
    output.say(f"taskq: queue {queue!r} accepts nothing new")
    return Exit.OK


@command.command(epilog=_examples("purge mail", "purge mail --dry-run"))
@click.argument("queue")
@click.option("--reason", default="", help="For whoever waits for them.")
@yes_option
@dry_run_option
@url_option
@_json
def purge(queue: str, reason: str, yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Cancel all jobs of a queue that wait; what runs goes on. It says how many and asks."""

    async def do(app: "TaskQ", is_dry: bool) -> "BulkResult":
        return await app.jobs.cancel(
            queue=queue, state=["ready", "scheduled", "blocked"], reason=reason or "purged", dry_run=is_dry
        )

    from taskq.client.filters import quoted

    doing = act(
        url,
        [checked(lambda: quoted("queue", queue))],
        "purge",
        "cancelled",
        do,
        dry_run=dry_run,
        yes=yes,
        asks_for_ids=False,
        as_json=as_json,
    )
    return asyncio.run(doing)


@command.command(
    epilog=_examples("limit mail --concurrency 20", "limit mail --rate 100/s --per-key", "limit mail --clear")
)
@_name
@_task
@_key
@click.option("--concurrency", type=click.IntRange(0, COUNT_MAX), help="So many at once, over all workers.")
@click.option("--rate", help="So many starts in a time: 10/s, 600/m, 5/10s.")
@click.option(
    "--burst",
    type=click.IntRange(1, COUNT_MAX),
    help="So many may start at once; the rate's count, if not said.",
)
@click.option("--per-key", is_flag=True, help="Each key by itself.")
@click.option("--clear", is_flag=True, help="Back to what the task declares.")
@_reason
@url_option
def limit(
    queue: str | None,
    task: str | None,
    key: str,
    concurrency: int | None,
    rate: str | None,
    burst: int | None,
    per_key: bool,
    clear: bool,
    reason: str,
    url: str | None,
) -> None:
    """Limit how many jobs run at once, or start in a time."""
    from taskq.protocol.messages import Steering

    scope, name = _spot(queue, task)
    if clear == (concurrency is not None or rate is not None):
        raise click.UsageError("give --concurrency, --rate or both; or --clear")
    if burst is not None and rate is None:
        raise click.UsageError("--burst is for a --rate; give both")
    if key and per_key:
        raise click.UsageError("--key is for one key, and --per-key for each by itself; give one of them")
    items = []
    if clear or concurrency is not None:
        items.append(Steering(scope, name, "concurrency", key, per_key, not clear, concurrency or 0))
    if clear or rate is not None:
        count, period_ms = (0, 0) if rate is None else _rate(rate)
        items.append(Steering(scope, name, "rate", key, per_key, not clear, count, period_ms, burst or 0))
    what = _called(scope, name, key) + (", each key," if per_key else "")
    if not _say(url, items, reason):
        raise NotFound(f"{what} has no limits that were decided; see: taskq queues show {name}")
    output.say(f"taskq: {what} has {'its declared limits' if clear else 'new limits'}")


@command.command(epilog=_examples("weigh mail --key acme 3"))
@click.argument("queue")
@click.argument("weight", type=click.IntRange(1, WEIGHT_MAX))
@click.option("--key", required=True, callback=_checked_key, help="Which key of the queue.")
@_reason
@url_option
def weigh(queue: str, weight: int, key: str, reason: str, url: str | None) -> None:
    """Let a key have so many jobs in its turn; the others have one."""
    scope, name = _spot(queue, None)
    _steer(url, reason, scope=scope, name=name, kind="weight", key=key, count=weight)
    output.say(f"taskq: {_called('queue', queue, key)} has {weight} in its turn")


# -- what was decided -------------------------------------------------------------------------


def as_object(setting: "SettingReport") -> dict[str, Any]:
    """The documented shape of `--json`: the report's own names."""
    from msgspec.structs import asdict

    return asdict(setting)


def sentence(setting: "SettingReport") -> str:
    """One decision, for people."""
    what = _called(setting.scope, setting.name, setting.key) + (", each key" if setting.per_key else "")
    match setting.kind:
        case "pause":
            text = f"{what} is paused" + (f" until {_local(setting.until_ms)}" if setting.until_ms else "")
        case "closed":
            text = f"{what} accepts nothing new"
        case "weight":
            text = f"{what} has {setting.count} in its turn"
        case "concurrency":
            text = f"{what} may run {setting.count:,} at once"
        case _:
            text = f"{what} may start {setting.count:,} {_each(setting.period_ms)}"
            text += f", {setting.burst:,} of them at once" if setting.burst else ""
    by = "declared by its code" if setting.is_declared else f"decided by {setting.by or 'somebody'}"
    return f"{text} ({by}{': ' + setting.reason if setting.reason else ''})"


def _local(wall_ms: int) -> str:
    """A time on the clock of whoever asks, with its zone."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")


def _each(period_ms: int) -> str:
    """The time of a rate: "a second", "in 10 s"."""
    for size_ms, one, unit in _UNITS:
        if period_ms % size_ms == 0:
            return one if period_ms == size_ms else f"in {period_ms // size_ms} {unit}"
    return f"in {period_ms} ms"


# -- parts ------------------------------------------------------------------------------------


def _spot(queue: str | None, task: str | None) -> "tuple[SteerScope, str]":
    from taskq.client.options import checked_name

    try:
        if queue and not task:
            return "queue", checked_name("queue", queue)
        if task and not queue:
            return "task", checked_name("--task", task)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    raise click.UsageError("give a queue or --task NAME, one of them")


def _called(scope: str, name: str, key: str) -> str:
    return f"{scope} {name!r}" + (f", key {key!r}" if key else "")


def _rate(text: str) -> tuple[int, int]:
    from taskq.client.bounds import parse_rate

    try:
        return parse_rate(text)
    except ValueError as error:
        raise click.UsageError(str(error).replace("rate_limit: ", "--rate: ")) from None


def _steer(url: str | None, reason: str, **fields: Any) -> int:
    from taskq.protocol.messages import Steering

    return _say(url, [Steering(**fields)], reason)


def _say(url: str | None, items: "list[Steering]", reason: str) -> int:
    """Tell the broker; how many of the decisions were news."""
    from taskq.cli.question import ask
    from taskq.protocol.messages import Steer, Steered

    steer = Steer(1, items, reason[:TEXT_CHARS_MAX])
    return asyncio.run(ask(url, steer, Steered, role="producer", name=_me())).message.count


def _warn_of_no_queue(url: str | None, name: str) -> None:
    """It may come yet, so it is decided all the same; more often it is misspelt."""
    from taskq.cli.question import ask
    from taskq.protocol.messages import Status, StatusReport

    report = asyncio.run(ask(url, Status(1), StatusReport)).message
    if all(queue.name != name for queue in report.queues):
        output.say(f"taskq: no queue {name!r} has jobs or workers at the moment")


def _me() -> str:
    """Who decides, for those who ask later."""
    import getpass
    import socket

    with contextlib.suppress(KeyError, OSError, ImportError):  # a container may have no name for its user
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return socket.gethostname()
