"""What the store's file knows of its journal, and which format it has because of that.

Rule: a file has the format of journals if and only if it has a mark. A version of the library that
does not know journals then refuses it, where it would miss what was confirmed last.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from attrs import evolve, frozen

from durable._engine.view import Malformed

from .. import layout
from ..long_keys import Transaction

JOURNAL_ID_SIZE: Final = 16
_MARK: Final = struct.Struct(f">{JOURNAL_ID_SIZE}sQI")


@frozen
class Mark:
    """A journal, and how much of it the file has."""

    journal: bytes
    position: int  # all before it is in the file
    format: int  # what the file has without a journal

    def write(self) -> bytes:
        return _MARK.pack(self.journal, self.position, self.format)

    @classmethod
    def read(cls, raw: bytes) -> Mark:
        """Raises Malformed."""
        if len(raw) != _MARK.size:
            raise Malformed(f"{raw[:40].hex()} says nothing of a journal")
        return cls(*_MARK.unpack(raw))


def read_mark(txn: Transaction, meta: Any) -> Mark | None:
    """The mark in the database *meta*; None: the file has no journal. Raises Malformed."""
    raw = txn.get(layout.META_JOURNAL, db=meta)
    return None if raw is None else Mark.read(raw)


def format_of(txn: Transaction, meta: Any) -> int:
    raw = txn.get(layout.META_FORMAT, db=meta)
    return layout.FORMAT_OF_KEYS if raw is None else layout.read_format(raw)


def change_mark(txn: Transaction, meta: Any, journal: bytes | None, position: int) -> None:
    """The file has all before *position* of *journal*; None: it has no journal any more."""
    before = read_mark(txn, meta)
    if journal is not None:
        version = format_of(txn, meta) if before is None else before.format
        mark = Mark(journal, position, version)
        txn.put(layout.META_JOURNAL, mark.write(), db=meta)
        if before is None:
            txn.put(layout.META_FORMAT, layout.write_format(layout.FORMAT_OF_JOURNALS), db=meta)
    elif before is not None:
        txn.delete(layout.META_JOURNAL, db=meta)
        txn.put(layout.META_FORMAT, layout.write_format(before.format), db=meta)


def raise_format(txn: Transaction, meta: Any, version: int) -> None:
    """What the file has needs the format *version*, with a journal or without one."""
    mark = read_mark(txn, meta)
    if mark is not None:
        if mark.format < version:
            txn.put(layout.META_JOURNAL, evolve(mark, format=version).write(), db=meta)
    elif format_of(txn, meta) < version:
        txn.put(layout.META_FORMAT, layout.write_format(version), db=meta)
