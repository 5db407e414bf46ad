"""`taskq token`: makes the lines of a broker's tokens file."""

import secrets
import string
from typing import Final

import click

from taskq.cli import output

GROUP_EXAMPLES: Final = """\b
Examples:
  taskq token create --role worker
"""
EXAMPLES: Final = """\b
Examples:
  taskq token create --role worker >> tokens
  taskq broker --tokens-file tokens
  cut -d' ' -f2 tokens > token && TASKQ_TOKEN_FILE=token taskq ping
"""
# As taskq.protocol.tokens reads them; a test holds the two together.
ROLES: Final = ("producer", "worker", "viewer", "operator", "admin")
_ID_ALPHABET: Final = string.ascii_lowercase + string.digits


@click.group(epilog=GROUP_EXAMPLES)
def command() -> None:
    """Make the tokens that let peers in. Only their holder and the broker's file know them."""


@command.command(epilog=EXAMPLES)
@click.option("--role", type=click.Choice(ROLES), required=True, help="What its holder may do.")
def create(role: str) -> None:
    """Print one line, ROLE TOKEN, for the broker's tokens file.

    A worker's token also submits. The token itself, without the role, goes to its holder, in a file
    that TASKQ_TOKEN_FILE names.
    """
    name = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    output.data(f"{role} tq1_{name}_{secrets.token_urlsafe(32)}")
