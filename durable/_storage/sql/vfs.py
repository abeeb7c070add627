"""The file system that SQLite sees: one file for each database that is open, made of its pages.

There is no journal, no lock and no sync here: SQLite keeps its rollback journal in memory, one
connection has the file to itself, and the committer syncs.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any, Final, Protocol

import apsw

from durable._engine.page_packing import PAGE_SIZE
from durable._model.clock import Clock
from durable._model.errors import StoreDamaged

from .pages import size_of

# A VFS belongs to the process, and a runtime has one of its own: its clock is in it.
_NUMBERS = itertools.count(1)
# Milliseconds from the beginning of the Julian days to 1970.
_JULIAN_1970_MS: Final = 210_866_760_000_000
_READ_WRITE: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
_WHAT_HOLDS: Final = (
    apsw.SQLITE_IOCAP_ATOMIC
    | apsw.SQLITE_IOCAP_SAFE_APPEND
    | apsw.SQLITE_IOCAP_SEQUENTIAL
    | apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
    | apsw.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN
)


class FilePages(Protocol):
    """The pages that a file is made of."""

    count: int

    def read(self, number: int, /) -> bytes | None:
        """The page *number*, with or without its reserved bytes; None if it was never written.
        Raises StoreDamaged."""

    def write_at(self, page: bytes, offset: int, /) -> None:
        """Write the page that begins at *offset*. Raises apsw.FullError where there is no room for
        it."""

    def truncate(self, count: int, /) -> None:
        """There are *count* pages now."""


class PageFile:
    """One object's database as a file. SQLite calls these methods, by their names."""

    __slots__ = ("_files", "_name", "_pages", "xWrite")

    def __init__(self, files: PageFiles, name: str, pages: FilePages) -> None:
        self._files, self._name, self._pages = files, name, pages
        self.xWrite = pages.write_at

    def xRead(self, amount: int, offset: int) -> bytes:
        try:
            page = self._pages.read(offset // PAGE_SIZE + 1)
        except StoreDamaged as error:
            raise apsw.IOError(str(error)) from error  # `Pages.failure` has it
        if page is None:
            page = b""
        # What is missing at the end of a page SQLite fills up with zeros.
        if amount == PAGE_SIZE:
            return page
        start = offset % PAGE_SIZE
        return page[start : start + amount]

    def xFileSize(self) -> int:
        return size_of(self._pages.count)

    def xTruncate(self, size: int) -> None:
        self._pages.truncate(size // PAGE_SIZE)

    def xSync(self, flags: int) -> None: ...

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return PAGE_SIZE

    def xDeviceCharacteristics(self) -> int:
        return _WHAT_HOLDS

    # False, whatever is asked. SQLite asks twice in each commit: a function of C answers sooner.
    xFileControl = staticmethod(operator.is_)

    def xClose(self) -> None:
        self._files.closed(self._name)


class PageFiles(apsw.VFS):
    """Opens the databases that are announced to it, and no other file: no temporary one, no
    journal."""

    def __init__(self, clock: Clock) -> None:
        self._name = f"durable-{next(_NUMBERS)}"
        self._clock = clock
        self._announced: dict[str, FilePages] = {}
        self._numbers = itertools.count(1)
        super().__init__(self._name, base="")

    def connect(self, pages: FilePages, flags: int = _READ_WRITE) -> apsw.Connection:
        """A connection to the database that *pages* are."""
        name = f"/{next(self._numbers)}"
        self._announced[name] = pages
        try:
            return apsw.Connection(name, flags=flags, vfs=self._name)
        except BaseException:
            self.closed(name)
            raise

    def closed(self, name: str) -> None:
        self._announced.pop(name, None)

    # What SQLite calls

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return False

    def xDelete(self, filename: str, syncdir: bool) -> None: ...

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        pages = self._announced.get(path)
        if pages is None or not flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            raise apsw.CantOpenError(f"{path!r} is no database of an object")
        flags[1] = flags[0]
        return PageFile(self, path, pages)

    def xCurrentTimeInt64(self) -> int:
        """The runtime's clock, as the milliseconds that SQLite counts in."""
        return int(self._clock.now() * 1_000) + _JULIAN_1970_MS
