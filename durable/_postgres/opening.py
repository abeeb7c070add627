"""Opens a store in PostgreSQL: as one of its processes, for a command, or to be read."""

from __future__ import annotations

import os
import secrets
from contextlib import closing

from durable._engine.shards import Process
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._model.limits import Limits

from . import lease_statements as sql
from . import schema
from .check import check
from .connection import Connection
from .copying import Growing
from .engine import LOOKING, PostgresEngine
from .leases import Leases
from .looking import owners_of, processes_of
from .store import PostgresStore

__all__ = [
    "Growing",
    "check",
    "init",
    "mark_moved",
    "open_alone",
    "open_shared",
    "open_to_read",
    "owners_of",
    "processes_of",
]


def init(url: str) -> bool:
    """Make the tables of a store in the database, or upgrade them to this version; returns whether
    anything was changed."""
    with closing(Connection(url)) as connection:
        return schema.make(connection)


def open_alone(url: str, clock: Clock, version: str, *, may_grow: bool = False) -> PostgresEngine:
    """Own all of the store, which may be a copy that grows, without a runtime, until the engine is
    closed. Raises StoreInUse while another process has it, StoreUnavailable; FileNotFoundError
    where the database has no store."""
    store = open_shared(
        url,
        clock,
        version,
        address="",
        lease_s=Limits().lease_s,
        commit_s_max=Limits().commit_s_max,
        is_alone=True,
        may_grow=may_grow,
    )
    try:
        store.join()
        store.start(lambda: None, lambda: None)  # what is lost is refused at the next commit
        return store.take_all()
    except BaseException:
        store.leave()
        raise


def mark_moved(engine: PostgresEngine, to: str) -> None:
    """Forbid the store to be opened from now on, all of which *engine* owns alone: it was moved to
    *to*. Raises DurableError if the lease is over: then another process may have written."""
    with closing(Connection(engine.url)) as connection, connection.transaction() as run:
        # Nobody joins until this has committed.
        run("lock table durable.processes in share row exclusive mode")
        if not run(sql.IS_ALIVE, [engine.process]):
            raise DurableError(
                f"the lease on {engine.path!r} was over before the move was: another process may "
                f"have written to it since. Delete what was copied, and move it again",
                retryable=True,
            )
        run(
            "insert into durable.meta (key, value) values ('moved', %s) "
            "on conflict (key) do update set value = excluded.value",
            (to.encode(),),
        )


def open_shared(
    url: str,
    clock: Clock,
    version: str,
    *,
    address: str,
    lease_s: float,
    commit_s_max: float,
    is_alone: bool = False,
    may_grow: bool = False,
) -> PostgresStore:
    """The store, for one of the processes that share it, which listens at *address*, or for the
    only one; it has not joined yet. A commit to which the database says nothing for *commit_s_max*
    is in doubt. Raises StoreUnavailable; FileNotFoundError if the database has
    no store."""
    name = f"{os.getpid()}-{secrets.token_hex(8)}"
    me = Process(name, os.getpid(), address, version, is_alone)
    leases = Leases(url, me, lease_s)
    return PostgresStore.open(url, leases, clock, commit_s_max, may_grow=may_grow)


def open_to_read(url: str, clock: Clock) -> PostgresEngine:
    """Open the store to be read, without owning it. Raises StoreUnavailable; FileNotFoundError if
    the database has no store."""
    return PostgresEngine.open(url, clock, LOOKING, {})
