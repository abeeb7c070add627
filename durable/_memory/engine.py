"""A store in memory: an engine without a file, gone with the process.

For tests, and to show what an engine has to be: nothing here knows LMDB.
"""

from __future__ import annotations

import heapq
import threading
from itertools import count

from attrs import define, evolve, field

from durable._engine.batch import ObjectRecord
from durable._engine.catalog import Catalog, Weight
from durable._engine.measures import Measures
from durable._engine.overlay import OverlayReader
from durable._model.clock import Clock

from .contents import Contents
from .contents_engine import ContentsEngine


@define(eq=False, repr=False)
class MemoryEngine(ContentsEngine):
    """An `Engine`. Another one may be opened on the *contents* that this one leaves."""

    clock: Clock
    path: str = "in memory"
    contents: Contents = field(factory=lambda: Contents(catalog=Catalog()))
    has_garbage: bool = field(default=False, init=False)
    in_line: OverlayReader[Contents] = field(init=False)
    _keyspaces: count[int] = field(init=False)
    _write_lock: threading.Lock = field(factory=threading.Lock, init=False)
    _is_open: bool = field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self._keyspaces = count(self.contents.next_keyspace)
        self.in_line = self.new_reader()

    # Reading

    def new_reader(self) -> OverlayReader[Contents]:
        return OverlayReader(self._latest, None)

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

    # The end

    def close(self) -> None:
        self._is_open = False
        self.in_line.close()

    def __repr__(self) -> str:
        return f"<MemoryEngine {'open' if self._is_open else 'closed'}>"


def no_file(**counts: int) -> Measures:
    """The measures of a store that has no file."""
    none = Measures(**dict.fromkeys(Measures.__annotations__, 0))
    return evolve(none, **counts)
