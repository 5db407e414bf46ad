"""`taskq completion`: the shell's own script, as click writes it."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from taskq.cli import output
from taskq.cli.main import COMPLETE

EXAMPLES: Final = """\b
Examples:
  eval "$(taskq completion bash)"
  taskq completion zsh > ~/.zfunc/_taskq
  taskq completion fish > ~/.config/fish/completions/taskq.fish
"""


@click.command(epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL, to be evaluated by it."""
    kind = get_completion_class(shell)
    assert kind is not None
    output.data(kind(ctx.find_root().command, {}, "taskq", COMPLETE).source())
