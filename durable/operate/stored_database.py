"""One object's SQL database, opened for reading. The only file here that imports apsw."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw
from attrs import define, field, frozen

from durable._engine.page_packing import PAGE_SIZE, pages_of, unpack
from durable._engine.side_records import PAGES
from durable._engine.view import Damaged, Malformed
from durable._model.clock import SystemClock
from durable._model.errors import StoreDamaged
from durable._model.limits import Limits
from durable._model.storage_errors import SqlForbidden
from durable._storage.sql.failures import not_authorized, sql_error
from durable._storage.sql.rules import is_allowed, is_allowed_text, limits_of
from durable._storage.sql.statements import check_bindings, first_of
from durable._storage.sql.vfs import PageFiles

from .found import Found
from .looking import Store

ONLY_READS = (
    "what looks into a database only reads; a method of the object writes, and may be called"
)
# SQLite calls back after so many steps of its machine, and stops if the callback says so.
STEPS_PER_LOOK = 100_000


@frozen
class Answer:
    """The result of a query."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


@define(eq=False)
class _StoredPages:
    """The pages of one object, as they were when they were first read."""

    _store: Store
    _found: Found
    count: int = field(default=0, init=False)
    failure: StoreDamaged | None = field(default=None, init=False)

    def read(self, number: int) -> bytes | None:
        key = PAGES + number.to_bytes(4, "big")
        stored = next(self._store.sides(self._found, key, key + b"\0"), None)
        if stored is None:
            return None
        try:
            if isinstance(stored[1], Damaged):
                raise Malformed("its checksum does not match")
            return unpack(number, stored[1])
        except Malformed as error:
            self.failure = StoreDamaged(
                f"page {number} of the database of {self._found.id} is damaged: {error}; run "
                f"`durable check` on the store, and restore the object from a backup"
            )
            raise self.failure from error

    def write_at(self, page: bytes, offset: int) -> None:
        raise SqlForbidden("the database is open for reading only")

    def truncate(self, count: int) -> None:
        raise SqlForbidden("the database is open for reading only")


@define(eq=False)
class StoredDatabase:
    """The SQLite database of one object, for reading."""

    _connection: Any
    _pages: _StoredPages
    _is_checking: bool = field(default=False, init=False)

    def stop_after(self, seconds: float) -> None:
        """Interrupt a query that still runs by then."""
        end_s = time.monotonic() + seconds
        self._connection.set_progress_handler(lambda: time.monotonic() > end_s, STEPS_PER_LOOK)

    def query(self, text: str, *bindings: Any) -> Answer:
        """The rows of *text*, which is one statement that only reads. Raises SqlError."""
        try:
            statement, rest = first_of(self._connection, text)
            if rest:
                raise SqlForbidden(f"only one statement at a time can be run, and {rest!r} follows")
            if not is_allowed_text(statement.sql):
                raise not_authorized()
            check_bindings(statement, len(bindings))
            rows = self._connection.execute(statement.sql, bindings)
        except Exception as error:
            raise self._refusal(error) from error
        return Answer(statement.columns, self._read(rows))

    def _read(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from rows
        except Exception as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> BaseException:
        if self._pages.failure is not None:
            return self._pages.failure
        if isinstance(error, apsw.ReadOnlyError):
            return SqlForbidden(ONLY_READS)
        return sql_error(error) if isinstance(error, apsw.Error) else error

    @property
    def size(self) -> int:
        """Bytes of its pages."""
        return self._pages.count * PAGE_SIZE

    def tables(self) -> list[tuple[str, str]]:
        """The names of its tables and how each was made, without SQLite's own."""
        answer = self.query(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        return [(str(name), str(sql)) for name, sql in answer.rows]

    def problems(self) -> list[str]:
        """The problems that SQLite's integrity check finds."""
        self._is_checking = True
        try:
            rows = self._connection.execute("PRAGMA integrity_check").fetchall()
        except Exception as error:
            return [str(self._refusal(error))]
        finally:
            self._is_checking = False
        return [] if rows == [("ok",)] else [str(what) for (what,) in rows]

    def pages(self) -> Iterator[bytes]:
        """All of its pages in a row: the contents of an SQLite file."""
        for number in range(1, self._pages.count + 1):
            yield (self._pages.read(number) or b"").ljust(PAGE_SIZE, b"\0")

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, _: Any
    ) -> int:
        if self._is_checking or is_allowed(action, first, second, database):
            return apsw.SQLITE_OK
        return apsw.SQLITE_DENY


@contextmanager
def opened(store: Store, found: Found) -> Iterator[StoredDatabase]:
    """The database of an object that has one, while one snapshot of the store is held."""
    pages = _StoredPages(store, found)
    pages.count = pages_of(pages.read(1) or bytes(PAGE_SIZE))
    files = PageFiles(SystemClock())
    try:
        connection = files.connect(pages, apsw.SQLITE_OPEN_READONLY)
        database = StoredDatabase(connection, pages)
        for pragma in ("locking_mode=EXCLUSIVE", "temp_store=MEMORY", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for limit, value in limits_of(Limits()).items():
            connection.limit(limit, value)
        connection.authorizer = database._authorize
        try:
            yield database
        finally:
            connection.close(True)
    finally:
        files.unregister()
