"""The contents of a store in memory: one value, and a commit makes the next.

So a reader that keeps the value sees one moment, and a commit is all or nothing because it ends
with one assignment. A commit copies what it changes: the table of objects, and the records of each
object that it writes to. That suits tests and small stores.

In contents that lie above another engine, None stands for what that engine has and was deleted
here.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Protocol

from attrs import define, evolve, field, frozen

from durable._engine.batch import Batch, DueAlarm, ObjectRecord, record_after
from durable._engine.catalog import Catalog
from durable._engine.history_records import CLEARINGS, clearing_of, read_clearing
from durable._engine.overlay import Records, Sides

ObjectKey = tuple[int, bytes]
"""Class number and base of an object."""


@frozen(eq=False)
class Contents:
    """The contents at one moment."""

    objects: Mapping[ObjectKey, ObjectRecord | None] = field(factory=dict)
    records: Mapping[int, Records] = field(factory=dict)
    sides: Mapping[int, Sides] = field(factory=dict)
    alarms: Sequence[DueAlarm] = ()  # the earliest first
    catalog: Catalog | None = None  # None: that of the engine below
    next_keyspace: int = 1
    commits: int = 0

    @property
    def deleted_classes(self) -> frozenset[int]:
        records = () if self.catalog is None else self.catalog.records
        return frozenset(record.number for record in records if record.is_deleted)

    def with_catalog(self, after: Catalog) -> Contents:
        """These contents with other classes; the objects of deleted classes are gone."""
        changed = evolve(self, catalog=after)
        gone = changed.deleted_classes
        keyspaces = {
            keyspace
            for (number, _), record in self.objects.items()
            if number in gone and record is not None
            for keyspace in (
                record.keyspace,
                record.history,
                *kept_in(self.sides.get(record.history, {})),
            )
        }
        return evolve(
            changed,
            objects={key: value for key, value in self.objects.items() if key[0] not in gone},
            records={ks: value for ks, value in self.records.items() if ks not in keyspaces},
            sides={ks: value for ks, value in self.sides.items() if ks not in keyspaces},
            alarms=[alarm for alarm in self.alarms if alarm.class_number not in gone],
        )


class Below(Protocol):
    """What lies below the contents."""

    def find(self, class_number: int, base: bytes, /) -> ObjectRecord | None:
        """The record of an object there."""

    def has_other(self, keyspace: int, known: Records, sides: Sides, /) -> bool:
        """Whether there is a key in *keyspace* that is not one of *known*, or a side record that is
        not one of *sides*."""


@define(eq=False)
class Draft:
    """The contents that a group of batches leads to. The contents before are not changed."""

    _before: Contents
    _below: Below | None
    _now_us: int
    _objects: dict[ObjectKey, ObjectRecord | None] = field(init=False)
    _records: dict[int, Records] = field(init=False)
    _sides: dict[int, Sides] = field(init=False)
    _alarms: list[DueAlarm] = field(init=False)
    _next_keyspace: int = field(init=False)
    # The keyspaces whose records were copied.
    _own: dict[int, dict[str, bytes | None]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._objects = dict(self._before.objects)
        self._records = dict(self._before.records)
        self._sides = dict(self._before.sides)
        self._alarms = list(self._before.alarms)
        self._next_keyspace = self._before.next_keyspace

    def apply(self, group: Sequence[Batch]) -> None:
        for batch in group:
            self._apply(batch)
        for batch in group:
            self._forget_if_empty((batch.handle.class_number, batch.handle.base))

    def contents(self) -> Contents:
        return evolve(
            self._before,
            objects=self._objects,
            records=self._records,
            sides=self._sides,
            alarms=self._alarms,
            next_keyspace=self._next_keyspace,
            commits=self._before.commits + 1,
        )

    def _apply(self, batch: Batch) -> None:
        key = (batch.handle.class_number, batch.handle.base)
        before = self._find(key)
        record = record_after(before, batch, self._now_us)
        if record is None:
            return
        if before is not None:
            if before.keyspace != record.keyspace and not record.history:
                self._drop(before.keyspace)
            if before.history and before.history != record.history:
                self._drop_history(before.history)
        self._set(key, before, record)
        for name, value in batch.puts.items():
            self._put(record.keyspace, name, value)
        if batch.sides:
            self._put_sides(record.keyspace, batch.sides)
        if batch.history:
            self._put_sides(record.history, batch.history)
        if batch.clearing is not None:
            self._put_sides(record.history, {batch.clearing: clearing_of(before)})
        for forgotten in batch.forgets:
            self._drop(forgotten)

    def _find(self, key: ObjectKey) -> ObjectRecord | None:
        if key in self._objects or self._below is None:
            return self._objects.get(key)
        return self._below.find(*key)

    def _set(
        self, key: ObjectKey, before: ObjectRecord | None, record: ObjectRecord | None
    ) -> None:
        if record is not None or self._below is not None:
            self._objects[key] = record
        else:
            self._objects.pop(key, None)
        if record is not None:
            self._next_keyspace = max(self._next_keyspace, record.keyspace + 1, record.history + 1)
        alarm_before = None if before is None else before.alarm
        alarm = None if record is None else record.alarm
        if alarm == alarm_before:
            return
        if alarm_before is not None:
            due = DueAlarm(alarm_before.due_us, *key)
            place = bisect_left(self._alarms, due)
            if self._alarms[place : place + 1] == [due]:  # else it is one of the engine below
                del self._alarms[place]
        if alarm is not None:
            insort(self._alarms, DueAlarm(alarm.due_us, *key))

    def _put(self, keyspace: int, name: str, value: bytes | None) -> None:
        own = self._own.get(keyspace)
        if own is None:
            own = self._own[keyspace] = dict(self._records.get(keyspace, ()))
            self._records[keyspace] = own
        if value is not None or self._below is not None:
            own[name] = value
        else:
            own.pop(name, None)

    def _put_sides(self, keyspace: int, sides: Sides) -> None:
        after = {**self._sides.get(keyspace, {}), **sides}
        if self._below is None:
            after = {key: value for key, value in after.items() if value is not None}
        self._sides[keyspace] = after

    def _drop(self, keyspace: int) -> None:
        self._records.pop(keyspace, None)
        self._sides.pop(keyspace, None)
        self._own.pop(keyspace, None)

    def _drop_history(self, history: int) -> None:
        for keyspace in kept_in(self._sides.get(history, {})):
            self._drop(keyspace)
        self._drop(history)

    def _forget_if_empty(self, key: ObjectKey) -> None:
        record = self._find(key)
        if record is None or record.alarm is not None or record.history:
            return
        records = self._records.get(record.keyspace, {})
        sides = self._sides.get(record.keyspace, {})
        if any(value is not None for value in chain(records.values(), sides.values())):
            return
        if self._below is None or not self._below.has_other(record.keyspace, records, sides):
            self._set(key, record, None)
            if self._below is None:
                self._drop(record.keyspace)


def kept_in(history: Sides) -> list[int]:
    """The keyspaces that the records of a history keep."""
    clearings = [
        read_clearing(key, value)
        for key, value in history.items()
        if key.startswith(CLEARINGS) and value is not None
    ]
    return [each.keyspace for each in clearings if not each.is_shared]
