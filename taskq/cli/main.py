"""The group of all verbs: loads each only when it is called, and turns errors into a line and a code."""

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from taskq import __version__
from taskq.cli import environment, output, settings
from taskq.cli.exits import Exit, exit_for

# Verb -> what it does. The module taskq.cli.<verb> holds it as `command`, and is imported when it is
# called: so `taskq --help` costs no asyncio (50 ms), msgspec (67 ms) or rich (55 ms).
VERBS: Final = {
    "demo": "See it work: a broker, workers, a real workload, and two killed processes.",
    "dev": "Run a broker and workers in this terminal, anew on each save.",
    "broker": "Run the broker.",
    "worker": "Run the tasks of an application.",
    "submit": "Submit a job.",
    "queues": "Show queues; pause, limit, drain and purge them.",
    "jobs": "Look for jobs; cancel, retry or delete them.",
    "dead": "Look at dead jobs; retry, discard or export them.",
    "workers": "Show workers and what runs there; drain and stop them.",
    "cron": "Show and change the broker's schedules.",
    "status": "Show the broker, its queues and its workers.",
    "ping": "Ask whether the broker answers.",
    "bench": "Measure jobs per second.",
    "token": "Make the tokens that let peers in.",
    "completion": "Print the shell's completion script.",
}

# How the scripts of `taskq completion` ask for suggestions.
COMPLETE: Final = "_TASKQ_COMPLETE"

EXAMPLES = """\b
Examples:
  taskq demo
  taskq broker
  taskq worker tasks:q
  taskq submit tasks:add 2 3 --wait
"""


@dataclass
class Talk:
    """What the verbs know of the group's own flags (click's `ctx.obj`)."""

    debug: bool = False
    settings_from: str = ""


class Verbs(click.Group):
    """A group whose verbs are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in VERBS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            ctx.fail(_no_such_verb(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    epilog=EXAMPLES,
    context_settings={
        "auto_envvar_prefix": "TASKQ",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="taskq", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks, and log more.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file, instead of taskq.toml or [tool.taskq] in pyproject.toml.",
)
@click.pass_context
def command(ctx: click.Context, debug: bool, config: Path | None) -> None:
    """A distributed task queue for asyncio that brings its own broker.

    What a flag does not say is taken from TASKQ_* in the environment, then from the settings file.
    """
    talk: Talk = ctx.ensure_object(Talk)
    talk.debug = debug
    verbs = {verb: partial(load, verb) for verb in VERBS}
    for warning in environment.warnings(os.environ, verbs):
        output.say(f"taskq: warning: {warning}")
    source = settings.find(Path.cwd(), config)
    if source is not None:
        talk.settings_from = source.name
        ctx.default_map = settings.defaults(source, verbs)


def load(verb: str) -> click.Command:
    """The command of a verb, importing its module."""
    found: object = import_module(f"taskq.cli.{verb}").command
    assert isinstance(found, click.Command), f"taskq.cli.{verb} has no command"
    return found


def run(args: Sequence[str]) -> int:
    """Run one command line; the exit code. Errors become one line on standard error."""
    if COMPLETE in os.environ:
        command.main(args=list(args), prog_name="taskq", complete_var=COMPLETE)
    talk = Talk()
    try:
        # Not click's own main(): it takes a closed pipe for a failure.
        with command.make_context("taskq", list(args), obj=talk) as ctx:
            code = command.invoke(ctx)
        sys.stdout.flush()
    except BrokenPipeError:
        output.silence_closed_pipe()
        return Exit.OK
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt, EOFError):
        output.say("taskq: interrupted")
        return Exit.INTERRUPTED
    except Exception as error:
        return _failed(error, debug=talk.debug)
    return int(code) if isinstance(code, int) else Exit.OK


def _no_such_verb(name: str) -> str:
    close = get_close_matches(name, VERBS, n=1)
    return f"no such command {name!r}; " + (
        f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(VERBS)}"
    )


def _usage(error: click.ClickException) -> int:
    output.say(f"taskq: error: {error.format_message()}")
    if not isinstance(error, click.UsageError):
        return Exit.FAILED
    if error.ctx is not None:
        output.say(f"Try '{error.ctx.command_path} --help' for what is allowed.")
    return Exit.USAGE


def _failed(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    code = exit_for(error)
    text = str(error) or type(error).__name__
    if code is Exit.INTERNAL:
        text = f"internal error: {type(error).__name__}: {text} (run with --debug to see where)"
    output.say(f"taskq: error: {text}")
    return code
