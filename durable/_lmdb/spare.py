"""Room that is kept for deletes: a file on a full disk that is given back when a delete needs it.

A delete writes new pages before it frees old ones; on a disk without room for them it fails, and
with it the one way out. So when a disk gets full, a file takes some of what is left, as long as it
can be had, and gives it back for a commit that only deletes.
"""

from __future__ import annotations

import os
from contextlib import suppress

FILE = ".spare"
FILE_MODE = 0o600

SIZE_MAX = 1 << 20
SHARE_MAX = 16  # at most the 16th part of the disk
# With more left than this there is no such file.
ROOM_MIN = 64 << 20


class Spare:
    """The file in one folder. It stays from one owner to the next."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = os.path.join(path, FILE)
        self._is_there = os.path.lexists(self._file)
        self.is_given_back = False  # take it again as soon as there is room

    def keep(self) -> None:
        """Check whether the disk gets full, and then reserve some room, if it can be had."""
        if self._is_there:
            return
        with suppress(OSError):
            disk = os.statvfs(self._path)
            room, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
            if room >= ROOM_MIN:
                self.is_given_back = False
                return
            self._take(min(SIZE_MAX, size // SHARE_MAX))

    def give_back(self) -> bool:
        """Give the room back; returns whether there was any."""
        if not self._is_there:
            return False
        self._is_there = False
        try:
            os.unlink(self._file)
        except OSError:
            return False
        self.is_given_back = True
        return True

    def _take(self, size: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self._file, flags, FILE_MODE)
        try:
            os.posix_fallocate(fd, 0, size)
            self._is_there, self.is_given_back = True, False
        except OSError:
            os.unlink(self._file)
            raise
        finally:
            os.close(fd)
