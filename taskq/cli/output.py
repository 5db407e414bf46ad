"""Data on standard output, talk on standard error; colour and tables only where a person looks."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click


def data(text: str) -> None:
    """One line of what was asked for."""
    click.echo(text)


def say(text: str) -> None:
    """One line of talk about it."""
    click.echo(text, err=True)


def json_line(value: Any) -> None:
    """One JSON object on one line: several of them are NDJSON."""
    click.echo(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str))


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def wants_colour() -> bool:
    """Colour is for terminals, and never against NO_COLOR."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, gives_way: bool = False
) -> None:
    """A table: by rich on a terminal, else in padded columns. The first `left` columns hold texts.

    `gives_way`: so does the last one, and it is cut where the terminal ends. Nothing else ever is: an
    id that is cut cannot be copied.
    """
    if is_terminal():
        _rich_table(head, list(rows), left, gives_way)
    else:
        for line in plain_table(head, list(rows), left=left):
            data(line)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """The lines of a table in padded columns: texts to the left, numbers to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def silence_closed_pipe() -> None:
    """The reader has gone (`taskq ... | head`): what is still buffered goes nowhere, without a complaint."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int, gives_way: bool) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    console = Console(no_color=not wants_colour(), highlight=False, markup=False)
    widths = [max(cell_len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    if gives_way:
        room = console.width - sum(widths[:-1]) - 2 * (len(head) - 1)
        widths[-1] = min(widths[-1], max(room, cell_len(head[-1])))
    for column, (title, width) in enumerate(zip(head, widths, strict=True)):
        is_text = column < left or (gives_way and column == len(head) - 1)
        drawn.add_column(title, justify="left" if is_text else "right", no_wrap=True, width=width)
    for row in rows:
        drawn.add_row(*row)
    # A terminal that is too narrow breaks the lines itself; rich would take letters out of every column.
    console.width = max(console.width, sum(widths) + 2 * (len(head) - 1))
    console.print(drawn)
