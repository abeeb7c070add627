"""The check: does the server keep what it confirms, and is every row as it was written?

Reads in steps, each a snapshot of its own, and changes nothing. What has to agree is read by one
statement, which sees no transaction half done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import chain
from typing import Any, Final, LiteralString
from zlib import crc32

from durable._engine.checksums import WHOLE
from durable._engine.history_records import CLEARINGS, read_clearing
from durable._engine.problem import Problem
from durable._engine.shards import shard_of
from durable._engine.view import Malformed

from .connection import Connection, Rows
from .reader import key_bytes
from .schema import read_meta

ROWS_PER_STEP: Final = 1_000

Decode = Callable[[bytes], Any]

# Settings of the server, and what is lost with them.
_SETTINGS: Final = {
    "fsync": (
        {"on"},
        "nothing is sure to be on the disk: after a crash of its machine what was confirmed may be "
        "gone, or the database be damaged; set it to on",
    ),
    "full_page_writes": (
        {"on"},
        "a page that is half written in a crash cannot be restored, unless the file system never "
        "leaves one; set it to on",
    ),
    "synchronous_commit": (
        {"on", "remote_apply", "remote_write", "local"},
        "a commit is confirmed before it is on the disk, and may be lost in a crash; set it to on",
    ),
}


def check(url: str, decode: Decode | None) -> list[Problem]:
    """Every problem of the store; *decode* is tried on each value, if it is given.

    Raises StoreUnavailable, StoreDamaged, FormatTooNew, FileNotFoundError if it cannot be read.
    """
    with closing(Connection(url)) as connection:
        meta = read_meta(connection)
        return list(
            chain(
                _settings(connection),
                _objects(connection, meta.shards),
                _values(connection, "records", decode),
                _values(connection, "sides", None),
                _strays(connection),
            )
        )


def _settings(connection: Connection) -> Iterator[Problem]:
    for name, (allowed, what) in _SETTINGS.items():
        [(value,)] = connection.read("select current_setting(%s)", (name,))
        if value not in allowed:
            yield Problem(f"setting {name}", f"it is {value}: {what}")
    [(standbys, level)] = connection.read(
        "select current_setting('synchronous_standby_names'), current_setting('synchronous_commit')"
    )
    if standbys and level in {"local", "remote_write"}:
        yield Problem(
            "setting synchronous_commit",
            f"it is {level}, though there are synchronous standbys: what was confirmed may be "
            f"missing on one that is promoted; set it to on",
        )


def _objects(connection: Connection, shards: int) -> Iterator[Problem]:
    number, base = -1, b""
    while rows := connection.read(
        "select class_number, base, shard from durable.objects "
        "where (class_number, base) > (%s, %s) order by class_number, base limit %s",
        (number, base, ROWS_PER_STEP),
    ):
        for number, base, shard in rows:
            if shard != shard_of(base, shards):
                yield Problem(
                    _object(number, base), f"it is in shard {shard}, and belongs to another"
                )
    for found, count in connection.read(
        "select keyspace, count(*) from durable.objects group by keyspace having count(*) > 1"
    ):
        yield Problem(f"keyspace {found}", f"{count} objects have it")


_VALUES: Final[dict[str, LiteralString]] = {
    "records": "select keyspace, key, value from durable.records "
    "where (keyspace, key) > (%s, %s) order by keyspace, key limit %s",
    "sides": "select keyspace, key, value from durable.sides "
    "where (keyspace, key) > (%s, %s) order by keyspace, key limit %s",
}


def _values(connection: Connection, table: str, decode: Decode | None) -> Iterator[Problem]:
    keyspace, key = -1, b""
    while rows := connection.read_long(_VALUES[table], (keyspace, key, ROWS_PER_STEP)):
        for keyspace, key, record in rows:
            where = f"keyspace {keyspace}, {_shown(table, key)}"
            if crc32(record, crc32(key_bytes(keyspace, key))) != WHOLE:
                yield Problem(where, "its checksum does not match")
            elif decode is not None:
                try:
                    decode(record[1:-4])
                except Exception as error:  # a codec may raise anything
                    yield Problem(where, f"its value cannot be decoded: {error}")


def _shown(table: str, key: bytes) -> str:
    if table == "sides":
        return f"side record {key.hex()}"
    return f"key {key.decode(errors='replace')!r:.80}"


# Keyspaces with rows that belong to no object, and objects that have no rows.
_STRAYS: Final = (
    "select distinct keyspace from (select keyspace from durable.records "
    "union all select keyspace from durable.sides) as used "
    "where not exists (select from durable.objects as o where o.keyspace = used.keyspace) "
    "and not exists (select from durable.objects as o where o.history = used.keyspace) "
    "and not exists (select from durable.garbage as g where g.keyspace = used.keyspace) "
    "and not exists (select from durable.garbage_histories as h where h.keyspace = used.keyspace)"
)
_EMPTY: Final = (
    "select class_number, base from durable.objects as o where due_us is null and history = 0 "
    "and not exists (select from durable.records as r where r.keyspace = o.keyspace) "
    "and not exists (select from durable.sides as s where s.keyspace = o.keyspace)"
)


def _strays(connection: Connection) -> Iterator[Problem]:
    # One statement sees one snapshot: it cannot see another's transaction half done.
    for (keyspace,) in _without_kept(connection, connection.read_long(_STRAYS)):
        yield Problem(f"keyspace {keyspace}", "it has records, and no object has it")
    for number, base in connection.read_long(_EMPTY):
        yield Problem(_object(number, base), "it has neither a record nor an alarm")


def _without_kept(connection: Connection, strays: Rows) -> Rows:
    """The strays that no history has kept."""
    if not strays:
        return strays
    kept: set[int] = set()
    for key, value in connection.read(
        "select key, value from durable.sides where substring(key from 1 for %s) = %s",
        (len(CLEARINGS), CLEARINGS),
    ):
        with suppress(Malformed):  # the value itself is reported as damaged
            kept.add(read_clearing(key, value[1:-4]).keyspace)
    return [(keyspace,) for (keyspace,) in strays if keyspace not in kept]


def _object(number: int, base: bytes) -> str:
    return f"object {base.hex()} of class {number}"
