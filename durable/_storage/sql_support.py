"""SQL for the objects of a runtime, where `durable-objects[sql]` is installed.

apsw is imported when the first object asks.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attrs import define, field

from durable._model.clock import Clock
from durable._model.errors import MissingExtra
from durable._model.limits import Limits

from .records import Records
from .watched_queries import EndedQuery, QueryWatch

if TYPE_CHECKING:
    from .sql.connections import Connections
    from .sql.sql import Sql


@define(eq=False)
class SqlSupport:
    """What the databases of one runtime share."""

    _clock: Clock
    _limits: Limits
    watch: QueryWatch = field(factory=QueryWatch, init=False)
    _connections: Connections | None = field(default=None, init=False)
    _open_sql: Any = field(default=None, init=False)

    def open(self, records: Records, on_query: Callable[[EndedQuery], None]) -> Sql:
        """The SQL of the object whose records these are; *on_query* is called with its queries
        while they are watched. MissingExtra without the extra."""
        if self._connections is None:
            try:
                sql: Any = import_module("durable._storage.sql.opening")
            except ModuleNotFoundError as error:
                if error.name != "apsw":
                    raise
                raise MissingExtra(
                    "ctx.storage.sql needs SQLite as the package apsw brings it", "sql"
                ) from error
            self._connections = sql.make_connections(self._clock, self._limits)
            self._open_sql = sql.open_sql
        opened: Sql = self._open_sql(records, self._connections, self.watch, on_query)
        return opened

    @property
    def connections(self) -> int:
        """How many databases are open."""
        return 0 if self._connections is None else len(self._connections)

    def close(self) -> None:
        """Close what is open: no object uses its database any more."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None
