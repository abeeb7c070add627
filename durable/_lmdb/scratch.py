"""A store to try things on: it is read from the disk, and what is written stays in memory.

Rule: nothing here writes a file. What is written lies above what the disk has, key by key, and is
gone when it is closed. The store may have an owner meanwhile, in another process; what that writes
is seen where nothing lies above it.

Alarms that the disk has do not ring: they are the owner's. Those that are set here do.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import count, islice

from attrs import define, evolve, field

from durable._engine.batch import UNCHANGED, Alarm, Batch, DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog

from .environment import Environment
from .reader import Scan

# Far above those that the owner gives out meanwhile.
FIRST_KEYSPACE = 1 << 62

ObjectKey = tuple[int, bytes]
"""Class keyspace and base of an object."""


@define(eq=False, repr=False)
class ScratchEnvironment(Environment):
    """What an `Environment` is to those above; made by `open_to_read`."""

    _catalog: Catalog | None = field(default=None, init=False)
    # None in the place of what is not there any more.
    _objects: dict[ObjectKey, ObjectRecord | None] = field(factory=dict, init=False)
    _records: dict[int, dict[str, bytes | None]] = field(factory=dict, init=False)
    _alarms_set: set[ObjectKey] = field(factory=set, init=False)
    _get_below: Callable[[int, str], bytes | None] = field(init=False)
    _scan_below: Scan = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._keyspaces = count(FIRST_KEYSPACE)
        self.has_garbage = False
        self._get_below, self._scan_below = self.get, self.scan
        self.get, self.get_many, self.scan = self._get, self._get_many, self._scan
        self.in_line = self

    # Reading

    def _get(self, keyspace: int, key: str) -> bytes | None:
        above = self._records.get(keyspace)
        if above is not None and key in above:
            return above[key]
        return self._get_below(keyspace, key)

    def _get_many(self, keyspace: int, keys: Iterable[str]) -> dict[str, bytes]:
        found = ((key, self._get(keyspace, key)) for key in keys)
        return {key: value for key, value in found if value is not None}

    def _scan(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        above = dict(self._records.get(keyspace, ()))  # a copy: the committer may come by
        if not above:
            return self._scan_below(keyspace, lower, upper, reverse=reverse, limit=limit)
        first, end = lower.encode(), None if upper is None else upper.encode()
        merged: dict[str, bytes | None] = dict(self._scan_below(keyspace, lower, upper))
        for key, value in above.items():
            encoded = key.encode()
            if first <= encoded and (end is None or encoded < end):
                merged[key] = value
        pairs = ((key, merged[key]) for key in sorted(merged, key=str.encode, reverse=reverse))
        return iter(list(islice(((k, v) for k, v in pairs if v is not None), limit)))

    def scan_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int | None,
        size_max: int | None = None,
    ) -> tuple[list[tuple[str, bytes]], bool]:
        # The size is left out of account: what lies above is in memory already.
        limit = None if count_max is None else count_max + 1
        found = list(self._scan(keyspace, lower, upper, reverse=reverse, limit=limit))
        return found[:count_max], limit is None or len(found) < limit

    def count_some(
        self,
        keyspace: int,
        lower: str,
        upper: str | None,
        without: Container[bytes],
        count_max: int,
    ) -> tuple[int, str | None]:
        found = [key for key, _ in self._scan(keyspace, lower, upper, limit=count_max)]
        count = sum([key.encode() not in without for key in found])
        return count, found[-1] + "\0" if len(found) == count_max else None

    def count_present(self, keyspace: int, keys: Iterable[str]) -> int:
        return len(self._get_many(keyspace, keys))

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        key = (class_number, base)
        return self._objects[key] if key in self._objects else super().find(class_number, base)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        above = {
            base: r for (number, base), r in dict(self._objects).items() if number == class_number
        }
        found: list[tuple[bytes, ObjectRecord]] = []
        while True:
            below = super().objects(class_number, after=after, count_max=count_max)
            is_last = len(below) < count_max
            until = None if is_last else below[-1][0]
            merged: dict[bytes, ObjectRecord | None] = dict(below)
            merged |= {
                base: record
                for base, record in above.items()
                if (after is None or base > after) and (until is None or base <= until)
            }
            found += [(b, r) for b in sorted(merged) if (r := merged[b]) is not None]
            if is_last or len(found) >= count_max:
                return found[:count_max]
            after = until

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        due = sorted(
            DueAlarm(record.alarm.due_us, *key)
            for key in list(self._alarms_set)
            if (record := self._objects[key]) is not None and record.alarm is not None
        )
        return [alarm for alarm in due if after is None or alarm > after][:count_max]

    def catalog(self) -> Catalog:
        return self._catalog or super().catalog()

    # Writing

    def commit(self, group: Sequence[Batch]) -> None:
        now_us = int(self._clock.now() * 1_000_000)
        for batch in group:
            if not batch.is_empty:
                self._apply(batch, now_us)

    def _apply(self, batch: Batch, now_us: int) -> None:
        handle = batch.handle
        key = (handle.class_number, handle.base)
        record = self.find(*key)
        if batch.wipe and record is not None:
            record = ObjectRecord(handle.keyspace, now_us, record.name, record.alarm)
        if record is None:
            record = ObjectRecord(handle.keyspace, now_us, handle.name, None)
        if batch.alarm is not UNCHANGED:
            assert batch.alarm is None or isinstance(batch.alarm, Alarm)
            record = evolve(record, alarm=batch.alarm)
        if batch.puts:
            self._records.setdefault(record.keyspace, {}).update(batch.puts)
        if record.name is None:
            record = evolve(record, name=handle.name)
        is_there = record.alarm is not None or any(self.scan(record.keyspace, limit=1))
        self._objects[key] = record if is_there else None
        if batch.alarm is not UNCHANGED:
            self._alarms_set.add(key)
        handle.created_us = record.created_us

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        assert before == self.catalog()
        self._catalog = after
