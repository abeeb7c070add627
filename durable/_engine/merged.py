"""What a number of groups changed, key by key: the last value of each, and not how it came about.

So a key that was written a hundred times is written once where this goes, and to write it there
again changes nothing. None stands for what was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from attrs import define, field

from .batch import ObjectRecord
from .view import Fields, object_of

ObjectKey = tuple[int, bytes]
"""Class number and base of an object."""

SAME: Final[Fields] = []
"""In the place of the fields of an object's record: it is as it was."""

Entry = tuple[int, bytes, int, dict[str, bytes | None], list[Any] | None, Fields | None, int]
"""What a batch changed: the class and the base of its object; its keyspace; keys; pairs of side
records; the object's record, SAME, or None where it is gone; and a keyspace that was thrown away,
or 0. A value of plain parts."""


@define(eq=False)
class Merged:
    """Changes. They only become more, and not even that once somebody has *seen* them: then what
    comes on top goes to a copy."""

    objects: dict[ObjectKey, ObjectRecord | None] = field(factory=dict)
    records: dict[int, dict[str, bytes | None]] = field(factory=dict)
    sides: dict[int, dict[bytes, bytes | None]] = field(factory=dict)
    thrown_away: set[int] = field(factory=set)  # keyspaces
    keyspace_max: int = 0  # the highest that an object has
    size: int = 0  # bytes that they took in all, before they were merged
    is_seen: bool = False
    # Keyspaces whose records, or side records, are those of what this is a copy of.
    _shared: set[int] = field(factory=set)
    _shared_sides: set[int] = field(factory=set)

    @property
    def is_empty(self) -> bool:
        return not self.size

    def copy(self) -> Merged:
        """The same, to be added to."""
        return Merged(
            self.objects.copy(),
            self.records.copy(),
            self.sides.copy(),
            self.thrown_away.copy(),
            self.keyspace_max,
            self.size,
            False,
            set(self.records),
            set(self.sides),
        )

    def add(self, entries: Iterable[Entry], size: int) -> None:
        """These come on top."""
        assert not self.is_seen
        all_records = self.records
        for class_number, base, keyspace, puts, sides, fields, thrown_away in entries:
            if thrown_away:
                self._throw_away(thrown_away)
            if puts:
                known = all_records.get(keyspace)
                if known is None:
                    all_records[keyspace] = puts.copy()
                elif keyspace in self._shared:
                    all_records[keyspace] = known | puts
                    self._shared.remove(keyspace)
                else:
                    known.update(puts)
            if sides:
                self._add_sides(keyspace, dict(sides))
            if fields != SAME:
                record = None if fields is None else object_of(fields)
                self.objects[class_number, base] = record
                if record is not None:
                    self.keyspace_max = max(self.keyspace_max, record.keyspace)
        self.size += size

    def _throw_away(self, keyspace: int) -> None:
        self.thrown_away.add(keyspace)
        self.records.pop(keyspace, None)
        self.sides.pop(keyspace, None)
        self._shared.discard(keyspace)
        self._shared_sides.discard(keyspace)

    def _add_sides(self, keyspace: int, sides: dict[bytes, bytes | None]) -> None:
        known = self.sides.get(keyspace)
        if known is not None and keyspace not in self._shared_sides:
            known.update(sides)
            return
        self.sides[keyspace] = sides if known is None else known | sides
        self._shared_sides.discard(keyspace)
