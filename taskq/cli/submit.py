"""`taskq submit`: one job, or many alike, by the task's name or through the task itself."""

import importlib
import json
import sys
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from taskq.cli import output
from taskq.cli.exits import Exit, exit_for
from taskq.cli.values import COUNT, DURATION, TIME
from taskq.errors import ConfigError, SubmitErrors
from taskq.limits import UNCONFIRMED_JOBS_MAX

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.job import Job
    from taskq.client.task import Call, Task

EXAMPLES: Final = """\b
Examples:
  taskq submit tasks:add 2 3 --wait
  taskq submit tasks.add 2 3
  taskq submit shop.mail.send --json-args '{"to": "ada@example.org"}' --delay 5m
  taskq submit tasks.add --wait --timeout 10s -- -2 3
  taskq submit tasks.sync 7 --key ann --unique active
  taskq submit tasks.report --queue reports --at 2030-01-31T18:00 -n 100
"""


@click.command(epilog=EXAMPLES)
@click.argument("task")
@click.argument("args", nargs=-1)
@click.option(
    "--json-args", metavar="JSON", help="Arguments instead: a list, or an object of keyword arguments."
)
@click.option("--wait", is_flag=True, help="Wait for the result and print it instead of the id.")
@click.option("--timeout", type=DURATION, help="With --wait: how long. The job goes on without us.")
@click.option("--delay", type=DURATION, help="Do not run it before so long from now.")
@click.option("--at", type=TIME, help="Do not run it before this time.")
@click.option("--queue", help="Where it waits; else where the task says.")
@click.option("--retry", type=COUNT, metavar="ATTEMPTS", help="How often it may be tried.")
@click.option("--key", help="Jobs of one queue take turns between their keys.")
@click.option(
    "--unique",
    metavar="SCOPE",
    help="queued, active or a time like 5m: while another is there, that is returned.",
)
@click.option("--replace", is_flag=True, help="With --unique: what waits becomes this call.")
@click.option("--id", "job_id", metavar="ID", help="Its id: submitting one twice is the same job.")
@click.option("-n", "--count", type=COUNT, default=1, show_default=True, help="Submit so many alike.")
@click.option(
    "--url", envvar="TASKQ_URL", help="The broker; else the task's own, else taskq://127.0.0.1:7700."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a job.")
def command(
    task: str,
    args: tuple[str, ...],
    json_args: str | None,
    wait: bool,
    timeout: int | None,
    count: int,
    url: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit a job of TASK and print its id, once the broker has it on disk.

    TASK is the name that the workers know (module.function unless the task says otherwise), or
    module:task, which is imported from here. Only module:task checks the arguments and knows the
    options that the task declares: its queue, retries, timeout and all others. By its name alone a
    task has those given here, and one attempt. Each of ARGS is read as JSON, or else as a text.
    Exit code 1: a job did not succeed; 3: some did not; 75: timed out.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is how long --wait waits; give --wait too")
    if options["job_id"] and count != 1:
        raise click.UsageError("--id names one job, so -n cannot be given with it")
    if not 1 <= count <= UNCONFIRMED_JOBS_MAX:
        raise click.UsageError(f"-n must be from 1 to {UNCONFIRMED_JOBS_MAX:,}")
    positional, keywords = arguments(args, json_args)
    chosen = task_options(options)
    try:
        call = find_task(task, url).options(**chosen).call(*positional, **keywords)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    import asyncio

    if wait:
        return asyncio.run(_print_results([call] * count, timeout, as_json))
    state = "scheduled" if {"delay", "at"} & chosen.keys() else "ready"
    return asyncio.run(_print_ids([call] * count, state, as_json))


def arguments(args: Sequence[str], json_args: str | None) -> tuple[list[Any], dict[str, Any]]:
    """The call's arguments. Raises UsageError."""
    if json_args is None:
        return [_json_or_text(arg) for arg in args], {}
    if args:
        raise click.UsageError("ARGS and --json-args exclude each other")
    try:
        given = json.loads(json_args)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"--json-args is not JSON: {error}") from None
    if isinstance(given, list):
        return given, {}
    if isinstance(given, dict):
        return [], given
    raise click.UsageError("--json-args is a list, or an object of keyword arguments")


def task_options(options: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, as `Task.options` takes them: spans in seconds."""
    if options["delay"] is not None and options["at"] is not None:
        raise click.UsageError("--delay and --at exclude each other")
    found = {
        "delay": None if options["delay"] is None else options["delay"] / 1000,
        "at": None if options["at"] is None else options["at"] / 1000,
        "queue": options["queue"],
        "retry": options["retry"],
        "key": options["key"],
        "unique": options["unique"],
        "replace": options["replace"] or None,
        "id": options["job_id"],
    }
    return {name: value for name, value in found.items() if value is not None}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


async def _print_ids(calls: "list[Call[Any]]", state: str, as_json: bool) -> int:
    from taskq.cli.question import expect_broker

    app = calls[0].task.app
    await expect_broker(app.urls)
    async with app:
        for job in await _submitted(app, calls):
            if as_json:
                output.json_line({"id": job.id, "state": state})
            else:
                output.data(job.id)
    return Exit.OK


async def _print_results(calls: "list[Call[Any]]", timeout_ms: int | None, as_json: bool) -> int:
    import asyncio

    from taskq.cli.question import expect_broker

    app = calls[0].task.app
    await expect_broker(app.urls)
    async with app:
        jobs = await _submitted(app, calls)
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                ended = await app.gather(*jobs, return_exceptions=True)
        except TimeoutError:
            ids = " ".join(job.id for job in jobs[:3])
            raise TimeoutError(f"not all ended within {timeout_ms} ms; they go on: {ids}") from None
    for job, result in zip(jobs, ended, strict=True):
        print_result(job.id, result, as_json)
    errors = [result for result in ended if isinstance(result, BaseException)]
    if 0 < len(errors) < len(jobs):
        return Exit.PARTLY
    return exit_for(errors[0]) if errors else Exit.OK


async def _submitted(app: "TaskQ", calls: "list[Call[Any]]") -> "list[Job[Any]]":
    """The jobs, all confirmed; if none was, the error is the first one's own."""
    try:
        return await app.submit_many(calls)
    except SubmitErrors as group:
        if group.accepted:
            raise
        raise group.exceptions[0] from None


def print_result(job_id: str, result: Any, as_json: bool) -> None:
    from taskq.cli.found import as_json_value

    if isinstance(result, BaseException):
        output.say(f"taskq: error: {result}")
        if as_json:
            output.json_line({"id": job_id, "error": type(result).__name__, "message": str(result)})
    elif as_json:
        output.json_line({"id": job_id, "state": "succeeded", "result": as_json_value(result)})
    else:
        shown = as_json_value(result)
        output.data(shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False))


def find_task(name: str, url: str | None) -> "Task[..., Any]":
    """The task: imported for `module:task`, else a stand-in that has only the name. Raises ConfigError."""
    from taskq.client.app import TaskQ

    if ":" not in name:
        stand_in: Task[..., Any] = TaskQ(url).task(name=name)(_only_workers_have_it)
        return stand_in
    found = _imported(name)
    if url is None:
        return found
    # The same task in every respect, at another address.
    moved = copy(found)
    moved.app = TaskQ(url, token=found.app.token)
    return moved.options()


def _imported(name: str) -> "Task[..., Any]":
    from taskq.client.task import Task

    module, _, path = name.partition(":")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: object = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:
        # The user's module may raise anything while it is imported.
        raise ConfigError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, Task):
        raise ConfigError(
            f"{name} is a {type(found).__name__}, not a task; a task is a function under @q.task"
        )
    return found


def _only_workers_have_it(*args: Any, **kwargs: Any) -> Any:
    """Stands in for the function of a task that was named and not imported."""
    raise AssertionError(f"called with {args} and {kwargs}")
