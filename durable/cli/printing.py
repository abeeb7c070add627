"""How commands print: tables for people, lines of JSON for programs.

Rule: rows are printed as they come, so a long list takes no more memory than a short one.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, TextIO, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .checking import printable

# Rows of one table; those of the next ones stand under the same columns.
ROWS_PER_TABLE = 200
# A column is not folded to less than this.
FOLDED_WIDTH = 64
# Where no terminal says how wide it is.
WIDTH = 200

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def as_json(command: Decorated) -> Decorated:
    """The option by which a command prints for programs."""
    return click.option("--json", "is_json", is_flag=True, help="Print lines of JSON.")(command)


def console(*, stderr: bool = False) -> Console:
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def json_line(what: Mapping[str, Any]) -> str:
    return json.dumps(what, ensure_ascii=False, default=str) + "\n"


def utf8_stdout() -> TextIO:
    """The standard output for what is to be UTF-8 wherever it is read, whatever the locale says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def print_json(what: Mapping[str, Any]) -> None:
    sys.stdout.write(json_line(what))


def print_now(lines: str) -> None:
    """Print a step of a listing; whoever reads it need not wait for the next one."""
    if lines:
        sys.stdout.write(lines)
        sys.stdout.flush()


def print_table(
    columns: Sequence[str], steps: Iterable[Sequence[Sequence[str]]], *, nothing: str
) -> None:
    """The rows of all *steps* under *columns*, each step when it comes; *nothing* is said on stderr
    if there are none. The columns are as wide as those of the first step need."""
    steps = (step for step in steps if step)
    first = next(steps, None)
    if first is None:
        click.echo(nothing, err=True)
        return
    screen = console()
    widths = [max(map(len, column)) for column in zip(columns, *first, strict=True)]
    if not screen.is_terminal:
        for step in chain([[columns]], [first], steps):
            print_now("".join([_plain(row, widths) for row in step]))
        return
    if _can_fold(columns, widths, screen.width):
        screen.print(_table(columns, [], widths, show_header=True))
    else:
        screen.print(Text(_plain(columns, widths), style="bold"), end="", soft_wrap=True)
    for step in chain([first], steps):
        for rows in in_steps(iter(step)):
            # To lay out a row that fits as it is takes a hundred times as long as to print it.
            fits = sum(widths) + 2 * len(widths) <= screen.width and all(
                _fits(row, widths) for row in rows
            )
            if not fits and all(_can_fold(row, widths, screen.width) for row in rows):
                screen.print(_table(columns, rows, widths, show_header=False))
            else:
                print_now("".join([_plain(row, widths) for row in rows]))


def _can_fold(row: Sequence[str], widths: Sequence[int], screen_width: int) -> bool:
    """Whether all columns have room for what they must; else the terminal breaks the line, where
    folding would lose columns."""
    needed = sum(
        min(max(cell_len(cell), width), FOLDED_WIDTH)
        for cell, width in zip(row, widths, strict=True)
    )
    return needed + 2 * len(widths) <= screen_width


def _table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    widths: Sequence[int],
    *,
    show_header: bool,
) -> Table:
    table = Table(box=None, show_header=show_header, header_style="bold", pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, min_width=min(width, FOLDED_WIDTH), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def in_steps(rows: Iterator[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    while step := list(islice(rows, ROWS_PER_TABLE)):
        yield step


def _fits(row: Sequence[str], widths: Sequence[int]) -> bool:
    return all(
        len(cell) <= width and cell.isascii() for cell, width in zip(row, widths, strict=True)
    )


def _plain(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip() + "\n"


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(value))
    console().print(table)


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
