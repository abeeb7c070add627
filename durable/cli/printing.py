"""How commands print: tables for people, lines of JSON for programs.

Rule: rows are printed as they come, so a long list takes no more memory than a short one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .checking import printable

# Rows of one table; those of the next ones stand under the same columns.
ROWS_PER_TABLE = 200
# Where no terminal says how wide it is.
WIDTH = 200

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def as_json(command: Decorated) -> Decorated:
    """The option by which a command prints for programs."""
    return click.option("--json", "is_json", is_flag=True, help="Print lines of JSON.")(command)


def console(*, stderr: bool = False) -> Console:
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def print_json(what: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(what, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str) -> None:
    """*rows* under *columns*; *nothing* is said on stderr if there are none."""
    rows = iter(rows)
    first = list(islice(rows, ROWS_PER_TABLE))
    if not first:
        click.echo(nothing, err=True)
        return
    screen = console()
    widths = [max(map(len, column)) for column in zip(columns, *first, strict=True)]
    if not screen.is_terminal:
        for row in chain([columns], first, rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
        return
    for number, step in enumerate(chain([first], _steps(rows))):
        table = Table(box=None, show_header=number == 0, header_style="bold", pad_edge=False)
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column, min_width=min(width, 64), overflow="fold")
        for row in step:
            table.add_row(*(Text(cell) for cell in row))
        screen.print(table)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(value))
    console().print(table)


def _steps(rows: Iterator[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    while step := list(islice(rows, ROWS_PER_TABLE)):
        yield step


def shown(name: str | None) -> str:
    return "-" if name is None else printable(name)


def moment(time: datetime | None) -> str:
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:,.2f} ms" if seconds < 1 else f"{seconds:,.2f} s"


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Shows how far long work has come, on stderr, if a person looks."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda text: None
        return
    with screen.status(what) as status:
        yield lambda text: status.update(f"{what} {text}")
