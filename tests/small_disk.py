"""A database whose data are on a small disk of its own: a tmpfs, for which one has to be root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import postgres

SIZE_MB = 24


@contextmanager
def small_disk(owner: int) -> Iterator[Path]:
    """The folder of such a disk, which belongs to the user *owner*."""
    folder = Path(tempfile.mkdtemp(prefix="durable-small-", dir=postgres.reachable()))
    options = f"size={SIZE_MB}m,uid={owner},mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if mounted.returncode:
            pytest.skip(f"LEFT OUT: no disk can be mounted here: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


@contextmanager
def database_on_small_disk() -> Iterator[tuple[str, Path]]:
    """The URL of an empty store, and the folder of its disk."""
    server = postgres.server()
    owner = postgres.unprivileged().get("user", os.geteuid())
    with small_disk(owner) as folder:
        data = folder / "data"
        data.mkdir(mode=0o700)
        os.chown(data, owner, -1)
        url = server.new_store()
        name = url.rpartition("/")[2]
        server.execute(f"create tablespace small location '{data}'")
        try:
            server.execute(f"alter database {name} set tablespace small")
            try:
                yield url, folder
            finally:
                server.drop(url)
        finally:
            server.execute("drop tablespace small")


def fill(folder: Path) -> Path:
    """Leave no room on the disk; returns the file to delete for there to be some."""
    file = folder / "filling"
    with open(file, "wb", buffering=0) as filling:
        try:
            while filling.write(bytes(4096)):
                pass
        except OSError:
            pass
    return file
