"""The files of an open store, for what is about files: copying and checking them."""

from __future__ import annotations

import os

from durable._engine.codec import Codec
from durable._engine.engine import Engine
from durable._engine.whole import WholeStore
from durable._lmdb.check import Problem, check
from durable._lmdb.create import sync_folder
from durable._lmdb.environment import Environment
from durable._lmdb.looked_at import LookedAt
from durable._memory.scratch import ScratchEngine
from durable._model.clock import SystemClock
from durable._runtime.engines import is_of_shards, open_to_read

__all__ = ["files_of", "sync_folder"]


def shards_of(store: str | os.PathLike[str]) -> WholeStore | None:
    """All shards of the store in a folder, to be read; None if it is not divided."""
    path = os.fspath(store)
    if not is_of_shards(path):
        return None
    engine = open_to_read(path, SystemClock())
    assert isinstance(engine, WholeStore)
    return engine


def check_shards(store: WholeStore, *, values: bool, codec: Codec | None) -> list[Problem]:
    """Everything that is wrong with any shard of *store*, which is closed then."""
    problems: list[Problem] = []
    try:
        for number, engine in enumerate(store.shards):
            environment = engine.environment if isinstance(engine, LookedAt) else engine
            if isinstance(environment, Environment):
                problems += [
                    Problem(f"shard {number}, {problem.where}", problem.what)
                    for problem in check(environment, values=values, codec=codec)
                ]
    finally:
        store.close()
    return problems


def files_of(engine: Engine) -> Environment:
    """What keeps the files of *engine*; of a store that is tried out, those that it reads."""
    while isinstance(engine, ScratchEngine):
        engine = engine.below
    if not isinstance(engine, Environment):
        raise TypeError(f"{engine!r} keeps no files that could be copied or checked")
    return engine
