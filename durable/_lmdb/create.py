"""Makes the folder of a store, so that it exists after a power failure, and removes it again."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterable
from contextlib import suppress

from .folder import refusal

# What objects store is for the program's own user, unless it says otherwise.
FOLDER_MODE = 0o700


def make_folder(folder: str) -> str | None:
    """Make the folder and its missing parents; returns the first one that was made, if any.

    Their names are on the disk then, one after the other; so is that of the last one that existed,
    since the process that made it may have died before it was synced.
    """
    missing: list[str] = []
    above = folder
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    with suppress(OSError):  # it may belong to another user
        sync_folder(os.path.dirname(above))
    try:
        for each in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(each, FOLDER_MODE)
            sync_folder(os.path.dirname(each))
    except OSError as error:
        raise refusal(error, folder, "the store's folder cannot be made") from error
    return missing[-1] if missing else None


def unmake_folder(folder: str, first: str | None) -> None:
    """Undo `make_folder`, as far as the folders are still empty."""
    with suppress(OSError):
        while first is not None and len(folder) >= len(first):
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def make_synced(file: str, make: Callable[[str], None]) -> None:
    """Have *make* make a file, and rename it to *file* once all of it is on the disk.

    So a power failure leaves no half of it. Its name is durable only after `sync_folder`.
    """
    folder, name = os.path.split(file)
    part = f".{name}.part"
    remove_files(folder, {part})  # left by an open that died
    try:
        make(os.path.join(folder, part))
        try:
            _sync(os.path.join(folder, part), os.O_RDWR)
            os.rename(os.path.join(folder, part), file)
        except OSError as error:
            raise refusal(error, file, "the store's file cannot be made") from error
    except BaseException:
        remove_files(folder, {part})
        raise


def sync_folder(folder: str) -> None:
    """Sync the folder: a file exists after a power failure only if its folder was synced too."""
    try:
        _sync(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file systems cannot
            raise


def remove_files(folder: str, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))


def lengthen(file: str, size: int) -> None:
    """Make *file* at least *size* bytes long, if possible."""
    with suppress(OSError):
        if os.stat(file).st_size < size:
            os.truncate(file, size)


def room_left(file: str) -> int:
    """By how many bytes *file* can grow, according to the system."""
    disk = os.statvfs(os.path.dirname(file))
    room = disk.f_bavail * disk.f_frsize
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return room if limit == resource.RLIM_INFINITY else min(room, limit - os.path.getsize(file))


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
