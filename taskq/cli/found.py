"""What `taskq jobs` and `taskq dead` share: the query, the lists, and the manners of bulk verbs."""

import base64
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from taskq.cli import output
from taskq.cli.exits import Exit
from taskq.errors import NotFound

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.job import JobInfo
    from taskq.client.jobs import BulkResult
    from taskq.protocol.messages import Filter

C = TypeVar("C", bound=Callable[..., Any])

QUERY_HELP: Final = """\b
QUERY is any of: state:dead,ready  task:send_*  queue:mail  key:acme  older:1h  younger:5m
error:timeout  error:'"timed out"'  type:app.Gone  id:ID,ID  and ID alone. All of it must apply.

"""
HEAD: Final = ("ID", "STATE", "TASK", "QUEUE", "TRIES", "AGE", "ABOUT")
ABOUT_CHARS: Final = 60

url_option = click.option(
    "--url", envvar="TASKQ_URL", help="The broker; taskq://127.0.0.1:7700 if nothing says otherwise."
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say how many it would be, and do nothing.")
query_argument = click.argument("query", nargs=-1)


def json_option(text: str) -> Callable[[C], C]:
    return click.option("--json", "as_json", is_flag=True, help=text)


def read_query(words: Sequence[str]) -> "tuple[str, Filter]":
    """The query as one text, and what it means. Raises UsageError."""
    from taskq.client.filters import filter_of

    text = " ".join(words)
    return text, checked(lambda: filter_of(text))


T = TypeVar("T")


def checked(make: Callable[[], T]) -> T:
    """What a query or an id means; what it cannot mean is a usage error."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def job_id(text: str) -> str:
    """An id as it is written everywhere. Raises UsageError."""
    from taskq.client.options import id_of

    return checked(lambda: id_of(text)).hex()


@asynccontextmanager
async def connected(
    url: str | None, role: Literal["producer", "viewer"] = "producer"
) -> "AsyncIterator[TaskQ]":
    """A client of a broker that is there now: a command fails at once where a program waits."""
    from taskq.cli.question import expect_broker
    from taskq.client.app import TaskQ

    app = TaskQ(url, role=role)
    await expect_broker(app.urls)
    async with app:
        yield app


# -- lists ------------------------------------------------------------------------------------


def plain(info: "JobInfo") -> dict[str, Any]:
    """The documented shape of `--json`: JobInfo's own names, times in ISO 8601."""
    return as_json_object(asdict(info))


def plain_line(info: "JobInfo") -> dict[str, Any]:
    """The same for a job in a list, without the fields that no line of a list carries."""
    from taskq.client.jobs import NOT_IN_LINES

    heavy = ("traceback", "parent", "meta")
    return {
        name: value for name, value in plain(info).items() if name not in NOT_IN_LINES and name not in heavy
    }


def as_json_object(found: dict[str, Any]) -> dict[str, Any]:
    return {name: as_json_value(value) for name, value in found.items()}


def as_json_value(value: Any) -> Any:
    """As JSON can hold it. What is secret stays so."""
    from taskq.client.values.secrets import Secret

    match value:
        case datetime():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(name): as_json_value(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [as_json_value(inner) for inner in value]
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no such numbers
        case None | bool() | int() | float() | str():
            return value
        case Secret():
            return str(value)
        case _:
            plain = _plainer(value)
            return str(value) if plain is None else as_json_value(plain)


def _plainer(value: Any) -> dict[str, Any] | str | int | float | None:
    """The fields of what has fields, the value of an Enum."""
    from taskq.client.conversions import conversion

    try:
        kind: Any = type(value)
        found = conversion(kind)(value)
    except TypeError:
        return None
    return found if type(found) in (dict, str, int, float) else None  # type: ignore[return-value]  # as it says


def row(info: "JobInfo") -> list[str]:
    return [
        info.id,
        info.state,
        info.task,
        info.queue,
        tries(info),
        age(info.submitted_at),
        about(info),
    ]


def tries(info: "JobInfo") -> str:
    """How many of its attempts are used up, and the crashes beside them: those have a bound of their own."""
    text = f"{info.attempts - info.crashes}/{info.max_attempts}"
    if not info.crashes:
        return text
    return f"{text} +{info.crashes} {'crash' if info.crashes == 1 else 'crashes'}"


def about(info: "JobInfo") -> str:
    """What matters most of a job, in a few words."""
    error = info.error or info.reason
    if info.state == "scheduled" and info.due_at is not None:
        text = f"due {info.due_at.isoformat(timespec='seconds')}"
    elif info.state == "running" and info.worker:
        text = f"on {info.worker}" + (f", after {error}" if error else "")
    else:
        text = error
    text = text.partition("\n")[0]
    return text if len(text) <= ABOUT_CHARS else f"{text[: ABOUT_CHARS - 3]}..."


def age(since: datetime | None) -> str:
    from taskq.cli.status import ago

    if since is None:
        return "-"
    return ago(max(int((datetime.now(UTC) - since).total_seconds() * 1000), 0))


async def print_list(
    jobs: "AsyncIterator[JobInfo]", limit: int | None, query: str, verb: str, *, as_json: bool
) -> int:
    """The jobs, as they come; whether there are more is said on standard error."""
    rows: list[list[str]] = []
    count = 0
    async for info in jobs:
        count += 1
        if limit is not None and count > limit:
            say_there_are_more(limit)
            break
        if as_json:
            output.json_line(plain_line(info))
        else:
            rows.append(row(info))
    if not as_json and rows:
        output.table(HEAD, rows, left=4, gives_way=True)
    if not count:
        output.say(f"taskq: no {verb} match {query!r}" if query else f"taskq: no {verb}")
    return Exit.OK


def say_there_are_more(shown: int) -> None:
    output.say(f"taskq: these are the first {shown:,}; there are more: --limit COUNT, or --all")


def print_details(found: dict[str, Any]) -> None:
    """One line a field, long texts below."""
    for name, value in found.items():
        if value in (None, "", {}, [], ()) or name in ("traceback", "payload", "flags", "ext", "history"):
            continue
        text = value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
        output.data(f"{name.removesuffix('_at').replace('_', ' '):<13}{text}")
    for attempt in found.get("history", ()):
        output.data(f"{'attempt ' + str(attempt['attempt']):<13}{_attempt(attempt)}")
    if found.get("traceback"):
        output.data("")
        output.data(found["traceback"].rstrip())


def _attempt(found: dict[str, Any]) -> str:
    """How, where and when one ended that did not succeed."""
    ended: datetime | None = found["ended_at"]
    when = f" at {ended.isoformat(timespec='milliseconds')}" if ended is not None else ""
    where = f" on {found['worker']}" if found["worker"] else ""
    said = f": {found['error'].partition(chr(10))[0]}" if found["error"] else ""
    return f"{found['ending']}{when}{where}{said}"


# -- bulk verbs -------------------------------------------------------------------------------

Act = Callable[["TaskQ", bool], Awaitable["BulkResult"]]


async def act(
    url: str | None,
    words: Sequence[str],
    verb: str,
    done: str,
    do: Act,
    *,
    dry_run: bool,
    yes: bool,
    asks_for_ids: bool,
    as_json: bool,
) -> int:
    """Count, say so and ask, then do it. `done`: the verb as it is said when it has been done."""
    _, wanted = read_query(words)
    if not words:
        raise click.UsageError("which jobs? Say so, such as state:dead or task:send_*; task:* is all of them")
    async with connected(url) as app:
        if dry_run or (not yes and (asks_for_ids or not wanted.ids)):
            seen = await do(app, True)
            able = seen.matched - sum(n for why, n in seen.skipped.items() if why != "unknown")
            if dry_run:
                _print_result(seen, f"would be {done}", able, as_json=as_json)
                return Exit.OK
            question = f"{able:,} {_jobs(able)} will be {done}. Go on?"
            if able and not is_sure(question, f"{verb} is for {able:,} {_jobs(able)}"):
                output.say("taskq: nothing was done")
                return Exit.FAILED
        result = await do(app, False)
    _print_result(result, done, result.done, as_json=as_json)
    return _exit_for(result, wanted.ids, verb)


def is_sure(question: str, what: str) -> bool:
    """What a person at the terminal says. UsageError without one, which begins with `what` it is about."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}, and nobody is there to ask; give --yes, or --dry-run")
    return click.confirm(question, err=True)


def _exit_for(result: "BulkResult", ids: list[bytes], verb: str) -> int:
    if not ids or result.done == len(ids):
        return Exit.OK
    if result.done:
        return Exit.PARTLY
    if set(result.skipped) == {"unknown"}:
        raise NotFound("there is no such job, or its outcome is no longer kept")
    return Exit.REFUSED


def _print_result(result: "BulkResult", done: str, count: int, *, as_json: bool) -> None:
    if as_json:
        output.json_line({"matched": result.matched, "done": result.done, "skipped": dict(result.skipped)})
        return
    output.data(f"{count:,} {_jobs(count)} {done}")
    for why, number in result.skipped.items():
        output.say(f"taskq: {number:,} not: {why}")


def _jobs(count: int) -> str:
    return "job" if count == 1 else "jobs"
