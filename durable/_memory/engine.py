"""A store in memory: an engine without a file, gone with the process.

For tests, and to show what an engine has to be: nothing here knows LMDB.
"""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import count

from attrs import define, evolve, field

from durable._engine.batch import Batch, DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog, Weight
from durable._engine.engine import GARBAGE_STEP
from durable._engine.measures import Measures
from durable._model.clock import Clock
from durable._model.errors import RuntimeClosed

from .contents import Contents, Draft
from .reader import MemoryReader


@define(eq=False, repr=False)
class MemoryEngine:
    """An `Engine`. Another one may be opened on the *contents* that this one leaves."""

    _clock: Clock
    path: str = "in memory"
    contents: Contents = field(factory=lambda: Contents(catalog=Catalog()))
    has_garbage: bool = field(default=False, init=False)
    in_line: MemoryReader = field(init=False)
    _keyspaces: count[int] = field(init=False)
    _write_lock: threading.Lock = field(factory=threading.Lock, init=False)
    _is_open: bool = field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self._keyspaces = count(self.contents.next_keyspace)
        self.in_line = self.new_reader()

    # Reading

    def refresh(self) -> None:
        self.in_line.release()

    def new_reader(self) -> MemoryReader:
        return MemoryReader(self._latest, None)

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return self.in_line.seen.objects.get((class_number, base))

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        found = (
            (base, record)
            for (number, base), record in self.in_line.seen.objects.items()
            if number == class_number and record is not None and (after is None or base > after)
        )
        return heapq.nsmallest(count_max, found, key=lambda pair: pair[0])

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        return alarms_after(self.in_line.seen, after, count_max)

    def next_alarm_us(self) -> int | None:
        alarms = self.in_line.seen.alarms
        return alarms[0].due_us if alarms else None

    def catalog(self) -> Catalog:
        catalog = self.in_line.seen.catalog
        assert catalog is not None
        return catalog

    def weigh_class(self, class_number: int) -> Weight:
        seen = self.in_line.seen
        weight = Weight()
        for (number, _), record in seen.objects.items():
            if number == class_number and record is not None:
                records = seen.records.get(record.keyspace, {})
                size = sum(len(key.encode()) + len(value or b"") for key, value in records.items())
                weight = Weight(
                    weight.objects + 1,
                    weight.alarms + (record.alarm is not None),
                    weight.size + size,
                )
        return weight

    def measure(self) -> Measures:
        contents = self._latest()
        catalog = contents.catalog
        return no_file(
            last_commit=contents.commits,
            classes=0 if catalog is None else len(catalog.records),
            objects=len(contents.objects),
            records=sum(map(len, contents.records.values())),
            alarms=len(contents.alarms),
        )

    # Writing

    def next_keyspace(self) -> int:
        return next(self._keyspaces)

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        with self._write_lock:
            draft = Draft(self._latest(), None, int(self._clock.now() * 1_000_000))
            draft.apply(group)
            self.contents = draft.contents()
        tell_created(group, self.contents)
        return True

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        with self._write_lock:
            self.contents = self._latest().with_catalog(after)
        self.refresh()

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        return 0  # what is not needed any more goes with the value that it was part of

    # The end

    def close(self) -> None:
        self._is_open = False
        self.in_line.close()

    def _latest(self) -> Contents:
        if not self._is_open:
            raise RuntimeClosed(f"the store {self.path!r} is closed; open it again")
        return self.contents

    def __repr__(self) -> str:
        return f"<MemoryEngine {'open' if self._is_open else 'closed'}>"


def alarms_after(contents: Contents, after: DueAlarm | None, count_max: int) -> list[DueAlarm]:
    alarms = contents.alarms
    place = 0 if after is None else bisect_right(alarms, after)
    return list(alarms[place : place + count_max])


def tell_created(group: Sequence[Batch], contents: Contents) -> None:
    """The group was committed: what the loop may see of the handles is written."""
    for batch in group:
        record = contents.objects.get((batch.handle.class_number, batch.handle.base))
        if record is not None:
            batch.handle.created_us = record.created_us


def no_file(**counts: int) -> Measures:
    """The measures of a store that has no file."""
    none = Measures(**dict.fromkeys(Measures.__annotations__, 0))
    return evolve(none, **counts)
