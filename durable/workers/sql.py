"""`ctx.storage.sql` as Cloudflare's Python spells it, over the library's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from durable import Storage

from .crossing import JsDict, inward, outward
from .errors import errors_of_javascript
from .js_collections import JsArray
from .spelling import BothCases


class SqlStorage(BothCases):
    """The SQL database of an object."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def exec(self, query: str, *bindings: Any) -> SqlStorageCursor:
        """Run *query*; the cursor has its result."""
        given = [outward(binding) for binding in bindings]
        with errors_of_javascript():
            return SqlStorageCursor(self._storage.sql.exec(query, *given))

    @property
    def databaseSize(self) -> int:
        return self._storage.sql.database_size


class SqlStorageCursor(BothCases):
    """The rows of a query, each a dict; they are read once."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __iter__(self) -> Iterator[JsDict]:
        for row in self._cursor:
            yield inward(row)

    def next(self) -> JsDict:
        """`done`, and the next row as `value`."""
        row = next(iter(self), None)
        return JsDict(done=True) if row is None else JsDict(done=False, value=row)

    def toArray(self) -> list[JsDict]:
        return list(self)

    def one(self) -> JsDict:
        with errors_of_javascript():
            row: JsDict = inward(self._cursor.one())
        return row

    def raw(self) -> SqlRows:
        """The rows as lists."""
        return SqlRows(self._cursor.raw())

    @property
    def columnNames(self) -> list[str]:
        return list(self._cursor.column_names)

    @property
    def rowsRead(self) -> int:
        count: int = self._cursor.rows_read
        return count

    @property
    def rowsWritten(self) -> int:
        count: int = self._cursor.rows_written
        return count


class SqlRows:
    """Rows as lists of values."""

    def __init__(self, rows: Any) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[list[Any]]:
        for row in self._rows:
            yield inward(row)

    def toArray(self) -> JsArray:
        return JsArray(JsArray(row) for row in self)
