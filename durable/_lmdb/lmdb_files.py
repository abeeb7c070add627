"""How this library opens LMDB: the files, the databases in them, and the meaning of its errors.

With `handle.py` the only file that imports lmdb.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lmdb

from durable._engine.view import Malformed
from durable._model.errors import FormatTooNew, StoreInUse

from . import apart, layout
from .create import make_synced, remove_files, sync_folder
from .folder import DATA_FILE, LOCK_FILE, Found, inspect, refusal
from .lmdb_errors import (
    NO_ROOM,
    lacks_a_database,
    no_address_space_to_begin,
    no_room_to_begin,
    not_a_store,
    not_written,
    pid_taken,
    too_many_readers,
    unreadable,
)
from .write_transaction import Databases

# Files stay readable by every version of LMDB in use, whatever the environment variables say.
_ENGINE: dict[str, Any] = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}

MAP_SIZE_MIN = 64 << 20
GROWTH_SPARE = 16 << 20

# Slots for readers of all processes, fixed by the process that makes the lock file. They take 64
# bytes each, and leave it smaller than the smallest store.
READERS_MAX = 382

FILE_MODE = 0o600

_NUMBERS = {os.strerror(number): number for number in errno.errorcode}


def open_owned(
    folder: str, lock_store_file: Callable[[], None], map_size_max: int
) -> tuple[lmdb.Environment, Databases]:
    """Open the store in *folder* to write; if there is none, make it, calling *lock_store_file* for
    a new data file. Nothing is left of a store that could not be made."""
    is_empty = inspect(folder) is Found.EMPTY  # again, since now no other process writes
    is_new = is_empty or not check_format(folder)
    size = os.path.getsize(os.path.join(folder, DATA_FILE)) if not is_new else 0
    map_size = min(max(MAP_SIZE_MIN, size + GROWTH_SPARE), max(map_size_max, size))
    before = set(os.listdir(folder))
    try:
        if is_empty:
            make_synced(os.path.join(folder, DATA_FILE), make_file)
        if is_new:  # else it was done before anything was written
            sync_folder(folder)
        if is_empty:
            lock_store_file()
        handle = open_lmdb(folder, map_size=map_size)
        try:
            handle.reader_check()  # clears slots of processes that died
            return handle, open_databases(handle, folder, is_new)
        except BaseException:
            handle.close()
            raise
    except BaseException:
        remove_files(folder, {DATA_FILE, LOCK_FILE} - before)
        raise


def look_beside(folder: str) -> tuple[lmdb.Environment, Databases]:
    """Open the store in *folder* to read, or, if LMDB's lock cannot be had there, a copy."""
    if inspect(folder) is not Found.STORE:
        raise _no_store(folder)
    if not apart.can_lock(folder):
        with apart.elsewhere(folder) as place:
            return _open_to_read(folder, place)
    with suppress(BlockingIOError):
        return _open_to_read(folder, folder)
    with apart.copied_by_another(folder) as place:
        return _open_to_read(folder, place)


def _open_to_read(folder: str, place: str) -> tuple[lmdb.Environment, Databases]:
    handle = open_lmdb(place, readonly=True, map_size=0)
    try:
        # With all slots taken LMDB could not be opened to clear them.
        handle.reader_check()
        if not has_format(handle, folder):
            raise _no_store(folder)
        return handle, open_databases(handle, folder, is_new=False)
    except BaseException:
        handle.close()
        raise


