"""`taskq jobs`: look for jobs, ask about one, and cancel, retry or delete many."""

from typing import TYPE_CHECKING, Any, Final

import click

from taskq.cli import output
from taskq.cli.exits import Exit, exit_for
from taskq.cli.found import (
    QUERY_HELP,
    act,
    as_json_object,
    connected,
    dry_run_option,
    job_id,
    json_option,
    plain,
    print_details,
    print_list,
    query_argument,
    read_query,
    url_option,
    yes_option,
)
from taskq.cli.values import COUNT, DURATION

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.jobs import BulkResult

GROUP_EXAMPLES: Final = """\b
Examples:
  taskq jobs ls state:ready task:send_*
  taskq jobs why 019b76daa80075118123456789abcdef
  taskq jobs cancel queue:mail older:1d --dry-run
"""
LS_EXAMPLES: Final = """\b
Examples:
  taskq jobs ls
  taskq jobs ls state:running,scheduled queue:mail
  taskq jobs ls state:dead error:timeout younger:1h --all --json | jq -r .id
  taskq jobs ls task:send_* --count
"""
SHOW_EXAMPLES: Final = """\b
Examples:
  taskq jobs show 019b76daa80075118123456789abcdef
  taskq jobs show 019b76daa80075118123456789abcdef --json
"""
WHY_EXAMPLES: Final = """\b
Examples:
  taskq jobs why 019b76daa80075118123456789abcdef
"""
WAIT_EXAMPLES: Final = """\b
Examples:
  taskq jobs wait 019b76daa80075118123456789abcdef --timeout 1m
  taskq jobs wait $(taskq submit tasks.add 2 3)
"""
LOGS_EXAMPLES: Final = """\b
Examples:
  taskq jobs logs 019b76daa80075118123456789abcdef
  taskq jobs logs -f $(taskq submit tasks.report 2026)
  taskq jobs logs 019b76daa80075118123456789abcdef --json | jq -r .text
"""
CANCEL_EXAMPLES: Final = """\b
Examples:
  taskq jobs cancel 019b76daa80075118123456789abcdef
  taskq jobs cancel queue:mail older:1d --reason "the campaign is over"
  taskq jobs cancel task:* --dry-run
"""
RETRY_EXAMPLES: Final = """\b
Examples:
  taskq jobs retry 019b76daa80075118123456789abcdef
  taskq jobs retry task:send_* error:timeout --yes
"""
RM_EXAMPLES: Final = """\b
Examples:
  taskq jobs rm 019b76daa80075118123456789abcdef
  taskq jobs rm state:cancelled,expired older:1h --dry-run
"""


@click.group(epilog=GROUP_EXAMPLES)
def command() -> None:
    """Look for jobs; cancel, retry or delete them."""


@command.command(epilog=QUERY_HELP + LS_EXAMPLES)
@query_argument
@click.option("--limit", "-n", type=COUNT, default=100, show_default=True, help="At most so many.")
@click.option("--all", "all_of_them", is_flag=True, help="All of them.")
@click.option("--count", "only_count", is_flag=True, help="Only how many, by state.")
@url_option
@json_option("One JSON object a line.")
def ls(
    query: tuple[str, ...], limit: int, all_of_them: bool, only_count: bool, url: str | None, as_json: bool
) -> int:
    """List the jobs that match QUERY, in the order of their submission; without one, all.

    Those that ended are there as long as their outcomes are kept.
    """
    import asyncio

    most = None if all_of_them else limit
    return asyncio.run(_ls(query, most, url, only_count=only_count, as_json=as_json))


@command.command(epilog=SHOW_EXAMPLES)
@click.argument("id")
@url_option
@json_option("One JSON object.")
def show(id: str, url: str | None, as_json: bool) -> None:
    """Show all that is known of the job ID. Exit code 4: there is no such job."""
    import asyncio

    asyncio.run(_show(job_id(id), url, as_json=as_json))


@command.command(epilog=WHY_EXAMPLES)
@click.argument("id")
@url_option
@json_option("One JSON object.")
def why(id: str, url: str | None, as_json: bool) -> None:
    """Say why the job ID is not running, where it runs, or how it ended."""
    import asyncio

    asyncio.run(_why(job_id(id), url, as_json=as_json))


@command.command(epilog=WAIT_EXAMPLES)
@click.argument("id")
@click.option("--timeout", type=DURATION, help="How long. The job goes on without us.")
@url_option
@json_option("One JSON object.")
def wait(id: str, timeout: int | None, url: str | None, as_json: bool) -> int:
    """Wait for the outcome of the job ID, and print its result.

    Exit code 1: it did not succeed; 4: there is no such job; 75: timed out.
    """
    import asyncio

    return asyncio.run(_wait(job_id(id), timeout, url, as_json=as_json))


@command.command(epilog=LOGS_EXAMPLES)
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Also the lines to come, until the job has ended.")
@url_option
@json_option("One JSON object a line.")
def logs(id: str, follow: bool, url: str | None, as_json: bool) -> None:
    """Show the last lines that were logged inside the job ID.

    The broker keeps them in memory, for as long as the job's outcome. Exit code 4: there is no such job.
    """
    import asyncio

    asyncio.run(_logs(job_id(id), url, follow=follow, as_json=as_json))


