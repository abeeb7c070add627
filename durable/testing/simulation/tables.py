"""Tables: some of the objects under simulation keep their state twice, by keys and as rows.

Rule: both are written in the same turn, so whatever is lost, kept or undone, they agree. Without
`durable-objects[sql]` no object has a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final
from zlib import crc32

from durable._border.ctx import State

HAS_SQL: Final = find_spec("apsw") is not None


def has_table(name: str) -> bool:
    """Whether the object of this name is one of them; it is so in every life of the store."""
    return HAS_SQL and crc32(name.encode()) % 3 == 0


def write_rows(ctx: State, changes: Mapping[str, Any]) -> None:
    """Write the values of keys as rows; None deletes."""
    sql = ctx.storage.sql
    sql.exec("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value, filler TEXT)")
    for key, value in changes.items():
        if value is None:
            sql.exec("DELETE FROM state WHERE key = ?", key)
        else:
            # More than a page or two, so that pages come and go.
            filler = "x" * (crc32(repr(value).encode()) % 3_000)
            sql.exec("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", key, value, filler)


def read_rows(ctx: State) -> dict[str, Any]:
    """The state as the table has it."""
    sql = ctx.storage.sql
    if not sql.exec("SELECT 1 FROM sqlite_schema WHERE name = 'state'").to_list():
        return {}
    return {str(key): value for key, value in sql.exec("SELECT key, value FROM state").raw()}
