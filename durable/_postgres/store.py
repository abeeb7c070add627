"""A store in PostgreSQL, as one of the processes of any machine that have it.

To own a shard is to stand in its row, with an epoch, and to have an unexpired lease. Leases are
kept by `Leases`; here is what they are kept for: one engine, in which the shards of this process
come and go.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

from attrs import define, field

from durable._engine.catalog import Catalog
from durable._engine.engine import Engine
from durable._engine.shards import Owned, Process
from durable._model.clock import Clock

from .classes import change_catalog
from .connection import Connection
from .engine import PostgresEngine
from .schema import Meta, read_meta


class Leases(Protocol):
    """Which processes live, and who has which shard. The calls that ask the database block."""

    @property
    def me(self) -> Process:
        """This process, as the others see it."""

    @property
    def valid_until(self) -> float:
        """Until when, by the clock of leases, what is owned is owned without a renewal."""

    def join(self) -> int:
        """Be among the processes; returns the number of this one in their table."""

    def say(self, state: str) -> None:
        """Be in another state from now on."""

    def processes(self) -> list[Process]:
        """Those that live, as was last heard."""

    def owners(self) -> Sequence[Owned]:
        """Who has, or had, which shard, by number, as was last heard."""

    def is_alive(self, process: str) -> bool:
        """Whether a process lives, as was last heard."""

    def claim(self, shards: Sequence[int]) -> dict[int, int]:
        """Own those of *shards* that nobody has; returns them with their epochs."""

    def release(self, shards: Sequence[int]) -> None:
        """Let others have *shards*."""

    def leave(self) -> None:
        """Be no process any more; what it still owned is anyone's."""


@define(eq=False, repr=False)
class PostgresStore:
    """A `SharedStore`, all of whose shards have the same engine."""

    url: str
    leases: Leases
    _clock: Clock
    _meta: Meta
    engine: PostgresEngine | None = field(default=None, init=False)
    _folder: str | None = field(default=None, init=False)
    has_one_engine: bool = field(default=True, init=False)

    @classmethod
    def open(cls, url: str, leases: Leases, clock: Clock) -> PostgresStore:
        """The store; this process has not joined it yet. Raises StoreUnavailable;
        FileNotFoundError where the database has no store."""
        with closing(Connection(url)) as connection:
            return cls(url, leases, clock, read_meta(connection))

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
        assert self.engine is not None  # there is none before the process has joined
        return self.engine

    # The processes

    def join(self) -> None:
        self.engine = PostgresEngine.open(self.url, self._clock, self.leases.join(), {})

    def say(self, state: str) -> None:
        self.leases.say(state)

    def folder(self) -> str:
        """A folder of this process alone, for its control socket."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="durable-")
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
        """Those of *shards* that could be had, by one statement."""
        claimed = self.leases.claim(shards)
        self._joined.own(claimed)
        return dict.fromkeys(claimed, self._joined)

    def has(self, shard: int) -> Owned:
        return Owned(self.me.id, self._joined.owned.get(shard, 0))

    def follow(self, shard: int) -> None:
        """Classes are read where they are written; there is nothing to be told."""

    def release(self, shard: int) -> Owned:
        epoch = self._joined.disown(shard)
        self.leases.release([shard])
        return Owned(None, epoch)

    def valid_until(self) -> float:
        return self.leases.valid_until

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
