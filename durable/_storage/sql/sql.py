"""`ctx.storage.sql`: SQL on the object's own database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import length_hint
from typing import Any, Final, TypeAlias

import apsw

from durable._loop import here
from durable._model.storage_errors import SqlError, UnstorableValue

from ..records import Records
from ..watched_queries import EndedQuery, QueryWatch
from .database import Database
from .touching import ChangedRows
from .watched import WatchedQuery, WatchedRows

Binding: TypeAlias = int | float | str | bytes | bytearray | memoryview | None
"""What may be given for a parameter: a bool comes back as 0 or 1, bytes of any kind as bytes."""

# The types of bindings that SQL has a value for, but for an int beyond 64 bits.
_HAS_VALUES: Final = frozenset({type(None), int, str, bytes})
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1
# What apsw raises: ValueError for what is no text, BufferError for bytes that are not in a row.
_FAILURES = (apsw.Error, ValueError, BufferError)
_NO_ROWS: Final[Iterator[tuple[Any, ...]]] = iter(())

CURSOR_CLOSED = (
    "the cursor is closed: the object was reset, everything in it deleted, or its connection "
    "closed to make room for others (Limits.sql_connections_max); run the query again"
)

NO_RESULTS = "Expected exactly one result from SQL query, but got no results."
MULTIPLE_RESULTS = "Expected exactly one result from SQL query, but got multiple results."

NO_TEXT = (
    "a value is of the type TEXT and is no UTF-8: it was made by CAST(… AS TEXT) or || of bytes; "
    "select it as CAST(… AS BLOB)"
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

    __slots__ = ("_database", "_gate", "_on_query", "_watch")

    def __init__(
        self,
        records: Records,
        database: Database,
        watch: QueryWatch,
        on_query: Callable[[EndedQuery], None],
    ) -> None:
        self._gate = records.gate
        self._database = database
        self._watch = watch
        self._on_query = on_query

    def exec(self, query: str, *bindings: Binding) -> Cursor:
        """Run *query*, here and now, with *bindings* for its parameters.

        Of several statements all but the last run to their end, and the bindings are the last
        one's. A statement that writes has run to its end when `exec` returns; of one that reads,
        rows are read as the cursor is asked for them.

        Raises SqlError for what SQLite refuses (SqlConstraint, SqlForbidden), UnstorableValue for
        a binding that SQL has no value for.
        """
        gate = self._gate
        if here.thread() != gate.thread:
            gate.check()
        if bindings and not _HAS_VALUES.issuperset(map(type, bindings)):
            _check(bindings)
        if self._watch.is_on:
            return self._run_watched(query, bindings)
        database = self._database
        statement = database.texts.singles.get(query)
        if statement is None or statement.bindings != len(bindings):
            return self._run(query, bindings)
        # There is a connection, since it forgets its texts as it is closed.
        connection = database.connection
        assert connection is not None
        if database.connections.latest is not database:
            database.connections.touch(database)
        columns = statement.columns
        try:
            if statement.only_reads:
                database.limit.looked_s = 0.0
                return Cursor(database, columns, connection.execute(query, bindings))
            if statement.is_alone:
                written = database.execute_alone(connection, statement, bindings)
                if written >= 0:
                    return Cursor(database, columns, _NO_ROWS, written)
            changes = connection.total_changes()
            rows = database.execute(connection, statement, bindings)
            found = iter(rows.fetchall()) if columns else _NO_ROWS
        except OverflowError:
            _check(bindings)  # an int beyond 64 bits: nothing has run
            raise
        except _FAILURES as error:
            raise _raised(database, error) from error
        return Cursor(database, columns, found, connection.total_changes() - changes)

    def _run(self, query: str, bindings: tuple[Any, ...]) -> Cursor:
        if type(query) is not str:
            raise TypeError(f"exec() takes SQL, a str, not {type(query).__name__}")
        _check(bindings)
        database = self._found()
        changes = database.changes
        try:
            rows, statement = database.run(query, bindings)
            if statement.only_reads:
                return Cursor(database, statement.columns, rows)
            found = rows.fetchall()
        except _FAILURES as error:
            raise _raised(database, error) from error
        # A connection that was opened for it has counted nothing before.
        written = max(0, database.changes - changes)
        return Cursor(database, statement.columns, iter(found), written)

    def _found(self) -> Database:
        """The object's database; another one may have taken the place of one that has no connection
        any more."""
        database = self._database
        if database.connection is None:
            database = self._database = database.successor(self)
        return database

    def _run_watched(self, query: str, bindings: tuple[Any, ...]) -> Cursor:
        watched = WatchedQuery(query, self._on_query, self._gate.loop)
        watched.goes_on()
        try:
            if self._watch.asks_touched:
                cursor = self._run_touching(query, bindings, watched)
            else:
                cursor = self._run(query, bindings)
        except BaseException as error:
            watched.pauses()
            watched.ended(error)
            raise
        watched.pauses()
        if cursor._written is None:
            cursor._rows = WatchedRows(cursor._rows, watched)
        else:
            watched.rows_read = length_hint(cursor._rows)  # all of them, by now
            watched.rows_written = cursor._written
            watched.ended()
        return cursor

    def _run_touching(self, query: str, bindings: tuple[Any, ...], watched: WatchedQuery) -> Cursor:
        database = self._found()
        with ChangedRows(database.use()) as rows:
            cursor = self._run(query, bindings)
        columns = database.texts.columns_of(query)
        if columns is not None:
            watched.touched = rows.touched(columns, only_reads=cursor._written is None)
        return cursor

    @property
    def database_size(self) -> int:
        """The bytes of the database's pages, without those that are free."""
        self._gate.check()
        database = self._found()
        try:
            return database.size
        except apsw.Error as error:
            raise database.failed(error) from error

    def __repr__(self) -> str:
        return "<Sql>"


