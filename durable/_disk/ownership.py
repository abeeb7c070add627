"""Who owns a folder: one process, by an exclusive lock on the file `owner` in it.

The lock is of the kind `flock`. The operating system drops it when its holder dies, so a crash
leaves nothing to clean up; the pid in the file is only for the message of whoever comes second.
The other kinds serve worse. A POSIX record lock is lost as soon as any code of the process opens
and closes the file, a backup for instance, and it does not keep out a second open of the same
process. A lock of an open file description is the same as `flock` here, and not on every system.

A forked child inherits the lock and would keep it after its parent's death; so the file is closed
in the child at once, which leaves the parent's lock as it is. Programs that are started do not
inherit it, as with every file that Python opens.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress

from durable._model.errors import StoreDamaged, StoreInUse

from .folder import Found, inspect, refusal

FILE = "owner"


class Ownership:
    """The lock of one folder, held from the making to the release."""

    def __init__(self, path: str) -> None:
        """Raises StoreInUse, or an OSError if the file cannot be written."""
        self._path = path
        self._file = os.path.join(path, FILE)
        self._is_new = not os.path.lexists(self._file)
        self._fd = self._lock()
        _held.add(self)
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            self.release(undo=True)
            raise refusal(error, self._file, "the store's owner writes its pid there") from error

    def release(self, *, undo: bool = False) -> None:
        """Let others have the folder; *undo*: leave no file that was not there before."""
        if self._fd < 0:
            return
        _held.discard(self)
        with suppress(OSError):
            if undo and self._is_new:
                os.unlink(self._file)
            else:
                os.ftruncate(self._fd, 0)
        self.close_fd()

    def close_fd(self) -> None:
        """Close the file, as a forked child must; a lock that others share stays theirs."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _lock(self) -> int:
        while True:
            try:
                fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise refusal(error, self._file, "whoever opens a store writes to it") from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody whose open was refused may have taken the file away in between.
                if _is_same(fd, self._file):
                    return fd
            except BlockingIOError:
                pid = _pid_in(fd)
                os.close(fd)
                raise StoreInUse(self._path, pid) from None
            except OSError as error:
                os.close(fd)
                raise refusal(error, self._file, "the file system must have locks") from error
            os.close(fd)


def check_free(path: str) -> None:
    """Raise StoreInUse if the folder has an owner. Changes nothing."""
    try:
        fd = os.open(os.path.join(path, FILE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreInUse(path, _pid_in(fd)) from None
    except OSError:
        return
    finally:
        os.close(fd)


def inspect_free(path: str) -> Found:
    """What the folder is; StoreInUse comes first, since an owner may be about to make the file."""
    try:
        return inspect(path)
    except StoreDamaged:
        check_free(path)
        raise


def _pid_in(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


_held: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _close_in_child() -> None:
    for ownership in list(_held):
        ownership.close_fd()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
