"""A hot copy of a store: one moment of it, whole, while its owner goes on writing."""

from __future__ import annotations

import errno
import os
import shutil

from durable._lmdb.backup import copy_file
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable._runtime.runtime import Runtime

from .parts import new_folder, part_of, take_away_left
from .store_files import files_of, sync_folder


def copy(
    store: str | os.PathLike[str] | Runtime,
    target: str | os.PathLike[str],
    *,
    compact: bool = False,
    part: str | os.PathLike[str] | None = None,
) -> None:
    """Copy the store in a folder, or that of an open runtime, to the folder *target*, which must
    not be there or be empty. Blocks; call it in a thread. Nobody who uses the store waits for it.

    *compact*: leave out free pages; of a runtime's store this takes the room of two copies. The
    copy takes its place at the end, complete and synced; until then it is *part*, by default
    `part_of(target)`, which is in the way of no other copy. Such parts of copies to *target* that
    were killed are taken away first. Raises FileExistsError, StoreDamaged, FormatTooNew, OSError;
    then there is no copy.
    """
    target = os.path.abspath(os.fspath(target))
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise _occupied(target)
    part = part_of(target) if part is None else os.fspath(part)
    if isinstance(store, Runtime):
        _copy(files_of(store._engine), target, part, compact)
        return
    environment = Environment.open_to_read(store, clock=SystemClock())
    try:
        _copy(environment, target, part, compact)
    finally:
        environment.close()


def _occupied(target: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "a copy is made only where nothing is", target)


def _copy(environment: Environment, target: str, part: str, compact: bool) -> None:
    if not os.path.isdir(os.path.dirname(target)):
        why = "the copy's folder goes into one that is there"
        raise FileNotFoundError(errno.ENOENT, why, os.path.dirname(target))
    take_away_left(target)
    with new_folder(part):
        try:
            copy_file(environment, part, compact=compact)
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
