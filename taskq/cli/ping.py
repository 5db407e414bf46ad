"""`taskq ping`: whether the broker answers, and how fast."""

from typing import Final

import click

from taskq.cli import output
from taskq.cli.found import url_option
from taskq.cli.values import DURATION

EXAMPLES: Final = """\b
Examples:
  taskq ping
  taskq ping --url taskq://10.0.0.5:7700 --timeout 500ms
  taskq ping --json
"""


@click.command(epilog=EXAMPLES)
@url_option
@click.option(
    "--timeout", type=DURATION, default="5s", show_default=True, help="How long to wait for the answer."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(url: str | None, timeout: int, as_json: bool) -> None:
    """Ask whether the broker answers.

    The time is that of one question and its answer on an open connection. Exit code 69: nobody is
    there; 75: somebody is, but gave no answer; 5: the broker does not let us in.
    """
    import asyncio

    from taskq.cli.question import ask
    from taskq.protocol.messages import Ping, Pong

    answer = asyncio.run(ask(url, Ping(1), Pong, timeout_ms=timeout))
    milliseconds = round(answer.seconds * 1000, 3)
    if as_json:
        output.json_line({"address": answer.address, "ms": milliseconds})
    else:
        output.data(f"{answer.address} answers in {milliseconds:.2f} ms")
