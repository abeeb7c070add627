"""The processes of a shared store, as files: each has a folder, with a file that it locks.

The operating system drops the lock when the process dies, however it dies. So whether a process is
alive is known at once, and is never a guess.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import weakref
from contextlib import suppress
from typing import Any, Final

from attrs import asdict, define, field

from durable._engine.shards import Process

from .folder import refusal
from .locks import FILE_MODE, locker, try_lock

FILE: Final = "process"
SIZE: Final = 4_096

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@define(eq=False)
class ProcessFiles:
    """The folder with a folder for each process."""

    _folder: str
    _me: str | None = field(default=None, init=False)
    _fd: int = field(default=-1, init=False)

    def folder_of(self, process: str) -> str:
        """The folder of a process, with its sockets."""
        return os.path.join(self._folder, process)

    def announce(self, process: Process) -> None:
        """Be listed for others, from now until `withdraw` or the end of the process."""
        made = os.path.join(self._folder, f".{process.id}")
        try:
            os.mkdir(made, 0o700)
            file = os.path.join(made, FILE)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(file, flags, FILE_MODE)
            _announced.add(self)
            os.write(self._fd, _said(process))
            assert try_lock(self._fd, file)
            os.rename(made, self.folder_of(process.id))
        except OSError as error:
            self.close_fd()
            shutil.rmtree(made, ignore_errors=True)
            raise refusal(
                error, self._folder, "each process of a shared store has a folder there"
            ) from error
        self._me = process.id

    def update(self, process: Process) -> None:
        """Replace what is published of this process. In one write of the same size, so that a
        reader sees one or the other."""
        if self._fd >= 0:
            os.pwrite(self._fd, _said(process), 0)

    def withdraw(self) -> None:
        if self._me is not None:
            _remove(self.folder_of(self._me))
            self._me = None
        self.close_fd()

    def close_fd(self) -> None:
        """Close the file, as a forked child must; the lock stays its parent's."""
        _announced.discard(self)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def processes(self) -> list[Process]:
        """The living processes. Removes what dead ones have left behind.

        Raises an OSError if one of them is on another machine.
        """
        living = []
        for name in sorted(os.listdir(self._folder)):
            said = None if name.startswith(".") else self._read(name)
            if said is None:
                continue
            boot = said.pop("boot", None)
            if None not in {boot, _boot()} and boot != _boot():
                raise OSError(
                    errno.ENOTSUP,
                    f"process {said['pid']} of another machine has the store open; a folder is "
                    f"shared by processes of one machine",
                    self._folder,
                )
            with suppress(TypeError):  # of a version that publishes more
                living.append(Process(**said))
        return living

    def is_alive(self, process: str) -> bool:
        return self._read(process) is not None

    def _read(self, process: str) -> dict[str, Any] | None:
        """What a process publishes of itself; None if it is dead."""
        folder = self.folder_of(process)
        try:
            fd = os.open(os.path.join(folder, FILE), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if locker(fd) is None:
                _remove(folder)
                return None
            said: dict[str, Any] = json.loads(os.pread(fd, 1 << 16, 0))
            return said
        except ValueError:
            return None
        finally:
            os.close(fd)


def _remove(folder: str) -> None:
    """The file last: a folder without it is ignored, and one with it is checked again."""
    for name in sorted(_names(folder), key=lambda name: name == FILE):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(path)
    with suppress(OSError):
        os.rmdir(folder)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _said(process: Process) -> bytes:
    return json.dumps({**asdict(process), "boot": _boot()}).encode().ljust(SIZE - 1) + b"\n"


def _boot() -> str | None:
    """The identity of this machine since its start; None if it cannot be known."""
    try:
        with open(_BOOT_ID, encoding="ascii") as opened:
            return opened.read().strip()
    except OSError:
        return None


_announced: weakref.WeakSet[ProcessFiles] = weakref.WeakSet()


def _close_in_child() -> None:
    for files in list(_announced):
        files.close_fd()


os.register_at_fork(after_in_child=_close_in_child)
