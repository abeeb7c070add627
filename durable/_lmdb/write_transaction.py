"""The changes of a group of batches, within one write transaction.

Rule: an object is in the objects database if and only if it has a record, an alarm or a history.
Only batches that delete something can break that, so only their objects are checked, once, at the
end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
from durable._engine.checksums import protect
from durable._engine.history_records import clearing_of

from . import long_keys
from .journal.marking import raise_format
from .layout import (
    FORMAT_OF_SIDES,
    META_NEXT_KEYSPACE,
    PIECE,
    alarm_key,
    garbage_history_key,
    garbage_key,
    object_key,
    read_object,
    side_key,
    top_level,
    write_number,
    write_object,
)
from .long_keys import Transaction

NOTHING: Final = b""


@define(eq=False)
class Databases:
    """The handles of the named databases."""

    meta: Any
    classes: Any
    objects: Any
    records: Any
    alarms: Any
    garbage: Any


@define(eq=False)
class Changes:
    """The changes of one group. Its changes of the handles can be undone."""

    txn: Transaction
    databases: Databases
    now_us: int
    keyspace_max: int = 0  # the highest keyspace that has records now
    makes_garbage: bool = False
    _before: list[tuple[ObjectHandle, Any]] = field(factory=list)
    _diminished: dict[ObjectHandle, None] = field(factory=dict)
    _has_sides: bool = False  # a side record was written

    def apply(self, group: Sequence[Batch]) -> None:
        put = self.txn.put
        for batch in group:
            handle = batch.handle
            known = handle.record
            # Most batches leave their object's record as it is, and must cost little more than the
            # puts: they pass here.
            if (
                batch.alarm is not UNCHANGED
                or batch.clears
                or not isinstance(known, ObjectRecord)
                or (known.name is None and handle.name is not None)
                or known.history != handle.history
            ):
                if batch.is_empty:
                    continue
                self._change_record(batch)
            keyspace = handle.keyspace
            level = top_level(keyspace)
            for key, value in batch.puts.items():
                encoded = key.encode()
                if value is None:
                    long_keys.remove(self.txn, keyspace, encoded)
                    self._diminished[handle] = None
                    continue
                whose = level + encoded
                record = protect(whose, value)
                if len(encoded) <= PIECE:
                    put(whose, record)
                else:
                    long_keys.put(self.txn, keyspace, encoded, record)
            if batch.sides is not None:
                self._change_sides(handle, keyspace, batch.sides)
            if batch.history is not None:
                self._change_sides(handle, handle.history, batch.history)
            for forgotten in batch.forgets:
                self._throw_away(forgotten)
        if self._has_sides:
            self._raise_format()
        for handle in self._diminished:
            self._forget_if_empty(handle)

    def _change_sides(
        self, handle: ObjectHandle, keyspace: int, sides: dict[bytes, bytes | None]
    ) -> None:
        for key, value in sides.items():
            whose = side_key(keyspace, key)
            if value is None:
                self.txn.delete(whose)
                self._diminished[handle] = None
            else:
                self._has_sides = True
                self.txn.put(whose, protect(whose, value))

    def _raise_format(self) -> None:
        """There are side records now, which older formats do not have: raise the format."""
        raise_format(self.txn, self.databases.meta, FORMAT_OF_SIDES)

    def take_back(self) -> None:
        """The transaction was not committed: restore the handles."""
        for place, record in reversed(self._before):
            place.record = record
        self._before.clear()

    def save_next_keyspace(self, next_keyspace: int) -> None:
        self.txn.put(META_NEXT_KEYSPACE, write_number(next_keyspace), db=self.databases.meta)

    def _change_record(self, batch: Batch) -> None:
        handle = batch.handle
        before = self._record_of(handle)
        record = record_after(before, batch, self.now_us)
        if record is None:
            return
        if before is not None:
            if before.keyspace != record.keyspace and not record.history:
                self._throw_away(before.keyspace)
            if before.history and before.history != record.history:
                self._throw_history_away(before.history)
        if batch.clearing is not None:
            self._change_sides(handle, record.history, {batch.clearing: clearing_of(before)})
        if batch.clears or batch.alarm is None or not handle.history:
            self._diminished[handle] = None
        if record != before:
            self._write(handle, before, record)

    def _record_of(self, handle: ObjectHandle) -> ObjectRecord | None:
        """The object's record, read from the disk the first time that this handle is used."""
        record = handle.record
        if record is UNREAD:
            key = object_key(handle.class_number, handle.base)
            raw = self.txn.get(key, db=self.databases.objects)
            record = None if raw is None else read_object(key, raw)
            self._set(handle, record)
        assert not isinstance(record, Unread)
        return record

    def _write(
        self, handle: ObjectHandle, before: ObjectRecord | None, record: ObjectRecord | None
    ) -> None:
        """Write the object's record into both of the databases that have it."""
        key = object_key(handle.class_number, handle.base)
        if record is None:
            self.txn.delete(key, db=self.databases.objects)
        else:
            self.txn.put(key, write_object(key, record), db=self.databases.objects)
            self.keyspace_max = max(self.keyspace_max, record.keyspace, record.history)
        alarm_before = None if before is None else before.alarm
        alarm = None if record is None else record.alarm
        if alarm != alarm_before:
            if alarm_before is not None:
                self.txn.delete(
                    alarm_key(alarm_before.due_us, handle.class_number, handle.base),
                    db=self.databases.alarms,
                )
            if alarm is not None:
                self.txn.put(
                    alarm_key(alarm.due_us, handle.class_number, handle.base),
                    NOTHING,
                    db=self.databases.alarms,
                )
        self._set(handle, record)

    def _set(self, handle: ObjectHandle, record: ObjectRecord | None) -> None:
        self._before.append((handle, handle.record))
        handle.record = record

    def _throw_away(self, keyspace: int) -> None:
        if long_keys.has_any(self.txn, write_number(keyspace)):
            self.txn.put(garbage_key(keyspace), NOTHING, db=self.databases.garbage)
            self.makes_garbage = True

    def _throw_history_away(self, history: int) -> None:
        """Make the history garbage; what it has kept is found when it is freed."""
        self.txn.put(garbage_history_key(history), NOTHING, db=self.databases.garbage)
        self.makes_garbage = True

    def _forget_if_empty(self, handle: ObjectHandle) -> None:
        record = self._record_of(handle)
        if (
            record is not None
            and record.alarm is None
            and not record.history
            and not long_keys.has_any(self.txn, write_number(record.keyspace))
        ):
            self._write(handle, record, None)

    def settle(self) -> None:
        """The transaction was committed: update the handles, as the loop sees them."""
        for place, _ in self._before:
            record = place.record
            if isinstance(record, ObjectRecord):
                place.created_us = record.created_us
