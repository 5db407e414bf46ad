"""`taskq broker`: the daemon, and what it would run with."""

from typing import Any, Final
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from taskq import limits
from taskq.cli import output
from taskq.cli.main import Talk
from taskq.cli.values import ADDRESS, COUNT, DURATION, SIZE, UNIX

RUN_EXAMPLES: Final = """\b
Examples:
  taskq broker
  taskq broker --port 0 --journal memory:
  taskq broker --journal sqlite:/var/lib/taskq/taskq.db --http 127.0.0.1:7701
  taskq broker --memory 2GB
  taskq broker --host 0.0.0.0 --tokens-file tokens --insecure-allow-remote
  taskq broker config --explain
"""
CONFIG_EXAMPLES: Final = """\b
Examples:
  taskq broker config
  taskq broker config --explain
  TASKQ_BROKER_PORT=7800 taskq broker config --explain --json
"""


@click.group(invoke_without_command=True, epilog=RUN_EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=7700,
    show_default=True,
    help="Port; 0 picks a free one.",
)
@click.option(
    "--journal",
    default="sqlite:taskq.db",
    show_default=True,
    help="What jobs are kept in: sqlite:PATH, or memory: (nothing outlives the process).",
)
@click.option("--http", type=ADDRESS, help="Serve /healthz, /readyz and /metrics at HOST:PORT.")
@click.option("--listen", type=UNIX, help="Listen at unix:PATH as well.")
@click.option(
    "--tokens-file",
    type=click.Path(dir_okay=False),
    help="Who may connect: lines of ROLE TOKEN. See: taskq token create --help",
)
@click.option(
    "--insecure-allow-remote",
    is_flag=True,
    help="Allow another address than loopback without TLS: only inside a network that you trust.",
)
@click.option(
    "--outcome-bytes",
    type=SIZE,
    default=str(limits.OUTCOME_BYTES_BUDGET),
    show_default="256MiB",
    help="How much memory results may take before the oldest are dropped.",
)
@click.option(
    "--keep-dead",
    type=DURATION,
    default="7d",
    show_default=True,
    help="How long dead jobs are kept for people to look at and to retry.",
)
@click.option(
    "--dead-jobs",
    type=COUNT,
    default=str(limits.DEAD_JOBS_MAX),
    show_default="100k",
    help="How many of them; the oldest are dropped.",
)
@click.option(
    "--dead-bytes",
    type=SIZE,
    default=str(limits.DEAD_BYTES_BUDGET),
    show_default="128MiB",
    help="How much memory they may take.",
)
@click.option(
    "--memory",
    type=SIZE,
    envvar=["TASKQ_BROKER_MEMORY", "TASKQ_MEMORY"],
    default="0",
    show_default="no bound",
    help="How much memory jobs and results may take, about; beyond it submissions are refused.",
)
@click.pass_context
def command(ctx: click.Context, /, listen: str | None, **options: Any) -> int | None:
    """Run the broker.

    It says `listening on taskq://HOST:PORT` on standard output once it serves. SIGTERM or SIGINT
    ends it: what is confirmed is in the journal, and running jobs resume when it is back.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from taskq.cli import logs
    from taskq.server import daemon
    from taskq.server.settings import BrokerSettings

    talk = ctx.ensure_object(Talk)
    logs.configure(debug=talk.debug)
    unix = listen.removeprefix("unix:") if listen else None
    return daemon.run(BrokerSettings(**options, unix=unix, debug=talk.debug, announce=output.data))


@command.command(epilog=CONFIG_EXAMPLES)
@click.option("--explain", is_flag=True, help="Also say where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def config(ctx: click.Context, explain: bool, as_json: bool) -> None:
    """Print the settings that the broker would run with.

    A flag wins over TASKQ_BROKER_*, that wins over the settings file, and that over the default.
    """
    above = ctx.parent
    assert above is not None
    found = [
        (param.name, _shown(above.params[param.name]), _origin(above, param))
        for param in above.command.params
        if param.name is not None and param.expose_value
    ]
    if as_json:
        output.json_line({name: {"value": value, "from": origin} for name, value, origin in found})
    elif explain:
        output.table(
            ["SETTING", "VALUE", "FROM"],
            [[name, _text(value), origin] for name, value, origin in found],
            left=3,
        )
    else:
        for name, value, _ in found:
            output.data(f"{name} = {_text(value)}")


def _origin(ctx: click.Context, param: click.Parameter) -> str:
    assert param.name is not None
    source = ctx.get_parameter_source(param.name)
    if source is ParameterSource.COMMANDLINE:
        return "flag"
    if source is ParameterSource.ENVIRONMENT:
        return f"TASKQ_BROKER_{param.name.upper()}"
    if source is ParameterSource.DEFAULT_MAP:
        return ctx.ensure_object(Talk).settings_from
    return "default"


def _shown(value: Any) -> Any:
    """The value as it was written, without the password that a journal's address may carry."""
    if isinstance(value, tuple):
        return f"{value[0]}:{value[1]}"
    if isinstance(value, str) and "@" in value and (password := urlsplit(value).password):
        return value.replace(f":{password}@", ":***@")
    return value


def _text(value: Any) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
