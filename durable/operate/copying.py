"""A hot copy of a store: one snapshot, complete, while its owner goes on writing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable

from durable._engine.shards import SHARDS_MAX
from durable._engine.whole import WholeStore
from durable._model.clock import SystemClock
from durable._runtime.engines import is_url, mark_as_moved, open_to_read, open_to_write
from durable._runtime.runtime import Runtime
from durable._runtime.store_files import at_one_moment, copy_open, copy_shards, sync_folder

from .copying_objects import copy_objects, copy_to_database
from .parts import new_folder, part_of, take_away_left


def copy(
    store: str | os.PathLike[str] | Runtime,
    target: str | os.PathLike[str],
    *,
    compact: bool = False,
    part: str | os.PathLike[str] | None = None,
    shards: int | None = None,
    on_objects: Callable[[int], None] = lambda count: None,
    moves: bool = False,
) -> None:
    """Copy the store in a folder, or that of an open runtime, to the folder *target*, which must
    not exist or be empty. Blocks; call it in a thread. No user of the store waits for it.

    *shards*: make a store of so many shards, object by object, from one that has another number, 1
    being one that is not divided; *compact*: leave out free pages; with a runtime's store this
    needs the room of two copies. The copy takes its place at the end, complete and synced; until
    then it is *part*, by default `part_of(target)`, which is in the way of no other copy. Such
    parts of copies to *target* that were killed are deleted first.

    If *target* is the URL of a database in which `durable init` has made the tables, and which has
    no objects, all objects are copied there, and then compared; *on_objects* is called with how
    many were. An interrupted copy goes on when it is called again. A store in a database is copied
    object by object, too, each in a snapshot of its own.

    *moves*: own the store meanwhile, between a folder and a database, and mark it as moved at the
    end, so that it cannot be opened by mistake; StoreInUse while a program has it.

    Raises FileExistsError, StoreDamaged, FormatTooNew, OSError; then there is no copy.
    """
    if moves:
        _move(store, os.fspath(target), on_objects)
        return
    if is_url(os.fspath(target)):
        _copy_to_database(store, os.fspath(target), on_objects)
        return
    target = os.path.abspath(os.fspath(target))
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise _occupied(target)
    part = part_of(target) if part is None else os.fspath(part)
    clock = SystemClock()
    is_ours = not isinstance(store, Runtime) or store._is_of_shards
    engine = store._engine if isinstance(store, Runtime) else open_to_read(os.fspath(store), clock)
    try:
        count = len(engine.shards) if isinstance(engine, WholeStore) else 1
        is_far = not isinstance(store, Runtime) and is_url(os.fspath(store))
        if is_far or (shards is not None and shards != count):
            _copy(
                lambda: copy_objects(at_one_moment(engine), part, clock, shards=_divided(shards)),
                target,
                part,
            )
        elif isinstance(engine, WholeStore):
            _copy(lambda: copy_shards(engine, part, clock, compact=compact), target, part)
        else:
            _copy(lambda: copy_open(engine, part, compact=compact), target, part)
    finally:
        if is_ours:
            engine.close()


def _move(
    store: str | os.PathLike[str] | Runtime, target: str, on_objects: Callable[[int], None]
) -> None:
    if isinstance(store, Runtime) or is_url(os.fspath(store)) == is_url(target):
        raise ValueError("a store is moved from a folder to a database, or from one to a folder")
    path, clock = os.fspath(store), SystemClock()
    if not is_url(path):
        open_to_read(path, clock).close()  # it exists; else owning it would make it
    engine = open_to_write(path, clock)
    try:
        if is_url(target):
            copy_to_database(engine, target, clock, on_objects)
        else:
            place = os.path.abspath(target)
            part = part_of(place)
            _copy(lambda: copy_objects(engine, part, clock, shards=None), place, part)
        mark_as_moved(path, engine, target)
    finally:
        engine.close()


def _copy_to_database(
    store: str | os.PathLike[str] | Runtime, url: str, on_objects: Callable[[int], None]
) -> None:
    clock = SystemClock()
    if isinstance(store, Runtime):
        copy_to_database(at_one_moment(store._engine), url, clock, on_objects)
        return
    engine = open_to_read(os.fspath(store), clock)
    try:
        copy_to_database(engine, url, clock, on_objects)
    finally:
        engine.close()


def _divided(shards: int | None) -> int | None:
    """How many shards a copy has; None if it is not divided."""
    if shards is None:
        return None
    if not 1 <= shards <= SHARDS_MAX:
        raise ValueError(f"a store has from 1 to {SHARDS_MAX:,} shards, not {shards:,}")
    return None if shards == 1 else shards


def _occupied(target: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "a copy is made only where nothing is", target)


def _copy(make: Callable[[], None], target: str, part: str) -> None:
    """Have *make* make the folder *part*, and rename it to *target*."""
    if not os.path.isdir(os.path.dirname(target)):
        why = "the copy's folder goes into one that is there"
        raise FileNotFoundError(errno.ENOENT, why, os.path.dirname(target))
    take_away_left(target)
    with new_folder(part):
        try:
            make()
            try:
                os.rename(part, target)
            except OSError as error:
                if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                    raise _occupied(target) from None  # by another copy, meanwhile
                raise
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    sync_folder(os.path.dirname(target))
