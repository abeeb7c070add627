"""Copies of a store whose lock cannot be had, to be read: LMDB must know of every reader.

Without the lock the owner reuses pages that are being read. So if the lock file cannot be written,
on a read-only mount or by another user, there are two ways: the owner's control socket passes the
folder on as the owner has opened it, writable; or, if nothing is written meanwhile, the file is
copied. Nor can processes of the same pid in two containers both have the lock; there a process of
another pid makes the copy.

Rule: a copy has no name any more once it is open, so that it is gone with the process.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from durable._control import control_socket

from .folder import DATA_FILE, LOCK_FILE, last_transaction

ANSWER_S_MAX = 5.0
COPIES_MAX = 3

_OPEN_FILES = "/proc/self/fd"

# With LMDB's lock, which that process can have since its pid is another.
_COPY = """
import sys, lmdb
with lmdb.open(sys.argv[1], readonly=True, create=False, max_readers=1) as handle:
    handle.copy(sys.argv[2])
"""


def can_lock(folder: str) -> bool:
    """Whether this process can write LMDB's lock file, or make it."""
    file = os.path.join(folder, LOCK_FILE)
    return os.access(
        file if os.path.lexists(file) else folder,
        os.W_OK,
        effective_ids=os.access in os.supports_effective_ids,
    )


@contextmanager
def elsewhere(folder: str) -> Iterator[str]:
    """A folder with the same store that can be opened with LMDB's lock, while the block lasts.

    Raises PermissionError, with what to do, if there is none.
    """
    fd = _ask_owner(folder)
    if fd is not None:
        try:
            yield f"{_OPEN_FILES}/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.TemporaryDirectory(prefix="durable-look-") as place:
        for _ in range(COPIES_MAX):
            before = last_transaction(folder)
            shutil.copyfile(os.path.join(folder, DATA_FILE), os.path.join(place, DATA_FILE))
            # The pages of one transaction are not overwritten before the end of the next one.
            if last_transaction(folder) == before:
                break
        else:
            raise _refusal(folder)
        yield place


@contextmanager
def copied_by_another(folder: str) -> Iterator[str]:
    """A copy of the store, made by another process, while the block lasts. Raises an OSError."""
    with tempfile.TemporaryDirectory(prefix="durable-look-") as place:
        done = subprocess.run(
            [sys.executable, "-c", _COPY, folder, place],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            why = (
                f"a process of another container has the pid {os.getpid()}, too, and LMDB's lock "
                f"for it, and a copy to look at could not be made ({last}): look from a process of "
                f"another pid"
            )
            raise PermissionError(errno.EACCES, why, folder)
        yield place


def _ask_owner(folder: str) -> int | None:
    """The folder as its owner has opened it, if there is one with a control socket."""
    if not os.path.isdir(_OPEN_FILES):
        return None
    with suppress(OSError, ValueError):
        with control_socket.connect(folder) as connection:
            connection.settimeout(ANSWER_S_MAX)
            connection.sendall(json.dumps({"want": "folder"}).encode() + b"\n")
            _, fds, _, _ = socket.recv_fds(connection, 4_096, 1)
        for fd in fds:
            os.set_inheritable(fd, False)
            if can_lock(f"{_OPEN_FILES}/{fd}"):
                return fd
            os.close(fd)
    return None


def _refusal(folder: str) -> PermissionError:
    why = (
        f"{LOCK_FILE} cannot be written here, and the store is in use: without LMDB's lock, pages "
        f"that are read may be written over meanwhile. Look where the folder is writable, as its "
        f"user; or let the program that has it open a control socket (operate=True, or "
        f"DURABLE_OPERATE=1); or look at what `durable copy` made"
    )
    return PermissionError(errno.EACCES, why, folder)
