"""Which engine keeps a store: the one file of a runtime that names engines."""

from __future__ import annotations

from durable._engine.engine import Engine
from durable._lmdb.environment import Environment
from durable._memory.scratch import ScratchEngine
from durable._model.clock import Clock


def open_engine(path: str, clock: Clock, *, scratch: bool = False) -> Engine:
    """Own the store in the folder *path*, which is made if it is not there; or, for *scratch*,
    read it and keep in memory what is written. Raises what `durable.open` raises."""
    if scratch:
        return ScratchEngine(open_to_read(path, clock), clock)
    return Environment.open(path, clock=clock)


def open_to_read(path: str, clock: Clock) -> Engine:
    """Read the store in the folder *path*, beside its owner if there is one. Raises
    FileNotFoundError, StoreDamaged, FormatTooNew."""
    return Environment.open_to_read(path, clock=clock)
