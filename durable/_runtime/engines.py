"""The engine of a store: the one file of the runtime that names engines.

PostgreSQL's is imported when a store is a URL: it needs an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from attrs import define, field

from durable._engine.catalog import Catalog
from durable._engine.engine import Engine
from durable._engine.problem import Problem
from durable._engine.shards import SHARDS_DEFAULT, Owned, Process, SharedStore
from durable._engine.whole import WholeStore
from durable._lmdb import shared_store
from durable._lmdb.environment import Environment
from durable._lmdb.looked_at import LookedAt
from durable._lmdb.moved import mark_moved, refuse_moved
from durable._lmdb.shared_folder import layout_of, make_layout
from durable._lmdb.shared_store import SharedFolder, open_shards_to_read, read_catalog
from durable._memory.engine import MemoryEngine
from durable._memory.scratch import ScratchEngine
from durable._model.clock import Clock
from durable._model.database_url import is_url, shown
from durable._model.errors import MissingExtra, StoreInUse
from durable._model.limits import Limits

__all__ = ["is_url", "shown"]

VERSION: Final = version("durable-objects")


def open_engine(path: str, clock: Clock, *, scratch: bool = False) -> Engine:
    """Own the store in the folder *path*, made if it does not exist; or, for *scratch*, read it, or
    the one in the database of the URL, and keep in memory what is written. Raises what
    `durable.open` raises."""
    if scratch:
        return ScratchEngine(open_to_read(path, clock), clock)
    refuse_moved(path)
    return Environment.open(path, clock=clock)


def open_to_read(path: str, clock: Clock) -> Engine:
    """Read the store in the folder *path*, or in the database of the URL, beside its owners if
    there are any. Raises FileNotFoundError, StoreDamaged, FormatTooNew, StoreUnavailable."""
    if is_url(path):
        return _postgres().open_to_read(path, clock)  # type: ignore[no-any-return]
    layout = layout_of(path)
    if layout is None:
        return Environment.open_to_read(path, clock=clock)
    catalog = read_catalog(layout, clock)
    opened = open_shards_to_read(layout, clock)
    shards = [MemoryEngine(clock, layout.path) if each is None else each for each in opened]
    return WholeStore(layout.path, shards, catalog, shards)


def open_to_write(path: str, clock: Clock, *, shards: int | None = None) -> Engine:
    """Own all of the store in the folder *path*, made if it does not exist, or in the database of
    the URL, to write to it without a runtime; with *shards* one of so many shards is made. Raises
    what `durable.open` raises."""
    if is_url(path):
        return _postgres().open_alone(path, clock, VERSION)  # type: ignore[no-any-return]
    refuse_moved(path)
    if shards is None and layout_of(path) is None:
        return Environment.open(path, clock=clock)
    shared = open_shared(path, clock, shards=shards, is_alone=True)
    shared.join()
    try:
        return AllShards.of(shared)
    except BaseException:
        shared.leave()
        raise


@define(eq=False, repr=False)
class AllShards(WholeStore):
    """All shards of a store, owned by this process alone."""

    _shared: SharedStore = field(kw_only=True)

    @classmethod
    def of(cls, shared: SharedStore) -> AllShards:
        """Raises StoreInUse if another process has a shard."""
        shards: list[Engine] = []
        for number in range(shared.count):
            shard = shared.acquire(number)
            if shard is None:
                raise StoreInUse(shared.path, None)
            shards.append(shard)
        return cls(shared.path, shards, shared.catalog(), shared=shared)

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        assert self._shared.change_classes(before, after)  # no other process has it
        super().change_classes(before, after)

    def close(self) -> None:
        self._shared.leave()


def is_of_shards(path: str) -> bool:
    """Whether the folder *path* is a store of shards, however it was opened last."""
    return not is_url(path) and layout_of(path) is not None


def processes_of(path: str) -> list[tuple[Process, str | None]]:
    """The processes that have the store in a database, or share the one in a folder, each with the
    folder of its control socket, None if it is on another machine; [] for a folder that is not
    shared. Raises StoreUnavailable; FileNotFoundError where the database has no store."""
    if is_url(path):
        return _postgres().processes_of(path)  # type: ignore[no-any-return]
    return [*shared_store.processes_of(path)]


def owners_of(path: str) -> list[Owned]:
    """The owners, present or last, of the shards of the store; [] if it has no shards."""
    if is_url(path):
        return _postgres().owners_of(path)  # type: ignore[no-any-return]
    return shared_store.owners_of(path)


def init_database(url: str) -> bool:
    """Make the tables of a store in the database, or upgrade them to this version; returns whether
    anything was changed. Raises StoreUnavailable, FormatTooNew, CommitFailed."""
    return _postgres().init(url)  # type: ignore[no-any-return]


def check_database(url: str, decode: Callable[[bytes], Any] | None) -> list[Problem]:
    """All problems of the store in a database, and of its server's settings. Raises
    StoreUnavailable, StoreDamaged, FormatTooNew, FileNotFoundError."""
    return _postgres().check(url, decode)  # type: ignore[no-any-return]


def open_copy(url: str, clock: Clock, source: str) -> tuple[Engine, Any]:
    """A database to copy the store *source* to, and the record in it of how far that has come."""
    growing = _postgres().Growing(url, source)
    try:
        return _postgres().open_alone(url, clock, VERSION, may_grow=True), growing
    except BaseException:
        growing.close()
        raise


def mark_as_moved(path: str, engine: Engine, to: str) -> None:
    """Forbid the store at *path*, all of which *engine* owns, to be opened: it was moved to *to*.
    Raises DurableError if that is not certain."""
    if is_url(path):
        _postgres().mark_moved(engine, shown(to))
    else:
        mark_moved(path, shown(to))


def _postgres() -> Any:
    """The module that opens stores in PostgreSQL. MissingExtra without the extra."""
    try:
        return import_module("durable._postgres.opening")
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise MissingExtra("a store in PostgreSQL needs psycopg", "postgres") from error


def open_shared(
    path: str, clock: Clock, *, shards: int | None = None, is_alone: bool = False
) -> SharedStore:
    """The store of shards in the folder *path*, made into one if it is none; this process has not
    joined it yet. Raises what `durable.open` raises."""
    refuse_moved(path)
    layout = make_layout(path, shards, SHARDS_DEFAULT, clock)
    return SharedFolder.open(layout, clock, VERSION, is_alone=is_alone)


def open_database(
    url: str, clock: Clock, *, address: str, limits: Limits, is_alone: bool = False
) -> SharedStore:
    """The store in the database of *url*, for a process that listens at *address*, or for the only
    one, and has not joined it yet. Raises what `durable.open` raises."""
    store: SharedStore = _postgres().open_shared(
        url,
        clock,
        VERSION,
        address=address,
        lease_s=limits.lease_s,
        commit_s_max=limits.commit_s_max,
        is_alone=is_alone,
    )
    return store


def silence(engine: Engine, shard: int) -> None:
    """Stop an engine of many shards from ringing alarms of one that is being given up."""
    quiet: Any = engine
    quiet.silence(shard)


def look_beside(shared: SharedStore, owned: Mapping[int, Engine], clock: Clock) -> Engine:
    """All shards of a store that this process has joined: its own as they are in its engines, and
    the others to be read."""
    if not isinstance(shared, SharedFolder):
        store: Any = shared
        return open_to_read(store.url, clock)
    opened = open_shards_to_read(shared.layout, clock, owned)
    own = [each for each in opened if each is not None]
    shards: list[Engine] = []
    for number, each in enumerate(opened):
        if number in owned:
            environment = owned[number]
            assert isinstance(environment, Environment)
            own.append(LookedAt(environment))
            shards.append(own[-1])
        else:
            shards.append(MemoryEngine(clock, shared.path) if each is None else each)
    return WholeStore(shared.path, shards, shared.catalog(), own)