@command.command(epilog=QUERY_HELP + CANCEL_EXAMPLES)
@query_argument
@click.option("--reason", default="", help="For whoever waits for them.")
@yes_option
@dry_run_option
@url_option
@json_option("The counts as one JSON object.")
def cancel(
    query: tuple[str, ...], reason: str, yes: bool, dry_run: bool, url: str | None, as_json: bool
) -> int:
    """Cancel the jobs that match QUERY and have not ended: none of them will complete.

    It says how many and asks, unless they are named by their ids. Exit code 3: some of those named
    could not be cancelled; 4: there are none such; 5: they have ended already.
    """
    import asyncio

    async def do(app: "TaskQ", is_dry: bool) -> "BulkResult":
        return await app.jobs.cancel(" ".join(query), reason=reason, dry_run=is_dry)

    doing = act(
        url,
        query,
        "cancel",
        "cancelled",
        do,
        dry_run=dry_run,
        yes=yes,
        asks_for_ids=False,
        as_json=as_json,
    )
    return asyncio.run(doing)


@command.command(epilog=QUERY_HELP + RETRY_EXAMPLES)
@query_argument
@yes_option
@dry_run_option
@url_option
@json_option("The counts as one JSON object.")
def retry(query: tuple[str, ...], yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Run the dead jobs that match QUERY again: the same ids, with all their attempts before them.

    It says how many and asks, unless they are named by their ids. Exit codes as of cancel.
    """
    import asyncio

    async def do(app: "TaskQ", is_dry: bool) -> "BulkResult":
        return await app.jobs.retry(" ".join(query), dry_run=is_dry)

    doing = act(
        url, query, "retry", "retried", do, dry_run=dry_run, yes=yes, asks_for_ids=False, as_json=as_json
    )
    return asyncio.run(doing)


@command.command(epilog=QUERY_HELP + RM_EXAMPLES)
@query_argument
@yes_option
@dry_run_option
@url_option
@json_option("The counts as one JSON object.")
def rm(query: tuple[str, ...], yes: bool, dry_run: bool, url: str | None, as_json: bool) -> int:
    """Delete the outcomes of the jobs that match QUERY and have ended.

    It says how many and asks. What has not ended is to be cancelled first. Exit codes as of cancel.
    """
    import asyncio

    async def do(app: "TaskQ", is_dry: bool) -> "BulkResult":
        return await app.jobs.delete(" ".join(query), dry_run=is_dry)

    doing = act(url, query, "rm", "deleted", do, dry_run=dry_run, yes=yes, asks_for_ids=True, as_json=as_json)
    return asyncio.run(doing)


# -- with a broker ----------------------------------------------------------------------------


async def _ls(
    words: tuple[str, ...], limit: int | None, url: str | None, *, only_count: bool, as_json: bool
) -> int:
    query, _ = read_query(words)
    async with connected(url, "viewer") as app:
        if only_count:
            _print_counts(await app.jobs.states(query), as_json=as_json)
            return Exit.OK
        # One more than is shown tells whether there are more.
        jobs = app.jobs.list(query, limit=None if limit is None else limit + 1)
        return await print_list(jobs, limit, query, "jobs", as_json=as_json)


def _print_counts(states: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        output.json_line({"count": sum(states.values()), "states": states})
        return
    for state, count in states.items():
        output.data(f"{state:<12}{count:>12,}")
    output.data(f"{'all':<12}{sum(states.values()):>12,}")


async def _show(id: str, url: str | None, *, as_json: bool) -> None:
    from dataclasses import asdict

    async with connected(url, "viewer") as app:
        info = await app.job(id).info()
    if as_json:
        output.json_line(plain(info))
    else:
        progress = info.progress
        told: Any = progress and f"{progress.done}/{progress.total or '?'} {progress.message}".rstrip()
        print_details({**asdict(info), "progress": told})


async def _why(id: str, url: str | None, *, as_json: bool) -> None:
    async with connected(url, "viewer") as app:
        info = await app.job(id).info()
    text = info.why or info.end
    if as_json:
        output.json_line({"id": info.id, "state": info.state, "why": text})
    else:
        output.data(text)


async def _logs(id: str, url: str | None, *, follow: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from taskq.client.following import Missed

    async with connected(url, "viewer") as app:
        async for line in app.job(id).logs(follow=follow):
            if isinstance(line, Missed):
                missed = "some" if line.count is None else f"{line.count:,}"
                output.json_line({"missed": line.count}) if as_json else output.say(
                    f"({missed} lines missed)"
                )
            elif as_json:
                output.json_line(as_json_object(asdict(line)))
            else:
                time = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
                output.data(f"{time} #{line.attempt} {line.level} {line.logger}: {line.text}")


async def _wait(id: str, timeout_ms: int | None, url: str | None, *, as_json: bool) -> int:
    from taskq.cli.submit import print_result
    from taskq.errors import JobError

    async with connected(url, "viewer") as app:
        try:
            result: Any = await app.job(id).result(None if timeout_ms is None else timeout_ms / 1000)
        except TimeoutError:
            raise TimeoutError(f"it has not ended within {timeout_ms} ms; it goes on: {id}") from None
        except JobError as error:
            result = error
    print_result(id, result, as_json)
    return exit_for(result) if isinstance(result, JobError) else Exit.OK
