"""The folder of a store, checked before LMDB touches it. Changes nothing.

LMDB maps the file into memory and trusts it: a page behind the end of a truncated file kills the
process. So its two meta pages are first compared with the file's size.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from enum import Enum

from attrs import frozen

from durable._model.errors import StoreDamaged

from .pages import NO_PAGE, PAGE_HEADER, PageFault, last_used_page

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
OWNER_FILE = "owner"

# How often a walk over the pages restarts because there was a commit meanwhile.
WALKS_MAX = 5

# Files that may lie in a folder that becomes a store.
_HARMLESS = frozenset({OWNER_FILE, LOCK_FILE, "lost+found"})

# The map of a store, and so its file, never grows beyond this; a larger figure is damage.
MAP_SIZE_MAX = 64 << 40

_MAGIC = 0xBEEFC0DE
_VERSION = 1
_META_FLAG = 0x08
# magic, version, address, map size, then of the free list's tree: page size, flags, depth, pages
# (branch, leaf, overflow), entries, root; the same of the main tree; last page, transaction.
_META = struct.Struct("=IIQQ IHHQQQQQ IHHQQQQQ QQ")


class Found(Enum):
    """The kind of a folder before it is opened."""

    ABSENT = "absent"
    EMPTY = "empty"
    STORE = "store"  # an LMDB environment, of this library or another program


@frozen
class Meta:
    """The contents of a meta page."""

    page_size: int
    free_root: int
    main_root: int
    last_page: int
    txn: int
    map_size: int


def inspect(path: str) -> Found:
    """The kind of the folder. Raises StoreDamaged, or an OSError if it cannot be used."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Found.ABSENT
    except OSError as error:
        raise refusal(error, path, "a process that opens a store must reach its folder") from error
    if not os.path.isdir(path):
        raise NotADirectoryError(
            errno.ENOTDIR,
            "the store must be a folder, and this is something else; give another path",
            path,
        )
    try:
        names = set(os.listdir(path))
    except OSError as error:
        raise refusal(error, path, "a process that opens a store must read its folder") from error
    _check_links(path, names)
    if DATA_FILE not in names:
        strangers = sorted(n for n in names - _HARMLESS if not n.startswith("."))
        if strangers:
            raise StoreDamaged(
                f"the folder {path!r} holds no store, and is not empty: {strangers[0]!r} is in it; "
                f"give the folder of a store, or one that is empty or does not exist"
            )
        return Found.EMPTY
    return Found.STORE if _check_file(path) else Found.EMPTY


def last_transaction(path: str) -> int:
    """The number of the last transaction that was committed. Raises StoreDamaged or an OSError."""
    file = os.path.join(path, DATA_FILE)
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_meta(fd, file).txn
    finally:
        os.close(fd)


def check_pages(path: str) -> None:
    """Walk over every page in use. Raises StoreDamaged for one that could kill the process.

    Costs as much as reading the file. If an owner writes meanwhile the walk restarts.
    """
    file = os.path.join(path, DATA_FILE)
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(WALKS_MAX):
            meta = read_meta(fd, file)
            try:
                size = os.fstat(fd).st_size
                last_used_page(fd, meta.page_size, size, [meta.free_root, meta.main_root])
                return
            except PageFault as error:
                fault = error
            if read_meta(fd, file).txn == meta.txn:
                raise _damaged(file, str(fault)) from fault
    finally:
        os.close(fd)


def refusal(error: OSError, path: str, why: str) -> OSError:
    """*error* as an error of the same kind that names the file, and says what to do."""
    code = error.errno or errno.EIO
    return OSError(code, f"{os.strerror(code)}; {why}: give it the rights, or another path", path)


def _check_links(path: str, names: set[str]) -> None:
    """Raise if a file that is opened to be written is really another file, somewhere else."""
    for name in (OWNER_FILE, LOCK_FILE, DATA_FILE):
        file = os.path.join(path, name)
        if name not in names:
            continue
        found = os.lstat(file)
        is_shared = found.st_nlink > 1 and name != DATA_FILE  # a backup may be made of links
        if not stat.S_ISREG(found.st_mode) or is_shared:
            raise StoreDamaged(
                f"{file!r} is a link, or no ordinary file, and a store's files are written: remove "
                f"it if the folder is a store's, or give another path"
            )


def _check_file(path: str) -> bool:
    """Whether the file has any contents; StoreDamaged if LMDB must not open it."""
    file = os.path.join(path, DATA_FILE)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal(error, file, "a process that opens a store must read it") from error
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            return False  # the process died when it had just made the file
        meta = read_meta(fd, file)
        _check_map(meta, file)
        # The last pages of the file may be unused and then need not have been written; to find that
        # out takes a walk over all pages in use, which is made only if they are missing.
        if size < (meta.last_page + 1) * meta.page_size:
            last = last_used_page(fd, meta.page_size, size, [meta.free_root, meta.main_root])
            assert last * meta.page_size < size
        _check_root(fd, meta, meta.free_root)
        _check_root(fd, meta, meta.main_root)
        return True
    except PageFault as error:
        raise _damaged(file, f"it seems to be cut off: {error}") from error
    except OSError as error:
        raise refusal(error, file, "a process that opens a store must read it") from error
    finally:
        os.close(fd)


def read_meta(fd: int, file: str) -> Meta:
    first = _read_meta_page(fd, file, 0)
    second = _read_meta_page(fd, file, first.page_size)
    return max(first, second, key=lambda meta: meta.txn)


def _read_meta_page(fd: int, file: str, offset: int) -> Meta:
    raw = os.pread(fd, PAGE_HEADER.size + _META.size, offset)
    if len(raw) < PAGE_HEADER.size + _META.size:
        raise _damaged(file, f"it ends after {offset + len(raw):,} bytes, inside its meta pages")
    flags = PAGE_HEADER.unpack_from(raw)[2]
    fields = _META.unpack_from(raw, PAGE_HEADER.size)
    magic, version, page_size = fields[0], fields[1], fields[4]
    if magic != _MAGIC or not flags & _META_FLAG:
        raise _damaged(file, "it is not an LMDB file")
    if version != _VERSION:
        raise _damaged(file, f"it is an LMDB file of version {version}, not {_VERSION}")
    if not 512 <= page_size <= 65_536 or page_size & (page_size - 1):
        raise _damaged(file, f"its page size of {page_size:,} bytes is impossible")
    return Meta(page_size, fields[11], fields[19], fields[20], fields[21], fields[3])


def _check_map(meta: Meta, file: str) -> None:
    """Raise if LMDB would map more than the address space allows."""
    for what, size in [
        ("map size", meta.map_size),
        ("size up to the last page", (meta.last_page + 1) * meta.page_size),
    ]:
        if size > MAP_SIZE_MAX:
            raise _damaged(file, f"its {what} of {size:,} bytes is impossible")


def _check_root(fd: int, meta: Meta, root: int) -> None:
    if root == NO_PAGE:
        return
    place = root * meta.page_size
    raw = os.pread(fd, PAGE_HEADER.size, place) if place < os.fstat(fd).st_size else b""
    if len(raw) < PAGE_HEADER.size or PAGE_HEADER.unpack(raw)[0] != root:
        raise PageFault(f"page {root} is missing")


def _damaged(file: str, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"{file!r} is damaged, or not the file of a store: {what}. Restore the folder from a "
        f"backup, or give another path"
    )
