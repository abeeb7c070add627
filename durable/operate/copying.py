"""A hot copy of a store: one moment of it, whole, while its owner goes on writing."""

from __future__ import annotations

import errno
import os
import shutil

from durable._lmdb.backup import copy_file
from durable._lmdb.create import sync_folder
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable._runtime.runtime import Runtime

PART = ".part"


def copy(
    store: str | os.PathLike[str] | Runtime,
    target: str | os.PathLike[str],
    *,
    compact: bool = False,
) -> None:
    """Copy the store in a folder, or that of an open runtime, to the folder *target*, which must
    not be there or be empty. Blocks; call it in a thread.

    *compact*: leave out free pages. The copy takes its place at the end, complete and synced; until
    then it is `TARGET.part`, which may be thrown away. Raises FileExistsError, StoreDamaged,
    FormatTooNew, OSError; then there is no copy.
    """
    target = os.path.abspath(os.fspath(target))
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise FileExistsError(errno.EEXIST, "a copy is made only where nothing is", target)
    if isinstance(store, Runtime):
        _copy(store._environment, target, compact)
        return
    environment = Environment.open_to_read(store, clock=SystemClock())
    try:
        _copy(environment, target, compact)
    finally:
        environment.close()


def part_of(target: str | os.PathLike[str]) -> str:
    """Where a copy to *target* grows until it is complete."""
    return os.path.abspath(os.fspath(target)) + PART


def _copy(environment: Environment, target: str, compact: bool) -> None:
    part = part_of(target)
    try:
        os.mkdir(part)
    except FileExistsError:
        why = "a copy is under way there, or was killed: wait for it, or remove this"
        raise FileExistsError(errno.EEXIST, why, part) from None
    except FileNotFoundError:
        why = "the copy's folder goes into one that is there"
        raise FileNotFoundError(errno.ENOENT, why, os.path.dirname(target)) from None
    try:
        copy_file(environment, part, compact=compact)
        os.rename(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(os.path.dirname(target))
