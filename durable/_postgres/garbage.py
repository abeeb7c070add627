"""The garbage that is freed in steps: histories first, since they lead to more, then the rest.

Plain rows are freed by a function in the database, see `functions.py`. The records of a history
have to be read, since they name what the history has kept.
"""

from __future__ import annotations

from zlib import crc32

from durable._engine.checksums import WHOLE
from durable._engine.history_records import CLEARINGS, read_clearing

from .connection import Connection
from .reader import key_bytes


def collect(connection: Connection, count_max: int) -> int:
    """Free up to *count_max* rows and objects; returns how many, fewer only if there are no more,
    or another process is just freeing them."""
    freed = 0
    while freed < count_max:
        step = _collect_history(connection, count_max - freed)
        if step is None:
            break
        freed += step
    if freed < count_max:
        [(more,)] = connection.write("select durable.collect_garbage(%s)", [count_max - freed])
        freed += more
    return freed


def _collect_history(connection: Connection, room: int) -> int | None:
    """Delete up to *room* records of a history; None if there is none to delete."""
    with connection.transaction() as run:
        found = run(
            "select keyspace from durable.garbage_histories "
            "order by keyspace limit 1 for update skip locked"
        )
        if not found:
            return None
        [(history,)] = found
        rows = run(
            "delete from durable.sides where keyspace = %s and key in ("
            "select key from durable.sides where keyspace = %s order by key limit %s"
            ") returning key, value",
            (history, history, room),
        )
        kept = [
            clearing.keyspace
            for key, value in rows
            if key.startswith(CLEARINGS) and crc32(value, crc32(key_bytes(history, key))) == WHOLE
            if (clearing := read_clearing(key, value[1:-4])).keyspace and not clearing.is_shared
        ]
        run(
            "insert into durable.garbage select unnest(%s::bigint[]) on conflict do nothing",
            (kept,),
        )
        if len(rows) < room:
            run("delete from durable.garbage_histories where keyspace = %s", (history,))
        return len(rows)
