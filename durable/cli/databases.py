"""`durable sql`: queries of one object's SQL database, beside a program that uses it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from durable import operate
from durable.operate.databases import open_database

from .printing import as_json, in_steps, print_json, print_table

VALUE_SHOWN_MAX = 2_000  # characters


@click.command()
@click.argument("folder")
@click.argument("cls", metavar="CLASS")
@click.argument("name_or_id")
@click.argument("query", metavar="[QUERY]", required=False)
@click.option("--limit", type=click.IntRange(min=1), help="Print at most this many rows.")
@as_json
def sql(
    folder: str,
    cls: str,
    name_or_id: str,
    query: str | None,
    limit: int | None,
    is_json: bool,
) -> None:
    """Query the SQL database of one object.

    Prints the rows of QUERY, or without one the object's tables. It reads a snapshot, writes
    nothing and wakes no object; the program that owns the store goes on.
    """
    with operate.look(folder) as store, open_database(store, store.find(cls, name_or_id)) as opened:
        if query is None:
            columns: tuple[str, ...] = ("table", "made by")
            rows: Any = iter(opened.tables())
        else:
            answer = opened.query(query)
            columns, rows = answer.columns, answer.rows
        rows = islice(rows, limit)
        if is_json:
            for row in rows:
                values = map(operate.to_json, row)
                print_json(dict(zip(columns, values, strict=True)))
            return
        shown = (tuple(map(_shown, row)) for row in rows)
        print_table(columns or ("",), in_steps(shown), nothing="there are no rows")


def _shown(value: Any) -> str:
    text = "NULL" if value is None else value if isinstance(value, str) else repr(value)
    if len(text) > VALUE_SHOWN_MAX:
        text = f"{text[:VALUE_SHOWN_MAX]}… ({len(text):,} characters; --json shows all)"
    return text
