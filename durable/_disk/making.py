"""Making the folder of a store, so that it is there after a power failure, and unmaking it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress

from .folder import refusal


def make_folder(folder: str) -> str:
    """Make the folder and those above it; answers the first that was not there."""
    first = folder
    while not os.path.lexists(os.path.dirname(first)):
        first = os.path.dirname(first)
    try:
        os.makedirs(folder, exist_ok=True)
        sync_folder(os.path.dirname(first))
    except OSError as error:
        raise refusal(error, folder, "the store's folder cannot be made") from error
    return first


def unmake_folder(folder: str, first: str | None) -> None:
    """Take back `make_folder`, as far as nobody has put anything there."""
    with suppress(OSError):
        while first is not None and len(folder) >= len(first):
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def sync_folder(folder: str) -> None:
    """A file is there after a power failure only if its folder was synced too."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # not every file system can
            raise
    finally:
        os.close(fd)


def remove_files(folder: str, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))


def lengthen(file: str, size: int) -> None:
    """Make *file* at least *size* bytes long, if that can be done."""
    with suppress(OSError):
        if os.stat(file).st_size < size:
            os.truncate(file, size)


def room_left(file: str) -> int:
    """By how many bytes *file* can grow, as far as the system says."""
    disk = os.statvfs(os.path.dirname(file))
    room = disk.f_bavail * disk.f_frsize
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return room if limit == resource.RLIM_INFINITY else min(room, limit - os.path.getsize(file))
