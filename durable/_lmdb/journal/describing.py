"""A group of batches as what it changes: entries of plain parts, for the journal.

Rule: an object is known if and only if it has a key, a side record or an alarm. Only batches that
take something away can break that, so only their objects are looked at, once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from durable._engine.batch import (
    UNCHANGED,
    UNREAD,
    Batch,
    ObjectHandle,
    ObjectRecord,
    Unread,
    record_after,
)
from durable._engine.engine import Reader
from durable._engine.merged import SAME, Entry
from durable._engine.side_records import AREAS, end_of
from durable._engine.view import fields_of
from durable._model.clock import Clock

Find = Callable[[int, bytes], ObjectRecord | None]


@define(eq=False)
class Description:
    """What a group changes. The handles are as before until it is settled."""

    _find: Find
    _clock: Clock
    entries: list[Entry] = field(factory=list, init=False)
    # An object of it keeps a history, or did: what that has is not described here.
    has_history: bool = field(default=False, init=False)
    # The records of those objects whose records are looked at.
    _records: dict[ObjectHandle, ObjectRecord | None] = field(factory=dict, init=False)
    _diminished: dict[ObjectHandle, None] = field(factory=dict, init=False)

    def add(self, group: Sequence[Batch]) -> None:
        records, append = self._records, self.entries.append
        for batch in group:
            handle, puts = batch.handle, batch.puts
            known = records.get(handle, handle.record) if records else handle.record
            if handle.history or batch.history is not None:
                self.has_history = True
            fields, thrown_away = SAME, 0
            # Most batches change nothing of their object's record: they pass here.
            if (
                batch.alarm is not UNCHANGED
                or batch.clears
                or not isinstance(known, ObjectRecord)
                or (known.name is None and handle.name is not None)
            ):
                if batch.is_empty:
                    continue
                before = self._record_of(handle)
                after = record_after(before, batch, int(self._clock.now() * 1_000_000))
                if before is not None and before.history:
                    self.has_history = True
                if after is None:
                    continue
                if before is not None and before.keyspace != after.keyspace:
                    thrown_away = before.keyspace
                if batch.clears or batch.alarm is None:
                    self._diminished[handle] = None
                if after != before:
                    fields = fields_of(after)
                records[handle] = after
            sides = None
            if batch.sides is not None:
                sides = list(batch.sides.items())
                if None in batch.sides.values():
                    self._diminished[handle] = None
            if None in puts.values():
                self._diminished[handle] = None
            append(
                (
                    handle.class_number,
                    handle.base,
                    handle.keyspace,
                    puts,
                    sides,
                    fields,
                    thrown_away,
                )
            )

    def _record_of(self, handle: ObjectHandle) -> ObjectRecord | None:
        if handle in self._records:
            return self._records[handle]
        record = handle.record
        if record is UNREAD:
            record = self._find(handle.class_number, handle.base)
        assert not isinstance(record, Unread)
        return record

    def forget_empty(self, reader: Reader) -> None:
        """Objects of which nothing is left are not known any more. *reader* sees what was there
        before the group."""
        for handle in self._diminished:
            record = self._record_of(handle)
            if record is None or record.alarm is not None or self._has_any(record.keyspace, reader):
                continue
            self.entries.append(
                (handle.class_number, handle.base, record.keyspace, {}, None, None, 0)
            )
            self._records[handle] = None

    @property
    def takes_away(self) -> bool:
        """Whether `forget_empty` has something to look at."""
        return bool(self._diminished)

    def _has_any(self, keyspace: int, reader: Reader) -> bool:
        puts: dict[str, bytes | None] = {}
        sides: dict[bytes, bytes | None] = {}
        for entry in self.entries:
            if entry[2] == keyspace:
                puts.update(entry[3])
                sides.update(entry[4] or ())
        if any(value is not None for written in (puts, sides) for value in written.values()):
            return True
        # One more than those that may all be known.
        keys, _ = reader.keys_some(keyspace, count_max=len(puts) + 1)
        if any(key not in puts for key in keys):
            return True
        first, last = AREAS[0], end_of(AREAS[-1])
        found = reader.scan_sides(keyspace, first, last, count_max=len(sides) + 1)
        return any(key not in sides for key, _ in found)

    def settle(self) -> None:
        """The group is on the disk: its handles know that."""
        for handle, record in self._records.items():
            handle.record = record
            if record is not None:
                handle.created_us = record.created_us
