"""The file of a store as a whole: measured, and copied while it is in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from attrs import frozen

from .create import lengthen, sync_folder
from .environment import Environment
from .folder import DATA_FILE, read_meta
from .lmdb_errors import unreadable
from .lmdb_files import errno_of
from .pages import READ_SIZE
from .reader import Interrupted
from .write_transaction import Databases

# Where a whole copy stands while one without free pages is made of it.
WHOLE_FOLDER = "whole"


# From so many free pages on, if they are one in so many at least, to search them takes a while.
FREE_PAGES_MANY = 16_384
FREE_SHARE = 4


@frozen
class Measures:
    """What the file of a store is like. Sizes are in bytes."""

    file_size: int
    map_size: int  # what the file may grow to before the map has to
    page_size: int
    pages: int
    free_pages: int  # used again before the file grows
    last_commit: int  # how many transactions the file has seen
    readers: int  # slots of the reader table that are in use
    readers_max: int
    classes: int  # those that were deleted included
    objects: int
    records: int  # stored keys, and the pieces of long ones
    alarms: int
    garbage: int  # objects and classes whose records are still to be freed

    @property
    def advice(self) -> str | None:
        """What to do about the file, if anything."""
        if self.free_pages < FREE_PAGES_MANY or self.free_pages * FREE_SHARE < self.pages:
            return None
        # For a large value LMDB looks through its list of free pages for enough in a row. Where all
        # were scattered, 1 MiB took 1 ms with 10,000 of them, 8 with 30,000, and 130 with 75,000.
        return (
            f"{100 * self.free_pages // self.pages} % of the pages are free; if they are "
            f"scattered, commits of large values are slow. `durable copy --compact` makes a store "
            f"without them"
        )


def measure(environment: Environment, read: Callable[..., Measures] | None = None) -> Measures:
    """Costs the same for a small store and a large one. *read*: instead of `environment.read`."""
    handle = environment._lmdb
    info = handle.info()

    def look(txn: Any, databases: Databases) -> Measures:
        named = [
            txn.stat(database)
            for database in (
                databases.meta, databases.classes, databases.objects,
                databases.records, databases.alarms, databases.garbage,
            )
        ]  # fmt: skip
        pages = info["last_pgno"] + 1
        used = 2 + sum(_pages(stat) for stat in [handle.stat(), *named])
        page_size = handle.stat()["psize"]
        return Measures(
            file_size=os.path.getsize(os.path.join(environment.path, DATA_FILE)),
            map_size=info["map_size"],
            page_size=page_size,
            pages=pages,
            free_pages=max(0, pages - used),
            last_commit=info["last_txnid"],
            readers=info["num_readers"],
            readers_max=info["max_readers"],
            classes=named[1]["entries"],
            objects=named[2]["entries"],
            records=named[3]["entries"],
            alarms=named[4]["entries"],
            garbage=named[5]["entries"],
        )

    return (read or environment.read)(look)


def copy_file(environment: Environment, folder: str, *, compact: bool) -> None:
    """Put a copy of one moment of the store into the empty *folder*. Blocks, and holds up nobody.

    *compact*: leave out free pages, which takes longer. Raises StoreDamaged or an OSError.
    """
    if environment._ownership is not None:  # else it is only looked at
        _copy_owned(environment, folder, compact)
        return
    environment.read(lambda txn, databases: None)  # the map may have been outgrown meanwhile
    try:
        with environment.held() as handle:
            handle.copy(folder, compact=compact)
    except Exception as error:  # all of LMDB's are
        if code := errno_of(error):
            raise OSError(code, os.strerror(code), folder) from error
        raise unreadable(environment.path, error) from error
    # The last pages may be unused, and then need not have been written.
    pages = environment._lmdb.info()["last_pgno"] + 1 if not compact else 0
    _finish(folder, pages * environment._page_size)


def _copy_owned(environment: Environment, folder: str, compact: bool) -> None:
    """The same for a store that this process writes: its map may grow meanwhile, and what LMDB
    copies by itself would be gone then. So its pages are copied one by one; a copy without free
    pages is made of that copy."""
    if not compact:
        _copy_pages(environment, folder)
        return
    whole = os.path.join(folder, WHOLE_FOLDER)
    os.mkdir(whole)
    try:
        _copy_pages(environment, whole)
        copied = Environment.open_to_read(whole, clock=environment._clock)
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
        # The pages of this moment are not written over while its transaction lives; others are.
        meta = read_meta(from_fd, source)
        if meta.txn != txn.id():
            raise Interrupted  # there was a commit just now
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


def _finish(folder: str, size: int) -> None:
    """The copy has its length, and is on the disk."""
    file = os.path.join(folder, DATA_FILE)
    lengthen(file, size)
    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)


def _pages(stat: dict[str, int]) -> int:
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
