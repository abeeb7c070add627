"""Which engine keeps a store: the one file of a runtime that names engines."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from durable._engine.engine import Engine
from durable._engine.shards import SHARDS_DEFAULT, SharedStore
from durable._engine.whole import WholeStore
from durable._lmdb.environment import Environment
from durable._lmdb.shared_folder import layout_of, make_layout
from durable._lmdb.shared_store import SharedFolder, open_shards_to_read, read_catalog
from durable._memory.engine import MemoryEngine
from durable._memory.scratch import ScratchEngine
from durable._model.clock import Clock


def open_engine(path: str, clock: Clock, *, scratch: bool = False) -> Engine:
    """Own the store in the folder *path*, which is made if it is not there; or, for *scratch*,
    read it and keep in memory what is written. Raises what `durable.open` raises."""
    if scratch:
        return ScratchEngine(open_to_read(path, clock), clock)
    return Environment.open(path, clock=clock)


def open_to_read(path: str, clock: Clock) -> Engine:
    """Read the store in the folder *path*, beside its owners if there are any. Raises
    FileNotFoundError, StoreDamaged, FormatTooNew."""
    layout = layout_of(path)
    if layout is None:
        return Environment.open_to_read(path, clock=clock)
    catalog = read_catalog(layout, clock)
    opened = open_shards_to_read(layout, clock)
    shards = [MemoryEngine(clock, layout.path) if each is None else each for each in opened]
    return WholeStore(layout.path, shards, catalog, shards)


def is_of_shards(path: str) -> bool:
    """Whether the folder *path* is a store of shards, however it was opened last."""
    return layout_of(path) is not None


def open_shared(
    path: str, clock: Clock, *, shards: int | None = None, is_alone: bool = False
) -> SharedStore:
    """The store of shards in the folder *path*, which becomes one if it is none; this process has
    not joined it yet. Raises what `durable.open` raises."""
    layout = make_layout(path, shards, SHARDS_DEFAULT, clock)
    return SharedFolder.open(layout, clock, version("durable-objects"), is_alone=is_alone)


def look_beside(shared: SharedStore, owned: Mapping[int, Engine], clock: Clock) -> WholeStore:
    """All shards of a store that this process has joined: those that it has, as they are in its
    hands, and the others to be read."""
    assert isinstance(shared, SharedFolder)
    opened = open_shards_to_read(shared.layout, clock, owned)
    own = [each for each in opened if each is not None]
    shards: list[Engine] = []
    for number, each in enumerate(opened):
        if number in owned:
            shards.append(owned[number])
        else:
            shards.append(MemoryEngine(clock, shared.path) if each is None else each)
    return WholeStore(shared.path, shards, shared.catalog(), own)