def _no_store(folder: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no store in this folder", folder)


def check_format(folder: str) -> bool:
    """Whether the store has any contents; for its owner, since no lock is taken.

    Raises FormatTooNew or StoreDamaged.
    """
    handle = open_lmdb(folder, readonly=True, lock=False)
    try:
        return has_format(handle, folder)
    finally:
        handle.close()


def has_format(handle: lmdb.Environment, folder: str) -> bool:
    """Whether there are any contents. Raises FormatTooNew or StoreDamaged."""
    try:
        with handle.begin() as txn:
            if not txn.stat()["entries"]:
                return False  # the process died when it had just made the file
        version = layout.read_format(_read_meta(handle))
    except (lmdb.Error, Malformed) as error:
        raise not_a_store(os.path.join(folder, DATA_FILE), error) from error
    if version > layout.FORMAT:
        raise FormatTooNew(folder, version, layout.FORMAT)
    return True


def _read_meta(handle: lmdb.Environment) -> bytes:
    meta = handle.open_db(layout.META, create=False)
    with handle.begin(db=meta) as txn:
        raw = txn.get(layout.META_FORMAT)
    if raw is None:
        raise Malformed("it does not say its format")
    return raw


def open_lmdb(folder: str, **options: Any) -> lmdb.Environment:
    try:
        return lmdb.open(
            folder,
            max_dbs=len(layout.DATABASES) + 2,
            # A forked child that exits would free spares of its parent's, in memory they share.
            max_spare_txns=0,
            readahead=False,
            mode=FILE_MODE,
            max_readers=READERS_MAX,
            create=not options.get("readonly", False),
            **{**_ENGINE, **options},
        )
    except lmdb.LockError as error:
        raise pid_taken(folder) from error
    except lmdb.ReadersFullError as error:
        raise too_many_readers(folder, READERS_MAX) from error
    except lmdb.Error as error:
        if "already open in this process" in str(error):
            raise StoreInUse(folder, os.getpid()) from None
        code = errno_of(error)
        if code in NO_ROOM:
            raise no_room_to_begin(folder, error) from error
        if code == errno.ENOMEM:
            raise no_address_space_to_begin(folder) from error
        if code:
            why = "a process that opens a store reads and writes its files"
            raise refusal(OSError(code, ""), folder, why) from error
        raise unreadable(folder, error) from error


def make_file(file: str) -> None:
    """Make a data file without contents; its map gets its size when it is opened."""
    open_lmdb(file, subdir=False, lock=False, map_size=1 << 20).close()


def open_databases(handle: lmdb.Environment, folder: str, is_new: bool) -> Databases:
    """Make or open all databases; with the format, in one transaction: a store has all or none."""
    try:
        if not is_new:
            return Databases(*(handle.open_db(name, create=False) for name in layout.DATABASES))
        with handle.begin(write=True) as txn:
            databases = Databases(*(handle.open_db(name, txn) for name in layout.DATABASES))
            version = layout.write_format(layout.FORMAT_OF_KEYS)
            txn.put(layout.META_FORMAT, version, db=databases.meta)
        return databases
    except lmdb.Error as error:
        if isinstance(error, lmdb.MapFullError) or errno_of(error) in NO_ROOM:
            raise no_room_to_begin(folder, error) from error
        if is_new:
            raise not_written(folder, errno_of(error), error, 0) from error
        raise lacks_a_database(folder, error) from error


def errno_of(error: Exception) -> int:
    """The error number of the operating system in an error of LMDB; 0 if it has none."""
    if isinstance(error, lmdb.DiskError):
        return errno.ENOSPC
    if isinstance(error, lmdb.ReadonlyError):
        return errno.EACCES
    code = getattr(error, "code", None)
    if code is None:  # before lmdb 3 an error has only its text, with the system's at the end
        code = _NUMBERS.get(str(error).rpartition(": ")[2], 0)
    return max(int(code), 0)


def begin_read(handle: lmdb.Environment, folder: str, db: Any = None) -> Any:
    """A read transaction. Reuses the slots of readers that died."""
    try:
        return handle.begin(db=db)
    except lmdb.MapResizedError:
        # Only needed for another process's store, which is read in one thread.
        handle.set_mapsize(0)
        return handle.begin(db=db)
    except lmdb.ReadersFullError:
        handle.reader_check()
    try:
        return handle.begin(db=db)
    except lmdb.ReadersFullError as error:
        raise too_many_readers(folder, handle.info()["max_readers"]) from error


def is_damage(error: Exception) -> bool:
    """Whether *error* is about the contents of the file, and not only about this moment."""
    return not isinstance(error, lmdb.Error) or isinstance(
        error,
        lmdb.CorruptedError
        | lmdb.PageNotFoundError
        | lmdb.InvalidError
        | lmdb.VersionMismatchError
        | lmdb.IncompatibleError
        | lmdb.BadValsizeError
        | lmdb.NotFoundError,
    )


def lock_file_of(folder: str) -> tuple[int, int]:
    """The identity of LMDB's lock file; zeros if it does not exist."""
    try:
        found = os.lstat(os.path.join(folder, LOCK_FILE))
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
