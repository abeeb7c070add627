"""The pages of one object's database: those of the turn under way, and its side records below them.

SQLite writes pages when a transaction of it ends, or before if its cache is full. They wait here as
they are until the turn ends; then they are packed, once, as side records of the turn's batch.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import apsw
from attrs import define, field

from durable._engine.page_packing import PAGE_SIZE, pack, pages_of, unpack
from durable._engine.side_records import PAGES
from durable._engine.view import Malformed
from durable._model.errors import StoreDamaged

from ..records import Records
from ..side_writes import ON_DISK, SideValue, SideWrites
from .read_ahead import ReadAhead

Page = bytes | None
GONE: Final = None
"""In place of a page: the database ends before it."""


@define(eq=False, slots=True, weakref_slot=False)
class Pages:
    """What SQLite takes for a file. Nothing here suspends."""

    _records: Records
    # How many pages a turn may write.
    _written_max: int
    _ahead: ReadAhead
    _sides: SideWrites = field(init=False)
    count: int = field(default=0, init=False)
    # Written since the last turn ended.
    written: dict[int, Page] = field(factory=dict, init=False)
    # What the turn had written before SQLite's transaction under way.
    _before: dict[int, Page] = field(factory=dict, init=False)
    # What `look` has found, which SQLite asks for twice as it opens the file.
    _first: SideValue = field(default=None, init=False)
    # Why a page could not be read: SQLite knows no more than that it could not.
    failure: StoreDamaged | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._sides = self._records.buffer.sides

    def look(self) -> None:
        """See how many pages there are. Not while a transaction runs."""
        self._first = None
        first = self._first = self._stored(1)
        self.count = 0 if first is None else pages_of(first)

    def read(self, number: int) -> bytes | None:
        """The page *number*; None if it was never written."""
        ahead = self._ahead
        if ahead.owner is self and number in ahead.pages:
            return ahead.pages.pop(number)
        if number in self.written:
            return self.written[number]
        try:
            width = ahead.width_at(self, number)
            if width > 1:
                self._read_ahead(number, width)
                if number in ahead.pages:
                    return ahead.pages.pop(number)
            stored = self._stored(number)
            return None if stored is None else unpack(number, stored)
        except StoreDamaged as error:
            self.failure = error
        except Malformed as error:
            self.failure = StoreDamaged(f"a page of the object's database is damaged: {error}")
        raise self.failure

    def _read_ahead(self, first: int, width: int) -> None:
        """Read up to *width* pages from *first* on, those that can be: one that is damaged is to be
        found when it is asked for, and so is one that the turn has written, or none."""
        keyspace = self._records.buffer.handle.keyspace
        pages = self._ahead.pages
        on_disk: dict[int, bytes] = {}
        for number in range(first, min(first + width, self.count + 1)):
            if number in self.written:
                continue
            key = PAGES + number.to_bytes(4, "big")
            found = self._sides.lookup(key, keyspace)
            if found is ON_DISK:
                on_disk[number] = key
            elif found is not None:
                pages[number] = unpack(number, found)
        if on_disk:
            with suppress(StoreDamaged, Malformed):
                stored = self._records.reads.get_sides(keyspace, list(on_disk.values()))
                for number, packed in zip(on_disk, stored, strict=True):
                    if packed is not None:
                        pages[number] = unpack(number, packed)

    def _stored(self, number: int) -> SideValue:
        if number == 1 and self._first is not None:
            return self._first
        key = PAGES + number.to_bytes(4, "big")
        records = self._records
        keyspace = records.buffer.handle.keyspace
        found = self._sides.lookup(key, keyspace)
        return records.reads.get_side(keyspace, key) if found is ON_DISK else found

    def write_at(self, page: bytes, offset: int) -> None:
        """Write the page that begins at *offset* of the file."""
        if len(page) != PAGE_SIZE or offset % PAGE_SIZE:
            raise apsw.IOError("SQLite wrote something that is no page")
        number = offset // PAGE_SIZE + 1
        written = self.written
        # What is written again takes no room, and is how SQLite puts back what was there.
        if len(written) > self._written_max and number not in written:
            raise _too_much()
        written[number] = page
        if self._ahead.owner is self:
            self._ahead.pages.pop(number, None)
        if number > self.count:  # noqa: PLR1730 - sooner than max()
            self.count = number

    def truncate(self, count: int) -> None:
        """The database has *count* pages now."""
        for number in range(count + 1, self.count + 1):
            self.written[number] = GONE
        self._ahead.drop(self)
        self.count = count

    def begin(self) -> None:
        """A transaction begins within the turn."""
        self._before = dict(self.written)

    def roll_back(self) -> None:
        """What was written since it began never happened."""
        self.written, self._before = self._before, {}

    def end_turn(self) -> None:
        """Make what was written part of the turn's batch."""
        written = self.written
        if not written:
            return
        stored: dict[bytes, SideValue] = {}
        for number, page in written.items():
            stored[PAGES + number.to_bytes(4, "big")] = page and pack(number, page)
        self.forget_turn()
        self._records.buffer.write_pages(stored)

    def forget_turn(self) -> None:
        """What was written since the last turn never happened."""
        self.written.clear()
        if self._before:
            self._before = {}
        self._first = None

    def rest(self) -> None:
        """The connection is closed: SQLite asks for nothing until the next `look`."""
        self.forget_turn()
        self._ahead.drop(self)


def _too_much() -> apsw.FullError:
    error = apsw.FullError("the turn has written too much")
    error.result = error.extendedresult = apsw.SQLITE_FULL  # type: ignore[attr-defined]
    return error


def size_of(count: int) -> int:
    return count * PAGE_SIZE
