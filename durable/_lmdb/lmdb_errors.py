"""Errors of LMDB and the disk as the library's own, with what to do about them."""

from __future__ import annotations

import errno
import os
from typing import Final

from durable._model.errors import CommitFailed, DurableError, StoreDamaged, StoreFull

from .create import room_left
from .folder import DATA_FILE

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# A failed write with less room than this left, beside what was to be written, is a full disk.
_ROOM_MIN = 16 << 20


class WouldWait(Exception):
    """A write that may wait for nothing but the disk would have to wait for a lock."""


class GivenUp(Exception):
    """LMDB has just given up the environment, since a write failed; that write opens it anew."""


def never_waits(would_wait: bool) -> None:
    if would_wait:
        raise WouldWait


def unreadable(path: str, error: Exception) -> StoreDamaged:
    return StoreDamaged(
        f"the store {path!r} cannot be read: {error}; run `durable check` on the folder and "
        f"restore it from a backup"
    )


def not_read(path: str, error: BaseException) -> DurableError:
    return DurableError(
        f"the store {path!r} cannot be read just now: {error}; nothing is known to be wrong with "
        f"its file, so look after the system and call again",
        retryable=True,
    )


def too_many_readers(path: str, count: int) -> DurableError:
    return DurableError(
        f"the store {path!r} is looked at by too many at once: all {count:,} slots for readers are "
        f"taken. Those of processes that were killed are cleared when its program next reads; end "
        f"some of the others, then call again",
        retryable=True,
    )


def lock_replaced(path: str) -> DurableError:
    return DurableError(
        f"the lock file of the store {path!r} was taken away while it was looked at, so that its "
        f"owner does not know of it any more; look again",
        retryable=True,
    )


def pid_taken(path: str) -> BlockingIOError:
    why = (
        f"a process of another container has the pid {os.getpid()} too, and is at this store, and "
        f"LMDB has one lock for each pid: wait for its end, or give this process another pid"
    )
    return BlockingIOError(errno.EAGAIN, why, path)


def not_reopened(path: str, error: Exception) -> CommitFailed:
    return CommitFailed(
        f"the store {path!r} is out of use since a write failed, and could not be opened anew"
        f": {error}. What was confirmed is in its file; look after the disk, then call again"
    )


def not_brought_in(path: str, error: OSError) -> OSError:
    why = (
        f"{error.strerror}; the program that had this store died, and what was confirmed last is "
        f"in the store's journal, from which it can be had only where the folder is writable"
    )
    return type(error)(error.errno, why, path)


def taken_away(path: str, error: OSError) -> CommitFailed:
    return CommitFailed(
        f"the folder of the store {path!r} was removed, moved or replaced while it was open "
        f"({error.strerror}: {error.filename!r}), and nothing of this commit was stored; put it "
        f"back, or end the program and start it on the folder that it shall have"
    )


def damaged_value(path: str, keyspace: int, key: bytes) -> StoreDamaged:
    return StoreDamaged(
        f"the value of the key {key.decode(errors='replace')!r:.80} is damaged: its checksum does "
        f"not fit. It is in the keyspace {keyspace} of the store {path!r}; run `durable check` on "
        f"the folder, and take the object from a backup, or put or delete the key"
    )


def not_written(path: str, code: int, error: Exception, size: int) -> DurableError:
    """A commit of *size* bytes did not succeed; *code* is the system's error number, or 0."""
    # LMDB reports EIO if only a part was written, as on a disk that has just become full.
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
