"""Opens a store in PostgreSQL: alone, shared with other processes, or to be read."""

from __future__ import annotations

import os
import secrets
from contextlib import closing

from durable._engine.shards import Process
from durable._model.clock import Clock
from durable._model.errors import StoreInUse

from . import schema
from .check import check
from .connection import Connection
from .copying import Growing
from .engine import LOOKING, PostgresEngine
from .leases import Leases
from .store import PostgresStore

__all__ = [
    "Growing",
    "check",
    "init",
    "mark_moved",
    "open_alone",
    "open_shared",
    "open_to_read",
]


def init(url: str) -> bool:
    """Make the tables of a store in the database, or upgrade them to this version; returns whether
    anything was changed."""
    with closing(Connection(url)) as connection:
        return schema.make(connection)


def open_alone(url: str, clock: Clock, version: str, *, may_grow: bool = False) -> PostgresEngine:
    """Own all shards of the store, which may be a growing copy. A process that had it alone is
    superseded: it can store nothing any more. Raises StoreInUse while processes share it,
    StoreUnavailable; FileNotFoundError if the database has no store."""
    with closing(Connection(url)) as connection:
        schema.read_meta(connection, may_grow=may_grow)
        with connection.transaction() as run:
            # One at a time, also with processes that join: the last one owns it.
            run("lock table durable.processes in share row exclusive mode")
            live = run("select pid from durable.processes where expires > clock_timestamp()")
            if live:
                raise StoreInUse(connection.path, live[0][0])
            run("delete from durable.processes where is_alone")
            [(process,)] = run(
                "insert into durable.processes "
                "(name, pid, address, version, state, is_alone, expires) "
                "values (%s, %s, '', %s, 'ready', true, '-infinity') returning id",
                (f"{os.getpid()}-{secrets.token_hex(4)}", os.getpid(), version),
            )
            claimed: dict[int, int] = dict(
                run(
                    "update durable.shards set owner = %s, epoch = epoch + 1 "
                    "returning shard, epoch",
                    (process,),
                )
            )
    return PostgresEngine.open(url, clock, process, claimed, may_grow=may_grow)


def mark_moved(url: str, to: str) -> None:
    """Forbid the store to be opened from now on: it was moved to *to*."""
    with closing(Connection(url)) as connection:
        connection.write(
            "insert into durable.meta (key, value) values ('moved', %s) "
            "on conflict (key) do update set value = excluded.value",
            (to.encode(),),
        )


def open_shared(
    url: str, clock: Clock, version: str, *, address: str, lease_s: float, is_alone: bool = False
) -> PostgresStore:
    """The store, for one of the processes that share it, which listens at *address*; it has not
    joined yet. Raises StoreUnavailable; FileNotFoundError if the database has no store."""
    name = f"{os.getpid()}-{secrets.token_hex(8)}"
    me = Process(name, os.getpid(), address, version, is_alone)
    return PostgresStore.open(url, Leases(url, me, lease_s), clock)


def open_to_read(url: str, clock: Clock) -> PostgresEngine:
    """Open the store to be read, without owning it. Raises as `open_alone` does."""
    return PostgresEngine.open(url, clock, LOOKING, {})
