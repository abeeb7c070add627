"""The control socket of a running program: a unix socket in the folder of its store.

It stands in a folder of its own that only its owner may enter, made so by one `mkdir`: users that
may read the store as its owner may connect, others never, not even for a moment.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress

FOLDER = "operate"
SOCKET = "socket"

# What fits into the address of a unix socket everywhere.
_ADDRESS_SIZE_MAX = 100
_OPEN_FILES = "/proc/self/fd"


def listen(store: str) -> socket.socket:
    """A socket that others can connect to. The caller owns the store, so one that is there already
    is a dead process's."""
    folder = os.path.join(store, FOLDER)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(
            errno.EPERM, "the folder must belong to this user and be closed to others", folder
        )
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, SOCKET))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _at_address(folder, listener.bind)
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(store: str) -> socket.socket:
    """A connection to the program that has the store; an OSError if there is none to be had."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _at_address(os.path.join(store, FOLDER), connection.connect)
    except BaseException:
        connection.close()
        raise
    return connection


def send_folder(connection: socket.socket, store: str) -> None:
    """Hand out the folder as this process has it: what it may write there, the other may."""
    fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [b"{}\n"], [fd])
    finally:
        os.close(fd)


def remove(store: str) -> None:
    """No process listens any more."""
    folder = os.path.join(store, FOLDER)
    with suppress(OSError):
        os.unlink(os.path.join(folder, SOCKET))
    with suppress(OSError):
        os.rmdir(folder)


def _at_address(folder: str, use: Callable[[str], None]) -> None:
    address = os.path.join(folder, SOCKET)
    if len(os.fsencode(address)) <= _ADDRESS_SIZE_MAX:
        use(address)
        return
    if not os.path.isdir(_OPEN_FILES):
        raise OSError(errno.ENAMETOOLONG, "the path is too long for a unix socket", address)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"{_OPEN_FILES}/{fd}/{SOCKET}")
    finally:
        os.close(fd)
