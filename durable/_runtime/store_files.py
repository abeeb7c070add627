"""The files of a store, as files: copied, checked, and recognized among others.

Beside `engines.py` the one file that names engines: those that keep files.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from typing import Final

from durable._engine.codec import Codec
from durable._engine.engine import Engine
from durable._engine.problem import Problem
from durable._engine.view import View
from durable._engine.whole import WholeStore
from durable._lmdb.backup import WHOLE_FOLDER, copy_file
from durable._lmdb.check import check
from durable._lmdb.create import sync_folder
from durable._lmdb.environment import Environment
from durable._lmdb.folder import DATA_FILE, LOCK_FILE, OWNER_FILE
from durable._lmdb.journal.journaled import Journaled
from durable._lmdb.journal.looking import JournaledView
from durable._lmdb.journal.segments import NAMES as JOURNAL_FILES
from durable._lmdb.looked_at import LookedAt
from durable._lmdb.moved import MOVED_FILE
from durable._lmdb.shared_folder import CATALOG, FORMAT, OWNERS, PROCESSES, SHARDS_FILE
from durable._lmdb.shared_store import owners_of, processes_of
from durable._lmdb.snapshot import view_of as view_of_files
from durable._memory.scratch import ScratchEngine
from durable._model.clock import Clock, SystemClock

from .engines import is_of_shards, open_to_read

__all__ = ["owners_of", "processes_of", "sync_folder", "view_of"]

_NAMES: Final = frozenset({DATA_FILE, LOCK_FILE, OWNER_FILE, WHOLE_FOLDER}) | {
    *(SHARDS_FILE, CATALOG, PROCESSES, OWNERS, MOVED_FILE),
    *JOURNAL_FILES,
}
_SHARD: Final = re.compile(r"shard-\d{2,4}", re.ASCII)


def is_of_a_store(name: str) -> bool:
    """Whether a file or folder of this name belongs to a store, or to a copy that grows."""
    return name in _NAMES or _SHARD.fullmatch(name) is not None


def at_one_moment(engine: Engine) -> Engine:
    """The same store for this thread, to be read at one moment. Blocks where it has a journal."""
    if isinstance(engine, Journaled):
        engine.bring_in()
        engine = engine.file
    return LookedAt(engine) if isinstance(engine, Environment) else engine


def view_of(engine: Engine, *, is_of_one_moment: bool = False) -> View:
    """A view of an open store. One moment can be held of LMDB only."""
    if not isinstance(engine, Journaled):
        return view_of_files(engine, is_of_one_moment=is_of_one_moment)
    if not is_of_one_moment:
        return JournaledView(engine, view_of_files(engine.file))
    engine.bring_in()
    return view_of_files(engine.file, is_of_one_moment=True)


def shards_of(store: str | os.PathLike[str]) -> WholeStore | None:
    """All shards of the store in a folder, to be read; None if it is not divided."""
    path = os.fspath(store)
    if not is_of_shards(path):
        return None
    engine = open_to_read(path, SystemClock())
    assert isinstance(engine, WholeStore)
    return engine


# Checks


def check_folder(
    folder: str | os.PathLike[str], *, values: bool, codec: Codec | None = None
) -> list[Problem]:
    """All problems of the undivided store in *folder*. Raises StoreDamaged, FormatTooNew or an
    OSError if it cannot be opened."""
    return check(folder, values=values, codec=codec)


def check_open(engine: Engine, *, values: bool, codec: Codec | None) -> list[Problem]:
    """All problems of an undivided store that is open. Raises TypeError if it keeps no files."""
    return check(_files_of(engine), values=values, codec=codec)


def check_shards(store: WholeStore, *, values: bool, codec: Codec | None) -> list[Problem]:
    """All problems of any shard of *store*, which is then closed."""
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


# Copies


def copy_open(engine: Engine, folder: str, *, compact: bool) -> None:
    """Copy the files of an undivided store that is open into the empty *folder*. Raises TypeError
    if it keeps no files, StoreDamaged, OSError."""
    copy_file(_files_of(engine), folder, compact=compact)


def copy_shards(store: WholeStore, folder: str, clock: Clock, *, compact: bool) -> None:
    """Copy all shards and the catalog into the empty *folder*, which becomes a store."""
    for number, engine in enumerate(store.shards):
        environment = engine.environment if isinstance(engine, LookedAt) else engine
        if isinstance(environment, Environment):
            shard = os.path.join(folder, f"shard-{number:02}")
            os.mkdir(shard, 0o700)
            copy_file(environment, shard, compact=compact)
            sync_folder(shard)
    catalog = Environment.open(os.path.join(folder, CATALOG), clock=clock)
    try:
        catalog.change_classes(catalog.catalog(), store.catalog())
    finally:
        catalog.close()
    said = {
        "format": FORMAT,
        "store": secrets.token_hex(8),
        "shards": len(store.shards),
        "is_top": False,
    }
    with open(os.path.join(folder, SHARDS_FILE), "x", encoding="utf-8") as file:
        file.write(json.dumps(said) + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _files_of(engine: Engine) -> Environment:
    """The engine that keeps the files of *engine*; for a scratch store, the one that it reads. What
    is in a journal is brought into the file. Blocks."""
    while isinstance(engine, ScratchEngine):
        engine = engine.below
    if isinstance(engine, Journaled):
        engine.bring_in()
        return engine.file
    if not isinstance(engine, Environment):
        raise TypeError(f"{engine!r} keeps no files that could be copied or checked")
    return engine