class Cursor(Iterator[dict[str, Any]]):
    """The rows of a query: dicts by the names of their columns, where the last of two columns of
    one name wins.

    It reads while it is asked, over awaits too, as long as its object stays in memory; it raises
    SqlError when it was closed before its end.
    """

    __slots__ = ("_columns", "_database", "_read", "_rows", "_written")

    def __init__(
        self,
        database: Database,
        columns: tuple[str, ...],
        rows: Iterator[tuple[Any, ...]],
        written: int | None = None,
    ) -> None:
        self._database = database
        self._columns = columns
        self._rows = rows
        self._read = 0
        self._written = written  # None: the statement only reads; else it has run to its end

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._columns)

    @property
    def rows_read(self) -> int:
        """How many rows were handed out so far."""
        return self._read

    @property
    def rows_written(self) -> int:
        """How many rows the statement has inserted, changed and deleted."""
        return self._written or 0

    def __next__(self) -> dict[str, Any]:
        try:
            row = next(self._rows)
        except (StopIteration, apsw.Error, UnicodeDecodeError) as error:
            raise self._over(error) from None
        self._read += 1
        return dict(zip(self._columns, row))  # noqa: B905

    def raw(self) -> Iterator[tuple[Any, ...]]:
        """The rows that are left, as tuples."""
        while True:
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except (apsw.Error, UnicodeDecodeError) as error:
                raise self._over(error) from error
            self._read += 1
            yield row

    def to_list(self) -> list[dict[str, Any]]:
        """The rows that are left."""
        columns = self._columns
        try:
            rows = list(self._rows)
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._over(error) from error
        self._read += len(rows)
        return [dict(zip(columns, row)) for row in rows]  # noqa: B905

    def one(self) -> dict[str, Any]:
        """The only row that is left; SqlError if there is none, or another one."""
        rows = self._rows
        try:
            for row in rows:
                self._read += 1
                for _ in rows:
                    self._read += 1
                    raise SqlError(MULTIPLE_RESULTS)
                return dict(zip(self._columns, row))  # noqa: B905
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._over(error) from error
        raise SqlError(NO_RESULTS)

    def _over(self, error: BaseException) -> BaseException:
        """The rows have ended by *error*: what to raise."""
        if isinstance(error, apsw.CursorClosedError | apsw.ConnectionClosedError):
            return SqlError(CURSOR_CLOSED)
        return error if isinstance(error, StopIteration) else _raised(self._database, error)

    def __repr__(self) -> str:
        return f"<Cursor of {', '.join(self._columns) or 'no columns'}>"


def _check(bindings: tuple[Any, ...]) -> None:
    """Raise UnstorableValue for a binding that SQL has no value for."""
    for place, binding in enumerate(bindings, 1):
        if binding is None or isinstance(binding, str | bytes | bytearray | memoryview):
            continue
        if isinstance(binding, int):
            if _INT_MIN <= binding <= _INT_MAX:
                continue
            what = f"an int beyond 64 bits: {binding}"
            instead = "give it as text, which has no bounds, or as a float"
        elif isinstance(binding, float):
            if not math.isnan(binding):
                continue
            what = "NaN, which would be stored as NULL"
            instead = "give None for that"
        else:
            what = f"of the type {type(binding).__name__}"
            instead = "give None, an int, a float, str or bytes"
        why = f"SQL has no value for binding {place}, which is {what}"
        raise UnstorableValue(why, instead=instead)


def _raised(database: Database, error: BaseException) -> BaseException:
    if isinstance(error, UnicodeEncodeError):
        why = f"SQL has no value for text with a lone surrogate: {error}"
        return UnstorableValue(why, instead="give such text as bytes")
    if isinstance(error, BufferError):
        why = f"SQL has no value for a memoryview like this one: {error}"
        return UnstorableValue(why, instead="give bytes(view)")
    if isinstance(error, UnicodeDecodeError):
        return SqlError(NO_TEXT)
    return database.failed(error) if isinstance(error, apsw.Error) else SqlError(str(error))
