"""The file of a store as a whole, copied while it is in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from .create import lengthen, sync_folder
from .environment import Environment
from .folder import DATA_FILE, read_meta
from .journal.marking import change_mark
from .lmdb_errors import unreadable
from .lmdb_files import GROWTH_SPARE, errno_of, open_databases, open_lmdb
from .pages import READ_SIZE
from .reader import Interrupted

# The folder of a full copy while a compact one is made of it.
WHOLE_FOLDER = "whole"


def copy_file(environment: Environment, folder: str, *, compact: bool) -> None:
    """Put a copy of one snapshot of the store into the empty *folder*. Blocks; commits go on.

    *compact*: leave out free pages, which takes longer. Raises StoreDamaged or an OSError.
    """
    if environment.handle.ownership is not None:  # else it is only read
        _copy_owned(environment, folder, compact)
    else:
        _copy_looked_at(environment, folder, compact)
    if environment.has_journal:
        _end_journal(folder)


def _copy_looked_at(environment: Environment, folder: str, compact: bool) -> None:
    environment.handle.read(lambda txn, databases: None)  # in case the map was outgrown meanwhile
    try:
        with environment.handle.held() as env:
            env.copy(folder, compact=compact)
    except Exception as error:  # any error of LMDB
        if code := errno_of(error):
            raise OSError(code, os.strerror(code), folder) from error
        raise unreadable(environment.path, error) from error
    # The last pages may be unused, and then need not have been written.
    pages = environment.handle.env.info()["last_pgno"] + 1 if not compact else 0
    _finish(folder, pages * environment.handle.page_size)


def _copy_owned(environment: Environment, folder: str, compact: bool) -> None:
    """The same for a store that this process writes: its map may grow meanwhile, which would pull
    it from under LMDB's own copying. So its pages are copied one by one; a compact copy is made of
    that copy."""
    if not compact:
        _copy_pages(environment, folder)
        return
    whole = os.path.join(folder, WHOLE_FOLDER)
    os.mkdir(whole)
    try:
        _copy_pages(environment, whole)
        copied = Environment.open_to_read(whole, clock=environment.clock)
        try:
            copy_file(copied, folder, compact=True)
        finally:
            copied.close()
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _copy_pages(environment: Environment, folder: str) -> None:
    source = os.path.join(environment.path, DATA_FILE)
    reader = environment.new_reader()
    size = 0

    def copy(txn: Any, pause: Callable[[], None]) -> int:
        # The pages of this snapshot are not overwritten while its transaction lives; others are.
        meta = read_meta(from_fd, source)
        if meta.txn != txn.id():
            raise Interrupted  # there was a commit in between
        size = (meta.last_page + 1) * meta.page_size
        metas = os.pread(from_fd, 2 * meta.page_size, 0)
        if read_meta(from_fd, source).txn != meta.txn:
            raise Interrupted
        os.ftruncate(to_fd, 0)
        os.pwrite(to_fd, metas, 0)
        place = len(metas)
        while place < size and (part := os.pread(from_fd, min(READ_SIZE, size - place), place)):
            place += os.pwrite(to_fd, part, place)
            pause()
        return size

    with ExitStack() as stack:
        stack.callback(reader.close)
        from_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, from_fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        to_fd = os.open(os.path.join(folder, DATA_FILE), flags, 0o600)
        stack.callback(os.close, to_fd)
        while not size:
            with suppress(Interrupted):
                size = reader.read_long(copy)
            reader.release()
    _finish(folder, size)


def _end_journal(folder: str) -> None:
    """The copy has what is in the file, and no journal."""
    size = os.path.getsize(os.path.join(folder, DATA_FILE))
    handle = open_lmdb(folder, lock=False, map_size=size + GROWTH_SPARE)
    try:
        databases = open_databases(handle, folder, is_new=False)
        with handle.begin(write=True) as txn:
            change_mark(txn, databases.meta, None, 0)
    finally:
        handle.close()


def _finish(folder: str, size: int) -> None:
    """Give the copy its full length, and sync it."""
    file = os.path.join(folder, DATA_FILE)
    lengthen(file, size)
    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)
