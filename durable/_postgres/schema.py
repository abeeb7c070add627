"""The tables of a store, and how they are made: `durable init URL` makes and upgrades them.

    meta              the format, the store's id, and the number of the last change of classes
    processes         the processes that have the store open, and when their leases expire
    shards            the owner of each shard, and its epoch: the number of that change of owner
    classes, tags     the catalog
    objects           what is known of an object without waking it; its alarm, too
    records, sides    what objects have stored, by the keyspaces of the objects
    garbage, garbage_histories, garbage_classes
                    keyspaces, those of histories, and classes, whose rows are still to be freed

Functions do what takes several statements in one round trip: see `functions.py`.

Rule: a keyspace is assigned once in the whole store, in blocks, from a sequence. Numbers of
processes and epochs go by the time of day: they are given once though a standby lacks the last.

Rule: what an older version of the library uses stays as it is while the format says that it may
open the store: processes of two versions run side by side during an update.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, LiteralString

from attrs import frozen

from durable._model.errors import DurableError, FormatTooNew, StoreDamaged

from .connection import Connection, Rows
from .functions import FUNCTIONS
from .postgres_errors import Taken, no_schema

FORMAT: Final = 1
SHARDS: Final = 1_024
KEYSPACES_PER_BLOCK: Final = 1_000

_TABLES: Final[tuple[LiteralString, ...]] = (
    "create table durable.meta (key text primary key, value bytea not null)",
    """
    create table durable.processes (
        id bigint generated always as identity primary key,
        name text not null unique,
        pid integer not null,
        address text not null,
        version text not null,
        state text not null,
        is_alone boolean not null,
        machine text not null default '',
        expires timestamptz not null
    )
    """,
    # Rows of shards are locked by every commit, and changed by each change of owner.
    """
    create table durable.shards (
        shard integer primary key,
        owner bigint,
        epoch bigint not null default 0
    ) with (fillfactor = 50)
    """,
    """
    create table durable.classes (
        number integer primary key,
        unique_key text not null unique,
        name text not null,
        script text,
        is_deleted boolean not null,
        former jsonb not null
    )
    """,
    """
    create table durable.tags (
        script text not null,
        place integer not null,
        tag text not null,
        primary key (script, place)
    )
    """,
    """
    create table durable.objects (
        class_number integer not null,
        base bytea not null,
        shard integer not null,
        keyspace bigint not null,
        created_us bigint not null,
        name bytea,
        due_us bigint,
        scheduled_us bigint,
        retry_count integer,
        backoff integer,
        history bigint not null default 0,
        primary key (class_number, base)
    )
    """,
    """
    create index alarms_by_shard on durable.objects (shard, due_us, class_number, base)
        where due_us is not null
    """,
    """
    create index alarms_by_time on durable.objects (due_us, class_number, base)
        where due_us is not null
    """,
    """
    create table durable.records (
        keyspace bigint not null,
        key bytea not null,
        value bytea not null,
        primary key (keyspace, key)
    )
    """,
    """
    create table durable.sides (
        keyspace bigint not null,
        key bytea not null,
        value bytea not null,
        primary key (keyspace, key)
    )
    """,
    "create table durable.garbage (keyspace bigint primary key)",
    "create table durable.garbage_histories (keyspace bigint primary key)",
    "create table durable.garbage_classes (class_number integer primary key)",
    "create sequence durable.keyspaces increment by 1000",
)


def make(connection: Connection, *, shards: int = SHARDS) -> bool:
    """Make the tables of a store, or upgrade them to this version; returns whether anything was
    changed. Two at once do it one after the other, and nothing is left of one that fails.

    Raises StoreUnavailable, FormatTooNew, and CommitFailed if this user lacks the privileges.
    """
    try:
        return _make(connection, shards)
    except Taken:
        return _make(connection, shards)  # the other one has made it by now


def _make(connection: Connection, shards: int) -> bool:
    with connection.transaction() as run:
        # The second of two waits here until the first has committed, and is then refused.
        run("create schema if not exists durable")
        before = None
        if run("select to_regclass('durable.meta') is not null")[0][0]:
            run("lock table durable.meta in exclusive mode")
            before = _format(run, connection.path)
            if before > FORMAT:
                raise FormatTooNew(connection.path, before, FORMAT)
        changed = before != FORMAT
        if before is None:
            for table in _TABLES:
                run(table)
            run(
                "insert into durable.shards (shard) select generate_series(0, %s - 1)",
                [shards],
            )
            for key, value in (
                ("store", secrets.token_hex(8).encode()),
                ("shards", b"%d" % shards),
                ("catalog", b"0"),
            ):
                run("insert into durable.meta (key, value) values (%s, %s)", [key, value])
        for function in FUNCTIONS:
            run(function)
        run(
            "insert into durable.meta (key, value) values ('format', %s) "
            "on conflict (key) do update set value = excluded.value",
            [b"%d" % FORMAT],
        )
    return changed


def _format(run: Callable[..., Rows], path: str) -> int:
    rows = run("select value from durable.meta where key = 'format'")
    try:
        return int(rows[0][0])
    except (IndexError, ValueError) as error:
        raise StoreDamaged(
            f"the schema `durable` of {path!r} does not say which format it has; restore the "
            f"database from a backup, or give another one"
        ) from error


@frozen
class Meta:
    """The rows of `durable.meta`."""

    identity: str
    shards: int
    # The record of a copy that has not ended.
    copying: bytes | None = None


def read_meta(
    connection: Connection, *, may_grow: bool = False, may_be_moved: bool = False
) -> Meta:
    """The store's meta data. DurableError if it is a copy that has not ended, unless it *may_grow*,
    or was moved elsewhere, unless it *may_be_moved*; FileNotFoundError if the database has no
    store, or one that must be upgraded first; FormatTooNew, StoreDamaged, StoreUnavailable."""
    rows: dict[str, bytes] = dict(connection.read("select key, value from durable.meta"))
    try:
        found = int(rows["format"])
        meta = Meta(rows["store"].decode(), int(rows["shards"]), rows.get("copying"))
    except (KeyError, ValueError) as error:
        raise StoreDamaged(
            f"the table durable.meta of {connection.path!r} does not say what the store is; "
            f"restore the database from a backup, or give another one"
        ) from error
    if found > FORMAT:
        raise FormatTooNew(connection.path, found, FORMAT)
    if found < FORMAT:
        raise no_schema(connection.path)
    if "moved" in rows and not may_be_moved:
        raise DurableError(
            f"the store {connection.path!r} was moved to {rows['moved'].decode()}: open that. To "
            f"use this one again, as it was then, delete the row 'moved' of durable.meta"
        )
    if meta.copying is not None and not may_grow:
        raise DurableError(
            f"a copy into the database {connection.path!r} has not ended: run the same "
            f"`durable copy` again, which goes on where it was"
        )
    return meta
