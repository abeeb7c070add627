"""What to tell those above when the disk says no, in words that say what to do."""

from __future__ import annotations

import errno
import os
from typing import Final

from durable._model.errors import CommitFailed, DurableError, StoreDamaged, StoreFull

from .folder import DATA_FILE
from .making import room_left

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# With less than this left beside what was to be written, a failed write is put down to it.
_ROOM_MIN = 16 << 20


def unreadable(path: str, error: Exception) -> StoreDamaged:
    return StoreDamaged(
        f"the store {path!r} cannot be read: {error}; run `durable check` on the folder and "
        f"restore it from a backup"
    )


def not_written(path: str, code: int, error: Exception, size: int) -> DurableError:
    """A commit of *size* bytes did not succeed; *code* is the system's error number, or 0."""
    # LMDB says EIO when only a part of what it wrote went in, as on a disk that is just full.
    file = os.path.join(path, DATA_FILE)
    if code in NO_ROOM or (code == errno.EIO and room_left(file) < size + _ROOM_MIN):
        return StoreFull(
            f"the disk has no room for the store {path!r}, and nothing of this commit was stored: "
            f"{error}; free some space"
        )
    return CommitFailed(
        f"a commit to the store {path!r} failed, and nothing of it was stored: {error}; look after "
        f"the disk, then call again"
    )


def at_its_limit(path: str, size_max: int) -> StoreFull:
    return StoreFull(
        f"the store {path!r} has reached its limit of {size_max:,} bytes, and nothing of this "
        f"commit was stored; delete something or raise the limit"
    )


def no_address_space(path: str, size: int, error: Exception) -> StoreFull:
    return StoreFull(
        f"the store {path!r} cannot have {size:,} bytes of address space: {error}; nothing of this "
        f"commit was stored. Free memory or raise the process's limit"
    )


def no_address_space_to_begin(folder: str) -> OSError:
    why = "a store is mapped into the address space: free memory or raise the process's limit"
    return OSError(errno.ENOMEM, f"{os.strerror(errno.ENOMEM)}; {why}", folder)


def no_room_to_begin(folder: str, error: Exception) -> StoreFull:
    return StoreFull(f"the disk has no room for a store in {folder!r}: {error}; free some space")


def not_a_store(file: str, error: Exception) -> StoreDamaged:
    return StoreDamaged(
        f"{file!r} is an LMDB environment, but not a store of durable: {error}; give another path"
    )


def lacks_a_database(folder: str, error: Exception) -> StoreDamaged:
    return StoreDamaged(f"the store {folder!r} lacks a database: {error}; restore it from a backup")
