"""Parts: what a copy or an export writes to, beside its target, until it is complete.

A part is locked while it grows, with a lock that ends with its process. So the next run to the same
target can identify the parts of runs that were killed, and deletes them.

Rule: only what has a part's name, contains what a part contains, and can be locked is deleted.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from durable._runtime.store_files import is_of_a_store

from .exporting import FORMAT

_EXPORT_BEGINS: Final = f'{{"format": "{FORMAT}"'.encode()


def part_of(target: str | os.PathLike[str]) -> str:
    """A path where a copy to *target* can grow until it is complete: a new one at each call."""
    return f"{os.path.abspath(os.fspath(target))}.{secrets.token_hex(4)}.part"


@contextmanager
def new_folder(part: str) -> Iterator[None]:
    """Make the folder *part*; it counts as growing within the block."""

    def make() -> int:
        os.mkdir(part, 0o700)
        return os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    fd = _locked(part, make)
    try:
        yield
    finally:
        os.close(fd)


def new_file(part: str) -> int:
    """Make the file *part*, which counts as growing until the descriptor is closed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return _locked(part, lambda: os.open(part, flags, 0o666))


def take_away_left(target: str | os.PathLike[str]) -> list[str]:
    """Delete the parts that killed copies and exports to *target* have left; returns them."""
    folder, name = os.path.split(os.path.abspath(os.fspath(target)))
    is_part = re.compile(re.escape(name) + r"\.[0-9a-f]{8}\.part", re.ASCII).fullmatch
    taken: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:
        parts = [entry.path for entry in entries if is_part(entry.name)]
        taken = [part for part in parts if _take_away(part)]
    return taken


def _locked(part: str, make: Callable[[], int]) -> int:
    """A locked descriptor of what *make* makes at *part*."""
    while True:
        try:
            fd = make()
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(part)):
                continue  # deleted before it was opened
            raise
        # If the file system has no such locks, `_take_away` cannot lock it either.
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        if _is_at(part, fd):
            return fd
        os.close(fd)  # deleted before it was locked


def _take_away(part: str) -> bool:
    try:
        fd = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(part, fd):
            return False
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind) and all(map(is_of_a_store, os.listdir(fd))):
            shutil.rmtree(part)
        elif stat.S_ISREG(kind) and os.read(fd, len(_EXPORT_BEGINS)) in {b"", _EXPORT_BEGINS}:
            os.unlink(part)
        else:
            return False
    except OSError:  # it still grows, or belongs to another user
        return False
    finally:
        os.close(fd)
    return True


def _is_at(part: str, fd: int) -> bool:
    try:
        there, held = os.lstat(part), os.fstat(fd)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, held)
