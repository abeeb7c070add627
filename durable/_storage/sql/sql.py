"""`ctx.storage.sql`: SQL on the object's own database."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import apsw

from durable._model.errors import SqlError, UnstorableValue

from ..records import Records
from .database import Database

Value: TypeAlias = int | float | str | bytes | None
"""What a column of a row may be."""

Binding: TypeAlias = int | float | str | bytes | bytearray | memoryview | None
"""What may be given for a parameter: a bool comes back as 0 or 1, bytes of any kind as bytes."""

_AS_THEY_ARE = frozenset({type(None), str, bytes})
_INT_MAX = 1 << 63

CURSOR_CLOSED = (
    "the cursor is closed: the object was reset, everything in it deleted, or its connection "
    "closed to make room for others (Limits.sql_connections_max); run the query again"
)


class Sql:
    """The SQLite database of one object.

    **Promises.** It is part of the object: what a turn writes by SQL, keys and alarm is stored
    together or not at all (P7), nothing leaves before it is on disk (P8), `transaction()` and
    `transaction_sync()` undo all of it, and `delete_all()` drops all of it, at once. Neither keys
    nor tables show the other. A write by SQL is always confirmed.

    What SQL may do is what Cloudflare's SQL storage allows; sizes are in `Limits`. All of it runs
    in-line: nothing else does meanwhile.

        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS visit (at REAL, page TEXT)")
        self.ctx.storage.sql.exec("INSERT INTO visit VALUES (?, ?)", time, page)
    """

    __slots__ = ("_database", "_gate", "_records")

    def __init__(self, records: Records, database: Database) -> None:
        self._records = records
        self._gate = records.gate
        self._database = database

    def exec(self, query: str, *bindings: Binding) -> Cursor:
        """Run *query*, here and now, with *bindings* for its parameters.

        Of several statements all but the last run to their end, and the bindings are the last
        one's. A statement that writes has run to its end when `exec` returns; of one that reads,
        rows are read as the cursor is asked for them.

        Raises SqlError for what SQLite refuses (SqlConstraint, SqlForbidden), UnstorableValue for
        a binding that SQL has no value for.
        """
        self._gate.check()
        if type(query) is not str:
            raise TypeError(f"exec() takes SQL, a str, not {type(query).__name__}")
        if bindings:
            for place, binding in enumerate(bindings):
                if type(binding) not in _AS_THEY_ARE:
                    _check(binding, place)
        database = self._database
        changes = database.changes
        try:
            cursor, statement = database.run(query, bindings)
        except UnicodeEncodeError as error:
            raise UnstorableValue(
                "text with a lone surrogate has no UTF-8, so SQL has no value for it"
            ) from error
        if statement.only_reads:
            return Cursor(database, cursor, statement.columns, cursor)
        try:
            rows = cursor.fetchall()
        except apsw.Error as error:
            raise database.failed(error) from error
        written = max(0, database.changes - changes)
        return Cursor(database, None, statement.columns, iter(rows), written)

    @property
    def database_size(self) -> int:
        """The bytes of the database's pages, without those that are free."""
        self._gate.check()
        try:
            return self._database.size
        except apsw.Error as error:
            raise self._database.failed(error) from error

    def __repr__(self) -> str:
        return "<Sql>"


class Cursor(Iterator[dict[str, Value]]):
    """The rows of a query: dicts by the names of their columns, where the last of two columns of
    one name wins.

    It reads while it is asked, over awaits too, as long as its object stays in memory; it raises
    SqlError when it was closed before its end.
    """

    __slots__ = ("_database", "_read", "_reading", "_rows", "_written", "column_names")

    column_names: list[str]
    """The names of the columns, in order."""

    def __init__(
        self,
        database: Database,
        reading: apsw.Cursor | None,
        columns: tuple[str, ...],
        rows: Iterator[tuple[Any, ...]],
        written: int = 0,
    ) -> None:
        self._database = database
        self._reading = reading
        self._rows = rows
        self._read = 0
        self._written = written
        if reading is not None:
            try:
                # Of this run: a table may have other columns by now.
                columns = tuple([column[0] for column in reading.get_description()])
            except apsw.ExecutionCompleteError:
                self._reading = None
            else:
                database.reading += 1
        self.column_names = list(columns)

    @property
    def rows_read(self) -> int:
        """How many rows were handed out so far."""
        return self._read

    @property
    def rows_written(self) -> int:
        """How many rows the statement has inserted, changed and deleted."""
        return self._written

    def __next__(self) -> dict[str, Value]:
        return dict(zip(self.column_names, self._next(), strict=True))

    def _next(self) -> tuple[Any, ...]:
        try:
            row = next(self._rows)
        except StopIteration:
            self._ended()
            raise
        except apsw.Error as error:
            raise self._failed(error) from error
        self._read += 1
        return row

    def raw(self) -> Iterator[tuple[Value, ...]]:
        """The rows that are left, as tuples."""
        while True:
            try:
                row = self._next()
            except StopIteration:
                return
            yield row

    def to_list(self) -> list[dict[str, Value]]:
        """The rows that are left."""
        names = self.column_names
        try:
            rows = list(self._rows)
        except apsw.Error as error:
            raise self._failed(error) from error
        self._ended()
        self._read += len(rows)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def one(self) -> dict[str, Value]:
        """The only row that is left; SqlError if there is none, or another one."""
        row = next(self, None)
        if row is None:
            raise SqlError("Expected exactly one result from SQL query, but got no results.")
        if next(self, None) is not None:
            raise SqlError("Expected exactly one result from SQL query, but got multiple results.")
        return row

    def _failed(self, error: apsw.Error) -> BaseException:
        self._ended()
        if isinstance(error, apsw.CursorClosedError | apsw.ConnectionClosedError):
            return SqlError(CURSOR_CLOSED)
        return self._database.failed(error)

    def _ended(self) -> None:
        if self._reading is not None:
            self._reading = None
            self._database.reading -= 1

    def __del__(self) -> None:
        if getattr(self, "_reading", None) is not None:
            self._ended()

    def __repr__(self) -> str:
        return f"<Cursor of {', '.join(self.column_names) or 'no columns'}>"


def _check(binding: Any, place: int) -> None:
    """Raise UnstorableValue for a binding that SQL has no value for."""
    if isinstance(binding, int):
        if not -_INT_MAX <= binding < _INT_MAX:
            raise UnstorableValue(
                f"binding {place + 1} is an int beyond 64 bits, for which SQL has no value: "
                f"{binding}"
            )
    elif isinstance(binding, float):
        if math.isnan(binding):
            raise UnstorableValue(
                f"binding {place + 1} is NaN, which SQL would store as NULL; give None for that"
            )
    elif not isinstance(binding, str | bytes | bytearray | memoryview):
        raise UnstorableValue(
            f"binding {place + 1} is of the type {type(binding).__name__}, for which SQL has no "
            f"value: give None, an int, a float, a str or bytes"
        )
