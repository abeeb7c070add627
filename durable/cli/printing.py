"""How commands print: tables for people, lines of JSON for programs.

Rule: rows are printed as they come, so a long list takes no more memory than a short one.
"""

from __future__ import annotations

import io
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

from durable.operate import Store
from durable.operate.json_lines import json_line

from .plain_text import printable, say

# Rows of one table; those of the next ones stand under the same columns.
ROWS_PER_TABLE = 200
# A column is not folded to less than this.
FOLDED_WIDTH = 64
# The width when no terminal gives one.
WIDTH = 200

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def as_json(command: Decorated) -> Decorated:
    """Adds the option to print for programs."""
    return click.option("--json", "is_json", is_flag=True, help="Print lines of JSON.")(command)


def console(*, stderr: bool = False) -> Console:
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def utf8_stdout() -> TextIO:
    """The standard output, always as UTF-8, whatever the locale says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def print_json(what: Mapping[str, Any]) -> None:
    sys.stdout.write(json_line(what))


def print_now(lines: str) -> None:
    """Print a step of a listing, so that a reader need not wait for the next one."""
    if lines:
        sys.stdout.write(lines)
        sys.stdout.flush()


def print_table(
    columns: Sequence[str], steps: Iterable[Sequence[Sequence[str]]], *, nothing: str
) -> None:
    """Print the rows of all *steps* under *columns*, each step when it comes; if there are none,
    *nothing* on stderr. The columns are as wide as those of the first step need; if a later step
    needs more, they are wider from there on."""
    printed = ([[printable(cell) for cell in row] for row in step] for step in steps if step)
    first = next(printed, None)
    if first is None:
        say(nothing, err=True)
        return
    screen = console()
    widths = _widths(first, [cell_len(column) for column in columns])
    _print_rows(screen, [columns], widths, style="bold")
    for step in chain([first], printed):
        widths = _widths(step, widths)
        for rows in in_steps(iter(step)):
            _print_rows(screen, rows, widths)


def _widths(rows: Sequence[Sequence[str]], at_least: Sequence[int]) -> list[int]:
    return [
        max(width, *map(cell_len, column))
        for width, column in zip(at_least, zip(*rows, strict=True), strict=True)
    ]


def _print_rows(
    screen: Console, rows: Sequence[Sequence[str]], widths: Sequence[int], style: str = ""
) -> None:
    # To lay out rows that fit as they are takes a hundred times as long as printing them.
    folded = _fold(widths, screen.width) if screen.is_terminal else None
    if folded is not None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for width in folded:
            table.add_column(width=width, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=style) for cell in row))
        screen.print(table)
        return
    lines = "".join([_plain(row, widths) for row in rows])
    if style:
        screen.print(Text(lines, style=style), end="", soft_wrap=True)
    else:
        print_now(lines)


def _fold(widths: Sequence[int], screen_width: int) -> list[int] | None:
    """The widths to which columns too wide for the screen are folded. None: they need not be, or
    there is no room for them: then the terminal breaks the lines, where folding would lose columns.
    """
    folded = list(widths)
    excess = sum(folded) + 2 * len(folded) - screen_width
    if excess <= 0:
        return None
    for index in sorted(range(len(folded)), key=folded.__getitem__, reverse=True):
        cut = min(excess, max(0, folded[index] - FOLDED_WIDTH))
        folded[index] -= cut
        excess -= cut
    return None if excess > 0 else folded


def in_steps(rows: Iterator[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    while step := list(islice(rows, ROWS_PER_TABLE)):
        yield step


def _plain(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip() + "\n"


def say_left_out(store: Store) -> int:
    """Print which objects were left out; returns the exit status."""
    for each in store.damaged:
        what = f"the object {each.id} of {each.cls.label}, whose record is damaged: {each.why}"
        say(f"left out: {what}; run durable check", err=True)
    return 1 if store.damaged else 0


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(printable(value)))
    console().print(table)


def shown(name: str | None) -> str:
    return "-" if name is None else name


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


def as_quiet(command: Decorated) -> Decorated:
    """Adds the option to print only errors and warnings."""
    return click.option(
        "-q", "--quiet", "is_quiet", is_flag=True, help="Print only errors and warnings."
    )(command)


@contextmanager
def progress(
    what: str,
    total_of: Callable[[], int | None] = lambda: None,
    *,
    shown_as: Callable[[int], str] = "{:,}".format,
    is_quiet: bool = False,
) -> Iterator[Callable[[int], None]]:
    """Shows the progress of long work on stderr, if that is a terminal: call it with how much is
    done. *total_of* is called only then, until it returns the total."""
    screen = Console(stderr=True)
    if is_quiet or not screen.is_terminal:
        yield lambda done: None
        return
    total: int | None = None

    def show(done: int) -> None:
        nonlocal total
        if total is None:
            total = total_of()
        status.update(f"{what} {progress_text(done, total, shown_as)}")

    with screen.status(what) as status:
        yield show


def progress_text(done: int, total: int | None, shown_as: Callable[[int], str]) -> str:
    if not total:
        return shown_as(done)
    # More may be done than the total was when it was counted.
    return f"{shown_as(done)} of {shown_as(max(done, total))} ({min(100, 100 * done // total)} %)"
