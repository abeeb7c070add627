"""Locks on files whose holder can be found out.

Locks of the kind `flock` can be taken by any process that can read, so they are used only where the
system has no others. POSIX record locks are lost as soon as any code of the process opens and
closes the file, a backup for instance, and do not keep out a second open of the same process.

Pids differ from container to container: the length of a lock encodes the pid of its holder, and the
pid namespace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys

from .folder import refusal

FILE_MODE = 0o600

# Behind all that the files will ever contain, where no other program takes locks.
_LOCK_PLACE = 1 << 62
PID_BITS = 24
_LOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid
_HAS_OFD: bool = sys.platform == "linux" and struct.calcsize("l") == 8

_GET_LOCK, _SET_LOCK = 36, 37  # F_OFD_GETLK and F_OFD_SETLK of Linux


def try_lock(fd: int, file: str) -> bool:
    """Lock an open file for writing; False if another open file has it."""
    try:
        if _HAS_OFD:
            length = pid_namespace() << PID_BITS | os.getpid()
            wanted = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCK_PLACE, length, 0)
            fcntl.fcntl(fd, _SET_LOCK, wanted)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise refusal(error, file, "the file system must have locks") from error
    return True


def locker(fd: int) -> int | None:
    """The length of the lock that the file's owner holds, 0 if it is not known; None if there is no
    owner. Locks of processes that can only read the file do not count."""
    try:
        if not _HAS_OFD:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(fd, fcntl.LOCK_UN)
            return None
        asked = _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, _LOCK_PLACE, 1, 0)
        kind, _, _, length, _ = _LOCK.unpack(fcntl.fcntl(fd, _GET_LOCK, asked))
    except BlockingIOError:
        return 0
    except OSError:
        return None
    return int(length) if kind == fcntl.F_WRLCK else None


def pid_namespace() -> int:
    """A number for the pid namespace of this process; 0 if it is not known."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino & 0xFFFFFFFF
    except OSError:
        return 0
