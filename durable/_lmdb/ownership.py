"""The owner of a folder: one process, by locks on the file `owner` in it and on the data file.

Either file alone would do, if no other program touched it. There are two so that a second owner is
kept out when one of them was removed, or replaced, under a running program; and the owner checks
with each commit that both are still the files that it has locked.

Rule: a process that can only read the folder keeps no owner out. The locks are for writing and
belong to an open file (`F_OFD_SETLK`), and a file that was opened to read cannot have such a lock.
A lock for reading, which it can have, is distinguished from an owner's and ignored. If one is in
the way, the file `owner` is replaced by a new one, which is locked before it has its name.

The operating system drops the locks when their holder dies, so a crash leaves nothing to clean up;
the pid in the file is only for people. Pids differ from container to container, and the file may
be gone: so the lock itself encodes its holder.

A forked child inherits the locks and would keep them after its parent's death; so the files are
closed in the child at once, which leaves the parent's locks as they are. Programs that are started
do not inherit them, as with every file that Python opens.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from contextlib import suppress

from durable._model.errors import StoreDamaged, StoreInUse

from .folder import DATA_FILE, OWNER_FILE, Found, inspect, refusal
from .locks import FILE_MODE, PID_BITS, locker, pid_namespace, try_lock

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Ownership:
    """The locks of one folder, held from their making to their release."""

    def __init__(self, path: str) -> None:
        """Raises StoreInUse, or an OSError if the files cannot be written."""
        self._path = path
        self._file = os.path.join(path, OWNER_FILE)
        self._store_file = os.path.join(path, DATA_FILE)
        self._is_new = not os.path.lexists(self._file)
        self._store_fd = -1
        self._fd = -1
        self._file_seen = self._store_seen = (0, 0)
        _held.add(self)
        try:
            if os.path.lexists(self._store_file):
                self.lock_store_file()
            self._lock()
        except BaseException:
            self.release(undo=True)
            raise

    def lock_store_file(self) -> None:
        """Lock the data file, which did not exist before. Raises StoreInUse, or an OSError."""
        try:
            fd = os.open(self._store_file, os.O_RDWR | _FLAGS)
        except OSError as error:
            raise refusal(error, self._store_file, "the owner of a store writes to it") from error
        if self._store_fd >= 0:
            os.close(self._store_fd)  # of an empty file, which another has replaced
        self._store_fd = fd
        self._store_seen = _identity(os.fstat(fd))
        if not try_lock(fd, self._store_file):
            self._refuse_second(fd)

    def check(self) -> None:
        """Check that the folder is still the one that is owned; costs two looks at names.

        Raises FileNotFoundError or FileExistsError, about what is in place of the store's files.
        """
        if self._fd < 0:
            return
        try:
            if _identity(os.lstat(self._store_file)) != self._store_seen:
                raise FileExistsError(
                    errno.EEXIST,
                    "another file has taken the place of the store's",
                    self._store_file,
                )
            seen = _identity(os.lstat(self._file))
        except FileNotFoundError:
            if not os.path.lexists(self._store_file):
                raise
            # A clean-up took the file for a stale lock; the data file has kept other owners out.
            seen = (0, 0)
        if seen != self._file_seen:
            self._lock_again()

    def release(self, *, undo: bool = False) -> None:
        """Release the folder; *undo*: leave no file that did not exist before."""
        _held.discard(self)
        if self._fd >= 0:
            with suppress(OSError):
                if _identity(os.lstat(self._file)) != self._file_seen:
                    pass  # it belongs to another process
                elif undo and self._is_new:
                    os.unlink(self._file)
                else:
                    os.ftruncate(self._fd, 0)
        self.close_fd()

    def close_fd(self) -> None:
        """Close the files, as a forked child must; the parent keeps the locks."""
        fds = (self._fd, self._store_fd)
        self._fd = self._store_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    # The file `owner`

    def _lock(self) -> None:
        while True:
            fd = self._open()
            try:
                if not try_lock(fd, self._file):
                    self._refuse_second(fd)
                    self._replace(fd)
                    return
                # An open that was refused may have removed the file in between.
                if _is_same(fd, self._file):
                    self._claim(fd)
                    return
            except BaseException:
                if fd != self._fd:
                    os.close(fd)
                raise
            os.close(fd)

    def _refuse_second(self, fd: int) -> None:
        """The file could not be locked: raise StoreInUse, unless only readers are in the way."""
        length = locker(fd)
        if length is not None:
            raise _in_use(self._path, length)

    def _open(self) -> int:
        try:
            fd = os.open(self._file, os.O_RDWR | os.O_CREAT | _FLAGS, FILE_MODE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _not_ours(self._file, "a link") from error
            raise refusal(error, self._file, "a process that opens a store writes to it") from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(fd)
            raise _not_ours(self._file, "no file of its own")
        return fd

    def _claim(self, fd: int) -> None:
        """The file is locked by this process from now on; write its pid into it."""
        before, self._fd = self._fd, fd
        if before >= 0:
            os.close(before)
        self._file_seen = _identity(os.fstat(fd))
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            raise refusal(error, self._file, "the store's owner writes its pid there") from error

    def _replace(self, fd: int) -> None:
        """Replace a file that only readers have locked by a file of this process."""
        new = f"{self._file}.{os.getpid()}.part"
        with suppress(FileNotFoundError):
            os.unlink(new)
        made = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, FILE_MODE)
        try:
            try_lock(made, new)
            os.rename(new, self._file)
        except BaseException:
            os.close(made)
            with suppress(OSError):
                os.unlink(new)
            raise
        os.close(fd)
        self._claim(made)

    def _lock_again(self) -> None:
        """The file `owner` was removed or replaced while this process had it: lock it again."""
        try:
            self._lock()
        except StoreInUse as error:
            raise FileExistsError(
                errno.EEXIST, f"the folder has another owner now: {error}", self._file
            ) from error


def check_free(path: str) -> None:
    """Raise StoreInUse if the folder has an owner, as far as can be seen. Changes nothing."""
    for name in (OWNER_FILE, DATA_FILE):
        try:
            fd = os.open(os.path.join(path, name), os.O_RDONLY | _FLAGS)
        except OSError:
            continue
        try:
            length = locker(fd)
        finally:
            os.close(fd)
        if length is not None:
            raise _in_use(path, length)


def inspect_free(path: str) -> Found:
    """The kind of the folder; StoreInUse comes first, since an owner may be making the file."""
    try:
        return inspect(path)
    except StoreDamaged:
        check_free(path)
        raise


def _in_use(path: str, length: int) -> StoreInUse:
    namespace, pid = divmod(length, 1 << PID_BITS)
    here = pid_namespace()
    is_elsewhere = 0 not in {namespace, here} and here != namespace
    return StoreInUse(path, pid or _pid_in(path), is_elsewhere=is_elsewhere)


def _pid_in(path: str) -> int | None:
    """The pid in the file `owner`."""
    try:
        fd = os.open(os.path.join(path, OWNER_FILE), os.O_RDONLY | _FLAGS)
    except OSError:
        return None
    try:
        text = os.pread(fd, 32, 0).strip()
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(text) if text.isdigit() else None


def _not_ours(file: str, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"{file!r} is {what}, and a store's owner writes there: remove it if the folder is a "
        f"store's, or give another path"
    )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


_held: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _close_in_child() -> None:
    for ownership in list(_held):
        ownership.close_fd()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
