"""The way into this folder for those that must not import it before it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from durable._model.clock import Clock
from durable._model.limits import Limits

from ..records import Records
from ..watched_queries import EndedQuery, QueryWatch
from .connections import Connections
from .database import Database
from .sql import Sql
from .vfs import PageFiles


def make_connections(clock: Clock, limits: Limits) -> Connections:
    """What the databases of a runtime share."""
    return Connections(limits, PageFiles(clock))


def open_sql(
    records: Records,
    connections: Connections,
    watch: QueryWatch,
    on_query: Callable[[EndedQuery], None],
) -> Sql:
    """The SQL of the object whose records these are."""
    database = Database.of(records, connections)
    if watch.asks_touched:
        database.texts.columns = {}
    sql = database.sql = Sql(records, database, watch, on_query)
    return sql
