"""The folder of a store of shards: its layout, and how it is made.

    shards          the number of shards, and the store's id; fixed when the folder is made
    catalog/        classes and migrations, an environment that is opened for a moment at a time
    shard-00/ …     an environment each, with an owner of its own
    owners/00 …     the owner of each shard, and its epoch
    processes/ID/   a process that has the store open: its file, which it locks, and its sockets

A folder of one environment becomes a store of one shard: the environment stays where it is.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from contextlib import suppress
from typing import Any, Final

from attrs import frozen

from durable._model.clock import Clock
from durable._model.errors import FormatTooNew, StoreDamaged

from .create import make_folder, sync_folder, unmake_folder
from .environment import Environment
from .folder import Found, refusal
from .locks import FILE_MODE
from .ownership import inspect_free

SHARDS_FILE: Final = "shards"
CATALOG: Final = "catalog"
PROCESSES: Final = "processes"
OWNERS: Final = "owners"
FORMAT: Final = 1

# Changes of files there are seen late by other machines, and their locks perhaps not at all.
_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
)


@frozen
class Layout:
    """The paths of the parts of a store of shards."""

    path: str
    identity: str
    count: int
    # Its one shard is the folder itself, as it was before the store was shared.
    is_top: bool = False

    def shard(self, number: int) -> str:
        assert 0 <= number < self.count
        return self.path if self.is_top else os.path.join(self.path, f"shard-{number:02}")

    def owner(self, number: int) -> str:
        return os.path.join(self.path, OWNERS, f"{number:02}")

    @property
    def catalog(self) -> str:
        return os.path.join(self.path, CATALOG)

    @property
    def processes(self) -> str:
        return os.path.join(self.path, PROCESSES)

    def shards(self) -> list[str]:
        """The folders of all shards."""
        return [self.shard(number) for number in range(self.count)]


def layout_of(path: str | os.PathLike[str]) -> Layout | None:
    """The layout of the store of shards in the folder *path*; None if it is not one.

    Raises StoreDamaged, FormatTooNew.
    """
    folder = os.path.abspath(os.fspath(path))
    file = os.path.join(folder, SHARDS_FILE)
    try:
        with open(file, "rb") as opened:
            raw = opened.read(4_096)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise refusal(error, file, "a process that opens a store must read it") from error
    try:
        said: dict[str, Any] = json.loads(raw)
        if said["format"] > FORMAT:
            raise FormatTooNew(folder, said["format"], FORMAT)
        return Layout(folder, str(said["store"]), int(said["shards"]), bool(said["is_top"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(
            f"{file!r} does not say how many shards the store has: {error!r}; restore the folder "
            f"from a backup, or give another path"
        ) from error


def make_layout(path: str, shards: int | None, default: int, clock: Clock) -> Layout:
    """The layout of the store in the folder *path*, which is made a store of shards if needed.

    Raises ValueError if it has another number of *shards*, StoreInUse if it is none and is open,
    StoreDamaged, FormatTooNew, and an OSError for a folder that cannot be used.
    """
    folder = os.path.abspath(path)
    refuse_network(folder)
    layout = layout_of(folder)
    if layout is None:
        if inspect_free(folder) is Found.STORE:
            _check_count(folder, 1, shards)
            layout = _share(folder, clock)
        else:
            layout = _make(folder, default if shards is None else shards)
    _check_count(folder, layout.count, shards)
    for name in (OWNERS, PROCESSES):
        with suppress(FileExistsError):
            os.mkdir(os.path.join(folder, name), 0o700)
    return layout


def _check_count(folder: str, count: int, wanted: int | None) -> None:
    if wanted not in {None, count}:
        raise ValueError(
            f"the store {folder!r} has {count} shard{'' if count == 1 else 's'}, not {wanted}: the "
            f"number is fixed when a store is made; leave `shards` out, or make a store of "
            f"{wanted} with `durable copy --shards {wanted} {folder} NEW`"
        )


def _make(folder: str, count: int) -> Layout:
    made = make_folder(folder)
    try:
        return _write(Layout(folder, secrets.token_hex(8), count))
    except BaseException:
        unmake_folder(folder, made)
        raise


def _share(folder: str, clock: Clock) -> Layout:
    """Make the one environment of the folder its one shard."""
    layout = Layout(folder, secrets.token_hex(8), 1, is_top=True)
    environment = Environment.open(folder, clock=clock)
    try:
        catalog = Environment.open(layout.catalog, clock=clock)
        try:
            before, after = catalog.catalog(), environment.catalog()
            if before != after:
                catalog.change_classes(before, after)
        finally:
            catalog.close()
        return _write(layout)
    finally:
        environment.close()


def _write(layout: Layout) -> Layout:
    """Record in the folder what it is, unless another process has just done so."""
    part = os.path.join(layout.path, f".{SHARDS_FILE}.{layout.identity}")
    said = {
        "format": FORMAT,
        "store": layout.identity,
        "shards": layout.count,
        "is_top": layout.is_top,
    }
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            os.write(fd, json.dumps(said).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        with suppress(FileExistsError):
            os.link(part, os.path.join(layout.path, SHARDS_FILE))
        sync_folder(layout.path)
    except OSError as error:
        raise refusal(error, layout.path, "the process that makes it writes there") from error
    finally:
        with suppress(OSError):
            os.unlink(part)
    written = layout_of(layout.path)
    assert written is not None
    return written


def refuse_network(folder: str) -> None:
    """Raise an OSError if the folder is known to lie on a network file system."""
    kind = _file_system(os.path.realpath(folder))
    if kind in _NETWORK:
        raise OSError(
            errno.ENOTSUP,
            f"a store of several processes cannot lie on a network file system ({kind}), whose "
            f"locks and maps of memory are not those of one machine; give a path on a local disk",
            folder,
        )


def _file_system(path: str) -> str | None:
    """The kind of the file system of *path*; None if it cannot be known."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as opened:
            lines = opened.read().splitlines()
    except OSError:
        return None
    found, kind = "", None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        place = fields.split(" ")[4].encode("latin-1", "replace").decode("unicode_escape")
        is_above = path == place or path.startswith(place.rstrip("/") + "/")
        if is_above and len(place) >= len(found):
            found, kind = place, rest.split(" ")[0]
    return kind
