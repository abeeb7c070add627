"""The control socket of a running program: a unix socket in the folder of its store.

It stands in a folder of its own that only its owner may enter, made so by one `mkdir`: users that
may read the store as its owner may connect, others never, not even for a moment.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

FOLDER = "operate"
SOCKET = "socket"

# The longest path that a unix socket can have on every system.
_ADDRESS_SIZE_MAX = 100
_OPEN_FILES = "/proc/self/fd"


def listen(store: str) -> socket.socket:
    """A socket that others can connect to. The caller owns the store, so an existing socket was
    left by a dead process."""
    folder = os.path.join(store, FOLDER)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    _check_closed(folder)
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
    """A connection to the program that has the store; an OSError if there is none."""
    _check_closed(os.path.join(store, FOLDER), may_be_anybodys=os.geteuid() == 0)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _at_address(os.path.join(store, FOLDER), connection.connect)
    except BaseException:
        connection.close()
        raise
    return connection


def send_folder(connection: socket.socket, store: str) -> None:
    """Send the folder as this process has opened it: with the same rights to write there."""
    fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [b"{}\n"], [fd])
    finally:
        os.close(fd)


def remove(store: str) -> None:
    """Remove the socket: no process listens any more."""
    folder = os.path.join(store, FOLDER)
    with suppress(OSError):
        os.unlink(os.path.join(folder, SOCKET))
    with suppress(OSError):
        os.rmdir(folder)


def _check_closed(folder: str, *, may_be_anybodys: bool = False) -> None:
    """Whoever could write there could be taken for the program."""
    status = os.lstat(folder)
    is_ours = may_be_anybodys or status.st_uid == os.geteuid()
    if not (is_ours and stat.S_ISDIR(status.st_mode)) or status.st_mode & 0o077:
        raise PermissionError(
            errno.EPERM, "the folder must belong to this user and be closed to others", folder
        )


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
