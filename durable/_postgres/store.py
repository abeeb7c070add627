"""A store in PostgreSQL, as one of the processes of any machine that have it.

To own a shard is to be the owner in its row, at its epoch, and to have an unexpired lease.
`Leases` keeps the leases; here is the one engine in which the shards of this process come and go.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import closing

from attrs import define, field

from durable._engine.catalog import Catalog
from durable._engine.engine import Engine
from durable._engine.lease import Lease
from durable._engine.shards import Owned, Process
from durable._model.clock import Clock
from durable._model.errors import DurableError, StoreInUse

from .classes import change_catalog
from .connection import Connection
from .engine import PostgresEngine
from .leases import Leases
from .machine import control_folder
from .schema import Meta, read_meta


@define(eq=False, repr=False)
class PostgresStore:
    """A `SharedStore`, all of whose shards have the same engine."""

    url: str
    leases: Leases
    _clock: Clock
    _meta: Meta
    _commit_s_max: float
    _may_grow: bool = False
    engine: PostgresEngine | None = field(default=None, init=False)
    _folder: str | None = field(default=None, init=False)
    # Held so that a claim which returns after the end of the lease owns nothing.
    _losing: threading.Lock = field(factory=threading.Lock, init=False)
    has_one_engine: bool = field(default=True, init=False)

    @classmethod
    def open(
        cls, url: str, leases: Leases, clock: Clock, commit_s_max: float, *, may_grow: bool = False
    ) -> PostgresStore:
        """The store, which may be a growing copy; this process has not joined it yet. Raises
        StoreUnavailable; FileNotFoundError if the database has no store."""
        with closing(Connection(url)) as connection:
            meta = read_meta(connection, may_grow=may_grow)
        return cls(url, leases, clock, meta, commit_s_max, may_grow)

    @property
    def path(self) -> str:
        return self._joined.path

    @property
    def identity(self) -> str:
        return self._meta.identity

    @property
    def count(self) -> int:
        return self._meta.shards

    @property
    def me(self) -> Process:
        return self.leases.me

    @property
    def _joined(self) -> PostgresEngine:
        assert self.engine is not None  # made when the process joins
        return self.engine

    # The processes

    def join(self) -> None:
        process = self.leases.join(self._check)
        self.engine = PostgresEngine(
            self.url,
            self._clock,
            process,
            self._meta.shards,
            commit_s_max=self._commit_s_max,
            newest=self.leases.newest,
        )

    def say(self, state: str) -> None:
        self.leases.say(state)

    def folder(self) -> str:
        """A folder of this process alone, for its control socket."""
        if self._folder is None:
            folder = control_folder(self.me.id)
            os.mkdir(folder, 0o700)
            self._folder = folder
        return self._folder

    def address(self, process: Process) -> str:
        return process.address

    def processes(self) -> list[Process]:
        return self.leases.processes()

    def is_alive(self, process: str) -> bool:
        return self.leases.is_alive(process)

    # The shards

    def owners(self) -> Sequence[Owned]:
        return self.leases.owners()

    def acquire(self, shard: int) -> Engine | None:
        return self._joined if self.acquire_some([shard]) else None

    def acquire_some(self, shards: Sequence[int]) -> dict[int, Engine]:
        """Acquire those of *shards* that are free, by one statement."""
        lease = self.leases.lease
        claimed = self.leases.claim(shards)
        with self._losing:
            if lease.is_over:
                return {}
            self._joined.own(claimed)
        return dict.fromkeys(claimed, self._joined)

    def take_all(self) -> PostgresEngine:
        """Own all shards, by an engine that is all there is of this process: closed, it leaves.
        Raises StoreInUse if another process has one."""
        if len(self.acquire_some(range(self.count))) < self.count:
            raise StoreInUse(self.path, None)
        self._joined.on_close = self.leases.leave
        return self._joined

    def has(self, shard: int) -> Owned:
        return Owned(self.me.id, self._joined.owned.get(shard, 0))

    def follow(self, shard: int) -> None:
        """Nothing to do: classes are read where they are written."""

    def lost(self, shards: Collection[int]) -> list[int]:
        owned = self._joined.owned
        return [
            shard
            for shard in shards
            if (epoch := owned.get(shard)) is None or self.leases.superseded(shard, epoch)
        ]

    def release(self, shard: int) -> Owned:
        epoch = self._joined.disown(shard)
        self.leases.release_soon(shard)
        return Owned(None, epoch)

    @property
    def lease(self) -> Lease:
        return self.leases.lease

    def start(self, on_news: Callable[[], object], on_lost: Callable[[], object]) -> None:
        self._joined.on_superseded = on_news
        self.leases.start(on_news, on_lost)

    def look_soon(self) -> None:
        self.leases.look_soon()

    def refresh(self) -> None:
        self.leases.refresh()

    def lose(self) -> None:
        with self._losing:
            self.leases.lease.end()
            self._joined.disown_all()

    def join_again(self) -> None:
        with self._losing:
            self._joined.disown_all()
        self._joined.process = self.leases.join(self._check)

    def _check(self, connection: Connection) -> None:
        """It is still the store that was opened, and was not moved elsewhere since."""
        found = read_meta(connection, may_grow=self._may_grow)
        if (found.identity, found.shards) != (self._meta.identity, self._meta.shards):
            raise DurableError(
                f"another store is in the database {connection.path!r} by now; close this one, and "
                f"open it again"
            )

    # The classes

    def catalog(self) -> Catalog:
        return self._joined.catalog()

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        with closing(Connection(self.url)) as connection:
            changed = change_catalog(connection, before, after)
        self._joined.has_garbage |= changed
        return changed

    # The end

    def leave(self) -> None:
        self.leases.leave()
        if self.engine is not None:
            self.engine.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __repr__(self) -> str:
        return f"<PostgresStore {self.engine!r}>"
