"""The changes of a group of batches, as rows for the database.

Rule: of several writes of one key, or of one object, the last one counts; what a group writes under
a keyspace that the same group clears is not written at all.

Rule: an object has a row if and only if it has a record, a side record, an alarm or a history. Only
batches that delete something can break that, so only their objects are checked, once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

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
from durable._engine.shards import shard_of

from .arrays import Bigints, Byteas, Integers
from .reader import key_bytes

ObjectKey = tuple[int, bytes]
"""Class number and base of an object."""

Values = dict[int, dict[bytes, bytes | None]]
"""The writes by keyspace and key; None deletes."""


def key_of(handle: ObjectHandle) -> ObjectKey:
    return handle.class_number, handle.base


def unread_of(group: Sequence[Batch]) -> set[ObjectKey]:
    """The objects whose rows have to be read before the group can be committed."""
    return {
        key_of(batch.handle)
        for batch in group
        if batch.handle.record is UNREAD and not batch.is_empty
    }


def is_of_values(batch: Batch) -> bool:
    """Whether *batch* writes values of keys and nothing else, of an object whose row is known and
    stays as it is."""
    handle = batch.handle
    record = handle.record
    return (
        isinstance(record, ObjectRecord)
        and bool(batch.puts)
        and batch.alarm is UNCHANGED
        and not (batch.clears or batch.sides or batch.history or batch.forgets)
        and batch.clearing is None
        and None not in batch.puts.values()
        and record.keyspace == handle.keyspace
        and record.history == handle.history
        and (record.name is not None or handle.name is None)
    )


@frozen
class Freed:
    """What a group that stores nothing new deletes."""

    cleared: list[int]  # keyspaces
    keys: list[tuple[int, bytes]]
    sides: list[tuple[int, bytes]]
    # The objects of which nothing may be left, and those whose rows would change otherwise.
    maybe_empty: list[ObjectKey]
    changed: set[ObjectKey]


@define(eq=False)
class Changes:
    """The changes of one group. Handles are left as they are until `settle`."""

    # The rows of objects that the group found unknown, as they were read.
    found: Mapping[ObjectKey, ObjectRecord]
    shards: int
    now_us: int
    _records: dict[ObjectKey, ObjectRecord | None] = field(factory=dict, init=False)
    _changed: dict[ObjectKey, None] = field(factory=dict, init=False)
    _handles: dict[ObjectKey, list[ObjectHandle]] = field(factory=dict, init=False)
    _ended: dict[int, None] = field(factory=dict, init=False)  # histories
    _cleared: dict[int, None] = field(factory=dict, init=False)
    _diminished: dict[ObjectKey, None] = field(factory=dict, init=False)
    _puts: Values = field(factory=dict, init=False)
    _sides: Values = field(factory=dict, init=False)
    _maybe_empty: list[ObjectKey] = field(factory=list, init=False)
    # The objects of which only values were written, whose rows and handles stay as they are.
    _bases: set[bytes] = field(factory=set, init=False)

    def apply(self, group: Sequence[Batch]) -> None:
        records, bases, all_puts = self._records, self._bases, self._puts
        for batch in group:
            handle = batch.handle
            if is_of_values(batch) and (handle.class_number, handle.base) not in records:
                bases.add(handle.base)
                puts = all_puts.setdefault(handle.keyspace, {})
                for name, value in batch.puts.items():
                    puts[name.encode()] = value
            elif not batch.is_empty:
                self._apply(batch)

    def _apply(self, batch: Batch) -> None:
        handle = batch.handle
        key = key_of(handle)
        before = self._record_of(key, handle)
        record = record_after(before, batch, self.now_us)
        handles = self._handles.setdefault(key, [])
        if handle not in handles:
            handles.append(handle)
        if record is None:
            return
        if before is not None:
            if before.keyspace != record.keyspace and not record.history:
                self._throw_away(before.keyspace)
            if before.history and before.history != record.history:
                # With what this group keeps in it, which is found when the history is freed.
                self._ended[before.history] = None
                self._diminished[key] = None
        if batch.clearing is not None:
            self._put_sides(key, record.history, {batch.clearing: clearing_of(before)})
        if record is not before and record != before:
            self._records[key] = record
            self._changed[key] = None
        if batch.clears or batch.alarm is None:
            self._diminished[key] = None
        keyspace = record.keyspace
        if batch.puts:
            puts = self._puts.setdefault(keyspace, {})
            for name, value in batch.puts.items():
                puts[name.encode()] = value
                if value is None:
                    self._diminished[key] = None
        if batch.sides:
            self._put_sides(key, keyspace, batch.sides)
        if batch.history:
            self._put_sides(key, record.history, batch.history)
        for forgotten in batch.forgets:
            self._throw_away(forgotten)

    def _put_sides(
        self, key: ObjectKey, keyspace: int, sides: Mapping[bytes, bytes | None]
    ) -> None:
        self._sides.setdefault(keyspace, {}).update(sides)
        if None in sides.values():
            self._diminished[key] = None

    def _record_of(self, key: ObjectKey, handle: ObjectHandle) -> ObjectRecord | None:
        if key not in self._records:
            known = handle.record
            self._records[key] = self.found.get(key) if isinstance(known, Unread) else known
        return self._records[key]

    def _throw_away(self, keyspace: int) -> None:
        self._cleared[keyspace] = None
        self._puts.pop(keyspace, None)
        self._sides.pop(keyspace, None)

    # The rows

    def shards_used(self) -> list[int]:
        """The shards of all objects that are written, in order."""
        bases = self._bases.union(base for _, base in self._handles)
        return sorted({shard_of(base, self.shards) for base in bases})

    def arguments(self) -> list[Any]:
        """The arguments of `durable.commit_group`, from the objects on."""
        # An object that may be empty is written first, and checked at the end.
        self._find_maybe_empty()
        objects = [(key, record) for key in self._changed if (record := self._records[key])]
        alarms = [record.alarm for _, record in objects]
        return [
            Integers([number for (number, _), _ in objects]),
            Byteas([base for (_, base), _ in objects]),
            Integers([shard_of(base, self.shards) for (_, base), _ in objects]),
            Bigints([record.keyspace for _, record in objects]),
            Bigints([record.created_us for _, record in objects]),
            Byteas([None if r.name is None else r.name.encode() for _, r in objects]),
            Bigints([None if alarm is None else alarm.due_us for alarm in alarms]),
            Bigints([None if alarm is None else alarm.scheduled_us for alarm in alarms]),
            Integers([None if alarm is None else alarm.retry_count for alarm in alarms]),
            Integers([None if alarm is None else alarm.backoff for alarm in alarms]),
            Bigints([record.history for _, record in objects]),
            Bigints(list(self._cleared)),
            Bigints(list(self._ended)),
            *_put_columns(self._puts),
            *_deleted_columns(self._puts),
            *_put_columns(self._sides),
            *_deleted_columns(self._sides),
            Integers([number for number, _ in self._maybe_empty]),
            Byteas([base for _, base in self._maybe_empty]),
        ]

    def values_alone(self) -> list[bytes] | None:
        """What `durable.commit_values` takes, from the keyspaces on; None where more is changed
        than that."""
        if self._changed or self._cleared or self._ended or self._sides or self._diminished:
            return None
        return [column.packed for column in _put_columns(self._puts)]

    def freed(self) -> Freed | None:
        """What is deleted; None where anything is stored."""
        written = [*self._puts.values(), *self._sides.values()]
        if self._ended or any(value is not None for part in written for value in part.values()):
            return None
        self._find_maybe_empty()
        return Freed(
            list(self._cleared),
            _gone(self._puts),
            _gone(self._sides),
            self._maybe_empty,
            {key for key in self._changed if self._records[key] is not None},
        )

    def _find_maybe_empty(self) -> None:
        self._maybe_empty = [
            key
            for key in self._diminished
            if (record := self._records[key]) is not None
            and record.alarm is None
            and not record.history
        ]

    def settle(self, forgotten: Iterable[int]) -> None:
        """The transaction was committed; the objects at the places *forgotten*, counted from 1,
        turned out to be empty. Updates the handles, as the loop sees them."""
        gone = {self._maybe_empty[place - 1] for place in forgotten}
        for key, handles in self._handles.items():
            record = None if key in gone else self._records[key]
            for handle in handles:
                handle.record = record
                if record is not None:
                    handle.created_us = record.created_us


def _put_columns(values: Values) -> tuple[Bigints, Byteas, Byteas]:
    keyspaces: list[int] = []
    keys: list[bytes] = []
    records: list[bytes] = []
    for keyspace, by_key in values.items():
        before_key = key_bytes(keyspace, b"")
        for key, value in by_key.items():
            if value is not None:
                keyspaces.append(keyspace)
                keys.append(key)
                records.append(protect(before_key + key, value))
    return Bigints(keyspaces), Byteas(keys), Byteas(records)


def _gone(values: Values) -> list[tuple[int, bytes]]:
    return [
        (keyspace, key)
        for keyspace, by_key in values.items()
        for key, value in by_key.items()
        if value is None
    ]


def _deleted_columns(values: Values) -> tuple[Bigints, Byteas]:
    gone = _gone(values)
    return Bigints([keyspace for keyspace, _ in gone]), Byteas([key for _, key in gone])
