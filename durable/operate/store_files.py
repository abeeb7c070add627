"""The files of an open store, for what is about files: copying and checking them."""

from __future__ import annotations

from durable._engine.engine import Engine
from durable._lmdb.create import sync_folder
from durable._lmdb.environment import Environment
from durable._memory.scratch import ScratchEngine

__all__ = ["files_of", "sync_folder"]


def files_of(engine: Engine) -> Environment:
    """What keeps the files of *engine*; of a store that is tried out, those that it reads."""
    while isinstance(engine, ScratchEngine):
        engine = engine.below
    if not isinstance(engine, Environment):
        raise TypeError(f"{engine!r} keeps no files that could be copied or checked")
    return engine
