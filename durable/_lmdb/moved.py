"""The mark of a store that was moved elsewhere, so that it is not opened again by mistake."""

from __future__ import annotations

import os
from typing import Final

from durable._model.errors import DurableError

from .create import sync_folder
from .locks import FILE_MODE

MOVED_FILE: Final = "moved"


def mark_moved(folder: str, to: str) -> None:
    """Record in *folder*, for good, that its store is in *to* now."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(os.path.join(folder, MOVED_FILE), flags, FILE_MODE)
    try:
        os.write(fd, f"{to}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)


def refuse_moved(folder: str) -> None:
    """Raise DurableError if the store in *folder* was moved."""
    file = os.path.join(folder, MOVED_FILE)
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            to = opened.read(4_096).strip()
    except (FileNotFoundError, NotADirectoryError):
        return
    raise DurableError(
        f"the store {folder!r} was moved to {to}: open that. To use this one again, as it was "
        f"then, delete {file!r}"
    )
