"""`taskq dead`: jobs out of attempts, kept for people: look, retry, discard, export."""

from typing import TYPE_CHECKING, Final

import click

from taskq.cli import output
from taskq.cli.exits import Exit
from taskq.cli.found import (
    QUERY_HELP,
    act,
    age,
    as_json_object,
    connected,
    dry_run_option,
    job_id,
    json_option,
    print_details,
    print_list,
    query_argument,
    read_query,
    say_there_are_more,
    url_option,
    yes_option,
)
from taskq.cli.values import COUNT
from taskq.errors import NotFound

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.jobs import BulkResult, DeadGroup

GROUP_EXAMPLES: Final = """\b
Examples:
  taskq dead ls --group
  taskq dead retry task:send_* error:timeout --dry-run
  taskq dead export > dead.ndjson
"""
LS_EXAMPLES: Final = """\b
Examples:
  taskq dead ls
  taskq dead ls task:send_* younger:1d
  taskq dead ls --group
  taskq dead ls type:TimeoutError --all --json
"""
SHOW_EXAMPLES: Final = """\b
Examples:
  taskq dead show 019b76daa80075118123456789abcdef
  taskq dead show 019b76daa80075118123456789abcdef --json | jq .args
"""
RETRY_EXAMPLES: Final = """\b
Examples:
  taskq dead retry 019b76daa80075118123456789abcdef
  taskq dead retry task:mail.send type:TimeoutError
  taskq dead retry task:* --yes
"""
DISCARD_EXAMPLES: Final = """\b
Examples:
  taskq dead discard 019b76daa80075118123456789abcdef
  taskq dead discard older:3d --dry-run
"""
EXPORT_EXAMPLES: Final = """\b
Examples:
  taskq dead export > dead.ndjson
  taskq dead export task:send_* | jq -c '[.id, .error]'
"""


@click.group(epilog=GROUP_EXAMPLES)
def command() -> None:
    """Look at dead jobs; retry, discard or export them."""


@command.command(epilog=QUERY_HELP + LS_EXAMPLES)
@query_argument
@click.option("--group", is_flag=True, help="How many, by task and type of error.")
@click.option("--limit", "-n", type=COUNT, default=100, show_default=True, help="At most so many.")
@click.option("--all", "all_of_them", is_flag=True, help="All of them.")
@url_option
@json_option("One JSON object a line.")
def ls(
    query: tuple[str, ...], group: bool, limit: int, all_of_them: bool, url: str | None, as_json: bool
) -> int:
    """List the dead jobs that match QUERY, or the groups that they make."""
    import asyncio

    most = None if all_of_them else limit
    if group:
        return asyncio.run(_groups(query, most, url, as_json=as_json))
    return asyncio.run(_ls(query, most, url, as_json=as_json))


@command.command(epilog=SHOW_EXAMPLES)
@click.argument("id")
@url_option
@json_option("One JSON object.")
def show(id: str, url: str | None, as_json: bool) -> None:
    """Show the dead job ID with its arguments and its traceback. Exit code 4: no such dead job."""
    import asyncio

    asyncio.run(_show(job_id(id), url, as_json=as_json))


@command.command(epilog=QUERY_HELP + RETRY_EXAMPLES)
@query_argument
@yes_option
@dry_run_option
@url_option
@json_option("The counts as one JSON object.")
def retry(query: tuple[str, ...], yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Run the dead jobs that match QUERY again: the same ids, with all their attempts before them.

    It says how many and asks, unless they are named by their ids. Exit code 3: some of those named
    are not dead; 4: there are none such; 5: none of them is dead.
    """
    import asyncio

    async def do(app: "TaskQ", is_dry: bool) -> "BulkResult":
        return await app.dead.retry(" ".join(query), dry_run=is_dry)

    doing = act(
        url, query, "retry", "retried", do, dry_run=dry_run, yes=yes, asks_for_ids=False, as_json=as_json
    )
    return asyncio.run(doing)


@command.command(epilog=QUERY_HELP + DISCARD_EXAMPLES)
@query_argument
@yes_option
@dry_run_option
@url_option
@json_option("The counts as one JSON object.")
def discard(query: tuple[str, ...], yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Forget the dead jobs that match QUERY, for good. It says how many and asks.

    Exit codes as of retry.
    """
    import asyncio

    async def do(app: "TaskQ", is_dry: bool) -> "BulkResult":
        return await app.dead.discard(" ".join(query), dry_run=is_dry)

    doing = act(
        url, query, "discard", "discarded", do, dry_run=dry_run, yes=yes, asks_for_ids=True, as_json=as_json
    )
    return asyncio.run(doing)


@command.command(epilog=QUERY_HELP + EXPORT_EXAMPLES)
@query_argument
@url_option
def export(query: tuple[str, ...], url: str | None) -> None:
    """Print the dead jobs that match QUERY as NDJSON, with arguments, tracebacks and all.

    `args` and `kwargs` are the arguments as JSON can hold them, `payload` their bytes in base64.
    """
    import asyncio

    asyncio.run(_export(query, url))


# -- with a broker ----------------------------------------------------------------------------


async def _ls(words: tuple[str, ...], limit: int | None, url: str | None, *, as_json: bool) -> int:
    query = _dead_query(words)
    async with connected(url, "viewer") as app:
        jobs = app.dead.list(query, limit=None if limit is None else limit + 1)
        return await print_list(jobs, limit, query, "dead jobs", as_json=as_json)


async def _groups(words: tuple[str, ...], limit: int | None, url: str | None, *, as_json: bool) -> int:
    query = _dead_query(words)
    async with connected(url, "viewer") as app:
        found = await app.dead.groups(query)
    groups = found[:limit]
    if as_json:
        from dataclasses import asdict

        for group in groups:
            output.json_line(as_json_object(asdict(group)))
    elif groups:
        head = ("TASK", "COUNT", "OLDEST", "NEWEST", "SAMPLE", "ERROR")
        output.table(head, [_group_row(group) for group in groups], gives_way=True)
    else:
        output.say(f"taskq: no dead jobs match {query!r}" if query else "taskq: no dead jobs")
    if len(groups) < len(found):
        say_there_are_more(len(groups))
    return Exit.OK


def _group_row(group: "DeadGroup") -> list[str]:
    return [
        group.task,
        f"{group.count:,}",
        age(group.oldest),
        age(group.newest),
        group.sample,
        group.error_type,
    ]


def _dead_query(words: tuple[str, ...]) -> str:
    """The query, if it can mean dead jobs. Raises UsageError."""
    query, wanted = read_query(words)
    if wanted.states not in ([], ["dead"]):
        raise click.UsageError("these are dead jobs; leave the state out, or use: taskq jobs ls")
    return query


async def _show(id: str, url: str | None, *, as_json: bool) -> None:
    from dataclasses import asdict

    async with connected(url, "viewer") as app:
        async for found in app.dead.export(id=id):
            # A line of a list has no history; a job that is asked for by itself has.
            found["history"] = [asdict(each) for each in (await app.job(id).info()).history]
            if as_json:
                output.json_line(as_json_object(found))
            else:
                print_details(found)
            return
    raise NotFound(f"there is no dead job {id}; see: taskq jobs show {id}")


async def _export(words: tuple[str, ...], url: str | None) -> None:
    query = _dead_query(words)
    async with connected(url, "viewer") as app:
        async for found in app.dead.export(query):
            output.json_line(as_json_object(found))
