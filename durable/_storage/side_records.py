"""The side records of one object, as the parts of the library that keep some read and write them.

Rule: they follow the rules of keys. A write acts at the call, is part of its turn's batch or of the
transaction that runs, and is undone with it; a read sees every write before it. Reads are in-line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from attrs import define

from durable._model.errors import StoreDamaged

from .records import Records
from .side_writes import OnDisk, SideValue

if TYPE_CHECKING:
    from durable._engine.read_thread import Reads

T = TypeVar("T")


@define(eq=False, slots=True, weakref_slot=False)
class SideRecords:
    """Reads and writes of one object's side records. See `_engine/side_records.py` for their
    keys."""

    _records: Records

    def get(self, key: bytes) -> SideValue:
        """The side record *key*; None if there is none."""
        self._records.gate.check()
        buffer = self._records.buffer
        keyspace = buffer.handle.keyspace
        found = buffer.sides.lookup(key, keyspace)
        if isinstance(found, OnDisk):
            return self._read(lambda reads: reads.get_side(keyspace, key))
        return found

    def scan(
        self, lower: bytes, upper: bytes, *, reverse: bool = False, count_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Up to *count_max* side records from *lower* on, *upper* excluded, in the order of their
        keys; in *reverse* the last ones first."""
        self._records.gate.check()
        buffer = self._records.buffer
        keyspace = buffer.handle.keyspace
        written = buffer.sides.between(lower, upper)
        found: dict[bytes, SideValue] = {}
        if buffer.sides.is_on_disk(keyspace):
            # As many more as those that may be hidden by what was written.
            room = count_max + len(written)
            found.update(
                self._read(
                    lambda reads: reads.scan_sides(
                        keyspace, lower, upper, reverse=reverse, count_max=room
                    )
                )
            )
        found.update(written)
        there = [(k, v) for k in sorted(found, reverse=reverse) if (v := found[k]) is not None]
        return there[:count_max]

    def put(self, key: bytes, value: bytes) -> None:
        """Store *value* under *key*. Nothing leaves the object before it is on disk."""
        self._records.gate.check()
        self._records.buffer.write_side(key, value)

    def delete(self, key: bytes) -> None:
        """Delete the side record *key*, if it is there."""
        self._records.gate.check()
        self._records.buffer.write_side(key, None)

    def _read(self, read: Callable[[Reads], T]) -> T:
        try:
            return read(self._records.reads)
        except StoreDamaged as error:
            raise self._records.damaged(error) from error
