"""The texts of SQL that a database has run: their statements, and what each of them does.

What a text is made of is found once, as its statements are about to run: one may need the tables
that those before it make.
"""

from __future__ import annotations

from typing import Any, Final

import apsw
import apsw.ext
from attrs import define

from durable._model.storage_errors import SqlError

NO_STATEMENT: Final = "SQL code did not contain a statement."
WRONG_BINDINGS: Final = "Wrong number of parameter bindings for SQL query."
ONLY_THE_LAST_BINDS: Final = (
    "When executing multiple SQL statements in a single call, only the last statement can have "
    "parameters."
)
TEXTS_REMEMBERED: Final = 256


@define(eq=False, slots=True, weakref_slot=False)
class Statement:
    """One statement."""

    sql: str
    only_reads: bool
    bindings: int
    columns: tuple[str, ...]  # as long as no statement changes the schema
    changes_schema: bool = False
    # It need not be put into a transaction together with others: nothing acts on that, and none has
    # followed it in its turn so far.
    is_alone: bool = False


def first_of(connection: apsw.Connection, text: str) -> tuple[Statement, str]:
    """The first statement of *text*, and what follows it. Raises an apsw.Error if it is none."""
    found = apsw.ext.query_info(connection, text)
    if not found.has_vdbe:
        raise SqlError(NO_STATEMENT)
    sql = found.first_query
    # PRAGMA optimize says that it only reads, and writes tables of statistics.
    only_reads = found.is_readonly and "optimize" not in sql.lower()
    columns = tuple([column[0] for column in found.description])
    return Statement(sql, only_reads, found.bindings_count, columns), (
        found.query_remaining or ""
    ).strip()


def ask_all(connection: apsw.Connection, *pragmas: str) -> list[tuple[Any, ...]]:
    """The rows of *pragmas*. They are not remembered by their text, as a statement of the object
    is: of one that is, the rules are not asked."""
    text = ";".join([f"PRAGMA {pragma}" for pragma in pragmas])
    return connection.execute(text, can_cache=False).fetchall()


def check_bindings(statement: Statement, given: int) -> None:
    """Raise SqlError if *statement* does not take so many."""
    if statement.bindings != given:
        raise SqlError(f"{WRONG_BINDINGS} It takes {statement.bindings}, and {given} were given")
